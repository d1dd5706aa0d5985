"""Initial weights other than the default of the builders, which is N(0, 0.02)."""

import tensorflow as tf

from cyclegan_tf.networks import graph

_GAIN = 0.02


def initialize_xavier(network: tf.keras.Model) -> None:
    """Draws all kernels of `network` from N(0, s^2), s = 0.02 sqrt(2 / (fan_in + fan_out)), and sets biases to 0.

    Xavier initialization (Glorot and Bengio 2010) with the gain that the authors' code uses. The normal distribution
    is not truncated. Weights of normalization layers stay as they are. The draw follows Keras's global seed.
    """
    for layer in (layer for layer in graph.list_layers(network) if hasattr(layer, "kernel")):
        initializer = tf.keras.initializers.VarianceScaling(_GAIN**2, mode="fan_avg", distribution="untruncated_normal")
        layer.kernel.assign(initializer(layer.kernel.shape, dtype="float32"))
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(tf.zeros_like(layer.bias))
