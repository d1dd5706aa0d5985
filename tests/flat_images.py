"""A data set of images of one gray level, and a network that measures their color, for tests of measures."""

import numpy as np
from PIL import Image

from cyclegan_tf.config import Config


class MeanColor:
    """A network with one feature, the mean color, in place of Inception."""

    name = "mean"

    def __call__(self, images):
        return images.mean(axis=(1, 2)).astype(np.float32)[:, :1]


def make_flat_images(folder):
    """Writes two images of each part to `folder`, gray levels in their names; returns the Config of the data set."""
    for part, grays in (("trainA", [0, 10]), ("trainB", [202, 212]), ("testA", [51, 61]), ("testB", [102, 112])):
        (folder / part).mkdir()
        for gray in grays:
            Image.new("RGB", (20, 16), (gray,) * 3).save(folder / part / f"{part}{gray}.png")
    return Config(dataset=str(folder), preprocess="none", pool_size=0)
