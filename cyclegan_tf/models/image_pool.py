"""The history of generated images that discriminators are trained on (paper section 4, after Shrivastava et al.)."""

import random

import numpy as np
import tensorflow as tf


class ImagePool:
    """Up to `size` past fakes.

    While the pool fills, images are stored and given back as they are. Once it is full, each image is with probability
    1/2 exchanged for a random stored one, else given back and not stored. Draws come from Python's Mersenne Twister in
    the authors' order (`uniform(0, 1)`, then `randint(0, size - 1)`), so equal seeds give the authors' sequence.

    The draws do not depend on the images. `lend` therefore draws before a training step begins, the step calls
    `exchange` on its own fakes, and `keep` stores them once the step is queued: the step never waits for the host.

    Args:
      size: number of images kept; 0 gives every batch back unchanged.
      seed: seed of the draws.
      on_device: whether images stay the tensors that the step returned, in a GPU's memory, rather than become NumPy
        arrays.

    Attributes:
      images: the stored images, float32 (1, H, W, C) each.
    """

    def __init__(self, size, seed=0, on_device=False):
        self.size, self.on_device = size, on_device
        self.images = []
        self._random = random.Random(seed)
        self._writes = {}  # Slot -> number of the batch's image that goes there.

    def lend(self, shape):
        """Draws for a batch of `shape` (N, H, W, C); returns (past, sources), the arguments of `exchange`.

        `keep` must follow before the next `lend`.
        """
        past, sources, self._writes = [], [], {}
        n_images = len(self.images)
        # Stands where no stored image is read.
        unread = self.images[0] if self.images else np.zeros((1, *shape[1:]), np.float32)
        for number in range(shape[0]):
            slot, source, stored = None, number, unread
            if n_images < self.size:
                slot, n_images = n_images, n_images + 1
            elif self.size and self._random.uniform(0, 1) > 0.5:
                slot = self._random.randint(0, self.size - 1)
                # An earlier image of this batch may have gone into the slot.
                source = self._writes.get(slot, -1)
                stored = self.images[slot] if source < 0 else unread
            if slot is not None:
                self._writes[slot] = number
            past.append(stored)
            sources.append(source)
        return past, np.array(sources, np.int32)

    def keep(self, fakes):
        """Stores those of the batch's `fakes`, a list of N tensors (1, H, W, C), that `lend` has drawn a slot for."""
        for slot, number in sorted(self._writes.items()):
            image = fakes[number] if self.on_device else np.array(fakes[number])
            if slot < len(self.images):
                self.images[slot] = image
            else:
                self.images.append(image)
        self._writes = {}

    def state(self):
        """Everything the next draws depend on, as a dict of arrays: `images` (K, H, W, C) and `random`."""
        version, internal, gauss_next = self._random.getstate()
        assert gauss_next is None, "uniform and randint never leave half a Gaussian pair"
        images = np.concatenate(self.images) if self.images else np.zeros((0, 0, 0, 0), np.float32)
        return {"images": images, "random": np.array((version, *internal), np.uint32)}

    def set_state(self, state):
        """Goes on from what `state` returned."""
        version, *internal = (int(word) for word in state["random"])
        self._random.setstate((version, tuple(internal), None))
        self.images = [np.array(image[np.newaxis]) for image in state["images"]]


def exchange(fakes, past, sources):
    """The batch that a pool gives back for `fakes` (N, H, W, C); no gradient flows to `fakes`.

    Args:
      past: list of N stored images (1, H, W, C).
      sources: int (N,); image i of the result is image sources[i] of `fakes`, or past[i] where sources[i] is -1.
    """
    fakes = tf.stop_gradient(fakes)
    own = fakes if len(past) == 1 else tf.gather(fakes, tf.maximum(sources, 0))
    return tf.where(tf.reshape(sources, (-1, 1, 1, 1)) < 0, tf.concat(past, axis=0), own)
