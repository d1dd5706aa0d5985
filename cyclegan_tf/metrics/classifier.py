"""A classifier as a judge: does it take translated images for what they are meant to be?"""

import numpy as np
import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec, ranges
from cyclegan_tf.metrics import weights

_EPSILON = 1e-3
# Share of the shorter side that the classifier looks at, as its authors evaluate it.
_CENTER = 224 / 256
# EfficientNet-Lite0's stages: blocks, stride of the first, expansion.
_STAGES = ((1, 1, 1), (2, 2, 6), (2, 2, 6), (3, 2, 6), (3, 1, 6), (4, 2, 6), (1, 1, 6))


def rates(scores, classes):
    """(top-1, top-5): shares of images for which one of `classes` has the highest score, or one of the five highest.

    Args:
      scores: (N, number of classes).
      classes: numbers of the classes that count, from 0.
    """
    order = np.argsort(-np.asarray(scores), axis=-1, kind="stable")[:, :5]
    hits = np.isin(order, classes)
    return float(hits[:, 0].mean()), float(hits.any(axis=1).mean())


class EfficientNetLite0:
    """Function of a uint8 image (H, W, 3) to its scores (1000,) for ImageNet's classes, from 0: logits.

    Tan and Le 2019; the Lite variant has ReLU6 and no squeeze-and-excitation. Sees the central 224 / 256 of the image's
    shorter side, resized to 224 x 224.

    Args:
      folder: where the weights are; see `weights.load`, whose errors it raises.
    """

    name = f"efficientnet-lite0 {weights.digest('efficientnet_lite0')}"

    def __init__(self, folder=None):
        self._arrays = weights.load("efficientnet_lite0", folder)
        self.logits = tf.function(self._logits, autograph=False, input_signature=[tf.TensorSpec((None, 224, 224, 3))])

    def __call__(self, image):
        return self.logits(ranges.to_float(_center(image, 224))[np.newaxis])[0].numpy()

    def _logits(self, x):
        """float32 (N, 224, 224, 3) in [-1, 1] -> (N, 1000)."""
        x = self._conv(x * 127.5 / 128 + 0.5 / 128, "_conv_stem", "_bn0", 2)
        block = 0
        for repeats, first_stride, expansion in _STAGES:
            for repeat in range(repeats):
                x = self._block(x, f"_blocks.{block}.", first_stride if repeat == 0 else 1, expansion)
                block += 1
        x = self._conv(x, "_conv_head", "_bn1", 1)
        return tf.reduce_mean(x, axis=(1, 2)) @ self._arrays["_fc.weight"].T + self._arrays["_fc.bias"]

    def _block(self, x, prefix, stride, expansion):
        before = x
        if expansion > 1:
            x = self._conv(x, f"{prefix}_expand_conv", f"{prefix}_bn0", 1)
        x = self._conv(x, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride)
        x = self._conv(x, f"{prefix}_project_conv", f"{prefix}_bn2", 1, activation=tf.identity)
        return x + before if before.shape[1:] == x.shape[1:] else x

    def _conv(self, x, name, norm, stride, activation=tf.nn.relu6):
        weight = self._arrays[f"{name}.weight"]
        gamma, beta, mean, variance = (
            self._arrays[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + _EPSILON)
        if name.endswith("_depthwise_conv"):
            kernel = np.transpose(weight * scale[:, None, None, None], (2, 3, 0, 1))
            x = tf.nn.depthwise_conv2d(x, tf.constant(kernel, tf.float32), [1, stride, stride, 1], "SAME")
        else:
            kernel = np.transpose(weight * scale[:, None, None, None], (2, 3, 1, 0))
            x = tf.nn.conv2d(x, tf.constant(kernel, tf.float32), stride, "SAME")
        return activation(x + tf.constant(beta - mean * scale, tf.float32))


class KerasClassifier:
    """The same by a Keras model of float32 (N, H, W, 3) images, 0 .. 255, to scores; of any size: 224 x 224.

    Raises:
      UserError: the file is missing or no such model.
    """

    def __init__(self, path):
        self.name = path
        try:
            self._model = tf.keras.models.load_model(path, compile=False)
        except Exception as error:  # A file that is no model can raise anything.
            raise UserError(f"--judge={path} is no Keras model ({' '.join(str(error).split())[:200]})") from error
        shape = self._model.input_shape
        if len(shape) != 4 or shape[-1] != 3 or len(self._model.output_shape) != 2:
            raise UserError(f"--judge={path} is no classifier of color images: {shape} -> {self._model.output_shape}")
        self._side = shape[1] or 224

    def __call__(self, image):
        pixels = _center(image, self._side).astype(np.float32)
        return np.asarray(self._model(pixels[np.newaxis], training=False))[0]


def _center(image, side):
    """The middle of a uint8 image (H, W, 3), resized to (side, side, 3)."""
    length = max(1, round(min(image.shape[:2]) * _CENTER))
    top, left = ((size - length) // 2 for size in image.shape[:2])
    return codec.resize(np.ascontiguousarray(image[top : top + length, left : left + length]), side, side)
