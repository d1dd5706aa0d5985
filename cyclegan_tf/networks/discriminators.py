"""Discriminators: Keras functional builders, with the authors' architecture (paper, appendix 7.2).

All map images (N, H, W, in) in [-1, 1] to a map of raw scores, one for each overlapping patch; no sigmoid.
"""

from functools import partial

from cyclegan_tf.networks import antialias as antialiasing
from cyclegan_tf.networks import blocks

keras = blocks.keras


def patch_discriminator(
    input_channels=3, ndf=64, n_layers=3, norm="instance", second_derivative=False, norm_affine=False, padding="zero",
    stride_1_layer=True, head_padding=None, activation_first=False, averaged=False, antialias=False,
    name="patch_discriminator",
):
    """The PatchGAN: C64-C128-C256-C512 and a one-channel head, all 4x4; with n_layers 3 each score sees 70x70 px.

    (N, 256, 256, in) -> (N, 30, 30, 1) with n_layers 3: every stride-2 layer halves, the last two each lose one row.

    Args:
      ndf: filters of the first layer; layer i has ndf * min(2^i, 8).
      n_layers: stride-2 layers; one more of stride 1 and the head follow.
      norm: instance, batch or none, in all but the first layer and the head. Without instance norm the normalized
        convolutions have no bias.
      second_derivative: build it so that a gradient penalty through it is right.
      norm_affine: instance norms with learned scale and offset.
      padding: zero: one pixel on each side; same: TensorFlow's "same", with which stride 1 keeps the size.
      stride_1_layer: False leaves out the layer of stride 1 in front of the head.
      head_padding: zeros (before, after) the head's input along both axes; None as the other layers.
      activation_first: leaky ReLU, then norm; every convolution has a bias.
      antialias: in place of a convolution of stride 2, a convolution of stride 1, norm, leaky ReLU and a blur that
        halves, as in CUT's discriminator.
      averaged: the mean of the scores, one value an image (N, 1).
    """
    bias = norm == "instance" or activation_first
    normalize = partial(blocks.normalize, norm=norm, second_derivative=second_derivative, affine=norm_affine)
    sides = {stride: 1 if padding == "zero" else blocks.same(4, stride) for stride in (1, 2)}
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
    return keras.Model(inputs, _float32(x), name=name)


def pixel_discriminator(
    input_channels=3, ndf=64, norm="instance", second_derivative=False, norm_affine=False, name="pixel_discriminator",
):
    """A score for every pixel from its own color: 1x1 convolutions of ndf, 2 ndf and 1 filters (Isola et al. 2017).

    (N, H, W, in) -> (N, H, W, 1). The first convolution always has a bias, the other two only with instance norm.
    """
    bias = norm == "instance"
    inputs = keras.Input((None, None, input_channels))
    x = blocks.leaky_relu(blocks.conv(inputs, "layer0", ndf, 1), "layer0")
    x = blocks.conv(x, "layer1", 2 * ndf, 1, bias=bias)
    x = blocks.normalize(x, "layer1", norm, second_derivative, norm_affine)
    x = blocks.conv(blocks.leaky_relu(x, "layer1"), "head", 1, 1, bias=bias)
    return keras.Model(inputs, _float32(x), name=name)


def _float32(x):
    return keras.layers.Activation("linear", name="scores", dtype="float32")(x)
