"""Exports .keras files."""

import os

from cyclegan_tf.exporters import portable
from cyclegan_tf.exporters.source import Source
from cyclegan_tf.exporters.verify import Artifact
from cyclegan_tf.storage import zip_metadata


def write(source: Source, folder: str) -> list[Artifact]:
    """Writes FOLDER/DIRECTION.keras, a network float32 (N, H, W, C) -> (N, H, W, C') that loads without this package.

    The ranges of the run, if it has any, are the file value_ranges.json in this archive.

    Raises:
      UserError: a layer cannot be rebuilt from Keras's layers; see `portable.rebuild`.
    """
    name = f"{source.direction}.keras"
    path = os.path.join(folder, name)
    portable.rebuild(source.network).save(path)
    if source.translator.units:
        zip_metadata.add(path, source.translator.units.to_lists())
    return [Artifact(name, "keras", largest=1e-4)]
