"""Padding of feature maps as PyTorch pads them."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cyclegan_tf.ops import hardware
from cyclegan_tf.ops.tracing import no_autograph


def reflect(x: tf.Tensor, padding: int) -> tf.Tensor:
    """Pads height and width of (N, H, W, C) by `padding` pixels on each side, mirrored at the edge pixel.

    Raises:
      tf.errors.InvalidArgumentError, ValueError: H or W is not larger than `padding`.
    """
    # NumPy would reflect a map that is too small a second time; TensorFlow raises the error.
    if hardware.use_cpu_kernels(x) and min(x.shape[1:3]) > padding:
        return _reflect_by_gather(x, padding)
    return tf.pad(x, _both_sides(padding), mode="REFLECT")


def replicate(x: tf.Tensor) -> tf.Tensor:
    """Pads height and width of (N, H, W, C) by one pixel on each side, a copy of the edge pixel."""
    # One pixel of SYMMETRIC padding is the edge pixel itself.
    return tf.pad(x, _both_sides(1), mode="SYMMETRIC")


@no_autograph
def _reflect_by_gather(x: tf.Tensor, padding: int) -> tf.Tensor:
    """Reflection padding with two gathers, which copy whole rows; TensorFlow's MirrorPad copies number by number."""

    @tf.custom_gradient
    def function(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        y = x
        for axis in 1, 2:
            y = tf.gather(y, np.pad(np.arange(x.shape[axis]), padding, mode="reflect"), axis=axis)
        return y, lambda dy: tf.raw_ops.MirrorPadGrad(input=dy, paddings=_both_sides(padding), mode="REFLECT")

    return function(x)


def _both_sides(padding: int) -> list[list[int]]:
    return [[0, 0], [padding, padding], [padding, padding], [0, 0]]
