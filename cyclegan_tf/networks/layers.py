"""Keras layers of the networks, with the padding and the statistics of PyTorch, which the authors used."""

import contextlib
import contextvars
import functools
import itertools
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Literal

import tensorflow as tf

from cyclegan_tf.networks import receptive_field
from cyclegan_tf.networks.receptive_field import ReceptiveField
from cyclegan_tf.ops import convolution, hardware, instance_norm, padding, recompute

keras = tf.keras


@keras.utils.register_keras_serializable("cyclegan_tf")
class ReflectionPadding2D(tf.keras.layers.Layer):
    """Pads height and width by `padding` pixels on each side, mirrored at the edge pixel, which is not repeated.

    (N, H, W, C) -> (N, H + 2 padding, W + 2 padding, C); H and W must be larger than `padding`.
    """

    def __init__(self, padding: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.padding = padding

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return padding.reflect(inputs, self.padding)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return _add_padding(input_shape, self.padding)

    def receptive_field(self) -> ReceptiveField:
        # Output pixel 0 is input pixel `padding`. The last output pixel i is input pixel i - 3 padding.
        return ReceptiveField(before=3 * self.padding, after=self.padding)

    def to_keras(self, inputs: Any) -> Any:
        """Rebuilds the layer from Keras's own operations."""
        return pad_symbolic(inputs, self.padding, "reflect")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": self.padding}


@keras.utils.register_keras_serializable("cyclegan_tf")
class ReplicationPadding2D(tf.keras.layers.Layer):
    """Pads height and width by a copy of the edge pixel on each side: (N, H, W, C) -> (N, H + 2, W + 2, C)."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return padding.replicate(inputs)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return _add_padding(input_shape, 1)

    def receptive_field(self) -> ReceptiveField:
        return ReceptiveField(before=2)

    def to_keras(self, inputs: Any) -> Any:
        """Rebuilds the layer from Keras's own operations; symmetric padding by one pixel repeats the edge pixel."""
        return pad_symbolic(inputs, 1, "symmetric")


@keras.utils.register_keras_serializable("cyclegan_tf")
class Cropping2D(tf.keras.layers.Cropping2D):
    """Keras's layer; on a CPU, for known sizes, with an operation whose gradient is ten times as fast."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if not hardware.use_cpu_kernels(inputs):
            return super().call(inputs)
        (top, bottom), (left, right) = self.cropping
        batch, height, width, channels = inputs.shape
        return tf.slice(inputs, (0, top, left, 0), (batch, height - top - bottom, width - left - right, channels))

    def receptive_field(self) -> tuple[ReceptiveField, ReceptiveField]:
        return receptive_field.find_keras_fields(self, keras.layers.Cropping2D)


@keras.utils.register_keras_serializable("cyclegan_tf")
class Conv2D(tf.keras.layers.Conv2D):
    """Keras's layer with the faster `ops.convolution.convolve`: (N, H, W, C) -> (N, H', W', filters).

    Kernel and strides must be square. Other options that change what Keras's layer computes raise a ValueError.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _require_plain(self)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = convolution.convolve(inputs, tf.convert_to_tensor(self.kernel), self.strides[0])
        return convolution.add_bias(outputs, self.bias) if self.use_bias else outputs

    def receptive_field(self) -> tuple[ReceptiveField, ReceptiveField]:
        return receptive_field.find_keras_fields(self, keras.layers.Conv2D)


@keras.utils.register_keras_serializable("cyclegan_tf")
class Conv2DTranspose(tf.keras.layers.Conv2DTranspose):
    """Keras's layer with the faster `ops.convolution.convolve_transpose`: (N, H, W, C) -> (N, H', W', filters).

    Kernel and strides must be square. Other options that change what Keras's layer computes raise a ValueError.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _require_plain(self)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = convolution.convolve_transpose(inputs, tf.convert_to_tensor(self.kernel), self.strides[0])
        return convolution.add_bias(outputs, self.bias) if self.use_bias else outputs

    def receptive_field(self) -> tuple[ReceptiveField, ReceptiveField]:
        return receptive_field.find_keras_fields(self, keras.layers.Conv2DTranspose)


# Returns the seed, int64 (2,), of the n-th dropout in the training step that is being computed or traced.
_make_dropout_seed: contextvars.ContextVar[Callable[[], tf.Tensor] | None] = contextvars.ContextVar(
    "make_dropout_seed", default=None
)


@contextlib.contextmanager
def seed_dropout(make_seed: Callable[[int], tf.Tensor]) -> Iterator[None]:
    """Makes the masks that `Dropout` layers draw in the body a pure function of seeds.

    Args:
      make_seed: returns the seed, int64 (2,), of call number n of a `Dropout` layer in the body.
    """
    calls = itertools.count()
    token = _make_dropout_seed.set(lambda: make_seed(next(calls)))
    try:
        yield
    finally:
        _make_dropout_seed.reset(token)


@keras.utils.register_keras_serializable("cyclegan_tf")
class Dropout(tf.keras.layers.Layer):
    """In training, sets each number to 0 with probability `rate` and divides the others by 1 - rate.

    Keras's layer keeps a random state of its own, which no checkpoint holds. This layer draws from `seed_dropout`, so
    that a resumed run draws the masks that the uninterrupted run would have drawn; outside of `seed_dropout`, it draws
    from TensorFlow's global generator.

    Args:
      rate: in [0, 1).
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training:
            return inputs
        make_seed = _make_dropout_seed.get()
        if make_seed is None:
            return tf.nn.dropout(inputs, self.rate)
        kept = tf.random.stateless_uniform(tf.shape(inputs), make_seed()) >= self.rate
        return tf.where(kept, inputs / (1.0 - self.rate), tf.zeros_like(inputs))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return tuple(input_shape)

    def receptive_field(self) -> ReceptiveField:
        return ReceptiveField()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


# `.keras` files store the names of the two activations, so the names must not change.
@keras.utils.register_keras_serializable("cyclegan_tf", name="_relu")
@receptive_field.pointwise
def relu(x: tf.Tensor) -> tf.Tensor:
    """Returns max(x, 0); `layer.activation is relu` recognizes this function."""
    return recompute.relu(x)


@keras.utils.register_keras_serializable("cyclegan_tf", name="_leaky_relu")
@receptive_field.pointwise
def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """Returns max(x, 0.2 x), with slope 0.2 at 0 as in PyTorch.

    `layer.activation is leaky_relu` recognizes this function.
    """
    # Do not use tf.nn.leaky_relu or the maximum of x and 0.2 x: TensorFlow's graph optimizer fuses both with the
    # convolution before them. If a U-Net's skip connection also reads the convolution, the optimizer fails, prints an
    # error and leaves all other operations as they are.
    return tf.where(x > 0, x, 0.2 * x)


@keras.utils.register_keras_serializable("cyclegan_tf")
class DifferentiableInstanceNormalization(tf.keras.layers.Layer):
    """Instance normalization whose second derivative is right, as a gradient penalty needs.

    (x - mean) / sqrt(var + epsilon), with the mean and the biased variance over H and W of each image and channel. The
    layers of tensorflow-addons and Keras use `tf.nn.moments`, which stops the gradient at the mean: their first
    derivative is right, their second is wrong.

    Args:
      epsilon: added to the variance.
      center: whether to add beta, a learned offset of each channel.
      scale: whether to multiply by gamma, a learned scale of each channel.
    """

    def __init__(self, epsilon: float = 1e-5, center: bool = False, scale: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon, self.center, self.scale = epsilon, center, scale
        self.gamma = self.beta = None

    def build(self, input_shape: tuple) -> None:
        if self.scale:
            self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")
        if self.center:
            self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return instance_norm.normalize_by_formula(inputs, self.epsilon, self.gamma, self.beta)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon, "center": self.center, "scale": self.scale}


@keras.utils.register_keras_serializable("cyclegan_tf")
class BatchNormalization(tf.keras.layers.BatchNormalization):
    """Keras's batch normalization with PyTorch's running variance.

    PyTorch averages the unbiased variance of the batches, Keras the biased one, which is half as large for a batch of 2
    images of 1x1 pixel.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training:
            return super().call(inputs, training=False)
        x = tf.cast(inputs, tf.float32)
        mean, variance = tf.nn.moments(x, axes=(0, 1, 2))
        count = tf.cast(tf.size(x) / tf.shape(x)[-1], tf.float32)
        self._update_average(self.moving_mean, mean)
        self._update_average(self.moving_variance, variance * count / tf.maximum(count - 1, 1))
        beta, gamma = (tf.cast(weight, tf.float32) for weight in (self.beta, self.gamma))
        return tf.cast(tf.nn.batch_normalization(x, mean, variance, beta, gamma, self.epsilon), inputs.dtype)

    def receptive_field(self) -> tuple[ReceptiveField, ReceptiveField]:
        return receptive_field.find_keras_fields(self, keras.layers.BatchNormalization)

    def _update_average(self, average: tf.Variable, value: tf.Tensor) -> None:
        average.assign(average * self.momentum + value * (1 - self.momentum))


def instance_normalization(name: str, second_derivative: bool = False, affine: bool = False) -> tf.keras.layers.Layer:
    """Makes an instance normalization layer with epsilon 1e-5, a subclass of the installed library's layer.

    The library is tensorflow-addons with TensorFlow 2.15, else Keras, whose GroupNormalization has one group per
    channel; options and weights of the layer are the library's. Both libraries compute
    (x - mean) / sqrt(var + 1e-5) in float32, with the mean and the biased variance over H and W of each image and
    channel. In inference, the library's own code runs. In training, the layer computes the same with a third of the
    operations; these norms account for most operations of a training step.

    Args:
      name: the layer's name.
      second_derivative: whether a gradient penalty differentiates through the layer twice, which the library's layer
        does not support.
      affine: whether the layer learns a scale and an offset of each channel, initially 1 and 0. The authors' layer has
        neither.
    """
    options: dict[str, Any] = {"epsilon": 1e-5, "center": affine, "scale": affine, "name": name}
    if second_derivative:
        return DifferentiableInstanceNormalization(**options)
    return _get_instance_normalization()(**options, **({} if hardware.IS_TENSORFLOW_2_15 else {"groups": -1}))


def is_instance_normalization(layer: tf.keras.layers.Layer) -> bool:
    """True if `layer` has one of the types that `instance_normalization` makes."""
    return isinstance(layer, (DifferentiableInstanceNormalization, _get_instance_normalization()))


def pad_symbolic(images: Any, padding: int, mode: Literal["reflect", "symmetric"]) -> Any:
    """Pads height and width of Keras's symbolic tensor (N, H, W, C) by `padding` pixels on each side."""
    both = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    # Keras 2 makes a layer of any TensorFlow function, Keras 3 of its own functions.
    pad = tf.keras.ops.pad if hasattr(tf.keras, "ops") else tf.pad
    return pad(images, both, mode=mode)


@functools.cache
def _get_instance_normalization() -> type:
    # The class is made at its first use, because importing tensorflow-addons takes a second.
    library: Any = keras.layers.GroupNormalization
    if hardware.IS_TENSORFLOW_2_15:
        library = _import_addons().layers.InstanceNormalization

    @keras.utils.register_keras_serializable("cyclegan_tf")
    class InstanceNormalization(library):
        def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
            if not training:
                return super().call(inputs)
            y = instance_norm.normalize(inputs, self.epsilon)
            y = y if self.gamma is None else y * tf.cast(self.gamma, y.dtype)
            return y if self.beta is None else y + tf.cast(self.beta, y.dtype)

    return InstanceNormalization


def _import_addons() -> ModuleType:
    """Imports tensorflow-addons without the end-of-life notice that it prints."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*TensorFlow Addons", category=UserWarning)
        import tensorflow_addons
    return tensorflow_addons


def _require_plain(layer: tf.keras.layers.Layer) -> None:
    """Raises a ValueError if a convolution has options of Keras's layer that its `call` does not read."""
    expected = {
        "kernel_size": layer.kernel_size[:1] * 2, "strides": layer.strides[:1] * 2, "padding": "valid",
        "output_padding": None, "data_format": "channels_last", "dilation_rate": (1, 1), "groups": 1,
        "activation": keras.activations.linear,
    }
    for option, value in expected.items():
        found = getattr(layer, option, value)
        if found != value:
            kind = type(layer).__name__
            raise ValueError(f"layer {layer.name}: cyclegan_tf's {kind} does not support "
                             f"{option}={getattr(found, '__name__', found)}; use keras.layers.{kind}")


def _add_padding(shape: tuple, padding: int) -> tuple:
    batch, height, width, channels = shape
    return (batch, height and height + 2 * padding, width and width + 2 * padding, channels)
