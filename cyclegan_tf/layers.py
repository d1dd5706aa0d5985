"""Layers and blocks of the networks, with PyTorch's padding, which is the authors'.

Block functions take and return a symbolic tensor (N, H, W, C) and name their layers NAME_conv, NAME_norm, NAME_relu;
checkpoints and the PyTorch converter know weights by these names.
"""

import functools
import warnings

import tensorflow as tf

from cyclegan_tf import borders, convolutions, instance_norm, rematerialization

keras = tf.keras

_TENSORFLOW_ADDONS = tf.__version__.startswith("2.15.")  # The last TensorFlow that tensorflow-addons imports with.

INIT_STDDEV = 0.02  # Paper section 7: weights from N(0, 0.02).


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
        return instance_norm.scaled(inputs, *instance_norm.moments(inputs, self.epsilon), self.gamma, self.beta)

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
                return instance_norm.scaled(inputs, *instance_norm.moments(inputs, self.epsilon), self.gamma, self.beta)
            y = instance_norm.normalized(inputs, self.epsilon)
            y = y if self.gamma is None else y * tf.cast(self.gamma, y.dtype)
            return y if self.beta is None else y + tf.cast(self.beta, y.dtype)

    return InstanceNormalization


def normalize(x, name, norm, second_derivative=False, affine=False):
    """Applies the normalization called `norm` (instance, batch or none) as layer NAME_norm.

    `affine` gives an instance norm weights; a batch norm has them anyway.
    """
    if norm == "instance":
        return instance_normalization(f"{name}_norm", second_derivative, affine)(x)
    if norm == "batch":
        # PyTorch's initialization in the authors' code: scale N(1, 0.02), offset 0.
        scale = keras.initializers.RandomNormal(mean=1.0, stddev=INIT_STDDEV)
        return BatchNormalization(gamma_initializer=scale, name=f"{name}_norm")(x)
    return x


def pad(x, name, padding, mode):
    """Pads (N, H, W, C) by `padding` pixels on each side; `mode` is zero, reflect or replicate (one pixel).

    Zeros may also be (pixels before, pixels after).
    """
    if mode == "reflect":
        return borders.ReflectionPadding2D(padding, name=f"{name}_pad")(x)
    if mode == "replicate":
        return borders.ReplicationPadding2D(name=f"{name}_pad")(x)
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
    return convolutions.Conv2D(
        filters, kernel, stride, padding="valid", use_bias=bias, kernel_initializer=_initializer(), name=f"{name}_conv"
    )(x)


def transposed_conv(x, name, filters, kernel, bias=True, first=1):
    """Transposed convolution of stride 2 that doubles height and width exactly.

    The whole adjoint, 2 H + kernel - 2 pixels high, less `first` pixels at the beginning and the rest at the end. With
    1 that is PyTorch's ConvTranspose2d of padding 1, and output_padding 1 if `kernel` is 3, 0 if it is 4; with
    `same(kernel, 2)[0]` it is TensorFlow's padding "same".
    """
    x = convolutions.Conv2DTranspose(
        filters, kernel, 2, padding="valid", use_bias=bias, kernel_initializer=_initializer(), name=f"{name}_conv"
    )(x)
    last = kernel - 2 - first
    return borders.Cropping2D(((first, last), (first, last)), name=f"{name}_crop")(x)


def resize_conv(x, name, filters, kernel=3, padding=1, padding_mode="reflect", bias=True):
    """Repeats each pixel 2 x 2 times and convolves: (N, H, W, C) -> (N, 2 H, 2 W, filters); leaves no checkerboard.

    Odena et al. 2016. `padding` must keep the size, `padding_mode` as of `pad`.
    """
    x = keras.layers.UpSampling2D(2, interpolation="nearest", name=f"{name}_resize")(x)
    return conv(x, name, filters, kernel, padding=padding, padding_mode=padding_mode, bias=bias)


def relu(x, name):
    return keras.layers.Activation(_relu, name=f"{name}_relu")(x)


def leaky_relu(x, name):
    """max(x, 0.2 x)."""
    return keras.layers.Activation(_leaky_relu, name=f"{name}_leaky_relu")(x)


def residual_block(x, name, filters, normalize_, padding_mode, dropout=False, bias=True, merge="add"):
    """Joins x and norm(conv(relu(norm(conv(x))))), two 3x3 convolutions of `filters`; no activation afterwards.

    Args:
      normalize_: function of a tensor and a name: `normalize` with its options.
      merge: add, which needs `filters` channels in x, or concat: the new channels before those of x, so that every
        block adds `filters` channels and the next one's first convolution has as many more to read.
    """
    y = conv(x, f"{name}a", filters, 3, padding=1, padding_mode=padding_mode, bias=bias)
    y = relu(normalize_(y, f"{name}a"), f"{name}a")
    if dropout:
        y = keras.layers.Dropout(0.5, name=f"{name}_dropout")(y)
    y = normalize_(conv(y, f"{name}b", filters, 3, padding=1, padding_mode=padding_mode, bias=bias), f"{name}b")
    if merge == "concat":
        return keras.layers.Concatenate(name=f"{name}_join")([y, x])
    return keras.layers.Add(name=f"{name}_add")([x, y])


def _initializer():
    return keras.initializers.RandomNormal(stddev=INIT_STDDEV)


@keras.utils.register_keras_serializable("cyclegan_tf")
def _relu(x):
    return rematerialization.relu(x)


@keras.utils.register_keras_serializable("cyclegan_tf")
def _leaky_relu(x):
    # Not tf.nn.leaky_relu: with oneDNN, TensorFlow 2.21's graph optimizer fails to fuse its gradient and gives up.
    return tf.maximum(x, 0.2 * x)


def _import_addons():
    """tensorflow-addons, without the end-of-life notice that it prints at import."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*TensorFlow Addons", category=UserWarning)
        import tensorflow_addons
    return tensorflow_addons
