"""Blocks of the networks: functions of a symbolic tensor (N, H, W, C) to another.

They name their layers NAME_conv, NAME_norm, NAME_relu; checkpoints and the PyTorch converter know weights by these
names.
"""

import tensorflow as tf

from cyclegan_tf.networks import layers, segments

keras = tf.keras

INIT_STDDEV = 0.02  # Paper section 7: weights from N(0, 0.02).


def normalize(x, name, norm, second_derivative=False, affine=False):
    """Applies the normalization called `norm` (instance, batch or none) as layer NAME_norm.

    `affine` gives an instance norm weights; a batch norm has them anyway.
    """
    if norm == "instance":
        return layers.instance_normalization(f"{name}_norm", second_derivative, affine)(x)
    if norm == "batch":
        # PyTorch's initialization in the authors' code: scale N(1, 0.02), offset 0.
        scale = keras.initializers.RandomNormal(mean=1.0, stddev=INIT_STDDEV)
        return layers.BatchNormalization(gamma_initializer=scale, name=f"{name}_norm")(x)
    return x


def pad(x, name, padding, mode):
    """Pads (N, H, W, C) by `padding` pixels on each side; `mode` is zero, reflect or replicate (one pixel).

    Zeros may also be (pixels before, pixels after).
    """
    if mode == "reflect":
        return layers.ReflectionPadding2D(padding, name=f"{name}_pad")(x)
    if mode == "replicate":
        return layers.ReplicationPadding2D(name=f"{name}_pad")(x)
    return keras.layers.ZeroPadding2D((padding, padding), name=f"{name}_pad")(x)


def same(kernel, stride=1):
    """(before, after): the zeros that TensorFlow's padding "same" adds where the size is a multiple of `stride`.

    `kernel` - `stride` in all, the odd one after: (1, 2) for a 4x4 convolution of stride 1, (0, 1) for 3x3 and 2.
    """
    return (kernel - stride) // 2, (kernel - stride + 1) // 2


def conv(x, name, filters, kernel, stride=1, padding=0, padding_mode="zero", bias=True):
    """Convolution with `padding` pixels on both sides, as PyTorch pads, or with zeros (before, after).

    TensorFlow's "same" would pad one of stride 2 at the end only, which is another network; `same` gives its numbers.
    """
    if padding:
        x = pad(x, name, padding, padding_mode)
    return layers.Conv2D(
        filters, kernel, stride, padding="valid", use_bias=bias, kernel_initializer=_initializer(), name=f"{name}_conv"
    )(x)


def transposed_conv(x, name, filters, kernel, bias=True, first=1):
    """Transposed convolution of stride 2 that doubles height and width exactly.

    The whole adjoint, 2 H + kernel - 2 pixels high, less `first` pixels at the beginning and the rest at the end. With
    1 that is PyTorch's ConvTranspose2d of padding 1, and output_padding 1 if `kernel` is 3, 0 if it is 4; with
    `same(kernel, 2)[0]` it is TensorFlow's padding "same".
    """
    x = layers.Conv2DTranspose(
        filters, kernel, 2, padding="valid", use_bias=bias, kernel_initializer=_initializer(), name=f"{name}_conv"
    )(x)
    last = kernel - 2 - first
    return layers.Cropping2D(((first, last), (first, last)), name=f"{name}_crop")(x)


def resize_conv(x, name, filters, kernel=3, padding=1, padding_mode="reflect", bias=True):
    """Repeats each pixel 2 x 2 times and convolves: (N, H, W, C) -> (N, 2 H, 2 W, filters); leaves no checkerboard.

    Odena et al. 2016. `padding` must keep the size, `padding_mode` as of `pad`.
    """
    x = keras.layers.UpSampling2D(2, interpolation="nearest", name=f"{name}_resize")(x)
    return conv(x, name, filters, kernel, padding=padding, padding_mode=padding_mode, bias=bias)


def relu(x, name):
    return keras.layers.Activation(layers.relu, name=f"{name}_relu")(x)


def leaky_relu(x, name):
    """max(x, 0.2 x)."""
    return keras.layers.Activation(layers.leaky_relu, name=f"{name}_leaky_relu")(x)


def residual_block(
    x, name, filters, normalize_, padding_mode, dropout=False, bias=True, merge="add", ends_segment=False,
):
    """Joins x and norm(conv(relu(norm(conv(x))))), two 3x3 convolutions of `filters`; no activation afterwards.

    Args:
      normalize_: function of a tensor and a name: `normalize` with its options.
      merge: add, which needs `filters` channels in x, or concat: the new channels before those of x, so that every
        block adds `filters` channels and the next one's first convolution has as many more to read.
      ends_segment: whether all later layers of the network read the block's output only; see `segments`.
    """
    y = conv(x, f"{name}a", filters, 3, padding=1, padding_mode=padding_mode, bias=bias)
    y = relu(normalize_(y, f"{name}a"), f"{name}a")
    if dropout:
        y = keras.layers.Dropout(0.5, name=f"{name}_dropout")(y)
    y = normalize_(conv(y, f"{name}b", filters, 3, padding=1, padding_mode=padding_mode, bias=bias), f"{name}b")
    if merge == "concat":
        join, parts = keras.layers.Concatenate(name=f"{name}_join"), [y, x]
    else:
        join, parts = keras.layers.Add(name=f"{name}_add"), [x, y]
    return (segments.mark_segment_end(join) if ends_segment else join)(parts)


def _initializer():
    return keras.initializers.RandomNormal(stddev=INIT_STDDEV)
