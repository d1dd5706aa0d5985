"""Generators: Keras functional builders, with the authors' architecture (paper, appendix 7.2).

All map images (N, H, W, in) in [-1, 1] to images (N, H', W', out) in [-1, 1]. H' = H where H is a multiple of the
network's `size_multiple`; otherwise the ResNet's output is rounded up to the next multiple of 4 and the U-Net fails.
"""

from cyclegan_tf import layers

keras = layers.keras


def resnet_generator(
    input_channels=3, output_channels=3, ngf=64, n_blocks=9, norm="instance", padding="reflect", dropout=False,
    upsample="transpose", name="resnet_generator",
):
    """c7s1-ngf, d2ngf, d4ngf, R4ngf x n_blocks, u2ngf, ungf, c7s1-out, tanh (Johnson et al. 2016, as in the paper).

    Args:
      ngf: filters of the first layer; 64 in the paper.
      n_blocks: residual blocks; 9 for 256 px and larger, 6 for 128 px.
      norm: instance, batch or none. Convolutions before a batch norm, or with none, have no bias (the head has one).
      padding: padding in the residual blocks: reflect, replicate or zero. Stem and head always reflect.
      dropout: dropout 0.5 between the two convolutions of a block.
      upsample: transpose (the authors') or resize_conv.
    """
    bias = norm == "instance"
    inputs = keras.Input((None, None, input_channels))
    x = layers.conv(inputs, "stem", ngf, 7, padding=3, padding_mode="reflect", bias=bias)  # (N, H, W, ngf)
    x = layers.relu(layers.normalize(x, "stem", norm), "stem")
    for i, filters in enumerate((2 * ngf, 4 * ngf), 1):  # (N, H/2, W/2, 2 ngf), then (N, H/4, W/4, 4 ngf)
        x = layers.conv(x, f"down{i}", filters, 3, stride=2, padding=1, bias=bias)
        x = layers.relu(layers.normalize(x, f"down{i}", norm), f"down{i}")
    for i in range(1, n_blocks + 1):
        x = layers.residual_block(x, f"block{i}", norm, padding, dropout)
    for i, filters in enumerate((2 * ngf, ngf), 1):  # (N, H/2, W/2, 2 ngf), then (N, H, W, ngf)
        x = layers.upsample(x, f"up{i}", filters, upsample, bias)
        x = layers.relu(layers.normalize(x, f"up{i}", norm), f"up{i}")
    x = layers.conv(x, "head", output_channels, 7, padding=3, padding_mode="reflect")
    return keras.Model(inputs, _tanh(x), name=name)


def unet_generator(
    input_channels=3, output_channels=3, ngf=64, n_downs=8, norm="batch", dropout=False, name="unet_generator",
):
    """U-Net with `n_downs` halvings and skip connections (Isola et al. 2017): 7 is unet_128, 8 is unet_256.

    Encoder: 4x4 stride-2 convolutions of ngf, 2, 4, 8, 8 ... ngf filters, leaky ReLU before and norm after each but the
    outermost (neither) and the innermost (no norm). Decoder: ReLU, 4x4 stride-2 transposed convolution, norm; its input
    is the encoder's normalized map of that size, then the decoder's.

    Args:
      norm: instance, batch or none. As in the ResNet, only the last layer keeps its bias without instance norm.
      dropout: dropout 0.5 in the decoder levels between the innermost and the 8-ngf one.
    """
    bias = norm == "instance"
    filters = [ngf * min(2**i, 8) for i in range(n_downs)]
    inputs = keras.Input((None, None, input_channels))
    x = layers.conv(inputs, "down1", filters[0], 4, stride=2, padding=1, bias=bias)  # (N, H/2, W/2, ngf)
    skips = [x]
    for i in range(1, n_downs):  # (N, H/2^(i+1), W/2^(i+1), filters[i])
        x = layers.leaky_relu(x, f"down{i + 1}")
        x = layers.conv(x, f"down{i + 1}", filters[i], 4, stride=2, padding=1, bias=bias)
        if i < n_downs - 1:
            x = layers.normalize(x, f"down{i + 1}", norm)
            skips.append(x)
    for i in range(n_downs - 1, 0, -1):  # (N, H/2^i, W/2^i, filters[i-1]) joined to the skip of that size
        x = layers.transposed_conv(layers.relu(x, f"up{i + 1}"), f"up{i + 1}", filters[i - 1], 4, bias)
        x = layers.normalize(x, f"up{i + 1}", norm)
        if dropout and 4 <= i < n_downs - 1:
            x = keras.layers.Dropout(0.5, name=f"up{i + 1}_dropout")(x)
        x = keras.layers.Concatenate(name=f"up{i + 1}_join")([skips[i - 1], x])
    x = layers.transposed_conv(layers.relu(x, "up1"), "up1", output_channels, 4)
    return keras.Model(inputs, _tanh(x), name=name)


def _tanh(x):
    return keras.layers.Activation("tanh", name="tanh", dtype="float32")(x)
