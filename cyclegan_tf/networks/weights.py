"""The weights of a network by name."""

import tensorflow as tf


def named_weights(network: tf.keras.Model) -> dict[str, tf.Variable]:
    """Returns the network's variables by "LAYER/WEIGHT" ("stem_conv/kernel"), in layer order; equal on both stacks.

    A layer made of layers may have several weights of one name; then a number follows: kernel, kernel_1, kernel_2.
    """
    found: dict[str, tf.Variable] = {}
    for layer in network.layers:
        for weight in layer.weights:
            name = f"{layer.name}/{weight.name.split(':')[0].split('/')[-1]}"
            count = sum(other.rpartition("_")[0] == name or other == name for other in found)
            found[f"{name}_{count}" if count else name] = weight
    return found
