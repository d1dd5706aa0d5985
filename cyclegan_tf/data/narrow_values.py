"""Warnings about images whose values use a small part of the range from black to white."""

from collections.abc import Iterator, Sequence

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import DOMAINS, Domain
from cyclegan_tf.data import spread
from cyclegan_tf.data.dataset import ImageDataset, ImageList

_N_IMAGES = 8
_DARK_BITS = 14  # 14-bit values fill a quarter of the 16-bit range.


def find_narrow_values(config: Config, dataset: ImageDataset) -> Iterator[str]:
    """Yields a warning for each domain whose images use a small part of the range from black to white.

    Examines up to eight training images of each domain without --range_a or --range_b. The warnings are for 16-bit
    images whose values need at most 14 bits, and for images of floats without values below 0. Images whose levels are
    scaled up when they are decoded, such as 12-bit TIFF files, cause no warning.
    """
    for domain, images in zip(DOMAINS, (dataset.train_a, dataset.train_b), strict=True):
        if config.get_range(domain) is None:
            found = list(_decode_some(images))
            # --range_a and --range_b apply to stored levels, so a range of scaled levels would be wrong.
            if found and not any(is_scaled for _, is_scaled in found):
                yield from _describe([image for image, _ in found], domain)


def _decode_some(images: ImageList) -> Iterator[tuple[np.ndarray, bool]]:
    """Yields some images that can be decoded, each with whether decoding scales its levels from fewer bits to 16."""

    def decode(index: int) -> tuple[np.ndarray, bool] | None:
        try:
            image = images.decode(index)
            is_deep = image.dtype == np.uint16
            return image, is_deep and bool(image.max() > images.read_values(index).pixels.max())
        except (ValueError, OSError, MemoryError):  # Training names images that cannot be used.
            return None

    return (found for _, found in spread.load(len(images), _N_IMAGES, decode))


def _describe(images: Sequence[np.ndarray], domain: Domain) -> Iterator[str]:
    low, high = min(image.min() for image in images), max(image.max() for image in images)
    n_bits = int(high).bit_length()
    if all(image.dtype == np.uint16 for image in images) and 0 < n_bits <= _DARK_BITS:
        found, black, white, option = f"16-bit values are {low} to {high}", 0, 65535, f"0,{2**n_bits - 1}"
    elif all(image.dtype == np.float32 for image in images) and 0 <= low < high:
        found, black, white, option = f"floats are {low:.3g} to {high:.3g}", -1, 1, "0,1"
    else:
        return
    yield (f"the images of {domain.upper()} use a small part of their range: the {found}, but black is {black} and "
           f"white is {white}; train with --range_{domain}={option} to use the whole range")
