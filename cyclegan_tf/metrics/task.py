"""One direction of a model on a data set, as measures see it: its images, its measuring networks and its protocol."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction, Domain
from cyclegan_tf.data import loaders
from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges
from cyclegan_tf.metrics import classifier, feature_cache, inception, lpips, segmentation

# Function of an image (H, W, C), of any dtype that `images.ranges` describes, to an image of the same dtype, or of
# float32 if its values have a unit.
Translate = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How images are chosen and compared; measures are comparable only if their protocols are equal.

    Attributes:
      reference: split of the real images that FID and KID compare translations with.
      weights_dir: folder of the measuring networks' weights; empty: `weights.default_folder()`.
      inception: path of a SavedModel that replaces `inception.Inception`; empty: no replacement.
      judge: "efficientnet_lite0" or the path of a Keras model.
      classes: by domain (a, b), numbers of the classes that the judge should find in images of the domain.
      labels: domain of the label maps, for segmentation.
      segmenter: path of a SavedModel that segments photographs, or empty.
    """

    reference: Literal["test", "train"] = "test"
    weights_dir: str = ""
    inception: str = ""
    judge: str = "efficientnet_lite0"
    classes: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
    labels: Domain = "b"
    segmenter: str = ""


class Networks:
    """The networks that measures use, and their results for real images, which all measures share.

    Each network is loaded on first use, which raises a UserError if its weights or its model cannot be loaded.
    """

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._lpips: dict[str, lpips.LPIPS] = {}
        # Results by (name, id of a list of real images), each with its list, because Python reuses the id of an object
        # that is gone. Incomplete results are not kept, because a file may be readable later.
        self._computed: dict[tuple[str, int], tuple[ImageList, Any]] = {}

    @functools.cached_property
    def inception(self) -> feature_cache.FeatureNetwork:
        """The network of FID and KID."""
        path = self._protocol.inception
        return inception.SavedInception(path) if path else inception.Inception(self._protocol.weights_dir)

    @functools.cached_property
    def judge(self) -> classifier.Classifier:
        """The classifier of `judge`."""
        is_default = self._protocol.judge == "efficientnet_lite0"
        return (classifier.EfficientNetLite0(self._protocol.weights_dir) if is_default
                else classifier.KerasClassifier(self._protocol.judge))

    @functools.cached_property
    def segmenter(self) -> segmentation.Segmenter:
        """The network that segments photographs."""
        return segmentation.Segmenter(self._protocol.segmenter)

    def get_lpips(self, net: str) -> lpips.LPIPS:
        """Returns the distance with the features of `net`, alexnet or vgg16."""
        if net not in self._lpips:
            self._lpips[net] = lpips.LPIPS(net, self._protocol.weights_dir)
        return self._lpips[net]

    def compute_features(self, image_list: ImageList, config: Config) -> np.ndarray:
        """Returns the features (N, d) of the readable real images in a list; see `feature_cache.load_or_compute`."""
        return self._compute("features", image_list, lambda: feature_cache.load_or_compute(
            self.inception, image_list, config, self._protocol.weights_dir
        ))

    def classify(self, image_list: ImageList, config: Config) -> Sequence[np.ndarray]:
        """Returns the judge's scores of the readable real images in a list, one array for each image."""
        images = loaders.load_test_images(image_list, config)
        return self._compute("scores", image_list, lambda: [
            self.judge(ranges.to_rgb(image)) for image in images if image is not None
        ])

    def _compute(self, name: str, image_list: ImageList, compute: Callable[[], Any]) -> Any:
        key = name, id(image_list)
        if key in self._computed:
            return self._computed[key][1]
        result = compute()
        if len(result) == len(image_list):
            self._computed[key] = image_list, result
        return result


class Task:
    """One direction of a model on a data set.

    Attributes:
      split: "test", or "train" if the source domain has no test images.
      target_split: "test", or "train" if the target domain has no test images.
      sources, targets: the images of the source and the target domain.
      references: the real images that FID and KID compare with.
      collector: collects the features that FID and KID share; the first of the two measures creates it.
    """

    def __init__(
        self, direction: Direction, translate: Mapping[Direction, Translate], dataset: ImageDataset, config: Config,
        protocol: Protocol, networks: Networks,
    ) -> None:
        self.direction, self.config, self.protocol = direction, config, protocol
        self.translate = {each: _name_errors(each, function) for each, function in translate.items()}
        self.networks, self.dataset = networks, dataset
        tests = direction.order(dataset.test_a, dataset.test_b)
        trains = direction.order(dataset.train_a, dataset.train_b)
        self.split, self.target_split = ("test" if each else "train" for each in tests)
        self.sources, self.targets = (test or train for test, train in zip(tests, trains, strict=True))
        self.references = (trains if protocol.reference == "train" else tests)[1]
        self.collector: feature_cache.Collector | None = None
        # The index of the last pair whose region was read, and the region.
        self._region: tuple[int, np.ndarray | None] | None = None

    def load(self, image_list: ImageList) -> Iterator[np.ndarray | None]:
        """Yields all images of a list; None for an image that cannot be decoded."""
        return loaders.load_test_images(image_list, self.config)

    def load_readable(self, image_list: ImageList) -> Iterator[np.ndarray]:
        """Yields all images of a list that can be decoded."""
        return (image for image in self.load(image_list) if image is not None)

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
        """Computes which pixels of pair `index` count in units: pixels in the mask that have data in both images.

        The region is cached for all measures of a pair, because it costs decoding both images.

        Args:
          size: height and width of the decoded pair.

        Returns:
          bool of `size`, or None for all pixels.

        Raises:
          UserError: the mask cannot be read.
        """
        if self._region is None or self._region[0] != index:
            self._region = index, self._read_region(index, size)
        return self._region[1]

    def _read_region(self, index: int, size: tuple[int, ...]) -> np.ndarray | None:
        regions = [self.load_valid(each, index, size) for each in (self.sources, self.targets)]
        mask = self.dataset.masks.load(index) if self.dataset.masks else None
        regions.append(None if mask is None else _resize_mask(mask, size))
        known = [each for each in regions if each is not None]
        return np.stack(known).all(axis=0) if known else None

    def _load_all_pairs(self) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        paired_targets = itertools.islice(self.load(self.targets), self.dataset.n_pairs)
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
