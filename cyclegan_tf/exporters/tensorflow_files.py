"""SavedModel and .keras files."""

import os

from cyclegan_tf import saved_model
from cyclegan_tf.exporters import portable
from cyclegan_tf.exporters.check import Artifact


def write_saved_model(source, folder):
    """FOLDER/DIRECTION, with the signatures of `saved_model.export`; any size."""
    saved_model.export({source.direction: source.translator}, folder)
    return [Artifact(source.direction, "saved_model", largest=1e-4)]


def write_keras(source, folder):
    """FOLDER/DIRECTION.keras: float32 (N, H, W, C) -> the same; loads without this package."""
    name = f"{source.direction}.keras"
    portable.rebuild(source.network).save(os.path.join(folder, name))
    return [Artifact(name, "keras", largest=1e-4)]
