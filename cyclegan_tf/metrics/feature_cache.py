"""Features of many images, computed in batches and kept on disk for images that do not change."""

import hashlib
import os

import numpy as np

from cyclegan_tf.data import pipeline
from cyclegan_tf.images import ranges
from cyclegan_tf.metrics import weights
from cyclegan_tf.storage import atomic

_BATCH = 16


class Collector:
    """Features of the images that are added, in their order.

    Args:
      network: function of uint8 (N, H, W, 3) to features (N, d).
    """

    def __init__(self, network):
        self._network = network
        self._waiting, self._found = [], []

    def add(self, image):
        """Adds an image (H, W, C) of any kind; gray and other channels become color as `ranges.to_rgb` makes them."""
        image = ranges.to_rgb(image)
        if self._waiting and (len(self._waiting) == _BATCH or self._waiting[0].shape != image.shape):
            self._flush()
        self._waiting.append(image)

    def features(self):
        """(N, d) float32 of all images so far; (0, 0) of none."""
        if self._waiting:
            self._flush()
        return np.concatenate(self._found) if self._found else np.zeros((0, 0), np.float32)

    def _flush(self):
        self._found.append(self._network(np.stack(self._waiting)))
        self._waiting = []


def load_or_compute(network, image_list, config, folder=None):
    """Features of the images in an `ImageList`, as held-out images of `config` are seen; kept in FOLDER/features.

    The file is named after everything that the features depend on: the network, the images' encoded bytes, and how they
    are resized.
    """
    key = hashlib.sha256(repr((
        network.name, image_list.half, image_list.channels, config.preprocess, config.load_size, config.crop_size,
        config.generator, config.n_downs,
    )).encode())
    for index in range(len(image_list)):
        try:
            key.update(hashlib.sha256(image_list.read(index)).digest())
        except OSError:
            key.update(b"unreadable")
    path = os.path.join(folder or weights.default_folder(), "features", f"{key.hexdigest()[:32]}.npy")
    if os.path.exists(path):
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            pass  # Damaged: made anew.
    collector = Collector(network)
    for image in pipeline.load_test_images(image_list, config):
        if image is not None:
            collector.add(image)
    features = collector.features()
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with atomic.open_for_writing(path, "wb") as file:
            np.save(file, features)
    except OSError:
        pass  # Where nothing can be kept they are computed every time.
    return features
