"""The history of generated images that discriminators train on (paper, section 4; Shrivastava et al. 2017)."""

import random
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

StoredImage: TypeAlias = np.ndarray | tf.Tensor  # (1, H, W, C)


class ImagePool:
    """Stores up to `size` past fakes and exchanges them at random for new fakes.

    While the pool fills, the pool stores each image and returns the same image. A full pool treats each image in one of
    two ways, with probability 1/2 each: the pool exchanges the image for a random stored image, or returns the image
    without storing it. Draws come from Python's Mersenne Twister in the authors' order (`uniform(0, 1)`, then
    `randint(0, size - 1)`), so equal seeds give the authors' sequence.

    The draws do not depend on the images. Therefore `draw` runs before a training step, the step calls `exchange` on
    its fakes, and `store` runs after the step is queued. No step waits for a draw on the host.

    Args:
      size: the number of stored images; a pool of size 0 gives every batch back unchanged.
      seed: the seed of the draws.
      on_device: whether stored images remain tensors, which a step on a GPU returns in the GPU's memory. If False, they
        become NumPy arrays.
      dtype: type of the stored images.

    Attributes:
      images: the stored images, (1, H, W, C) each.
    """

    def __init__(self, size: int, seed: int = 0, on_device: bool = False, dtype: tf.DType = tf.float32) -> None:
        self.size, self.on_device, self._dtype = size, on_device, dtype.as_numpy_dtype
        self.images: list[StoredImage] = []
        self._random = random.Random(seed)
        self._stores: dict[int, int] = {}  # Slot of the pool -> index in the batch of the image to store there.

    def draw(self, shape: Sequence[int]) -> tuple[list[StoredImage], np.ndarray]:
        """Draws the exchanges for a batch of fakes of `shape` (N, H, W, C); call `store` before the next draw.

        Returns:
          (past, sources): the arguments of `exchange`.
        """
        past, sources, self._stores = [], [], {}
        n_images = len(self.images)
        # A placeholder for the entries of `past` that `exchange` does not read.
        unread = self.images[0] if self.images else np.zeros((1, *shape[1:]), self._dtype)
        for index in range(shape[0]):
            slot, source, stored = None, index, unread
            if n_images < self.size:
                slot, n_images = n_images, n_images + 1
            elif self.size and self._random.uniform(0, 1) > 0.5:
                slot = self._random.randint(0, self.size - 1)
                # An earlier image of the same batch may have been stored in the slot.
                source = self._stores.get(slot, -1)
                stored = self.images[slot] if source < 0 else unread
            if slot is not None:
                self._stores[slot] = index
            past.append(stored)
            sources.append(source)
        return past, np.array(sources, np.int32)

    def store(self, fakes: Sequence[tf.Tensor]) -> None:
        """Stores the images of `fakes`, N tensors (1, H, W, C) of the pool's type, that the last `draw` chose."""
        for slot, index in sorted(self._stores.items()):
            image = fakes[index] if self.on_device else np.array(fakes[index])
            if slot < len(self.images):
                self.images[slot] = image
            else:
                self.images.append(image)
        self._stores = {}

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns the state on which the next draws depend: `images`, float32 (K, H, W, C), and `random`."""
        version, internal, gauss_next = self._random.getstate()
        assert gauss_next is None, "uniform and randint never leave half a Gaussian pair"
        images = np.concatenate(self.images) if self.images else np.zeros((0, 0, 0, 0))
        return {"images": images.astype(np.float32, copy=False), "random": np.array((version, *internal), np.uint32)}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores the state that `get_state` returned."""
        version, *internal = (int(word) for word in state["random"])
        self._random.setstate((version, tuple(internal), None))
        self.images = [image[np.newaxis].astype(self._dtype) for image in state["images"]]


def exchange(fakes: tf.Tensor, past: Sequence[StoredImage], sources: tf.Tensor) -> tf.Tensor:
    """Returns the batch (N, H, W, C) that a pool gives in exchange for `fakes`; no gradient flows to `fakes`.

    Args:
      past: N stored images, (1, H, W, C) each.
      sources: int (N,). Image i of the result is image sources[i] of `fakes`, or past[i] if sources[i] is -1.
    """
    fakes = tf.stop_gradient(fakes)
    own = fakes if len(past) == 1 else tf.gather(fakes, tf.maximum(sources, 0))
    stored = tf.cast(tf.concat(past, axis=0), fakes.dtype)
    return tf.where(tf.reshape(sources, (-1, 1, 1, 1)) < 0, stored, own)
