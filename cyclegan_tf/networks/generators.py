"""Generators: Keras functional builders, with the authors' architecture (paper, appendix 7.2).

All map images (N, H, W, in) in [-1, 1] to images (N, H', W', out) in [-1, 1]. H' = H where H is a multiple of the
network's `size_multiple`; otherwise the ResNet's output is rounded up to the next multiple of 4 and the U-Nets fail.
"""

from functools import partial

from cyclegan_tf.networks import antialias as antialiasing
from cyclegan_tf.networks import blocks

keras = blocks.keras


def resnet_generator(
    input_channels=3, output_channels=3, ngf=64, n_blocks=9, norm="instance", padding="reflect", dropout=False,
    upsample="transpose", antialias="none", norm_affine=False, kernel=3, merge="add", norm_before_tanh=False,
    name="resnet_generator",
):
    """c7s1-ngf, d2ngf, d4ngf, R4ngf x n_blocks, u2ngf, ungf, c7s1-out, tanh (Johnson et al. 2016, as in the paper).

    Args:
      ngf: filters of the first layer; 64 in the paper.
      n_blocks: residual blocks; 9 for 256 px and larger, 6 for 128 px.
      norm: instance, batch or none. Convolutions before a batch norm, or with none, have no bias (the head has one).
      padding: padding in the residual blocks: reflect, replicate or zero, while stem and head always reflect; or same:
        zeros everywhere, as many and at the sides where TensorFlow's "same" puts them for sizes of a multiple of 4.
      dropout: dropout 0.5 between the two convolutions of a block.
      upsample: transpose (the authors') or resize_conv.
      antialias: which changes of size are anti-aliased, as in CUT's generator: down, up, both or none. down replaces
        a convolution of stride 2 by a convolution of stride 1, norm, ReLU and a blur that halves; up replaces a
        transposed convolution by a blur that doubles and a 3x3 convolution. Both need padding other than "same".
      norm_affine: instance norms with learned scale and offset.
      kernel: side of the down- and up-sampling convolutions, 3 or 4; resize_conv has 3.
      merge: how a block joins its input: add or concat, see `blocks.residual_block`.
      norm_before_tanh: one more normalization, of the head.
    """
    normalize = partial(blocks.normalize, norm=norm, affine=norm_affine)
    bias, same = norm == "instance", padding == "same"
    edges = "zero" if same else "reflect"
    blur_down, blur_up = antialias in ("down", "both"), antialias in ("up", "both")
    inputs = keras.Input((None, None, input_channels))
    x = blocks.conv(inputs, "stem", ngf, 7, padding=3, padding_mode=edges, bias=bias)  # (N, H, W, ngf)
    x = blocks.relu(normalize(x, "stem"), "stem")
    for i, filters in enumerate((2 * ngf, 4 * ngf), 1):  # (N, H/2, W/2, 2 ngf), then (N, H/4, W/4, 4 ngf)
        sides, stride = blocks.same(kernel, 2) if same else 1, 1 if blur_down else 2
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
            first = blocks.same(kernel, 2)[0] if same else 1
            x = blocks.transposed_conv(x, f"up{i}", filters, kernel, bias, first)
        x = blocks.relu(normalize(x, f"up{i}"), f"up{i}")
    x = blocks.conv(x, "head", output_channels, 7, padding=3, padding_mode=edges)
    x = normalize(x, "head") if norm_before_tanh else x
    return keras.Model(inputs, _tanh(x), name=name)


def unet_generator(
    input_channels=3, output_channels=3, ngf=64, n_downs=8, norm="batch", dropout=False, upsample="transpose",
    norm_affine=False, name="unet_generator",
):
    """U-Net with `n_downs` halvings and skip connections (Isola et al. 2017): 7 is unet_128, 8 is unet_256.

    Encoder: 4x4 stride-2 convolutions of ngf, 2, 4, 8, 8 ... ngf filters, leaky ReLU before and norm after each but the
    outermost (neither) and the innermost (no norm). Decoder: ReLU, 4x4 stride-2 transposed convolution, norm; its input
    is the encoder's normalized map of that size, then the decoder's.

    Args:
      norm: instance, batch or none. As in the ResNet, only the last layer keeps its bias without instance norm.
      dropout: dropout 0.5 in the decoder levels between the innermost and the 8-ngf one.
      upsample: transpose (the authors'), or resize_conv, whose convolutions are 3x3.
      norm_affine: instance norms with learned scale and offset.
    """
    normalize = partial(blocks.normalize, norm=norm, affine=norm_affine)
    bias = norm == "instance"
    enlarge = blocks.resize_conv if upsample == "resize_conv" else partial(blocks.transposed_conv, kernel=4)
    filters = [ngf * min(2**i, 8) for i in range(n_downs)]
    inputs = keras.Input((None, None, input_channels))
    x = blocks.conv(inputs, "down1", filters[0], 4, stride=2, padding=1, bias=bias)  # (N, H/2, W/2, ngf)
    skips = [x]
    for i in range(1, n_downs):  # (N, H/2^(i+1), W/2^(i+1), filters[i])
        x = blocks.leaky_relu(x, f"down{i + 1}")
        x = blocks.conv(x, f"down{i + 1}", filters[i], 4, stride=2, padding=1, bias=bias)
        if i < n_downs - 1:
            x = normalize(x, f"down{i + 1}")
            skips.append(x)
    for i in range(n_downs - 1, 0, -1):  # (N, H/2^i, W/2^i, filters[i-1]) joined to the skip of that size
        x = enlarge(blocks.relu(x, f"up{i + 1}"), f"up{i + 1}", filters[i - 1], bias=bias)
        x = normalize(x, f"up{i + 1}")
        if dropout and 4 <= i < n_downs - 1:
            x = keras.layers.Dropout(0.5, name=f"up{i + 1}_dropout")(x)
        x = keras.layers.Concatenate(name=f"up{i + 1}_join")([skips[i - 1], x])
    x = enlarge(blocks.relu(x, "up1"), "up1", output_channels)
    return keras.Model(inputs, _tanh(x), name=name)


def resize_unet_generator(
    input_channels=3, output_channels=3, ngf=32, n_downs=4, norm="instance", dropout=False, norm_affine=False,
    name="resize_unet_generator",
):
    """U-Net that enlarges by repeating pixels and normalizes after the activation (as in E. Linder-Noren's Keras-GAN).

    Encoder: `n_downs` 4x4 stride-2 convolutions of ngf, 2, 4, 8, 8 ... ngf filters, each with leaky ReLU, then norm.
    Decoder: nearest-neighbour resize, 4x4 convolution, ReLU, norm, joined to the encoder's map of that size, which
    stands behind; the last level has a convolution and tanh only. Padding is TensorFlow's "same"; every convolution has
    a bias, since none is followed by a norm at once.

    Args:
      n_downs: halvings; sizes must be multiples of 2^n_downs.
      norm: instance, batch or none.
      dropout: dropout 0.5 after the decoder's ReLUs.
      norm_affine: instance norms with learned scale and offset.
    """
    normalize = partial(blocks.normalize, norm=norm, affine=norm_affine)
    inputs = x = keras.Input((None, None, input_channels))
    filters, skips = [ngf * min(2**i, 8) for i in range(n_downs)], []
    for i, width in enumerate(filters, 1):  # (N, H/2^i, W/2^i, width)
        x = blocks.leaky_relu(blocks.conv(x, f"down{i}", width, 4, stride=2, padding=blocks.same(4, 2)), f"down{i}")
        x = normalize(x, f"down{i}")
        skips.append(x)
    for i in range(n_downs, 1, -1):  # (N, H/2^(i-1), W/2^(i-1), filters[i-2]) joined to the skip of that size
        x = blocks.resize_conv(x, f"up{i}", filters[i - 2], 4, blocks.same(4), "zero")
        x = blocks.relu(x, f"up{i}")
        x = keras.layers.Dropout(0.5, name=f"up{i}_dropout")(x) if dropout else x
        x = keras.layers.Concatenate(name=f"up{i}_join")([normalize(x, f"up{i}"), skips[i - 2]])
    x = blocks.resize_conv(x, "up1", output_channels, 4, blocks.same(4), "zero")
    return keras.Model(inputs, _tanh(x), name=name)


def _tanh(x):
    return keras.layers.Activation("tanh", name="tanh", dtype="float32")(x)
