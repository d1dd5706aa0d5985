"""Anti-aliased changes of size: a fixed blur before sampling (Zhang 2019), as in the networks of CUT."""

from typing import Any

import tensorflow as tf

from cyclegan_tf.networks import blocks, layers
from cyclegan_tf.networks.receptive_field import ReceptiveField


def downsample(x: tf.Tensor, name: str) -> tf.Tensor:
    """Blurs with [1, 2, 1] x [1, 2, 1] / 16 and halves: (N, H, W, C) -> (N, ceil(H/2), ceil(W/2), C).

    Pads by reflection. Output pixel (i, j) is centered at input pixel (2i, 2j). H and W must be at least 2.
    """
    x = blocks.pad(x, f"{name}_blur", 1, "reflect")
    # The mean of 2x2 pixels, applied twice, is the blur.
    x = tf.keras.layers.AveragePooling2D(2, strides=1, name=f"{name}_blur")(x)
    return tf.keras.layers.AveragePooling2D(2, strides=2, name=f"{name}_halve")(x)


def upsample(x: tf.Tensor, name: str) -> tf.Tensor:
    """Applies `BlurUpsampling2D`: (N, H, W, C) -> (N, 2H, 2W, C)."""
    return BlurUpsampling2D(name=f"{name}_resize")(x)


@tf.keras.utils.register_keras_serializable("cyclegan_tf")
class BlurUpsampling2D(tf.keras.layers.Layer):
    """Doubles height and width and blurs with [1, 3, 3, 1] x [1, 3, 3, 1] / 16: (N, H, W, C) -> (N, 2H, 2W, C).

    Repeats the border pixels. The result equals bilinear resizing with half-pixel centers. Keras's own layer for that,
    UpSampling2D, fails in Keras 3 when sizes are unknown.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        height, width = (
            2 * (tf.shape(inputs)[axis] if inputs.shape[axis] is None else inputs.shape[axis]) for axis in (1, 2)
        )
        # XLA cannot compile the gradient of resizing in half precision.
        resized = tf.image.resize(tf.cast(inputs, tf.float32), (height, width), "bilinear")
        return tf.cast(resized, inputs.dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, channels = input_shape
        return (batch, height and 2 * height, width and 2 * width, channels)

    def receptive_field(self) -> ReceptiveField:
        return ReceptiveField(before=1, after=1, scale=2)

    def to_keras(self, inputs: Any) -> Any:
        """Rebuilds the layer from Keras's own layers, which blur after they have repeated the pixels."""
        x = tf.keras.layers.UpSampling2D(2, interpolation="nearest", name=self.name)(inputs)
        x = layers.pad_symbolic(x, 1, "symmetric")
        for part in ("blur1", "blur2"):
            x = tf.keras.layers.AveragePooling2D(2, strides=1, name=f"{self.name}_{part}")(x)
        return x
