""".keras files."""

import os

from cyclegan_tf.exporters import portable
from cyclegan_tf.exporters.verify import Artifact


def write(source, folder):
    """FOLDER/DIRECTION.keras: float32 (N, H, W, C) -> the same; loads without this package."""
    name = f"{source.direction}.keras"
    portable.rebuild(source.network).save(os.path.join(folder, name))
    return [Artifact(name, "keras", largest=1e-4)]
