"""Exports generators as SavedModels, for any process that has TensorFlow."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping

import tensorflow as tf
from absl import logging

from cyclegan_tf.config.direction import Direction
from cyclegan_tf.config.value_ranges import Units
from cyclegan_tf.errors import UserError, get_first_line
from cyclegan_tf.exporters.source import Source
from cyclegan_tf.exporters.verify import Artifact
from cyclegan_tf.inference.translator import Translator
from cyclegan_tf.storage import atomic, filesystem


def export(translators: Mapping[Direction, Translator], folder: str) -> list[str]:
    """Writes a SavedModel to FOLDER/DIRECTION for each translator, and returns the paths.

    Writes each SavedModel to a temporary folder first, so that FOLDER/DIRECTION is always complete. A process that is
    killed leaves the temporary folder behind.

    Signatures, for images of any height and width:
      serving_default: `images` float32 (N, H, W, C) in [-1, 1] -> `images`, float32 (N, H, W, C').
      translate: `images` uint8 (N, H, W, C) -> `images`, uint8 (N, H, W, C').
      translate_bytes: `image_bytes` (N,) encoded JPEG, PNG, BMP or GIF strings, decoded by `images.graph_codec` ->
        `image_bytes` (N,) PNG strings; only if C and C' are 1 or 3.
      value_ranges: nothing -> `source` and `target`, float64 (2,): the values that -1 and 1 stand for in images and in
        their translations; only if the run has ranges.

    Raises:
      UserError: the folder cannot be written.
    """
    paths = []
    for direction, translator in translators.items():
        path = os.path.join(folder, direction)
        temporary = filesystem.choose_temporary_path(path)
        signatures = {
            "serving_default": translator.translate_floats,
            "translate": translator.translate_uint8,
        }
        if translator.units:
            signatures["value_ranges"] = _describe_ranges(translator.units)
        if translator.translate_encoded:
            signatures["translate_bytes"] = translator.translate_encoded
        try:
            with _silence_tensorflow():
                tf.saved_model.save(_collect_weights(translator.generator), temporary, signatures=signatures)
        except tf.errors.OpError as error:
            raise UserError(f"cannot write {path}: {get_first_line(error)}") from error
        else:
            atomic.replace_folder(path, temporary)
        finally:
            filesystem.remove_tree(temporary)  # Still there only if an error occurred.
        paths.append(path)
    return paths


def write(source: Source, folder: str) -> list[Artifact]:
    """Writes FOLDER/DIRECTION with the signatures of `export`."""
    export({source.direction: source.translator}, folder)
    return [Artifact(str(source.direction), "saved_model", largest=1e-4)]


def _describe_ranges(units: Units) -> Callable[[], dict[str, tf.Tensor]]:
    @tf.function(input_signature=[], autograph=False)
    def get_ranges() -> dict[str, tf.Tensor]:
        return {name: tf.constant(limits, tf.float64) for name, limits in units.to_lists().items()}

    return get_ranges


def _collect_weights(generator: tf.keras.Model) -> tf.Module:
    """Returns a module that holds only the weights. If the module held the layers, Keras 2 would trace each layer."""
    module = tf.Module()
    # A variable of Keras 3 wraps TensorFlow's variable.
    module.weights = [each if isinstance(each, tf.Variable) else each.value for each in generator.variables]
    return module


@contextlib.contextmanager
def _silence_tensorflow() -> Iterator[None]:
    """Hides TensorFlow's notes on renamed inputs and internal functions, which every Keras network causes."""
    # TensorFlow 2.15 logs through its own logger, newer versions through absl's.
    logger = tf.get_logger()
    level, verbosity = logger.level, logging.get_verbosity()
    try:
        logger.setLevel("ERROR")
        logging.set_verbosity(logging.ERROR)
        yield
    finally:
        logger.setLevel(level)
        logging.set_verbosity(verbosity)
