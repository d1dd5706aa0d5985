"""Layers that add pixels around maps, as PyTorch does, or take them away."""

import numpy as np
import tensorflow as tf

from cyclegan_tf import processor

keras = tf.keras


@keras.utils.register_keras_serializable("cyclegan_tf")
class ReflectionPadding2D(keras.layers.Layer):
    """Pads height and width by `padding` pixels on each side, mirrored at the edge pixel, which is not repeated.

    (N, H, W, C) -> (N, H + 2 padding, W + 2 padding, C); H and W must be larger than `padding`.
    """

    def __init__(self, padding, **kwargs):
        super().__init__(**kwargs)
        self.padding = padding

    def call(self, inputs):
        # What is too small TensorFlow refuses, where NumPy would reflect once more.
        if processor.chooses(inputs) and min(inputs.shape[1:3]) > self.padding:
            return _reflected(inputs, self.padding)
        return tf.pad(inputs, _both_sides(self.padding), mode="REFLECT")

    def compute_output_shape(self, input_shape):
        return _padded_shape(input_shape, self.padding)

    def get_config(self):
        return {**super().get_config(), "padding": self.padding}


@keras.utils.register_keras_serializable("cyclegan_tf")
class ReplicationPadding2D(keras.layers.Layer):
    """Pads height and width by one pixel on each side, a copy of the edge pixel: (N, H, W, C) -> (N, H+2, W+2, C)."""

    def call(self, inputs):
        # One pixel of SYMMETRIC padding is the edge pixel itself.
        return tf.pad(inputs, _both_sides(1), mode="SYMMETRIC")

    def compute_output_shape(self, input_shape):
        return _padded_shape(input_shape, 1)


@keras.utils.register_keras_serializable("cyclegan_tf")
class Cropping2D(keras.layers.Cropping2D):
    """Keras's layer, where sizes are known by an operation whose gradient is not ten times as slow on a CPU."""

    def call(self, inputs):
        if not processor.chooses(inputs):
            return super().call(inputs)
        (top, bottom), (left, right) = self.cropping
        batch, height, width, channels = inputs.shape
        return tf.slice(inputs, (0, top, left, 0), (batch, height - top - bottom, width - left - right, channels))


# As in `convolutions`.
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


def _padded_shape(shape, padding):
    batch, height, width, channels = shape
    return (batch, height and height + 2 * padding, width and width + 2 * padding, channels)
