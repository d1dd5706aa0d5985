"""Metadata in the .zip archive of a model file; programs that read the model ignore the metadata.

A .keras file is such an archive; a .tflite file may have one at its end.
"""

import io
import json
import zipfile
from typing import Any

from cyclegan_tf.storage import filesystem, zip_files

NAME = "value_ranges.json"


def add(path: str, content: dict[str, Any]) -> None:
    """Adds the JSON file `NAME` to the archive of a model file, or an archive if the file has none."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(NAME, json.dumps(content))


def read(path: filesystem.PathLike) -> Any:
    """The content of the JSON file `NAME` in a model file; None if the model file has no such file.

    Raises:
      DamagedFileError: the archive or the JSON file is damaged.
      OSError: the model file cannot be read.
    """
    data = filesystem.read_bytes(path)
    file = io.BytesIO(data)
    if not zipfile.is_zipfile(file):
        if NAME.encode() in data:
            raise zip_files.DamagedFileError("the file is cut off")
        return None
    with zip_files.translate_errors(), zip_files.open_zip(file) as archive:
        return json.loads(archive.read(NAME)) if NAME in archive.namelist() else None
