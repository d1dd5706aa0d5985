"""Loads and resizes the images of a data set for training, measures and sample grids."""

import functools
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import DOMAINS, Direction, Domain
from cyclegan_tf.config.run_options import GIVEN_DATASET
from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.data import sizes, spread
from cyclegan_tf.data.bad_images import BadImages
from cyclegan_tf.data.dataset import ImageList
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec, ranges, units
from cyclegan_tf.images.stacks import Slice

# Largest domain that --cache=auto keeps in memory.
AUTO_CACHE_BYTES = 2 * 2**30


class Loader:
    """Loads the images of a single position in a run, in tf.data's threads.

    Attributes:
      error: the error that ended loading, or None.
    """

    error: UserError | OSError | None = None


class ImageLoader(Loader):
    """Decodes image i of a domain and resizes the image to the size before the random crop; for tf.data's threads.

    A loader of pairs has two domains and returns image i of both. The next image, or the next pair, replaces an image
    that cannot be decoded.

    Args:
      image_lists: the images of one domain, or of two domains whose images are pairs.
      target_size: computes the size to resize an image to.
      cache: auto, memory or off; see `Config`.
    """

    def __init__(
        self, image_lists: Sequence[ImageList], target_size: codec.TargetSize, cache: str = "auto"
    ) -> None:
        self._lists = image_lists
        self._target_size = target_size
        # Bytes left in the cache; None until the size of the first image shows whether the domain fits.
        self._room: float | None = {"auto": None, "memory": float("inf"), "off": 0}[cache]
        self._cached: dict[int, list[np.ndarray]] = {}
        self._lock = threading.Lock()

    def __call__(self, index: int) -> list[np.ndarray]:
        """Returns image `index` of each list, or the next images that can be decoded; dtypes as in `images.ranges`.

        Raises:
          UserError: no image can be decoded, or an image is bad and bad images stop the run.
          OSError: an image is bad, and its name cannot be written to the run directory.
        """
        count = len(self._lists[0])
        try:
            for offset in range(count):
                images = self._load((index + offset) % count)
                if images is not None:
                    return images
            # All lists of a data set share one record of bad images.
            reasons = self._lists[0].bad.reasons
            paths = (each.path(index) for index in range(count) for each in self._lists)
            path = next(path for path in paths if path in reasons)
            what = "images" if len(self._lists) == 1 else "pairs"
            raise UserError(
                f"none of the {count} {what} in {self._lists[0].where} can be read: {path}: {reasons[path]}"
            )
        except (UserError, OSError) as error:  # An OSError if the record of bad images cannot be written.
            # tf.data passes on only the text of an exception; `read_batches` raises the exception itself.
            self.error = error
            raise

    def _load(self, index: int) -> list[np.ndarray] | None:
        if index in self._cached:
            return self._cached[index]
        images: list[np.ndarray] = []
        for image_list in self._lists:
            image = image_list.load(index, self._target_size)
            if image is None:
                return None
            images.append(image)
            if image.shape[:2] != images[0].shape[:2]:
                mismatch = describe_size_mismatch(image, images[0])
                image_list.bad.add(image_list.path(index), mismatch, only_as_pair=True)
                return None
        self._cache(index, images)
        return images

    def _cache(self, index: int, images: list[np.ndarray]) -> None:
        size = sum(image.nbytes for image in images)
        with self._lock:
            if self._room is None:
                # Cache all images or none, so that a large domain takes no memory.
                fits = size * len(self._lists[0]) <= AUTO_CACHE_BYTES
                self._room = AUTO_CACHE_BYTES if fits else 0
            if size <= self._room and index not in self._cached:
                self._room -= size
                self._cached[index] = images


class StreamLoader(Loader):
    """Checks and resizes the images of a pair (A, B) that a tf.data.Dataset yields.

    Args:
      config: the preprocessing options, the channels, and whether both images of a pair must have one size.
      bad: logs once for each domain that values outside of the range are clipped.
    """

    def __init__(self, config: Config, bad: BadImages) -> None:
        self._config, self._bad = config, bad

    def __call__(self, *pair: np.ndarray) -> list[np.ndarray]:
        """Returns both images before their crop; dtypes as in `images.ranges`.

        Raises:
          UserError: an image has a wrong shape, dtype or range.
        """
        config, images = self._config, []
        try:
            callers = Direction(config.direction).order(*DOMAINS)  # The domains as the caller calls them, for messages.
            for image, domain, own in zip(pair, DOMAINS, callers, strict=True):
                limits = config.get_range(domain)
                channels = config.get_channels(domain)
                checked = ranges.check_given_image(image, own, channels, in_units=limits is not None)
                if limits is not None:
                    checked = self._normalize(checked, limits, own)
                images.append(codec.resize(checked, *sizes.compute_training_size(config, *checked.shape[:2])))
            if config.trains_on_pairs and images[0].shape[:2] != images[1].shape[:2]:
                raise UserError(f"dataset: {describe_size_mismatch(*images[::-1])}; give pairs of one size, or resize "
                                'them with preprocess="resize_and_crop"')
            return images
        except UserError as error:
            self.error = error
            raise

    def _normalize(self, image: np.ndarray, limits: ValueRange, domain: Domain) -> np.ndarray:
        try:
            pixels, n_clipped = units.normalize(Slice(image), limits)
        except ValueError as error:
            raise UserError(f"dataset: an image of {domain.upper()} cannot be used: {error}") from error
        if n_clipped:  # The images have no names to count them by.
            self._bad.add_notice(GIVEN_DATASET, f"values of {domain.upper()} outside of the range {limits} are clipped")
        return pixels


def describe_size_mismatch(image: np.ndarray, other: np.ndarray) -> str:
    """Says why two images (H, W, C) of different sizes are not a pair; `other` is from the other domain."""
    (height, width), (other_height, other_width) = image.shape[:2], other.shape[:2]
    return f"not a pair: {width} x {height} pixels, {other_width} x {other_height} in the other domain"


def load_test_image(image_list: ImageList, config: Config, index: int) -> np.ndarray | None:
    """Loads test image `index`, whole and resized, of a dtype of `images.ranges`; None if the image cannot be used."""
    return image_list.load(index, functools.partial(sizes.compute_test_size, config))


def load_test_images(image_list: ImageList, config: Config) -> Iterator[np.ndarray | None]:
    """Yields all test images of a list as `load_test_image` returns them."""
    return (load_test_image(image_list, config, index) for index in range(len(image_list)))


def load_readable_images(image_list: ImageList, config: Config) -> Iterator[np.ndarray]:
    """Yields the test images of a list; leaves out images that cannot be used."""
    return (image for image in load_test_images(image_list, config) if image is not None)


def load_test_rows(
    image_lists: Sequence[ImageList], config: Config, limit: int
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yields (index, image `index` of each list) for up to `limit` indices that `spread.load` chooses."""

    def load(index: int) -> list[np.ndarray] | None:
        row = [load_test_image(image_list, config, index) for image_list in image_lists]
        good = [image for image in row if image is not None]
        return good if len(good) == len(row) else None

    return spread.load(min(map(len, image_lists)), limit, load)
