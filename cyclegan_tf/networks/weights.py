"""The weights of a network by name."""

import collections

import tensorflow as tf

from cyclegan_tf.errors import UserError


def name_weights(network: tf.keras.Model) -> dict[str, tf.Variable]:
    """Returns the network's variables by "LAYER/WEIGHT" ("stem_conv/kernel"), in layer order; equal on both stacks.

    A layer made of layers may have several weights of one name; then a number follows: kernel, kernel_1, kernel_2.

    Raises:
      UserError: the name of a weight equals the numbered name of another weight.
    """
    counts: collections.Counter[str] = collections.Counter()
    found = {}
    for layer in network.layers:
        for weight in layer.weights:
            name = f"{layer.name}/{weight.name.split(':')[0].split('/')[-1]}"
            numbered = f"{name}_{counts[name]}" if counts[name] else name
            if numbered in found:
                raise UserError(f"{network.name} has two weights called {numbered}; give its weights other names")
            found[numbered] = weight
            counts[name] += 1
    return found
