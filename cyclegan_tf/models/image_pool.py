"""The history of generated images that discriminators are trained on (paper section 4, after Shrivastava et al.)."""

import random

import numpy as np


class ImagePool:
    """Up to `size` past fakes, in NumPy.

    While the pool fills, images are stored and given back as they are. Once it is full, each image is with probability
    1/2 exchanged for a random stored one, else given back and not stored. Draws come from Python's Mersenne Twister in
    the authors' order (`uniform(0, 1)`, then `randint(0, size - 1)`), so equal seeds give the authors' sequence.

    Args:
      size: number of images kept; 0 gives every batch back unchanged.
      seed: seed of the draws.
    """

    def __init__(self, size, seed=0):
        self.size = size
        self.images = []
        self._random = random.Random(seed)

    def query(self, batch):
        """Takes a batch (N, H, W, C) of fakes, each on its own and in order; returns a batch of the same shape."""
        if self.size == 0:
            return batch
        return np.stack([self._exchange(image) for image in batch])

    def _exchange(self, image):
        if len(self.images) < self.size:
            self.images.append(np.array(image))
            return image
        if self._random.uniform(0, 1) > 0.5:
            index = self._random.randint(0, self.size - 1)
            stored, self.images[index] = self.images[index], np.array(image)
            return stored
        return image

    def state(self):
        """Everything the next query depends on, as a dict of arrays: `images` (K, H, W, C) and `random`."""
        version, internal, gauss_next = self._random.getstate()
        assert gauss_next is None, "uniform and randint never leave half a Gaussian pair"
        images = np.stack(self.images) if self.images else np.zeros((0, 0, 0, 0), np.float32)
        return {"images": images, "random": np.array((version, *internal), np.uint32)}

    def set_state(self, state):
        """Goes on from what `state` returned."""
        version, *internal = (int(word) for word in state["random"])
        self._random.setstate((version, tuple(internal), None))
        self.images = list(state["images"])
