"""Opening SavedModels, whether this package or another program wrote them."""

from typing import Any

import tensorflow as tf

from cyclegan_tf.config.value_ranges import NO_UNITS, Units
from cyclegan_tf.errors import UserError, describe_error
from cyclegan_tf.ops import exhaustion

# Signatures to look for, in this order. Modules converted from TensorFlow 1 call theirs "default".
_SIGNATURES = ("serving_default", "default")


class SavedNetwork:
    """A SavedModel as a function of one input tensor to one output tensor.

    Attributes:
      input_spec, output_spec: shapes and dtypes.
      variables: the weights.
      units: the ranges that an export of this package names.
    """

    def __init__(self, loaded: Any, output: str | None) -> None:
        self._loaded = loaded  # The signature's function does not keep the variables alive.
        self._function = next(loaded.signatures[name] for name in _SIGNATURES if name in loaded.signatures)
        inputs, outputs = self._function.structured_input_signature[1], self._function.structured_outputs
        if len(inputs) != 1:
            raise ValueError(f"the inputs are {', '.join(sorted(inputs))}")
        if (output not in outputs) if output else len(outputs) != 1:
            raise ValueError(f"the outputs are {', '.join(sorted(outputs))}")
        self._input, self._output = next(iter(inputs)), output or next(iter(outputs))
        self.input_spec: tf.TensorSpec = inputs[self._input]
        self.output_spec: tf.TensorSpec = outputs[self._output]
        self.units = _read_units(loaded.signatures)
        self.variables: list[tf.Variable] = list(self._function.variables)

    def __call__(self, tensor: tf.Tensor) -> tf.Tensor:
        return self._function(**{self._input: tf.convert_to_tensor(tensor)})[self._output]


def _read_units(signatures: Any) -> Units:
    if "value_ranges" not in signatures:
        return NO_UNITS
    return Units.from_lists({name: limits.numpy() for name, limits in signatures["value_ranges"]().items()})


def open_saved_model(path: str, name: str | None = None, output: str | None = None) -> SavedNetwork:
    """Loads the SavedModel in folder `path`; it must take one input.

    Args:
      path: the folder.
      name: how errors name the SavedModel, such as "--segmenter=PATH"; default: `path`.
      output: name of the output to return; default: the only one.

    Raises:
      UserError: the folder holds no SavedModel, or one with other inputs or outputs.
    """
    try:
        return SavedNetwork(tf.saved_model.load(path), output)
    except (OSError, ValueError, KeyError, AttributeError, StopIteration, TypeError, tf.errors.OpError) as error:
        if exhaustion.is_exhausted(error):
            raise
        reason = describe_error(error) if str(error) else "it has no serving_default signature"
        wanted = f"an output {output}" if output else "one output"
        raise UserError(f"{name or path} is not a SavedModel with one input and {wanted} ({reason})") from error
