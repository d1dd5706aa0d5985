"""The weights of a network by name."""

import collections
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from cyclegan_tf.errors import UserError


def name_weights(network: tf.keras.Model) -> dict[str, tf.Variable]:
    """Returns the network's variables by "LAYER/WEIGHT", in layer order; the same in Keras 2 and 3.

    The name of a weight is, for example, stem_conv/kernel. A layer made of layers may have several weights of one name;
    then a number follows: kernel, kernel_1, kernel_2.

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


def load(network: tf.keras.Model, arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Assigns arrays by "LAYER/WEIGHT" to the weights of a network; see `assign_arrays` for `where` and errors."""
    assign_arrays(name_weights(network), arrays, where)


def assign_arrays(variables: Mapping[str, tf.Variable], arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Assigns each array to the variable of the same name.

    Args:
      where: origin of the arrays, for the error message.

    Raises:
      UserError: the names or the shapes differ; all variables keep their values.
    """
    wrong = [f"{name} is missing" for name in variables if name not in arrays]
    wrong += [f"{name} is not in the network" for name in arrays if name not in variables]
    wrong += [
        f"{name} has shape {arrays[name].shape}, the network {tuple(variable.shape)}"
        for name, variable in variables.items()
        if name in arrays and arrays[name].shape != tuple(variable.shape)
    ]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise UserError(f"{where} does not fit this configuration: {'; '.join(wrong[:3])}{more}")
    for name, variable in variables.items():
        variable.assign(arrays[name])
