"""Exports .keras files."""

import os

from cyclegan_tf.exporters import portable
from cyclegan_tf.exporters.source import Source
from cyclegan_tf.exporters.verify import Artifact


def write(source: Source, folder: str) -> list[Artifact]:
    """Writes FOLDER/DIRECTION.keras, a network float32 (N, H, W, C) -> (N, H, W, C') that loads without this package.

    Raises:
      UserError: a layer cannot be rebuilt from Keras's layers; see `portable.rebuild`.
    """
    name = f"{source.direction}.keras"
    portable.rebuild(source.network).save(os.path.join(folder, name))
    return [Artifact(name, "keras", largest=1e-4)]
