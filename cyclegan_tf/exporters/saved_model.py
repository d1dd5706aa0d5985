"""SavedModels of the generators, for any process that has TensorFlow."""

import contextlib
import os

import tensorflow as tf
from absl import logging

from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters.verify import Artifact
from cyclegan_tf.storage import atomic, filesystem


def export(translators, folder):
    """Writes FOLDER/a2b and FOLDER/b2a, each first beside its place and then renamed; returns their paths.

    Signatures, of images of any height and width:
      serving_default: `images` float32 (N, H, W, C) in [-1, 1] -> `images`, the same.
      translate: `images` uint8 (N, H, W, C) -> `images`, the same.
      translate_bytes: `image_bytes` (N,) encoded JPEG or PNG strings -> `image_bytes` PNG strings; only
        where images have 1 or 3 channels.

    Args:
      translators: `translator.Translator`s by the directions a2b and b2a, or one of them.
    """
    paths = []
    for direction, translator in translators.items():
        path = os.path.join(folder, direction)
        temporary = f"{path}.tmp"
        filesystem.remove_tree(temporary)  # Of a run that was killed.
        signatures = {
            "serving_default": translator.translate_floats,
            "translate": translator.translate_uint8,
        }
        if translator.translate_encoded:
            signatures["translate_bytes"] = translator.translate_encoded
        try:
            with _quiet():
                tf.saved_model.save(_weights_only(translator.generator), temporary, signatures=signatures)
        except tf.errors.OpError as error:
            raise UserError(f"cannot write {temporary}: {error.message.splitlines()[0]}") from error
        atomic.replace_folder(path, temporary)
        paths.append(path)
    return paths


def write(source, folder):
    """FOLDER/DIRECTION, with the signatures of `export`; any size."""
    export({source.direction: source.translator}, folder)
    return [Artifact(source.direction, "saved_model", largest=1e-4)]


def _weights_only(generator):
    """A module of the network's weights. With the layers Keras 2 would trace every one of them for its own format."""
    module = tf.Module()
    # A variable of Keras 3 holds TensorFlow's.
    module.weights = [each if isinstance(each, tf.Variable) else each.value for each in generator.variables]
    return module


@contextlib.contextmanager
def _quiet():
    """Hides TensorFlow's notes on renamed inputs and internal functions, which every Keras model causes."""
    # TensorFlow 2.15 logs through its own logger, the newest through absl's.
    logger = tf.get_logger()
    level, verbosity = logger.level, logging.get_verbosity()
    try:
        logger.setLevel("ERROR")
        logging.set_verbosity(logging.ERROR)
        yield
    finally:
        logger.setLevel(level)
        logging.set_verbosity(verbosity)
