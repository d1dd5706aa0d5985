"""One direction of a model on a data set, as measures see it: its images and their translations."""

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from PIL import Image

from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import loaders
from cyclegan_tf.data.dataset import ImageList
from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import feature_cache
from cyclegan_tf.metrics.setting import Setting

# Function of an image (H, W, C), of any dtype that `images.ranges` describes, to an image of the same dtype, or of
# float32 if its values have a unit.
Translate = Callable[[np.ndarray], np.ndarray]


class Task:
    """One direction of a model on a data set.

    Args:
      translate: for each direction of the model, a function that translates an image.

    Attributes:
      split: "test", or "train" if the source domain has no test images.
      target_split: "test", or "train" if the target domain has no test images.
      sources, targets: the images of the source and the target domain.
      references: the real images that FID and KID compare with.
      collector: collects the features that FID and KID share; the first of the two measures creates it.
    """

    def __init__(self, direction: Direction, translate: Mapping[Direction, Translate], setting: Setting) -> None:
        self.direction, self.setting = direction, setting
        self.translate = {each: _name_errors(each, function) for each, function in translate.items()}
        self.split, self.sources = setting.dataset.choose_evaluation_images(direction.source)
        self.target_split, self.targets = setting.dataset.choose_evaluation_images(direction.target)
        self.references = setting.dataset.get_images(setting.protocol.reference, direction.target)
        self.collector: feature_cache.Collector | None = None
        # The index of the last pair whose region was read, and the region.
        self._region: tuple[int, np.ndarray | None] | None = None

    def load(self, image_list: ImageList) -> Iterator[np.ndarray | None]:
        """Yields all images of a list; None for an image that cannot be decoded."""
        return loaders.load_test_images(image_list, self.setting.config)

    def enumerate_pairs(self, limit: int | None = None) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        """Yields (index, source image, true translation or None) for the first `limit` readable source images.

        Two images of different sizes are not a pair: the file is reported once as a bad image, and the source image
        has no true translation.
        """
        return itertools.islice(self._load_all_pairs(), limit)

    def load_valid(self, image_list: ImageList, index: int, size: tuple[int, ...]) -> np.ndarray | None:
        """Reads which pixels of an image have data: bool, resized to `size` (H, W), or None if all pixels have data."""
        valid = image_list.read_valid(index)
        return None if valid is None else _resize_mask(valid, size)

    def load_region(self, index: int, size: tuple[int, ...]) -> np.ndarray | None:
        """Computes the region of pair `index` for measures in units: masked pixels that have data in both images.

        The region is cached for all measures of a pair, because computing the region decodes both images.

        Args:
          size: height and width of the decoded pair.

        Returns:
          bool of `size`, or None for all pixels.

        Raises:
          UserError: the mask cannot be read, or has another size than the images.
        """
        if self._region is None or self._region[0] != index:
            self._region = index, self._read_region(index, size)
        return self._region[1]

    def _read_region(self, index: int, size: tuple[int, ...]) -> np.ndarray | None:
        regions = [self.load_valid(each, index, size) for each in (self.sources, self.targets)]
        masks = self.setting.dataset.masks
        if masks and (mask := masks.load(index)) is not None:
            if mask.shape != size:
                self._require_size(mask, masks.path(index), index)
            regions.append(_resize_mask(mask, size))
        known = [each for each in regions if each is not None]
        return np.stack(known).all(axis=0) if known else None

    def _require_size(self, mask: np.ndarray, path: str, index: int) -> None:
        """Raises a UserError unless the mask (H, W) of pair `index` has the size of one of its two images."""
        sizes = [images.read_values(index).pixels.shape[:2] for images in (self.targets, self.sources)]
        if mask.shape not in sizes:
            raise UserError(f"mask {path} has {mask.shape[1]} x {mask.shape[0]} pixels, but "
                            f"{self.targets.path(index)} has {sizes[0][1]} x {sizes[0][0]}; resize "
                            "the mask")

    def _load_all_pairs(self) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        paired_targets = itertools.islice(self.load(self.targets), self.setting.dataset.n_pairs)
        truths = itertools.chain(paired_targets, itertools.repeat(None))
        for index, (source, truth) in enumerate(zip(self.load(self.sources), truths, strict=False)):
            if source is None:
                continue
            if truth is not None and truth.shape[:2] != source.shape[:2]:
                mismatch = loaders.describe_size_mismatch(truth, source)
                self.targets.bad.add(self.targets.path(index), mismatch, only_as_pair=True)
                yield index, source, None
            else:
                yield index, source, truth

    def run(self, image: np.ndarray) -> np.ndarray:
        """Translates an image in the direction of this task."""
        return self.translate[self.direction](image)


def _resize_mask(mask: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resizes bool (H, W) to `size`, (height, width), with the nearest pixel."""
    height, width = size
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def _name_errors(direction: Direction, translate: Translate) -> Translate:
    """Wraps `translate` so that a ValueError, such as the error for an image with NaN, becomes a UserError."""

    def translate_image(image: np.ndarray) -> np.ndarray:
        try:
            return translate(image)
        except ValueError as error:
            raise UserError(f"an image cannot be translated in direction {direction}: {error}") from error

    return translate_image
