"""Perceptual distance of two images: LPIPS v0.1 (Zhang et al. 2018, "The unreasonable effectiveness of deep features").

Both images go through a network trained on ImageNet; the features of five layers, scaled to unit length at each pixel,
are subtracted and squared, weighed by channel with the learned heads, and averaged over the pixels.
"""

import tensorflow as tf

from cyclegan_tf.metrics import weights

# Subtracted from and divided into images in [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
# AlexNet's (stride, padding) by layer; a maximum of 3 x 3 with stride 2 stands before the layers 1 and 2.
_ALEXNET = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
# VGG16: convolutions of each of its five parts, between which a maximum of 2 x 2 stands.
_VGG16 = (2, 2, 3, 3, 3)
# Below these sizes, in pixels, nothing is left of an image at the last layer.
SMALLEST = {"alexnet": 31, "vgg16": 16}


class LPIPS:
    """Function of two images (N, H, W, 3), float32 in [-1, 1], to the distances (N,) float32; 0 for equal images.

    Args:
      net: alexnet, what "LPIPS" alone means, or vgg16.
      folder: where the weights are; see `weights.load`, whose errors it raises.
    """

    def __init__(self, net="alexnet", folder=None):
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

    def __call__(self, images, others):
        return self._distance(images, others).numpy()

    def _compare(self, images, others):
        total = 0.0
        for head, one, other in zip(self._heads, self._features(images), self._features(others), strict=True):
            squared = (_unit(one) - _unit(other)) ** 2  # (N, H, W, C)
            total += tf.reduce_mean(tf.reduce_sum(squared * head, axis=-1), axis=(1, 2))
        return total

    def _alexnet(self, x):
        x = _standardized(x)
        for index, ((kernel, bias), (stride, padding)) in enumerate(zip(self._trunk, _ALEXNET, strict=True)):
            if index in (1, 2):
                x = tf.nn.max_pool2d(x, 3, 2, "VALID")
            x = _conv(x, kernel, bias, stride, padding)
            yield x

    def _vgg16(self, x):
        x, layers = _standardized(x), iter(self._trunk)
        for part, count in enumerate(_VGG16):
            if part:
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            for _ in range(count):
                x = _conv(x, *next(layers), 1, 1)
            yield x


def _standardized(images):
    return (images - tf.constant(_SHIFT)) / tf.constant(_SCALE)


def _conv(x, kernel, bias, stride, padding):
    around = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    return tf.nn.relu(tf.nn.conv2d(x, kernel, stride, around) + bias)


def _unit(features):
    return features / (tf.norm(features, axis=-1, keepdims=True) + 1e-10)
