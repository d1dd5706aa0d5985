"""Features of the Inception network of 2015-12-05, which FID and KID in papers are measured with (Szegedy et al. 2015).

Its quirks are part of the measure: average pooling that leaves the padding out, maximum pooling in the last block, and
a bilinear resize to 299 x 299 without half-pixel centers or antialiasing.
"""

import hashlib
import os

import numpy as np
import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import weights
from cyclegan_tf.networks import saved_model

SIDE, DIMENSIONS = 299, 2048
_EPSILON = 1e-3
# Not with stride 1 and zeros around, as all others: name -> (stride, padding).
_PLAIN = dict.fromkeys(("conv_1", "conv_4"), (1, "VALID")) | dict.fromkeys(
    ("conv", "mixed_3.conv", "mixed_3.tower.conv_2", "mixed_8.tower.conv_1", "mixed_8.tower_1.conv_3"), (2, "VALID")
)


class Inception:
    """Function of uint8 images (N, H, W, 3) of any one size to features (N, 2048) float32.

    Args:
      folder: where the weights are; see `weights.load`, whose errors it raises.

    Attributes:
      name: names the network in results.
    """

    name = f"inception-2015-12-05 {weights.digest('inception')}"

    def __init__(self, folder=None):
        arrays = weights.load("inception", folder)
        self._layers = {}
        for key in arrays:
            if key.endswith(".weight"):
                prefix = key.removesuffix(".weight")
                # The norm after each convolution, with fixed statistics and without scale, is part of its weights.
                scale = 1 / np.sqrt(arrays[f"{prefix}.var"].astype(np.float64) + _EPSILON)
                kernel = np.transpose(arrays[key], (2, 3, 1, 0)) * scale
                bias = arrays[f"{prefix}.beta"] - arrays[f"{prefix}.mean"] * scale
                self._layers[prefix.removeprefix("net.layers.")] = tuple(
                    tf.constant(values, tf.float32) for values in (kernel, bias)
                )
        signature = [tf.TensorSpec((None, SIDE, SIDE, 3))]
        self._features = tf.function(self._of_resized, autograph=False, input_signature=signature)

    def __call__(self, images):
        return self._features(resize(images)).numpy()

    def _conv(self, x, name):
        kernel, bias = self._layers[name]
        stride, padding = _PLAIN.get(name, (1, "SAME"))
        return tf.nn.relu(tf.nn.conv2d(x, kernel, stride, padding) + bias)

    def _chain(self, x, prefix):
        """The convolutions PREFIX.conv, PREFIX.conv_1 ... one after the other."""
        names = [f"{prefix}.conv"] + [f"{prefix}.conv_{index}" for index in range(1, 5)]
        for name in names:
            if name in self._layers:
                x = self._conv(x, name)
        return x

    def _of_resized(self, x):
        for name in ("conv", "conv_1", "conv_2"):
            x = self._conv(x, name)
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")  # (N, 73, 73, 64)
        for name in ("conv_3", "conv_4"):
            x = self._conv(x, name)
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")  # (N, 35, 35, 192)
        for block in ("mixed", "mixed_1", "mixed_2"):
            x = self._towers(x, block)  # (N, 35, 35, 256), then 288
        x = self._reduction(x, [self._conv(x, "mixed_3.conv"), self._chain(x, "mixed_3.tower")])  # (N, 17, 17, 768)
        for block in ("mixed_4", "mixed_5", "mixed_6", "mixed_7"):
            x = self._towers(x, block)
        towers = [self._chain(x, f"mixed_8.{tower}") for tower in ("tower", "tower_1")]
        x = self._reduction(x, towers)  # (N, 8, 8, 1280)
        x = self._last_block(x, "mixed_9", tf.nn.avg_pool2d)
        x = self._last_block(x, "mixed_10", tf.nn.max_pool2d)  # (N, 8, 8, 2048)
        return tf.reduce_mean(x, axis=(1, 2))

    def _towers(self, x, block):
        # TensorFlow's average leaves the padding out.
        pooled = tf.nn.avg_pool2d(x, 3, 1, "SAME")
        towers = [self._chain(x, f"{block}.{tower}") for tower in ("tower", "tower_1")]
        last = self._conv(pooled, f"{block}.tower_2.conv")
        return tf.concat([self._conv(x, f"{block}.conv"), *towers, last], axis=-1)

    def _reduction(self, x, towers):
        return tf.concat([*towers, tf.nn.max_pool2d(x, 3, 2, "VALID")], axis=-1)

    def _last_block(self, x, block, pool):
        def pair(x, tower):
            return [self._conv(x, f"{block}.{tower}_mixed_conv"), self._conv(x, f"{block}.{tower}_mixed_conv_1")]

        first = self._conv(x, f"{block}.tower_conv")
        second = self._conv(self._conv(x, f"{block}.tower_1_conv"), f"{block}.tower_1_conv_1")
        pooled = self._conv(pool(x, 3, 1, "SAME"), f"{block}.tower_2_conv")
        return tf.concat(
            [self._conv(x, f"{block}.conv"), *pair(first, "tower"), *pair(second, "tower_1"), pooled], axis=-1
        )


class SavedInception:
    """The same function by a SavedModel, such as TF-GAN's, of float32 (N, 299, 299, 3) in [-1, 1] to `pool_3`."""

    def __init__(self, path):
        self._network = saved_model.open_saved_model(path, f"--inception={path}", output="pool_3")
        self.name = f"SavedModel {path} {_digest(path)}"

    def __call__(self, images):
        return tf.reshape(self._network(resize(images)), (len(images), -1)).numpy()


def _digest(path):
    """The beginning of a SavedModel's SHA-256: features that are kept must be of this very network."""
    digest = hashlib.sha256()
    for folder, _, names in sorted(os.walk(path)):
        for name in sorted(names):
            with open(os.path.join(folder, name), "rb") as file:
                digest.update(file.read())
    return digest.hexdigest()[:12]


class KerasInception:
    """Keras's Inception v3 of other weights, whose figures no paper's can be compared with: (N, 2048) features."""

    name = "keras.applications.InceptionV3"

    def __init__(self):
        try:
            self._model = tf.keras.applications.InceptionV3(include_top=False, pooling="avg")
        except Exception as error:  # The download can raise anything.
            raise UserError(
                "fid_keras needs Keras's weights, which cannot be downloaded; put "
                "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5 into ~/.keras/models"
            ) from error

    def __call__(self, images):
        return self._model(resize(images), training=False).numpy()


def resize(images):
    """uint8 (N, H, W, 3) -> float32 (N, 299, 299, 3), 0 .. 255 mapped to -1 .. 127 / 128, as the graph of 2015 does."""
    images = (tf.cast(images, tf.float32) - 128) / 128
    # tf.image.resize samples at the pixels' centers.
    return tf.raw_ops.ResizeBilinear(images=images, size=(SIDE, SIDE), align_corners=False, half_pixel_centers=False)
