"""Metadata in a .zip archive inside of a model file, or behind it, where programs that read the model ignore them.

A .keras file is an archive; a .tflite file may have one at its end.
"""

import io
import json
import zipfile
from typing import Any

from cyclegan_tf.storage import filesystem

NAME = "value_ranges.json"


def add(path: str, content: dict[str, Any]) -> None:
    """Adds the JSON file `NAME` to the archive of a model file, or an archive if the file has none."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(NAME, json.dumps(content))


def read(path: filesystem.PathLike) -> Any:
    """The content of the JSON file `NAME` in a model file; None if the file is missing or damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(filesystem.read_bytes(path))) as archive:
            return json.loads(archive.read(NAME))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, NotImplementedError, RecursionError):
        return None
