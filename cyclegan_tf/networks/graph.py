"""Reading a Keras functional model as a graph of layers."""

from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from cyclegan_tf.errors import UserError

keras = tf.keras


class Node(NamedTuple):
    """A layer of a network, and the names of the layers whose outputs the layer reads (none for the input layer)."""

    layer: tf.keras.layers.Layer
    inputs: tuple[str, ...]


class Graph(NamedTuple):
    """A network's layers by name, each after the layers that it reads, and the name of the layer of the output."""

    nodes: dict[str, Node]
    output: str


def read_graph(network: tf.keras.Model) -> Graph:
    """Reads the layers of a network and the connections between them.

    Args:
      network: functional model of one input and one output. Each layer must be called once, have one output, and not be
        a model itself; nothing may be computed outside of layers.

    Raises:
      UserError: the network is of another kind.
    """
    producers: dict[int, str] = {}
    nodes = {}
    for layer in network.layers:
        is_input = isinstance(layer, keras.layers.InputLayer)
        try:
            inputs = [] if is_input else [producers[id(tensor)] for tensor in tf.nest.flatten(layer.input)]
            producers[id(layer.output)] = layer.name
        except (AttributeError, KeyError, ValueError) as error:  # A layer that is called twice has no input in Keras 2.
            raise _error(network, f"layer {layer.name}") from error
        nodes[layer.name] = Node(layer, tuple(inputs))
    outputs = [producers.get(id(tensor)) for tensor in network.outputs]
    if len(network.inputs) != 1 or len(outputs) != 1 or outputs[0] is None:
        raise _error(network, "the output")
    return Graph(nodes, outputs[0])


def list_layers(network: tf.keras.Model) -> Iterator[tf.keras.layers.Layer]:
    """Yields the layers of any network; replaces a nested network by its own layers."""
    for layer in network.layers:
        if hasattr(layer, "layers"):
            yield from list_layers(layer)
        else:
            yield layer


def _error(network: tf.keras.Model, place: str) -> UserError:
    return UserError(
        f"network {network.name} is not a plain graph of layers, as {place} shows; build a functional model of one "
        "input and one output that calls each layer once, contains no other model and computes nothing outside of "
        "layers"
    )
