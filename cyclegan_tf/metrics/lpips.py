"""LPIPS v0.1, a perceptual distance (Zhang et al. 2018, "The unreasonable effectiveness of deep features").

A network trained on ImageNet computes features of both images at five layers. The features are scaled to unit length
at each pixel, subtracted, squared, weighted per channel by learned heads, and averaged over the pixels.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from cyclegan_tf.metrics import weights

# Mean and scale that standardize images in [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
# (stride, padding) of AlexNet's convolutions. A 3x3 max pooling with stride 2 precedes convolutions 1 and 2.
_ALEXNET = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
# Number of convolutions in each of VGG16's five stages; a 2x2 max pooling separates the stages.
_VGG16 = (2, 2, 3, 3, 3)
# Smallest side in pixels for which the last layer still has an output.
SMALLEST = {"alexnet": 31, "vgg16": 16}


class LPIPS:
    """Function of two float32 images (N, H, W, 3) in [-1, 1] to their distances (N,) float32; 0 for equal images.

    Args:
      net: "alexnet", the usual choice, or "vgg16".
      folder: folder of the weights, see `weights.load`.

    Raises:
      UserError: the weights are missing or damaged.
    """

    def __init__(self, net: str = "alexnet", folder: str | None = None) -> None:
        arrays = weights.load(f"lpips_{net}", folder)
        trunk = {"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}[net]
        count = sum(key.startswith(trunk) for key in arrays) // 2
        self._trunk = [
            tuple(tf.constant(arrays[f"{trunk}.Conv_{index}.{part}"]) for part in ("kernel", "bias"))
            for index in range(count)
        ]
        self._heads = [tf.constant(arrays[f"NetLinLayer_{index}.Conv_0.kernel"][0, 0, :, 0]) for index in range(5)]
        self._features = {"alexnet": self._alexnet, "vgg16": self._vgg16}[net]
        spec = tf.TensorSpec((None, None, None, 3))
        self._distance = tf.function(self._compare, autograph=False, input_signature=[spec, spec])

    def __call__(self, images: np.ndarray, others: np.ndarray) -> np.ndarray:
        return self._distance(images, others).numpy()

    def _compare(self, images: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        total = 0.0
        for head, one, other in zip(self._heads, self._features(images), self._features(others), strict=True):
            squared = (_normalize(one) - _normalize(other)) ** 2  # (N, H, W, C)
            total += tf.reduce_mean(tf.reduce_sum(squared * head, axis=-1), axis=(1, 2))
        return total

    def _alexnet(self, x: tf.Tensor) -> Iterator[tf.Tensor]:
        x = _standardize(x)
        for index, ((kernel, bias), (stride, padding)) in enumerate(zip(self._trunk, _ALEXNET, strict=True)):
            if index in (1, 2):
                x = tf.nn.max_pool2d(x, 3, 2, "VALID")
            x = _conv(x, kernel, bias, stride, padding)
            yield x

    def _vgg16(self, x: tf.Tensor) -> Iterator[tf.Tensor]:
        x, layers = _standardize(x), iter(self._trunk)
        for stage, count in enumerate(_VGG16):
            if stage:
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            for _ in range(count):
                kernel, bias = next(layers)
                x = _conv(x, kernel, bias, 1, 1)
            yield x


def _standardize(images: tf.Tensor) -> tf.Tensor:
    return (images - tf.constant(_SHIFT)) / tf.constant(_SCALE)


def _conv(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, stride: int, padding: int) -> tf.Tensor:
    paddings = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    return tf.nn.relu(tf.nn.conv2d(x, kernel, stride, paddings) + bias)


def _normalize(features: tf.Tensor) -> tf.Tensor:
    """Scales the features of each pixel to unit length."""
    return features / (tf.norm(features, axis=-1, keepdims=True) + 1e-10)
