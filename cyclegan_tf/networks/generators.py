"""Generators as functional Keras models, with the authors' architecture (paper, appendix 7.2).

A generator maps images (N, H, W, in) in [-1, 1] to images (N, H', W', out) in [-1, 1]. H' = H if H is a multiple of the
network's `size_multiple`. Otherwise a ResNet returns images of another size, and a U-Net fails.
"""

from functools import partial

import tensorflow as tf

from cyclegan_tf.networks import antialias as antialiasing
from cyclegan_tf.networks import blocks, layers

keras = tf.keras


def resnet_generator(
    input_channels: int = 3, output_channels: int = 3, ngf: int = 64, n_blocks: int = 9, norm: str = "instance",
    padding: str = "reflect", dropout: bool = False, upsample: str = "transpose", norm_affine: bool = False,
    kernel: int = 3, antialias: str = "none", merge: str = "add", norm_before_tanh: bool = False,
    name: str = "resnet_generator",
) -> tf.keras.Model:
    """Builds the paper's ResNet generator (Johnson et al. 2016): (N, H, W, in) -> (N, H, W, out), in [-1, 1].

    The layers are c7s1-ngf, d2ngf, d4ngf, R4ngf x n_blocks, u2ngf, ungf, c7s1-out, tanh. H and W are multiples of 4.

    Args:
      input_channels: channels of the images.
      output_channels: channels of the translations.
      ngf: filters of the first layer; 64 in the paper.
      n_blocks: residual blocks; in the paper 9 for 256 px and larger, 6 for 128 px.
      norm: instance, batch or none. Convolutions before a batch norm or no norm have no bias, except in the head.
      padding: padding in the residual blocks: reflect, replicate or zero. Stem and head always reflect. The value same
        uses TensorFlow's padding "same" in all layers.
      dropout: whether the blocks have dropout of 0.5 between their convolutions.
      upsample: transpose (the authors') or resize_conv.
      norm_affine: whether instance norms learn a scale and an offset.
      kernel: kernel size of the downsampling and transposed convolutions, 3 or 4; resize_conv always has 3.
      antialias: changes of size that are anti-aliased, as in CUT's generator: none, down, up or both. down gives the
        downsampling convolutions stride 1 and adds a blur that halves the size after their ReLU. up replaces a
        transposed convolution by a blur that doubles the size and a 3x3 convolution. Not for padding same.
      merge: add or concat, see `blocks.residual_block`.
      norm_before_tanh: whether the head has a norm.
      name: the network's name.
    """
    normalize = partial(blocks.normalize, norm=norm, affine=norm_affine)
    bias, same = norm == "instance", padding == "same"
    edges = "zero" if same else "reflect"
    blur_down, blur_up = antialias in ("down", "both"), antialias in ("up", "both")
    inputs = keras.Input((None, None, input_channels))
    x = blocks.conv(inputs, "stem", ngf, 7, padding=3, padding_mode=edges, bias=bias)  # (N, H, W, ngf)
    x = blocks.relu(normalize(x, "stem"), "stem")
    for i, filters in enumerate((2 * ngf, 4 * ngf), 1):  # (N, H/2, W/2, 2 ngf), then (N, H/4, W/4, 4 ngf)
        sides, stride = blocks.compute_same_padding(kernel, 2) if same else 1, 1 if blur_down else 2
        x = blocks.conv(x, f"down{i}", filters, kernel, stride, padding=sides, bias=bias)
        x = blocks.relu(normalize(x, f"down{i}"), f"down{i}")
        x = antialiasing.downsample(x, f"down{i}") if blur_down else x
    for i in range(1, n_blocks + 1):  # (N, H/4, W/4, 4 ngf), with concat (N, H/4, W/4, (i + 1) 4 ngf)
        x = blocks.residual_block(
            x, f"block{i}", 4 * ngf, normalize, "zero" if same else padding, dropout, bias, merge, ends_segment=True
        )
    for i, filters in enumerate((2 * ngf, ngf), 1):  # (N, H/2, W/2, 2 ngf), then (N, H, W, ngf)
        if blur_up:
            x = blocks.conv(antialiasing.upsample(x, f"up{i}"), f"up{i}", filters, 3, padding=1, bias=bias)
        elif upsample == "resize_conv":
            x = blocks.resize_conv(x, f"up{i}", filters, padding_mode=edges, bias=bias)
        else:
            first = blocks.compute_same_padding(kernel, 2)[0] if same else 1
            x = blocks.transposed_conv(x, f"up{i}", filters, kernel, bias, first)
        x = blocks.relu(normalize(x, f"up{i}"), f"up{i}")
    x = blocks.conv(x, "head", output_channels, 7, padding=3, padding_mode=edges)
    x = normalize(x, "head") if norm_before_tanh else x
    return keras.Model(inputs, _tanh(x), name=name)


def unet_generator(
    input_channels: int = 3, output_channels: int = 3, ngf: int = 64, n_downs: int = 8, norm: str = "batch",
    dropout: bool = False, upsample: str = "transpose", norm_affine: bool = False, padding: str = "zero",
    joins_image: bool = False, name: str = "unet_generator",
) -> tf.keras.Model:
    """Builds a U-Net with `n_downs` levels and skip connections (Isola et al. 2017); 7 is unet_128, 8 is unet_256.

    Encoder: 4x4 convolutions of stride 2 with ngf, 2, 4, 8, 8 ... ngf filters. A leaky ReLU precedes each convolution
    and a norm follows it, except that the outermost one has neither and the innermost one has no norm. Decoder: ReLU,
    4x4 transposed convolution of stride 2, norm. The input of a decoder level is the encoder's normalized feature map
    of the same size, concatenated with the output of the level below.

    Args:
      input_channels: channels of the images.
      output_channels: channels of the translations.
      ngf: filters of the first layer.
      n_downs: levels; sizes must be multiples of 2^n_downs.
      norm: instance, batch or none. Without instance norm only the last layer has a bias.
      dropout: whether the decoder levels between the innermost level and the first one of 8 ngf filters have dropout
        of 0.5.
      upsample: transpose (the authors') or resize_conv, whose convolutions are 3x3.
      norm_affine: whether instance norms learn a scale and an offset.
      padding: padding in the encoder: zero (the authors'), reflect or replicate. With zeros, translations can have dark
        or pale rims along their borders. In the decoder, resize_conv pads by reflection, transpose with zeros.
      joins_image: whether the last layer is a 3x3 convolution of the image, concatenated with the output of the
        outermost level, which then has ngf / 2 filters, a norm and a ReLU. Without this connection, the image reaches
        the result only through feature maps of half the size, which blurs details.
      name: the network's name.
    """
    normalize = partial(blocks.normalize, norm=norm, affine=norm_affine)
    bias = norm == "instance"
    halve = partial(blocks.conv, kernel=4, stride=2, padding=1, padding_mode=padding, bias=bias)
    enlarge = blocks.resize_conv if upsample == "resize_conv" else partial(blocks.transposed_conv, kernel=4)
    filters = [ngf * min(2**i, 8) for i in range(n_downs)]
    inputs = keras.Input((None, None, input_channels))
    x = halve(inputs, "down1", filters[0])  # (N, H/2, W/2, ngf)
    skips = [x]
    for i in range(1, n_downs):  # (N, H/2^(i+1), W/2^(i+1), filters[i])
        x = blocks.leaky_relu(x, f"down{i + 1}")
        x = halve(x, f"down{i + 1}", filters[i])
        if i < n_downs - 1:
            x = normalize(x, f"down{i + 1}")
            skips.append(x)
    for i in range(n_downs - 1, 0, -1):  # (N, H/2^i, W/2^i, filters[i-1]), then concatenated with its skip connection
        x = enlarge(blocks.relu(x, f"up{i + 1}"), f"up{i + 1}", filters[i - 1], bias=bias)
        x = normalize(x, f"up{i + 1}")
        if dropout and 4 <= i < n_downs - 1:
            x = layers.Dropout(0.5, name=f"up{i + 1}_dropout")(x)
        x = keras.layers.Concatenate(name=f"up{i + 1}_join")([skips[i - 1], x])
    x = blocks.relu(x, "up1")
    if joins_image:  # (N, H, W, ngf/2), then (N, H, W, input_channels + ngf/2)
        x = normalize(enlarge(x, "up1", max(ngf // 2, 1), bias=bias), "up1")
        x = keras.layers.Concatenate(name="head_join")([inputs, blocks.relu(x, "head")])
        x = blocks.conv(x, "head", output_channels, 3, padding=1, padding_mode=padding)
    else:
        x = enlarge(x, "up1", output_channels)
    return keras.Model(inputs, _tanh(x), name=name)


def resize_unet_generator(
    input_channels: int = 3, output_channels: int = 3, ngf: int = 32, n_downs: int = 4, norm: str = "instance",
    dropout: bool = False, norm_affine: bool = False, name: str = "resize_unet_generator",
) -> tf.keras.Model:
    """Builds a U-Net that upsamples by repeating pixels and normalizes after the activation (E. Linder-Noren).

    The architecture is the one in Keras-GAN. Encoder: `n_downs` 4x4 convolutions of stride 2 with ngf, 2, 4, 8, 8 ...
    ngf filters, each with a leaky ReLU and then a norm. Decoder: nearest-neighbor resize, 4x4 convolution, ReLU, norm,
    concatenated with the encoder's feature map of the same size. The last level has a convolution and tanh only.
    Padding is TensorFlow's "same". Every convolution has a bias, because no norm follows a convolution directly.

    Args:
      input_channels: channels of the images.
      output_channels: channels of the translations.
      ngf: filters of the first layer.
      n_downs: levels; sizes must be multiples of 2^n_downs.
      norm: instance, batch or none.
      dropout: whether dropout of 0.5 follows the decoder's ReLUs.
      norm_affine: whether instance norms learn a scale and an offset.
      name: the network's name.
    """
    normalize = partial(blocks.normalize, norm=norm, affine=norm_affine)
    inputs = x = keras.Input((None, None, input_channels))
    filters = [ngf * min(2**i, 8) for i in range(n_downs)]
    skips = []
    for i, width in enumerate(filters, 1):  # (N, H/2^i, W/2^i, width)
        x = blocks.conv(x, f"down{i}", width, 4, stride=2, padding=blocks.compute_same_padding(4, 2))
        x = normalize(blocks.leaky_relu(x, f"down{i}"), f"down{i}")
        skips.append(x)
    for i in range(n_downs, 1, -1):  # (N, H/2^(i-1), W/2^(i-1), filters[i-2]), then with its skip connection
        x = blocks.resize_conv(x, f"up{i}", filters[i - 2], 4, blocks.compute_same_padding(4), "zero")
        x = blocks.relu(x, f"up{i}")
        x = layers.Dropout(0.5, name=f"up{i}_dropout")(x) if dropout else x
        x = keras.layers.Concatenate(name=f"up{i}_join")([normalize(x, f"up{i}"), skips[i - 2]])
    x = blocks.resize_conv(x, "up1", output_channels, 4, blocks.compute_same_padding(4), "zero")
    return keras.Model(inputs, _tanh(x), name=name)


def _tanh(x: tf.Tensor) -> tf.Tensor:
    return keras.layers.Activation("tanh", name="tanh", dtype="float32")(x)
