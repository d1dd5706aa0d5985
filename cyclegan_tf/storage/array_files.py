"""Files of named arrays: NumPy's .npz archives, written atomically and verified when they are read.

np.load trusts the headers in an archive: it allocates any shape that a header names, and verifies the checksum of an
array only if it happens to read all of its bytes. `read` reads each member whole, which verifies its CRC-32, before it
looks at the header of the array.
"""

import io
import math
import os
import zipfile
from collections.abc import Mapping
from typing import IO

import numpy as np

from cyclegan_tf.storage import atomic, filesystem, zip_files
from cyclegan_tf.storage.zip_files import DamagedFileError

# The beginning of a .npy file.
SIGNATURE = b"\x93NUMPY"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def write(path: filesystem.PathLike, arrays: Mapping[str, np.ndarray], durable: bool = False) -> None:
    """Writes arrays by name as an uncompressed .npz archive, atomically.

    Args:
      durable: as for `atomic.open_for_writing`.
    """
    # The same format as np.savez writes; np.savez leaves the archive open after an error.
    with atomic.open_for_writing(path, "wb", durable) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read(path: filesystem.PathLike) -> dict[str, np.ndarray]:
    """All arrays of an .npz archive that `write` or np.savez wrote, by name.

    Raises:
      DamagedFileError: any part of the file is damaged.
      OSError: the file is missing or cannot be read.
    """
    with filesystem.open_for_reading(path) as file, zip_files.translate_errors():
        return _read_members(file)


def _read_members(file: IO[bytes]) -> dict[str, np.ndarray]:
    size = file.seek(0, os.SEEK_END)
    arrays: dict[str, np.ndarray] = {}
    with zip_files.open_zip(file) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in arrays:
                raise DamagedFileError(f"there are two arrays {name!r}")
            # Check the size first: zipfile would allocate whatever the directory claims.
            if member.compress_type != zipfile.ZIP_STORED or not member.file_size == member.compress_size <= size:
                raise DamagedFileError(f"the size of array {name!r} is wrong")
            try:
                arrays[name] = parse(archive.read(member))
            except DamagedFileError as error:
                raise DamagedFileError(f"array {name!r}: {error}") from error
    return arrays


def encode(array: np.ndarray) -> bytes:
    """The contents of a .npy file of an array."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def parse(data: bytes) -> np.ndarray:
    """The array in the contents of a .npy file, in this machine's byte order.

    Raises:
      DamagedFileError: the header is damaged or does not fit the length of the data, or the array holds anything but
        numbers, booleans or text.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = _HEADERS[version](file)
    except Exception as error:  # NumPy parses the header as Python, which may raise MemoryError or RecursionError.
        raise DamagedFileError("the header is damaged") from error
    if dtype.kind not in "biufU":
        raise DamagedFileError(f"the type {dtype} is not supported")
    expected, found = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if min(shape, default=0) < 0 or expected != found:
        raise DamagedFileError(f"shape {shape} of {dtype} does not fit {found} bytes")
    file.seek(0)
    with zip_files.translate_errors():
        return to_native(np.lib.format.read_array(file, allow_pickle=False))


def to_native(array: np.ndarray) -> np.ndarray:
    """Converts an array to this machine's byte order, because types such as np.uint16 equal only native types.

    Files of astronomy and old instruments are big-endian.
    """
    return array.astype(array.dtype.newbyteorder("="), copy=False)
