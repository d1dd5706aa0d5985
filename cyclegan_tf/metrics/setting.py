"""The data set, the protocol and the measuring networks that the measurements of a model share."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Domain
from cyclegan_tf.data import loaders
from cyclegan_tf.data.dataset import ImageDataset, ImageList, Split
from cyclegan_tf.images import ranges
from cyclegan_tf.metrics import classifier, feature_cache, inception, lpips, segmentation


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How images are chosen and compared; measures are comparable only if their protocols are equal.

    Attributes:
      reference: split of the real images that FID and KID compare translations with.
      weights_dir: folder of the measuring networks' weights; empty: `weights.get_default_folder()`.
      inception: path of a SavedModel that replaces `inception.Inception`; empty: no replacement.
      judge: "efficientnet_lite0" or the path of a Keras model.
      classes: by domain (a, b), numbers of the classes that the judge should find in images of the domain.
      labels: domain of the label maps, for segmentation.
      segmenter: path of a SavedModel that segments photographs, or empty.
    """

    reference: Split = "test"
    weights_dir: str = ""
    inception: str = ""
    judge: str = "efficientnet_lite0"
    classes: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
    labels: Domain = "b"
    segmenter: str = ""


class Networks:
    """The networks that measures use, and their results for real images, which all measures share.

    Each network is loaded on first use, which raises a UserError if its weights or its model cannot be loaded.

    Args:
      config: its preprocessing options resize the real images.
      protocol: names the networks.
    """

    def __init__(self, config: Config, protocol: Protocol) -> None:
        self._config, self._protocol = config, protocol
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
        """The classifier that `Protocol.judge` names."""
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

    def compute_features(self, image_list: ImageList) -> np.ndarray:
        """Returns the features (N, d) of the readable real images in a list; see `feature_cache.load_or_compute`."""
        return self._compute("features", image_list, lambda: feature_cache.load_or_compute(
            self.inception, image_list, self._config, self._protocol.weights_dir
        ))

    def classify(self, image_list: ImageList) -> Sequence[np.ndarray]:
        """Returns the judge's scores of the readable real images in a list, one array for each image."""
        return self._compute("scores", image_list, lambda: [
            self.judge(ranges.to_rgb(image)) for image in loaders.load_readable_images(image_list, self._config)
        ])

    def _compute(self, name: str, image_list: ImageList, compute: Callable[[], Any]) -> Any:
        key = name, id(image_list)
        if key in self._computed:
            return self._computed[key][1]
        result = compute()
        if len(result) == len(image_list):
            self._computed[key] = image_list, result
        return result


@dataclasses.dataclass(frozen=True)
class Setting:
    """The data set, the options and the protocol that all measurements of a model share.

    Attributes:
      dataset: the images to translate and to compare with.
      config: Config of the measured run; its preprocessing options resize the images.
      protocol: how images are chosen and compared.
    """

    dataset: ImageDataset
    config: Config
    protocol: Protocol = Protocol()

    @functools.cached_property
    def networks(self) -> Networks:
        """The measuring networks of `protocol`."""
        return Networks(self.config, self.protocol)
