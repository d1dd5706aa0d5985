"""A generator made of Keras's own layers only, so that its file loads without this package."""

import tensorflow as tf

from cyclegan_tf.networks import layers

keras = tf.keras


def rebuild(network):
    """The same network and weights without a class or function of this package or of tensorflow-addons.

    Args:
      network: a generator of `cyclegan_tf.models`.

    Returns:
      Keras functional model, float32 (N, H, W, C) -> (N, H, W, C'), equal to `network` in inference.
    """
    inputs = keras.Input(network.input_shape[1:], name="images")
    made = {id(network.inputs[0]): inputs}
    for layer in network.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        given = layer.input
        given = [made[id(x)] for x in given] if isinstance(given, (list, tuple)) else made[id(given)]
        made[id(layer.output)] = _apply(layer, given)
    return keras.Model(inputs, made[id(network.outputs[0])], name=network.name)


def _apply(layer, given):
    """The output of `layer`, or of what stands for it, of symbolic tensors."""
    if isinstance(layer, layers.ReflectionPadding2D):
        return _pad(given, layer.padding, "REFLECT")
    if isinstance(layer, layers.ReplicationPadding2D):
        # One pixel of SYMMETRIC padding is the edge pixel itself.
        return _pad(given, 1, "SYMMETRIC")
    twin = _twin(layer)
    result = twin(given)
    twin.set_weights(layer.get_weights())
    return result


def _twin(layer):
    """A fresh layer of the library that computes the same in inference."""
    if isinstance(layer, layers.BatchNormalization):
        return keras.layers.BatchNormalization(momentum=layer.momentum, epsilon=layer.epsilon, name=layer.name)
    if layers.is_instance_normalization(layer):
        # On either stack, and with the same epsilon.
        return keras.layers.GroupNormalization(
            groups=-1, epsilon=1e-5, center=layer.center, scale=layer.scale, name=layer.name
        )
    if layer.name.endswith("_leaky_relu"):
        return keras.layers.LeakyReLU(0.2, name=layer.name)
    if layer.name.endswith("_relu"):
        return keras.layers.Activation("relu", name=layer.name)
    library = {**layers.LIBRARY, layers.Cropping2D: keras.layers.Cropping2D}
    return library.get(type(layer), type(layer)).from_config(layer.get_config())


def _pad(images, padding, mode):
    both = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    # Keras 2 makes a layer of any TensorFlow function, Keras 3 of its own functions.
    function = keras.ops.pad if hasattr(keras, "ops") else tf.pad
    return function(images, both, mode=mode.lower())
