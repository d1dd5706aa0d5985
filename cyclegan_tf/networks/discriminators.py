"""Discriminators as functional Keras models, with the authors' architecture (paper, appendix 7.2).

A discriminator maps images (N, H, W, in) in [-1, 1] to raw scores without a sigmoid, one score for each of many
overlapping patches.
"""

from functools import partial

import tensorflow as tf

from cyclegan_tf.networks import antialias as antialiasing
from cyclegan_tf.networks import blocks

keras = tf.keras


def patch_discriminator(
    input_channels: int = 3, ndf: int = 64, n_layers: int = 3, norm: str = "instance", second_derivative: bool = False,
    norm_affine: bool = False, padding: str = "zero", stride_1_layer: bool = True,
    head_padding: tuple[int, int] | None = None, activation_first: bool = False, averaged: bool = False,
    antialias: bool = False, name: str = "patch_discriminator",
) -> tf.keras.Model:
    """Builds the PatchGAN: C64-C128-C256-C512 and a one-channel head, all 4x4.

    (N, 256, 256, in) -> (N, 30, 30, 1) with n_layers 3: each layer of stride 2 halves the size, and each of the last
    two layers loses a row and a column. The receptive field is then 70x70 pixels.

    Args:
      input_channels: channels of the images.
      ndf: filters of the first layer; layer i has ndf * min(2^i, 8).
      n_layers: number of layers of stride 2; a layer of stride 1 and the head follow.
      norm: instance, batch or none, in all layers but the first and the head, which always have a bias. The other
        convolutions have no bias before a batch norm or without a norm.
      second_derivative: whether a gradient penalty differentiates through the network twice.
      norm_affine: whether instance norms learn a scale and an offset.
      padding: zero pads by one pixel on each side; same is TensorFlow's padding, with which stride 1 keeps the size.
      stride_1_layer: whether there is a layer of stride 1 before the head.
      head_padding: zeros (before, after) around the head's input along both axes; by default as in the other layers.
      activation_first: whether the leaky ReLU comes before the norm; every convolution then has a bias.
      antialias: whether a blur halves the size, as in CUT's discriminator. The convolutions of stride 2 then get stride
        1, and the blur follows the leaky ReLU.
      averaged: whether the output is the mean score of each image, (N, 1).
      name: the network's name.
    """
    bias = norm == "instance" or activation_first
    normalize = partial(blocks.normalize, norm=norm, second_derivative=second_derivative, affine=norm_affine)
    sides: dict[int, int | tuple[int, int]] = {
        stride: 1 if padding == "zero" else blocks.compute_same_padding(4, stride) for stride in (1, 2)
    }
    inputs = keras.Input((None, None, input_channels))
    x = blocks.conv(inputs, "layer0", ndf, 4, stride=1 if antialias else 2, padding=sides[2])
    x = blocks.leaky_relu(x, "layer0")
    x = antialiasing.downsample(x, "layer0") if antialias else x  # (N, H/2, W/2, ndf)
    for i, stride in enumerate([2] * (n_layers - 1) + [1] * stride_1_layer, 1):  # (N, H/2^(i+1), W/2^(i+1), 2^i ndf)
        blur = antialias and stride == 2
        x = blocks.conv(
            x, f"layer{i}", ndf * min(2**i, 8), 4, 1 if blur else stride, padding=sides[stride], bias=bias
        )
        if activation_first:
            x = normalize(blocks.leaky_relu(x, f"layer{i}"), f"layer{i}")
        else:
            x = blocks.leaky_relu(normalize(x, f"layer{i}"), f"layer{i}")
        x = antialiasing.downsample(x, f"layer{i}") if blur else x
    x = blocks.conv(x, "head", 1, 4, padding=head_padding or sides[1])  # (N, H/2^n_layers - 2, W/2^n_layers - 2, 1)
    if averaged:
        x = keras.layers.GlobalAveragePooling2D(name="mean", dtype="float32")(x)  # (N, 1)
    return keras.Model(inputs, _to_float32(x), name=name)


def pixel_discriminator(
    input_channels: int = 3, ndf: int = 64, norm: str = "instance", second_derivative: bool = False,
    norm_affine: bool = False, name: str = "pixel_discriminator",
) -> tf.keras.Model:
    """Builds the PixelGAN, which scores each pixel by its color alone: (N, H, W, in) -> (N, H, W, 1).

    1x1 convolutions of ndf, 2 ndf and 1 filters (Isola et al. 2017). The first convolution always has a bias, the other
    two only with instance norm. `patch_discriminator` explains the arguments.
    """
    bias = norm == "instance"
    inputs = keras.Input((None, None, input_channels))
    x = blocks.leaky_relu(blocks.conv(inputs, "layer0", ndf, 1), "layer0")
    x = blocks.conv(x, "layer1", 2 * ndf, 1, bias=bias)
    x = blocks.normalize(x, "layer1", norm, second_derivative, norm_affine)
    x = blocks.conv(blocks.leaky_relu(x, "layer1"), "head", 1, 1, bias=bias)
    return keras.Model(inputs, _to_float32(x), name=name)


def _to_float32(x: tf.Tensor) -> tf.Tensor:
    return keras.layers.Activation("linear", name="scores", dtype="float32")(x)
