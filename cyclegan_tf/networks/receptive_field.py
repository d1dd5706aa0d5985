"""Receptive field of a layer: the input pixels that one output pixel depends on.

Tiled inference cuts images into pieces, so it must know how far a layer looks. Layers of this package and layers of
other packages declare their receptive field by a method `receptive_field()`; Keras's own layers are looked up by exact
type, because a subclass may compute anything.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import tensorflow as tf

from cyclegan_tf.errors import UserError

keras = tf.keras


class ReceptiveField(NamedTuple):
    """Along one axis, output pixel i reads input pixels c - before to c + after, where c = floor(i stride / scale).

    The field may be larger than necessary. It must satisfy one condition: if the input is cut to its pixels [start,
    stop), where `start` is a multiple of `stride` and `stop` equals the input's size modulo `stride`, then the layer
    computes the same output pixels, from pixel start scale / stride of the uncut output on. Output pixels whose
    receptive field crosses a cut are exempt. A field that crosses the border of the uncut input crosses no cut.

    Attributes:
      before, after: pixels of the input, 0 or more.
      stride: input pixels per output pixel of a layer that reduces the size.
      scale: output pixels per input pixel of a layer that enlarges the size.
    """

    before: int = 0
    after: int = 0
    stride: int = 1
    scale: int = 1

    def find_input(self, begin: int, end: int, size: int) -> tuple[int, int, int]:
        """Finds the piece of an input of `size` pixels that a layer needs for its output pixels [begin, end).

        Returns:
          (start, stop, offset): the layer's output on the input pixels [start, stop) has the wanted pixels at
          [offset, offset + end - begin).
        """
        start = max(begin * self.stride // self.scale - self.before, 0)
        start -= start % self.stride
        stop = min((end - 1) * self.stride // self.scale + self.after + 1, size)
        stop += (size - stop) % self.stride
        return start, stop, begin - start * self.scale // self.stride


POINTWISE = ReceptiveField()
_Fields = tuple[ReceptiveField, ReceptiveField]
_Function = TypeVar("_Function", bound=Callable[..., Any])


def pointwise(function: _Function) -> _Function:
    """Declares that each output number of an activation function depends on one input number; a decorator."""
    function.is_pointwise = True  # type: ignore[attr-defined]  # Functions take any attribute.
    return function


def find_receptive_fields(layer: tf.keras.layers.Layer) -> _Fields:
    """Returns the receptive fields of `layer` along height and width, in inference.

    A layer declares its own by a method `receptive_field()`, which returns one `ReceptiveField` for both axes or a pair
    (height, width). A layer of several inputs has the same field in each of them.

    Args:
      layer: maps (N, H, W, C) to (N, H', W', C').

    Raises:
      UserError: the layer declares nothing and is not among the Keras layers known here, or it depends on the whole
        image, as instance normalization does.
    """
    if hasattr(layer, "receptive_field"):
        field = layer.receptive_field()
        return (field, field) if isinstance(field, ReceptiveField) else tuple(field)
    return find_keras_fields(layer, type(layer))


def find_keras_fields(layer: tf.keras.layers.Layer, library_class: type) -> _Fields:
    """Returns the receptive fields of a layer that computes the same as the Keras class `library_class`.

    The layer must have the options of that class. Raises the errors of `find_receptive_fields`.
    """
    activation = getattr(layer, "activation", None)
    if activation is not None and not _is_pointwise(activation):
        raise UserError(
            f"layer {layer.name} applies the function {getattr(activation, '__name__', activation)}, which may depend "
            "on the whole image; declare it with @cyclegan_tf.networks.receptive_field.pointwise if it does not"
        )
    find = _KERAS_LAYERS.get(library_class)
    fields = find(layer) if find and getattr(layer, "data_format", "channels_last") == "channels_last" else None
    if fields is None:
        raise UserError(
            f"the receptive field of layer {layer.name} ({type(layer).__name__}) is unknown; give its class a method "
            f"receptive_field() that returns a cyclegan_tf.networks.receptive_field.ReceptiveField"
        )
    return fields


def _is_pointwise(activation: Callable[..., Any]) -> bool:
    """Returns True for activations of Keras, whose softmax stays within a pixel, and for declared functions."""
    return is_keras_activation(activation) or getattr(activation, "is_pointwise", False)


def is_keras_activation(activation: Callable[..., Any]) -> bool:
    """Returns whether `activation` is a function of Keras that Keras finds by its name."""
    # Some names mean functions of TensorFlow in Keras 2. Custom objects have names too.
    if getattr(activation, "__module__", "").split(".")[0] not in ("keras", "tensorflow"):
        return False
    try:
        return keras.activations.get(activation.__name__) is activation
    except (AttributeError, ValueError):
        return False


def _both_axes(function: Callable[[tf.keras.layers.Layer, int], ReceptiveField]) -> Callable[..., _Fields]:
    return lambda layer: (function(layer, 0), function(layer, 1))


def _pointwise(layer: tf.keras.layers.Layer) -> _Fields:
    del layer
    return POINTWISE, POINTWISE


def _pointwise_along_channels(layer: tf.keras.layers.Layer) -> _Fields | None:
    axis = layer.axis if isinstance(layer.axis, int) else tuple(layer.axis)
    return (POINTWISE, POINTWISE) if axis in (-1, 3, (-1,), (3,)) else None


def _prelu(layer: tf.keras.layers.Layer) -> _Fields | None:
    return (POINTWISE, POINTWISE) if layer.shared_axes and {1, 2} <= set(layer.shared_axes) else None


@_both_axes
def _convolution(layer: tf.keras.layers.Layer, axis: int) -> ReceptiveField:
    return _slide(layer.kernel_size[axis], layer.strides[axis], layer.padding, layer.dilation_rate[axis])


@_both_axes
def _pooling(layer: tf.keras.layers.Layer, axis: int) -> ReceptiveField:
    return _slide(layer.pool_size[axis], layer.strides[axis], layer.padding)


def _slide(kernel: int, stride: int, padding: str, dilation: int = 1) -> ReceptiveField:
    """Receptive field of a window that slides over the input."""
    width = (kernel - 1) * dilation + 1
    if padding == "valid":
        return ReceptiveField(after=width - 1, stride=stride)
    # "same" pads by width - stride at least and by width - 1 at most, which depends on the size modulo the stride.
    return ReceptiveField((width - 1) // 2, width - 1 - max(width - stride, 0) // 2, stride)


@_both_axes
def _transposed_convolution(layer: tf.keras.layers.Layer, axis: int) -> ReceptiveField:
    stride, width = layer.strides[axis], (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1
    # Input pixel i adds to output pixels i stride to i stride + width - 1; "same" then crops fewer than `width`.
    reach = -(-(width - 1) // stride)
    return ReceptiveField(reach, 0 if layer.padding == "valid" else reach, scale=stride)


@_both_axes
def _zero_padding(layer: tf.keras.layers.Layer, axis: int) -> ReceptiveField:
    # Long enough that windows inside of the padding have an input.
    return ReceptiveField(before=sum(layer.padding[axis]))


@_both_axes
def _cropping(layer: tf.keras.layers.Layer, axis: int) -> ReceptiveField:
    return ReceptiveField(after=sum(layer.cropping[axis]))


def _upsampling(layer: tf.keras.layers.Layer) -> _Fields | None:
    reach = {"nearest": 0, "bilinear": 1, "bicubic": 2}.get(layer.interpolation)
    if reach is None:
        return None
    height, width = (ReceptiveField(reach, reach, scale=factor) for factor in layer.size)
    return height, width


# Exact type -> function of a layer to its fields along height and width; None if the layer's options are not covered.
_KERAS_LAYERS: dict[type, Callable[..., _Fields | None]] = {
    **dict.fromkeys(
        (
            keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU,
            keras.layers.Add, keras.layers.Subtract, keras.layers.Multiply, keras.layers.Average,
            keras.layers.Maximum, keras.layers.Minimum, keras.layers.Rescaling, keras.layers.Dense,
            keras.layers.Dropout, keras.layers.SpatialDropout2D, keras.layers.GaussianDropout,
            keras.layers.GaussianNoise, keras.layers.ActivityRegularization, keras.layers.Identity,
        ),
        _pointwise,
    ),
    **dict.fromkeys(
        (
            keras.layers.Concatenate, keras.layers.BatchNormalization, keras.layers.LayerNormalization,
            keras.layers.Softmax,
        ),
        _pointwise_along_channels,
    ),
    keras.layers.PReLU: _prelu,
    **dict.fromkeys(
        (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D), _convolution
    ),
    keras.layers.Conv2DTranspose: _transposed_convolution,
    **dict.fromkeys((keras.layers.MaxPooling2D, keras.layers.AveragePooling2D), _pooling),
    keras.layers.ZeroPadding2D: _zero_padding,
    keras.layers.Cropping2D: _cropping,
    keras.layers.UpSampling2D: _upsampling,
}
