"""The weights of a network by name."""

import tensorflow as tf


def named_weights(network: tf.keras.Model) -> dict[str, tf.Variable]:
    """Returns the network's variables by "LAYER/WEIGHT" ("stem_conv/kernel"), in layer order; equal on both stacks."""
    return {
        f"{layer.name}/{weight.name.split(':')[0].split('/')[-1]}": weight
        for layer in network.layers
        for weight in layer.weights
    }
