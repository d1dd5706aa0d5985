"""Anti-aliased changes of size: a fixed blur before sampling (Zhang 2019), as in the networks of CUT.

Both functions use Keras's own layers without weights, so exports and tiled inference know the layers.
"""

import tensorflow as tf

from cyclegan_tf.networks import blocks

keras = tf.keras


def downsample(x: tf.Tensor, name: str) -> tf.Tensor:
    """Blurs with [1, 2, 1] x [1, 2, 1] / 16 and halves: (N, H, W, C) -> (N, ceil(H/2), ceil(W/2), C).

    Pads by reflection. Output pixel (i, j) is centered at input pixel (2i, 2j). H and W must be at least 2.
    """
    x = blocks.pad(x, f"{name}_blur", 1, "reflect")
    # The mean of 2x2 pixels, applied twice, is the blur.
    x = keras.layers.AveragePooling2D(2, strides=1, name=f"{name}_blur")(x)
    return keras.layers.AveragePooling2D(2, strides=2, name=f"{name}_halve")(x)


def upsample(x: tf.Tensor, name: str) -> tf.Tensor:
    """Doubles height and width and blurs with [1, 3, 3, 1] x [1, 3, 3, 1] / 16: (N, H, W, C) -> (N, 2H, 2W, C).

    Repeats the border pixels. The result equals bilinear resizing with half-pixel centers.
    """
    return keras.layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_resize")(x)
