"""Pixels around maps, as PyTorch adds them."""

import numpy as np
import tensorflow as tf

from cyclegan_tf.ops import hardware


def reflect(x, padding):
    """Pads height and width of (N, H, W, C) by `padding` pixels on each side, mirrored at the edge pixel."""
    # What is too small TensorFlow refuses, where NumPy would reflect once more.
    if hardware.use_cpu_kernels(x) and min(x.shape[1:3]) > padding:
        return _reflected(x, padding)
    return tf.pad(x, _both_sides(padding), mode="REFLECT")


def replicate(x):
    """Pads height and width of (N, H, W, C) by one pixel on each side, a copy of the edge pixel."""
    # One pixel of SYMMETRIC padding is the edge pixel itself.
    return tf.pad(x, _both_sides(1), mode="SYMMETRIC")


# As in `convolution`.
@tf.autograph.experimental.do_not_convert
def _reflected(x, padding):
    """Reflection padding of maps of known size by operations that copy rows; TensorFlow's copies number by number."""
    @tf.custom_gradient
    def function(x):
        y = x
        for axis in 1, 2:
            y = tf.gather(y, np.pad(np.arange(x.shape[axis]), padding, mode="reflect"), axis=axis)
        return y, lambda dy: tf.raw_ops.MirrorPadGrad(input=dy, paddings=_both_sides(padding), mode="REFLECT")

    return function(x)


def _both_sides(padding):
    return [[0, 0], [padding, padding], [padding, padding], [0, 0]]
