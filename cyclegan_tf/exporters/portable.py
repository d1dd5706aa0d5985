"""Rebuilds a generator from Keras's own layers, so that its .keras file loads without this package.

A layer from elsewhere declares how to rebuild it by a method `to_keras(inputs)`. The method applies new layers of Keras
to the symbolic tensor `inputs` (a list if the layer has several inputs), copies the weights, and returns the output:

    def to_keras(self, inputs):
        twin = keras.layers.Conv2D(self.filters, 3, name=self.name)
        outputs = twin(inputs)
        twin.set_weights(self.get_weights())
        return outputs
"""

from typing import Any

import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.networks import layers
from cyclegan_tf.networks.graph import read_graph
from cyclegan_tf.networks.receptive_field import is_keras_activation

keras = tf.keras

# This package's layers that have the weights and the options of a Keras layer.
_KERAS_CLASSES = {
    layers.Conv2D: keras.layers.Conv2D,
    layers.Conv2DTranspose: keras.layers.Conv2DTranspose,
    layers.Cropping2D: keras.layers.Cropping2D,
    layers.BatchNormalization: keras.layers.BatchNormalization,
    layers.Dropout: keras.layers.Dropout,
}


def rebuild(network: tf.keras.Model) -> tf.keras.Model:
    """Returns an equal network, in inference, without a class or function of this package or tensorflow-addons.

    Args:
      network: generator, a functional model (N, H, W, C) -> (N, H, W, C').

    Raises:
      UserError: a layer is neither Keras's nor this package's and has no method `to_keras`.
    """
    graph = read_graph(network)
    tensors: dict[str, Any] = {}
    for name, (layer, sources) in graph.nodes.items():
        if not sources:
            tensors[name] = keras.Input(network.input_shape[1:], name="images")
            continue
        inputs = [tensors[source] for source in sources]
        tensors[name] = _rebuild_layer(layer, inputs if len(inputs) > 1 else inputs[0])
    (images,) = (tensors[name] for name, node in graph.nodes.items() if not node.inputs)
    return keras.Model(images, tensors[graph.output], name=network.name)


def _rebuild_layer(layer: tf.keras.layers.Layer, inputs: Any) -> Any:
    """Applies Keras layers that compute the same as `layer` to symbolic tensors."""
    if hasattr(layer, "to_keras"):
        return layer.to_keras(inputs)
    twin = _make_twin(layer)
    outputs = twin(inputs)
    twin.set_weights(layer.get_weights())
    return outputs


def _make_twin(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    """Returns a new Keras layer with the options of `layer`."""
    if layers.is_instance_normalization(layer):
        # tensorflow-addons' layer has other options, but the same epsilon and weights.
        return keras.layers.GroupNormalization(
            groups=-1, epsilon=layer.epsilon, center=layer.center, scale=layer.scale, name=layer.name
        )
    if type(layer) is keras.layers.Activation and layer.activation is layers.relu:
        return keras.layers.Activation("relu", name=layer.name)
    if type(layer) is keras.layers.Activation and layer.activation is layers.leaky_relu:
        return keras.layers.LeakyReLU(0.2, name=layer.name)
    if type(layer) in _KERAS_CLASSES:
        return _KERAS_CLASSES[type(layer)].from_config(layer.get_config())
    if not _is_from_keras(layer):
        raise UserError(
            f"layer {layer.name} ({type(layer).__name__}) cannot be rebuilt from Keras's layers: its class or its "
            "activation is not Keras's; give the class a method to_keras (see cyclegan_tf.exporters.portable), or "
            "choose another --format"
        )
    return type(layer).from_config(layer.get_config())


def _is_from_keras(layer: tf.keras.layers.Layer) -> bool:
    """Returns whether Keras alone can load the layer: its class and its activation are Keras's own."""
    kind = type(layer)
    if kind is keras.layers.Lambda or getattr(keras.layers, kind.__name__, None) is not kind:
        return False
    activation = getattr(layer, "activation", None)
    if isinstance(activation, keras.layers.Layer):
        return _is_from_keras(activation)
    return activation is None or is_keras_activation(activation)
