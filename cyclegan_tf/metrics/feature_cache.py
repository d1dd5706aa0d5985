"""Network features of many images, computed in batches, and a disk cache for the features of real images."""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from typing import Protocol

import numpy as np

from cyclegan_tf.config import Config, architectures
from cyclegan_tf.data import loaders
from cyclegan_tf.data.dataset import ImageList
from cyclegan_tf.errors import is_outage
from cyclegan_tf.images import ranges
from cyclegan_tf.metrics import weights
from cyclegan_tf.storage import array_files
from cyclegan_tf.storage.zip_files import DamagedFileError

log = logging.getLogger("cyclegan_tf")

_VERSION = 2  # Of the pixels that the networks see; another version computes all features again.

_BATCH = 16


class FeatureNetwork(Protocol):
    """A named function of uint8 images (N, H, W, 3) to features (N, d)."""

    name: str

    def __call__(self, images: np.ndarray) -> np.ndarray: ...


class Collector:
    """Computes the features of images that are added one by one, and keeps their order.

    Args:
      network: function of uint8 images (N, H, W, 3) to features (N, d).

    Attributes:
      count: number of images that were added.
    """

    def __init__(self, network: Callable[[np.ndarray], np.ndarray]) -> None:
        self._network, self.count = network, 0
        self._waiting: list[np.ndarray] = []
        self._found: list[np.ndarray] = []

    def add(self, image: np.ndarray) -> None:
        """Adds an image (H, W, C) of any kind and any number of channels, converted by `ranges.to_rgb`."""
        image = ranges.to_rgb(image)
        if self._waiting and (len(self._waiting) == _BATCH or self._waiting[0].shape != image.shape):
            self._flush()
        self._waiting.append(image)
        self.count += 1

    def join_features(self) -> np.ndarray:
        """Features (N, d) float32 of all images so far; an array (0, 0) if there are none."""
        if self._waiting:
            self._flush()
        return np.concatenate(self._found) if self._found else np.zeros((0, 0), np.float32)

    def _flush(self) -> None:
        self._found.append(self._network(np.stack(self._waiting)))
        self._waiting = []


def load_or_compute(
    network: FeatureNetwork, image_list: ImageList, config: Config, folder: str | None = None
) -> np.ndarray:
    """Returns the features (N, d) of the readable images in a list, resized like the test images of `config`.

    The features are cached in FOLDER/features. The name of the file is a hash of everything that the features depend
    on: the network, the encoded bytes of the images, the pixels without data, the range of values, and the options that
    resize the images. Without write access to the folder, each call computes the features again. After an error of
    the disk or the network, the next call computes the features again, because the features of the unread file are
    missing.

    Args:
      folder: `weights.get_default_folder()` by default.
    """
    key, unreadable = _compute_key(network, image_list, config)
    path = os.path.join(folder or weights.get_default_folder(), "features", f"{key[:32]}.npz")
    if os.path.exists(path):
        try:
            return array_files.read(path)["features"]
        except (OSError, DamagedFileError, KeyError) as error:
            log.warning("%s is damaged (%s); computing the features again", path, error)
    collector, matches_key = Collector(network), True
    for index, image in enumerate(loaders.load_test_images(image_list, config)):
        if image is not None:
            collector.add(image)
        was_readable = image is not None or _is_damaged(image_list, index)
        matches_key = matches_key and was_readable == (index not in unreadable)
    features = collector.join_features()
    if not matches_key:
        return features
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        array_files.write(path, {"features": features})
    return features


def _compute_key(network: FeatureNetwork, image_list: ImageList, config: Config) -> tuple[str, set[int]]:
    """Hashes everything that the features of a list depend on; also returns the indices of the unreadable images."""
    key = hashlib.sha256(repr((
        _VERSION, network.name, image_list.half, image_list.channels,
        config.preprocess, config.load_size, config.crop_size,
        architectures.get_size_multiple(config), *([image_list.value_range] if image_list.value_range else []),
    )).encode())
    unreadable = set()
    for index in range(len(image_list)):
        try:
            piece = image_list.read_slice(index)
            data = image_list.read(index) if piece is None else array_files.encode(piece.pixels)
            key.update(hashlib.sha256(data).digest())
            if piece is not None and piece.valid is not None:
                key.update(hashlib.sha256(piece.valid.tobytes()).digest())
        except (OSError, ValueError):
            key.update(b"unreadable")
            unreadable.add(index)
    return key.hexdigest(), unreadable


def _is_damaged(image_list: ImageList, index: int) -> bool:
    """True if the content of an image cannot be decoded; False if its file cannot be read, or is read well now."""
    try:
        image_list.decode(index)
    except ValueError:
        return True
    except OSError as error:
        return not is_outage(error)
    return False
