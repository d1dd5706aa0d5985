"""Features of the Inception network of 2015-12-05, the standard network of FID and KID (Szegedy et al. 2015).

The quirks of this network are part of the measure: average pooling ignores the padding, the last block uses max
pooling, and images are resized to 299 x 299 bilinearly without half-pixel centers or antialiasing.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cyclegan_tf.errors import UserError, get_first_line
from cyclegan_tf.metrics import weights
from cyclegan_tf.networks import saved_model
from cyclegan_tf.ops import exhaustion

SIDE = 299
_EPSILON = 1e-3
# (stride, padding) of the convolutions that do not use stride 1 and "SAME" padding.
_PLAIN = dict.fromkeys(("conv_1", "conv_4"), (1, "VALID")) | dict.fromkeys(
    ("conv", "mixed_3.conv", "mixed_3.tower.conv_2", "mixed_8.tower.conv_1", "mixed_8.tower_1.conv_3"), (2, "VALID")
)


class Inception:
    """Function of uint8 images (N, H, W, 3) of any size to features (N, 2048) float32.

    Args:
      folder: folder of the weights, see `weights.load`.

    Attributes:
      name: names the network in results.

    Raises:
      UserError: the weights are missing or damaged.
    """

    name = f"inception-2015-12-05 {weights.digest('inception')}"

    def __init__(self, folder: str | None = None) -> None:
        arrays = weights.load("inception", folder)
        self._layers = {}
        for key in arrays:
            if key.endswith(".weight"):
                prefix = key.removesuffix(".weight")
                # Fold the batch norm after each convolution, which has fixed statistics and no scale, into the kernel.
                scale = 1 / np.sqrt(arrays[f"{prefix}.var"].astype(np.float64) + _EPSILON)
                kernel = np.transpose(arrays[key], (2, 3, 1, 0)) * scale
                bias = arrays[f"{prefix}.beta"] - arrays[f"{prefix}.mean"] * scale
                self._layers[prefix.removeprefix("net.layers.")] = tuple(
                    tf.constant(values, tf.float32) for values in (kernel, bias)
                )
        signature = [tf.TensorSpec((None, SIDE, SIDE, 3))]
        self._features = tf.function(self._compute_features, autograph=False, input_signature=signature)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._features(resize(images)).numpy()

    def _conv(self, x: tf.Tensor, name: str) -> tf.Tensor:
        kernel, bias = self._layers[name]
        stride, padding = _PLAIN.get(name, (1, "SAME"))
        return tf.nn.relu(tf.nn.conv2d(x, kernel, stride, padding) + bias)

    def _chain(self, x: tf.Tensor, prefix: str) -> tf.Tensor:
        """Applies the convolutions PREFIX.conv, PREFIX.conv_1, ... in this order."""
        names = [f"{prefix}.conv"] + [f"{prefix}.conv_{index}" for index in range(1, 5)]
        for name in names:
            if name in self._layers:
                x = self._conv(x, name)
        return x

    def _compute_features(self, x: tf.Tensor) -> tf.Tensor:
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

    def _towers(self, x: tf.Tensor, block: str) -> tf.Tensor:
        # TensorFlow's average pooling ignores the padding, as the original network does.
        pooled = tf.nn.avg_pool2d(x, 3, 1, "SAME")
        towers = [self._chain(x, f"{block}.{tower}") for tower in ("tower", "tower_1")]
        last = self._conv(pooled, f"{block}.tower_2.conv")
        return tf.concat([self._conv(x, f"{block}.conv"), *towers, last], axis=-1)

    def _reduction(self, x: tf.Tensor, towers: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.concat([*towers, tf.nn.max_pool2d(x, 3, 2, "VALID")], axis=-1)

    def _last_block(self, x: tf.Tensor, block: str, pool: Callable[..., tf.Tensor]) -> tf.Tensor:
        def pair(x: tf.Tensor, tower: str) -> list[tf.Tensor]:
            return [self._conv(x, f"{block}.{tower}_mixed_conv"), self._conv(x, f"{block}.{tower}_mixed_conv_1")]

        first = self._conv(x, f"{block}.tower_conv")
        second = self._conv(self._conv(x, f"{block}.tower_1_conv"), f"{block}.tower_1_conv_1")
        pooled = self._conv(pool(x, 3, 1, "SAME"), f"{block}.tower_2_conv")
        return tf.concat(
            [self._conv(x, f"{block}.conv"), *pair(first, "tower"), *pair(second, "tower_1"), pooled], axis=-1
        )


class SavedInception:
    """Function of uint8 images (N, H, W, 3) of any size to the features (N, d) of a SavedModel.

    The SavedModel, such as TF-GAN's Inception, maps float32 images (N, 299, 299, 3) in [-1, 1] to features in an output
    named pool_3.

    Raises:
      UserError: `path` is not such a SavedModel.
    """

    def __init__(self, path: str) -> None:
        self._network = saved_model.open_saved_model(path, f"--inception={path}", output="pool_3")
        self._path, self.name = path, f"SavedModel {path} {weights.digest_files(path)}"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        try:
            features = tf.reshape(self._network(resize(images)), (len(images), -1)).numpy()
        except (ValueError, TypeError, tf.errors.OpError) as error:
            if exhaustion.is_exhausted(error):
                raise
            raise UserError(f"--inception={self._path} fails on images of {SIDE} x {SIDE} pixels "
                            f"({get_first_line(error)}); give a SavedModel that takes such images") from error
        if not np.isfinite(features).all():
            raise UserError(f"--inception={self._path} returns features that are not finite; give another SavedModel")
        return features


def resize(images: np.ndarray) -> tf.Tensor:
    """Resizes and scales images as the graph of 2015 does.

    Args:
      images: uint8 (N, H, W, 3).

    Returns:
      float32 (N, 299, 299, 3); 0 .. 255 becomes -1 .. 127 / 128.
    """
    images = (tf.cast(images, tf.float32) - 128) / 128
    # tf.image.resize would sample at pixel centers.
    return tf.raw_ops.ResizeBilinear(images=images, size=(SIDE, SIDE), align_corners=False, half_pixel_centers=False)
