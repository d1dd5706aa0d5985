"""A classifier as a judge: does it recognize translated images as the target class?"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from cyclegan_tf.config.direction import Domain
from cyclegan_tf.errors import UserError, describe_error
from cyclegan_tf.images import codec, ranges
from cyclegan_tf.metrics import weights
from cyclegan_tf.ops import exhaustion

_EPSILON = 1e-3
# Share of the shorter side that the classifier sees, as in its authors' evaluation.
_CENTER = 224 / 256
# (number of blocks, stride of the first block, expansion) of each stage of EfficientNet-Lite0.
_STAGES = ((1, 1, 1), (2, 2, 6), (2, 2, 6), (3, 2, 6), (3, 1, 6), (4, 2, 6), (1, 1, 6))


def compute_rates(scores: Sequence[np.ndarray] | np.ndarray, classes: Sequence[int]) -> tuple[float, float]:
    """Computes the top-1 and top-5 rates: shares of images with one of `classes` among the best 1 or 5 scores.

    Args:
      scores: N rows of scores, one score for each class.
      classes: numbers of the classes that count as hits, from 0.

    Raises:
      UserError: there are no images, or no class has one of the numbers.
    """
    if not len(scores):
        raise UserError("no image could be read")
    if (count := len(scores[0])) <= max(classes):
        raise UserError(f"class {max(classes)}: the judge has the classes 0 to {count - 1}; correct "
                        "--judge_classes_a or --judge_classes_b")
    order = np.argsort(-np.asarray(scores), axis=-1, kind="stable")[:, :5]
    hits = np.isin(order, classes)
    return float(hits[:, 0].mean()), float(hits.any(axis=1).mean())


def parse_classes(domain: Domain, texts: Sequence[str]) -> list[int]:
    """Returns the numbers of the classes in --judge_classes_a or --judge_classes_b.

    Raises:
      UserError: a text is not the number of a class.
    """
    classes = [int(text) for text in texts if re.fullmatch("[0-9]{1,9}", text.strip())]
    if len(classes) < len(texts):
        raise UserError(f"--judge_classes_{domain}={','.join(texts)}: expected numbers of classes, as in 948,950")
    return classes


class Classifier(Protocol):
    """A named function of a uint8 image (H, W, 3) to its scores, one for each class."""

    name: str

    def __call__(self, image: np.ndarray) -> np.ndarray: ...


class EfficientNetLite0:
    """Function of a uint8 image (H, W, 3) to its logits (1000,) for the ImageNet classes.

    Tan and Le 2019; the Lite variant uses ReLU6 and no squeeze-and-excitation. The network sees the central square
    with 224 / 256 of the shorter side, resized to 224 x 224.

    Args:
      folder: folder of the weights, see `weights.load`.

    Raises:
      UserError: the weights are missing or damaged.
    """

    name = f"efficientnet-lite0 {weights.digest('efficientnet_lite0')}"

    def __init__(self, folder: str | None = None) -> None:
        self._arrays = weights.load("efficientnet_lite0", folder)
        self.logits = tf.function(self._logits, autograph=False, input_signature=[tf.TensorSpec((None, 224, 224, 3))])

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self.logits(ranges.to_float(_crop_center(image, 224))[np.newaxis])[0].numpy()

    def _logits(self, x: tf.Tensor) -> tf.Tensor:
        """float32 (N, 224, 224, 3) in [-1, 1] -> (N, 1000)."""
        x = self._conv(x * 127.5 / 128 + 0.5 / 128, "_conv_stem", "_bn0", 2)
        block = 0
        for repeats, first_stride, expansion in _STAGES:
            for repeat in range(repeats):
                x = self._block(x, f"_blocks.{block}.", first_stride if repeat == 0 else 1, expansion)
                block += 1
        x = self._conv(x, "_conv_head", "_bn1", 1)
        return tf.reduce_mean(x, axis=(1, 2)) @ self._arrays["_fc.weight"].T + self._arrays["_fc.bias"]

    def _block(self, x: tf.Tensor, prefix: str, stride: int, expansion: int) -> tf.Tensor:
        before = x
        if expansion > 1:
            x = self._conv(x, f"{prefix}_expand_conv", f"{prefix}_bn0", 1)
        x = self._conv(x, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride)
        x = self._conv(x, f"{prefix}_project_conv", f"{prefix}_bn2", 1, activation=tf.identity)
        return x + before if before.shape[1:] == x.shape[1:] else x

    def _conv(
        self, x: tf.Tensor, name: str, norm: str, stride: int,
        activation: Callable[[tf.Tensor], tf.Tensor] = tf.nn.relu6,
    ) -> tf.Tensor:
        # Fold the batch norm into the kernel and the bias.
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
    """Function of a uint8 image (H, W, 3) to the class scores of a Keras model.

    The model takes float32 images (N, SIDE, SIDE, 3) in 0 .. 255. The model sees the same square as
    `EfficientNetLite0`, resized to the model's input size, or to 224 x 224 if the model accepts any size.

    Raises:
      UserError: the file is missing or is not such a model, or the model fails or returns scores that are not finite.
    """

    def __init__(self, path: str) -> None:
        try:
            self._model = tf.keras.models.load_model(path, compile=False)
        except Exception as error:  # Keras raises many types for a bad file.
            if exhaustion.is_exhausted(error):
                raise
            raise UserError(f"--judge={path} is not a Keras model ({describe_error(error)[:200]})") from error
        # A Keras model that was never called has no shapes. A model of several inputs or outputs has a list of shapes.
        shape: Any = getattr(self._model, "input_shape", None)
        scores: Any = getattr(self._model, "output_shape", None)
        is_classifier = (
            isinstance(shape, tuple) and len(shape) == 4 and shape[-1] == 3 and shape[1] == shape[2]
            and isinstance(scores, tuple) and len(scores) == 2 and isinstance(scores[1], int)
        )
        if not is_classifier:
            raise UserError(f"--judge={path} is not a classifier of color images: it maps {shape or 'no shape'} to "
                            f"{scores or 'no shape'}; expected (N, SIDE, SIDE, 3) to (N, classes)")
        self._path, self._side = path, shape[1] or 224
        self.name = f"{path} {weights.digest_files(path)}"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        pixels = _crop_center(image, self._side).astype(np.float32)
        try:
            scores = np.asarray(self._model(pixels[np.newaxis], training=False))[0]
        except (ValueError, TypeError, tf.errors.OpError) as error:
            if exhaustion.is_exhausted(error):
                raise
            raise UserError(f"--judge={self._path} fails on an image of {self._side} x {self._side} pixels "
                            f"({describe_error(error)[:200]}); give a Keras model that takes such images") from error
        if not np.isfinite(scores).all():
            raise UserError(f"--judge={self._path} returns scores that are not finite; give another Keras model")
        return scores


def _crop_center(image: np.ndarray, side: int) -> np.ndarray:
    """Crops the central square of a uint8 image (H, W, 3) and resizes it to (side, side, 3)."""
    length = max(1, round(min(image.shape[:2]) * _CENTER))
    top, left = ((size - length) // 2 for size in image.shape[:2])
    return codec.resize(np.ascontiguousarray(image[top : top + length, left : left + length]), side, side)
