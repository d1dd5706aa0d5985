"""Data sets packed into a few large files: TFRecord shards of encoded images, with an index for random access.

A folder of shards holds trainA-00000.tfrecord and so on, and shards.json: for each part the names, lengths and CRC-32
of its images, and the number of images in each shard. A record is the unchanged content of an image file, so that any
TFRecord reader can use the shards too. The lengths determine where each record begins. ArrayRecord has random access
too, but its reader opens only local files, while shards can be on any of TensorFlow's file systems.
"""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from cyclegan_tf.data import inspection, slices
from cyclegan_tf.data.bad_images import BadImages
from cyclegan_tf.data.dataset import ImageList
from cyclegan_tf.errors import UserError, describe_error
from cyclegan_tf.images.stacks import StackOptions
from cyclegan_tf.storage import atomic, filesystem

INDEX = "shards.json"
_SUFFIX = ".tfrecord"
_VERSION = 1
# A TFRecord has a length (8 bytes) and its checksum (4) before the data, and the data's checksum (4) after.
_HEAD, _TAIL = 12, 4
_MOST_BYTES = 2**36  # No image is larger. Sums of the lengths of a hundred million images cannot overflow.
_BLOCK = 64  # Images that are checked at the same time.


def write(
    parts: Mapping[str, ImageList], folder: str, shard_bytes: int, bad: BadImages | None = None
) -> dict[str, int]:
    """Packs the images of `parts` into shards.

    Bad images are packed too, and an unreadable image becomes an empty record. The other images therefore keep their
    numbers, and training on the shards sees the same batches as training on the source.

    Args:
      parts: lists by folder name, such as trainA.
      folder: created if missing; may be on a remote file system.
      shard_bytes: a shard ends with the image that makes it at least this large.
      bad: records the images that cannot be read or decoded; by default, such images are only logged.

    Returns:
      The number of images of each part, including bad ones.

    Raises:
      UserError: the folder is not empty, has a name that is not UTF-8, or cannot be written, or an image is bad and
        `bad.stop` is set. All files that were written are removed.
    """
    try:
        folder.encode()
    except UnicodeEncodeError as error:  # TFRecordWriter takes names in UTF-8.
        raise UserError(f"{folder}: the name is not valid UTF-8; give another folder") from error
    if filesystem.isdir(folder) and (has_shards(folder) or filesystem.listdir(folder)):
        raise UserError(f"{folder} is not empty; give a new folder for the shards")
    entries: dict[str, dict[str, list]] = {}
    bad = BadImages() if bad is None else bad
    try:
        filesystem.makedirs(folder)
        for part, image_list in parts.items():
            entries[part] = _write_part(part, dataclasses.replace(image_list, bad=bad, half=""), folder, shard_bytes)
        with atomic.open_for_writing(os.path.join(folder, INDEX)) as file:
            json.dump({"version": _VERSION, "parts": entries}, file)
    except OSError as error:
        _remove_files(folder)
        raise UserError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    except BaseException:
        _remove_files(folder)
        raise
    return {part: len(entry["names"]) for part, entry in entries.items()}


def _remove_files(folder: str) -> None:
    """Empties a folder of unfinished shards, so that another attempt finds an empty folder."""
    with contextlib.suppress(OSError):
        for name in filesystem.listdir(folder):
            filesystem.remove(os.path.join(folder, name))


def _write_part(part: str, image_list: ImageList, folder: str, shard_bytes: int) -> dict[str, list]:
    """Writes the shards of one part; returns its entry in the index."""
    entry: dict[str, list] = {"names": list(image_list.names), "lengths": [], "crc32": [], "shards": []}
    contents = _read_checked(image_list)
    for number in itertools.count():
        first = next(contents, None)
        if first is None:
            break
        path, start, filled = _make_path(folder, part, number), len(entry["lengths"]), 0
        with filesystem.translate_errors(path), tf.io.TFRecordWriter(path) as writer:
            for data in itertools.chain([first], contents):
                writer.write(data)
                entry["lengths"].append(len(data))
                entry["crc32"].append(zlib.crc32(data))
                filled += _HEAD + len(data) + _TAIL
                if filled >= shard_bytes:
                    break
        entry["shards"].append(len(entry["lengths"]) - start)
    return entry


def _read_checked(image_list: ImageList) -> Iterator[bytes]:
    """Yields the encoded images of a list, b"" for an unreadable image; records bad images."""

    def read(index: int) -> bytes:
        try:
            data = image_list.read(index)
        except OSError as error:
            image_list.bad.add(image_list.path(index), describe_error(error))
            return b""
        _check(image_list, index, data)
        return data

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        # Read blocks, because all images of a block are in memory at the same time.
        for start in range(0, len(image_list), _BLOCK):
            yield from pool.map(read, range(start, min(start + _BLOCK, len(image_list))))


def _check(image_list: ImageList, index: int, data: bytes) -> None:
    """Decodes image `index`, whose file is `data`, with all its slices; records damage."""
    one = dataclasses.replace(
        image_list.subset([index]), channels=inspection.count_channels(data), read=lambda index: data, open_file=None
    )
    # Training reads a file in units if its domain has a range, and as pictures otherwise; a palette is only a picture.
    errors = []
    for in_units in True, False:
        # One volume of a 4-D file stands for the others, because training chooses the volume.
        found = slices.expand(one, StackOptions(one.channels, in_units=in_units, volume=1))
        read = found.read_values if in_units else found.decode
        try:
            for number in range(len(found)):
                read(number)
            return
        except (ValueError, OSError) as error:
            errors.append(describe_error(error))
    one.bad.add(image_list.path(index), errors[0])


def _make_path(folder: str, part: str, number: int) -> str:
    return os.path.join(folder, f"{part}-{number:05d}{_SUFFIX}")


def has_shards(folder: str) -> bool:
    """True if `folder` holds shards.

    Raises:
      UserError: the folder holds shards without their index.
    """
    if filesystem.exists(os.path.join(folder, INDEX)):
        return True
    names: list[str] = []
    with contextlib.suppress(OSError):  # Listing the images reports the reason.
        names = filesystem.listdir(folder)
    if any(name.endswith(_SUFFIX) for name in names):
        raise UserError(f"{folder} holds shards without {INDEX}; copy this file, too, or, if the packing was "
                        "interrupted, remove the folder and pack again")
    return False


def open_parts(folder: str) -> dict[str, ImageList]:
    """Opens the lists in a folder of shards, by the names of the packed folders (trainA and so on).

    Raises:
      UserError: the index is damaged, or a shard is missing or has the wrong size.
    """
    path = os.path.join(folder, INDEX)
    try:
        index = json.loads(filesystem.read_bytes(path).decode())
        if index["version"] != _VERSION:
            raise UserError(f"{path} has the unknown version {index['version']!r}; pack the shards again with this "
                            "version of cyclegan_tf")
        return {part: _open_part(folder, part, **entry) for part, entry in index["parts"].items()}
    # The types of the values are not known before `_open_part`; deeply nested JSON raises RecursionError.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); pack the shards again") from error


def _open_part(folder: str, part: str, names: Any, lengths: Any, crc32: Any, shards: Any) -> ImageList:
    if not all(isinstance(values, list) for values in (names, lengths, crc32, shards)):
        raise TypeError(f"{part} has no lists")
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{part} has a name that is not text")
    for what, values, least, most in (
        ("length", lengths, 0, _MOST_BYTES), ("CRC-32", crc32, 0, 2**32 - 1), ("size", shards, 1, len(names))
    ):
        # `type`, because JSON's true is an int too.
        if wrong := [value for value in values if type(value) is not int or not least <= value <= most]:
            raise ValueError(f"{part} has the impossible {what} {wrong[0]!r}")
    if not len(names) == len(lengths) == len(crc32) == sum(shards):
        raise ValueError(f"{part} has unequal counts")
    # Arrays, because a million Python integers would take much more memory.
    lengths, crc32 = np.array(lengths, np.int64), np.array(crc32, np.uint32)
    ends = np.cumsum(lengths + (_HEAD + _TAIL))
    firsts = np.cumsum([0, *shards])
    begins = np.concatenate([[0], ends])[firsts[:-1]]
    paths = [_make_path(folder, part, number) for number in range(len(shards))]
    for path, begin, last in zip(paths, begins, firsts[1:], strict=True):
        _require_size(path, ends[last - 1] - begin)

    def read(index: int) -> bytes:
        shard = int(np.searchsorted(firsts, index, side="right")) - 1
        path, length = paths[shard], int(lengths[index])
        # Open the file for each image, so that threads share no state and the number of open files is bounded.
        try:
            data = filesystem.read_bytes(path, int(ends[index] - begins[shard]) - _TAIL - length, length)
        except OSError as error:
            raise OSError(f"cannot be read from {path}: {describe_error(error)}") from error
        if zlib.crc32(data) != crc32[index]:
            raise OSError(f"damaged in {path}: copy or pack the shards again")
        return data

    return ImageList(os.path.join(folder, part), names, read)


def _require_size(path: str, expected: int) -> None:
    if not filesystem.exists(path):
        raise UserError(f"{path} is missing; copy the file again, or pack the shards again")
    size = filesystem.getsize(path)
    if size != expected:
        raise UserError(f"{path} is damaged: it has {size} bytes instead of {expected}; copy or pack the shards again")
