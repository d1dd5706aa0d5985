"""Blocks of the networks: functions from one symbolic tensor (N, H, W, C) to another.

A block named NAME names its layers NAME_conv, NAME_norm, NAME_relu and so on. Checkpoints and the PyTorch converter
find weights by these names.
"""

from collections.abc import Callable

import tensorflow as tf

from cyclegan_tf.networks import layers, segments

keras = tf.keras

INIT_STDDEV = 0.02  # Paper, section 7: weights from N(0, 0.02).


def normalize(
    x: tf.Tensor, name: str, norm: str, second_derivative: bool = False, affine: bool = False
) -> tf.Tensor:
    """Applies a normalization layer NAME_norm, or none.

    Args:
      norm: instance, batch or none.
      second_derivative: whether a gradient penalty differentiates through an instance norm twice.
      affine: whether an instance norm learns a scale and an offset; a batch norm always learns them.

    Raises:
      ValueError: `norm` has another value.
    """
    if norm == "instance":
        return layers.instance_normalization(f"{name}_norm", second_derivative, affine)(x)
    if norm == "batch":
        # The initial values of the authors' code: scale from N(1, 0.02), offset 0.
        scale = keras.initializers.RandomNormal(mean=1.0, stddev=INIT_STDDEV)
        return layers.BatchNormalization(gamma_initializer=scale, name=f"{name}_norm")(x)
    if norm != "none":
        raise ValueError(f"{name}: unknown norm {norm!r}; expected instance, batch or none")
    return x


def pad(x: tf.Tensor, name: str, padding: int | tuple[int, int], mode: str) -> tf.Tensor:
    """Pads height and width of (N, H, W, C) by `padding` pixels on each side.

    Args:
      padding: pixels; (before, after) is possible for zeros only.
      mode: zero, reflect, or replicate, which pads by one pixel.

    Raises:
      ValueError: `mode` has another value, or cannot pad by `padding` pixels.
    """
    if mode == "reflect":
        if not isinstance(padding, int):
            raise ValueError(f"{name}: reflection padding is the same on both sides, not {padding}")
        return layers.ReflectionPadding2D(padding, name=f"{name}_pad")(x)
    if mode == "replicate":
        if padding != 1:
            raise ValueError(f"{name}: replication pads by one pixel, not by {padding}")
        return layers.ReplicationPadding2D(name=f"{name}_pad")(x)
    if mode != "zero":
        raise ValueError(f"{name}: unknown padding {mode!r}; expected zero, reflect or replicate")
    return keras.layers.ZeroPadding2D((padding, padding), name=f"{name}_pad")(x)


def compute_same_padding(kernel: int, stride: int = 1) -> tuple[int, int]:
    """Returns the zeros (before, after) of TensorFlow's padding "same" for sizes that are multiples of `stride`.

    There are `kernel` - `stride` zeros; an odd one goes after: (1, 2) for a 4x4 convolution of stride 1, (0, 1) for
    3x3 and stride 2.
    """
    return (kernel - stride) // 2, (kernel - stride + 1) // 2


def conv(
    x: tf.Tensor, name: str, filters: int, kernel: int, stride: int = 1, padding: int | tuple[int, int] = 0,
    padding_mode: str = "zero", bias: bool = True,
) -> tf.Tensor:
    """Pads as PyTorch does, then convolves: (N, H, W, C) -> (N, H', W', filters).

    TensorFlow's padding "same" pads a 3x3 convolution of stride 2 only at the end, so the network would differ.

    Args:
      kernel: height and width of the kernel.
      padding: pixels on each side, or (before, after), which `compute_same_padding` returns.
      padding_mode: as in `pad`.
      bias: whether the convolution has a bias.
    """
    if padding:
        x = pad(x, name, padding, padding_mode)
    return layers.Conv2D(
        filters, kernel, stride, padding="valid", use_bias=bias, kernel_initializer=_make_initializer(),
        name=f"{name}_conv",
    )(x)


def transposed_conv(
    x: tf.Tensor, name: str, filters: int, kernel: int, bias: bool = True, first: int = 1
) -> tf.Tensor:
    """Transposed convolution of stride 2 that exactly doubles the size: (N, H, W, C) -> (N, 2 H, 2 W, filters).

    The full result has 2 H + kernel - 2 rows; `first` rows are cropped at the beginning and the rest at the end. 1
    gives PyTorch's ConvTranspose2d with padding 1 and output_padding 1 for a kernel of 3, output_padding 0 for a kernel
    of 4. `compute_same_padding(kernel, 2)[0]` gives TensorFlow's padding "same".
    """
    x = layers.Conv2DTranspose(
        filters, kernel, 2, padding="valid", use_bias=bias, kernel_initializer=_make_initializer(), name=f"{name}_conv"
    )(x)
    last = kernel - 2 - first
    return layers.Cropping2D(((first, last), (first, last)), name=f"{name}_crop")(x)


def resize_conv(
    x: tf.Tensor, name: str, filters: int, kernel: int = 3, padding: int | tuple[int, int] = 1,
    padding_mode: str = "reflect", bias: bool = True,
) -> tf.Tensor:
    """Repeats each pixel 2x2 times, then convolves: (N, H, W, C) -> (N, 2 H, 2 W, filters).

    This upsampling leaves no checkerboard pattern (Odena et al. 2016). `padding` must be such that the convolution
    keeps the size.
    """
    x = keras.layers.UpSampling2D(2, interpolation="nearest", name=f"{name}_resize")(x)
    return conv(x, name, filters, kernel, padding=padding, padding_mode=padding_mode, bias=bias)


def relu(x: tf.Tensor, name: str) -> tf.Tensor:
    """max(x, 0)."""
    return keras.layers.Activation(layers.relu, name=f"{name}_relu")(x)


def leaky_relu(x: tf.Tensor, name: str) -> tf.Tensor:
    """max(x, 0.2 x)."""
    return keras.layers.Activation(layers.leaky_relu, name=f"{name}_leaky_relu")(x)


def residual_block(
    x: tf.Tensor, name: str, filters: int, normalize_: Callable[[tf.Tensor, str], tf.Tensor], padding_mode: str,
    dropout: bool = False, bias: bool = True, merge: str = "add", ends_segment: bool = False,
) -> tf.Tensor:
    """Joins x and norm(conv(relu(norm(conv(x))))), with 3x3 convolutions and no activation after the join.

    Args:
      filters: filters of both convolutions.
      normalize_: function of a tensor and a name, `normalize` with its options.
      padding_mode: as in `pad`.
      dropout: whether there is dropout of 0.5 between the convolutions.
      bias: whether the convolutions have a bias.
      merge: add, which needs `filters` channels in x, or concat, which puts the new channels before the channels of x.
        With concat, each block of a network adds `filters` channels.
      ends_segment: whether all later layers of the network read the block's output only; see `segments`.
    """
    y = conv(x, f"{name}a", filters, 3, padding=1, padding_mode=padding_mode, bias=bias)
    y = relu(normalize_(y, f"{name}a"), f"{name}a")
    if dropout:
        y = layers.Dropout(0.5, name=f"{name}_dropout")(y)
    y = normalize_(conv(y, f"{name}b", filters, 3, padding=1, padding_mode=padding_mode, bias=bias), f"{name}b")
    if merge == "concat":
        join, parts = keras.layers.Concatenate(name=f"{name}_join"), [y, x]
    else:
        join, parts = keras.layers.Add(name=f"{name}_add"), [x, y]
    return (segments.mark_segment_end(join) if ends_segment else join)(parts)


def _make_initializer() -> tf.keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=INIT_STDDEV)
