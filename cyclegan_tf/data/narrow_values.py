"""Warnings about images whose values fill a small part of the range that the networks take as black to white."""

from collections.abc import Iterator

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import DOMAINS, Domain
from cyclegan_tf.data import spread
from cyclegan_tf.data.dataset import ImageDataset, ImageList

_N_IMAGES = 3
_DARK_BITS = 14  # 16-bit images whose values have at most so many bits fill less than a quarter of the range.


def find_narrow_values(config: Config, dataset: ImageDataset) -> Iterator[str]:
    """Yields a warning for each domain without a range if the values of three training images fill half of it or less.

    Such images are 16-bit images whose values have at most 14 bits, and images of floats without values below 0.
    """
    for domain, images in zip(DOMAINS, (dataset.train_a, dataset.train_b), strict=True):
        if config.get_range(domain) is None:
            found = _decode_some(images)
            if found:
                yield from _describe(found, domain)


def _decode_some(images: ImageList) -> list[np.ndarray]:
    def decode(index: int) -> np.ndarray | None:
        try:
            return images.decode(index)
        except (ValueError, OSError, MemoryError):  # Training names images that cannot be used.
            return None

    return [image for _, image in spread.load(len(images), _N_IMAGES, decode)]


def _describe(images: list[np.ndarray], domain: Domain) -> Iterator[str]:
    low, high = min(image.min() for image in images), max(image.max() for image in images)
    n_bits = int(high).bit_length()
    if all(image.dtype == np.uint16 for image in images) and 0 < n_bits <= _DARK_BITS:
        found, limits, option = f"16-bit values are {low} to {high}", "0 to 65535", f"0,{2**n_bits - 1}"
    elif all(image.dtype == np.float32 for image in images) and 0 <= low < high:
        found, limits, option = f"floats are {low:.3g} to {high:.3g}", "-1 to 1", "0,1"
    else:
        return
    yield (f"the images of {domain.upper()} use a small part of their range: the {found}, where black to white is "
           f"{limits}; train with --range_{domain}={option} to use the whole range")
