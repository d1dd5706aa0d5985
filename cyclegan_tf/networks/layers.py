"""Keras layers of the networks, with PyTorch's padding, which is the authors'."""

import functools
import warnings

import tensorflow as tf

from cyclegan_tf.networks import receptive_field
from cyclegan_tf.networks.receptive_field import ReceptiveField
from cyclegan_tf.ops import convolution, hardware, instance_norm, padding, recompute

keras = tf.keras

_TENSORFLOW_ADDONS = tf.__version__.startswith("2.15.")  # The last TensorFlow that tensorflow-addons imports with.


@keras.utils.register_keras_serializable("cyclegan_tf")
class ReflectionPadding2D(keras.layers.Layer):
    """Pads height and width by `padding` pixels on each side, mirrored at the edge pixel, which is not repeated.

    (N, H, W, C) -> (N, H + 2 padding, W + 2 padding, C); H and W must be larger than `padding`.
    """

    def __init__(self, padding, **kwargs):
        super().__init__(**kwargs)
        self.padding = padding

    def call(self, inputs):
        return padding.reflect(inputs, self.padding)

    def compute_output_shape(self, input_shape):
        return _padded_shape(input_shape, self.padding)

    def receptive_field(self) -> ReceptiveField:
        # Output pixel 0 mirrors input pixel `padding`, the last one the pixel 3 padding before it.
        return ReceptiveField(before=3 * self.padding, after=self.padding)

    def get_config(self):
        return {**super().get_config(), "padding": self.padding}


@keras.utils.register_keras_serializable("cyclegan_tf")
class ReplicationPadding2D(keras.layers.Layer):
    """Pads height and width by one pixel on each side, a copy of the edge pixel: (N, H, W, C) -> (N, H+2, W+2, C)."""

    def call(self, inputs):
        return padding.replicate(inputs)

    def compute_output_shape(self, input_shape):
        return _padded_shape(input_shape, 1)

    def receptive_field(self) -> ReceptiveField:
        return ReceptiveField(before=2)


@keras.utils.register_keras_serializable("cyclegan_tf")
class Cropping2D(keras.layers.Cropping2D):
    """Keras's layer, where sizes are known by an operation whose gradient is not ten times as slow on a CPU."""

    def call(self, inputs):
        if not hardware.use_cpu_kernels(inputs):
            return super().call(inputs)
        (top, bottom), (left, right) = self.cropping
        batch, height, width, channels = inputs.shape
        return tf.slice(inputs, (0, top, left, 0), (batch, height - top - bottom, width - left - right, channels))

    def receptive_field(self) -> tuple[ReceptiveField, ReceptiveField]:
        return receptive_field.find_keras_fields(self, keras.layers.Cropping2D)


@keras.utils.register_keras_serializable("cyclegan_tf")
class Conv2D(keras.layers.Conv2D):
    """Keras's layer with `convolve`, which needs padding "valid": (N, H, W, C) -> (N, H', W', filters)."""

    def call(self, inputs):
        outputs = convolution.convolve(inputs, tf.convert_to_tensor(self.kernel), self.strides[0])
        return convolution.add_bias(outputs, self.bias) if self.use_bias else outputs

    def receptive_field(self) -> tuple[ReceptiveField, ReceptiveField]:
        return receptive_field.find_keras_fields(self, keras.layers.Conv2D)


@keras.utils.register_keras_serializable("cyclegan_tf")
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """Keras's layer with `convolve_transpose`, which needs padding "valid": (N, H, W, C) -> (N, H', W', filters)."""

    def call(self, inputs):
        outputs = convolution.convolve_transpose(inputs, tf.convert_to_tensor(self.kernel), self.strides[0])
        return convolution.add_bias(outputs, self.bias) if self.use_bias else outputs

    def receptive_field(self) -> tuple[ReceptiveField, ReceptiveField]:
        return receptive_field.find_keras_fields(self, keras.layers.Conv2DTranspose)


# The names under which `.keras` files know the two activations.
@keras.utils.register_keras_serializable("cyclegan_tf", name="_relu")
def relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0); compare with `layer.activation` to recognize it."""
    return recompute.relu(x)


@keras.utils.register_keras_serializable("cyclegan_tf", name="_leaky_relu")
def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0.2 x); compare with `layer.activation` to recognize it."""
    # Not tf.nn.leaky_relu: with oneDNN, TensorFlow 2.21's graph optimizer fails to fuse its gradient and gives up.
    return tf.maximum(x, 0.2 * x)


@keras.utils.register_keras_serializable("cyclegan_tf")
class DifferentiableInstanceNormalization(keras.layers.Layer):
    """Instance normalization whose second derivative is right; for the gradient penalty.

    (x - mean) / sqrt(var + epsilon), mean and biased variance over H and W of each image and channel; with `scale`
    times gamma, with `center` plus beta, one of each a channel. The libraries' layers use `tf.nn.moments`, which stops
    the gradient at the mean: right the first time, wrong the second.
    """

    def __init__(self, epsilon=1e-5, center=False, scale=False, **kwargs):
        super().__init__(**kwargs)
        self.epsilon, self.center, self.scale = epsilon, center, scale
        self.gamma = self.beta = None

    def build(self, input_shape):
        if self.scale:
            self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")
        if self.center:
            self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="zeros")

    def call(self, inputs):
        return instance_norm.normalize_by_formula(inputs, self.epsilon, self.gamma, self.beta)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon, "center": self.center, "scale": self.scale}


@keras.utils.register_keras_serializable("cyclegan_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalization with PyTorch's running variance, which takes the unbiased batch variance.

    Keras feeds the biased one: at 1 x 1 pixel and batch 2 that is half as large.
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs, training=None):
        if not training:
            return super().call(inputs, training=False)
        x = tf.cast(inputs, tf.float32)
        mean, variance = tf.nn.moments(x, axes=(0, 1, 2))
        count = tf.cast(tf.size(x) / tf.shape(x)[-1], tf.float32)
        self._follow(self.moving_mean, mean)
        self._follow(self.moving_variance, variance * count / tf.maximum(count - 1, 1))
        beta, gamma = (tf.cast(weight, tf.float32) for weight in (self.beta, self.gamma))
        return tf.cast(tf.nn.batch_normalization(x, mean, variance, beta, gamma, self.epsilon), inputs.dtype)

    def receptive_field(self) -> tuple[ReceptiveField, ReceptiveField]:
        return receptive_field.find_keras_fields(self, keras.layers.BatchNormalization)

    def _follow(self, running, value):
        running.assign(running * self.momentum + value * (1 - self.momentum))


def instance_normalization(name, second_derivative=False, affine=False):
    """Instance normalization, epsilon 1e-5: a kind of the library layer of the installed stack.

    That is tensorflow-addons' where it exists (TensorFlow 2.15), Keras's GroupNormalization with one group per channel
    elsewhere; options and weights are theirs. Both compute (x - mean) / sqrt(var + 1e-5), mean and biased variance over
    H and W of each image and channel, in float32. Ours does so in a third of the operations, which are most of those of
    a training step.

    Args:
      name: the layer's name.
      second_derivative: True where a gradient penalty differentiates twice, which that does not.
      affine: gamma times that plus beta, both learned for each channel, from 1 and 0 on; the authors' has no weights.
    """
    options = {"epsilon": 1e-5, "center": affine, "scale": affine, "name": name}
    if second_derivative:
        return DifferentiableInstanceNormalization(**options)
    return _instance_normalization()(**options, **({} if _TENSORFLOW_ADDONS else {"groups": -1}))


def is_instance_normalization(layer):
    """Whether `layer` is one that `instance_normalization` makes."""
    return isinstance(layer, (DifferentiableInstanceNormalization, _instance_normalization()))


@functools.cache
def _instance_normalization():
    # Made when it is first asked for: tensorflow-addons takes a second to import.
    library = _import_addons().layers.InstanceNormalization if _TENSORFLOW_ADDONS else keras.layers.GroupNormalization

    @keras.utils.register_keras_serializable("cyclegan_tf")
    class InstanceNormalization(library):
        def call(self, inputs, training=False):
            if not training:
                return instance_norm.normalize_by_formula(inputs, self.epsilon, self.gamma, self.beta)
            y = instance_norm.normalize(inputs, self.epsilon)
            y = y if self.gamma is None else y * tf.cast(self.gamma, y.dtype)
            return y if self.beta is None else y + tf.cast(self.beta, y.dtype)

    return InstanceNormalization


def _import_addons():
    """tensorflow-addons, without the end-of-life notice that it prints at import."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*TensorFlow Addons", category=UserWarning)
        import tensorflow_addons
    return tensorflow_addons


def _padded_shape(shape, padding):
    batch, height, width, channels = shape
    return (batch, height and height + 2 * padding, width and width + 2 * padding, channels)
