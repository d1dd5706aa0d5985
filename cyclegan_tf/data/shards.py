"""Data sets packed into few large files: TFRecord shards of encoded images, and an index to read them at random.

A folder of shards holds trainA-00000.tfrecord ..., and shards.json: for each part the names, lengths and CRC-32 of its
images, and how many are in each shard. A record is an image's bytes as they were, so that any reader of TFRecords can
use the files too; where it begins follows from the lengths. Unlike ArrayRecord, whose reader knows the local disk only,
they are read where TensorFlow's file systems are.
"""

import itertools
import json
import logging
import os
import zlib

import numpy as np
import tensorflow as tf

from cyclegan_tf.data.dataset import ImageList
from cyclegan_tf.errors import UserError
from cyclegan_tf.storage import atomic, filesystem

log = logging.getLogger("cyclegan_tf")

INDEX = "shards.json"
_VERSION = 1
# Of a TFRecord: length (8 bytes) and its checksum (4) before the data, the data's (4) after them.
_HEAD, _TAIL = 12, 4


def write(parts, folder, shard_bytes):
    """Packs the images of `parts` into shards and returns how many there are of each part, and how many unreadable.

    An image that cannot be read becomes an empty record, so that the others keep their numbers and what is trained on
    the shards is what would be trained on the source; it is named in the log, here and in training.

    Args:
      parts: `ImageList`s by the folders' names, trainA ...
      folder: made if it is missing; a remote one is written in place.
      shard_bytes: a shard is closed by the image that fills it.

    Raises:
      UserError: the folder is not empty, or cannot be written.
    """
    if filesystem.isdir(folder) and filesystem.listdir(folder):
        raise UserError(f"{folder} is not empty; give a new folder for the shards")
    index, n_unreadable = {"version": _VERSION, "parts": {}}, 0
    try:
        filesystem.makedirs(folder)
        for part, image_list in parts.items():
            index["parts"][part], failed = _write_part(part, image_list, folder, shard_bytes)
            n_unreadable += failed
        with atomic.open_for_writing(os.path.join(folder, INDEX)) as file:
            json.dump(index, file)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    return {part: len(entry["names"]) for part, entry in index["parts"].items()}, n_unreadable


def _write_part(part, image_list, folder, shard_bytes):
    """The part's entry of the index, and the number of its images that cannot be read."""
    entry, n_unreadable = {"names": list(image_list.names), "lengths": [], "crc32": [], "shards": []}, 0
    indices = iter(range(len(image_list)))
    for number in itertools.count():
        first = next(indices, None)
        if first is None:
            return entry, n_unreadable
        path, start, filled = _path(folder, part, number), len(entry["lengths"]), 0
        with filesystem.translate_errors(path), tf.io.TFRecordWriter(path) as writer:
            for index in itertools.chain([first], indices):
                try:
                    data = image_list.read(index)
                except OSError as error:
                    log.warning("%s cannot be read: %s", image_list.path(index), error.strerror or error)
                    data, n_unreadable = b"", n_unreadable + 1
                writer.write(data)
                entry["lengths"].append(len(data))
                entry["crc32"].append(zlib.crc32(data))
                filled += _HEAD + len(data) + _TAIL
                if filled >= shard_bytes:
                    break
        entry["shards"].append(len(entry["lengths"]) - start)


def _path(folder, part, number):
    return os.path.join(folder, f"{part}-{number:05d}.tfrecord")


def has_shards(folder):
    """Whether `folder` holds shards."""
    return filesystem.exists(os.path.join(folder, INDEX))


def open_parts(folder):
    """The `ImageList`s in a folder of shards, by the names of its parts.

    Raises:
      UserError: the index is damaged, or a shard is missing or has another size than the index says.
    """
    path = os.path.join(folder, INDEX)
    try:
        with filesystem.open_for_reading(path) as file:
            index = json.load(file)
        if index["version"] != _VERSION:
            raise UserError(f"{path} is of version {index['version']}, which this version of the package does not know")
        return {part: _open_part(folder, part, **entry) for part, entry in index["parts"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); pack the shards again") from error


def _open_part(folder, part, names, lengths, crc32, shards):
    if not len(names) == len(lengths) == len(crc32) == sum(shards):
        raise ValueError(f"{part} has unequal counts")
    # NumPy keeps a million of each small.
    lengths, crc32 = np.array(lengths, np.int64), np.array(crc32, np.uint32)
    ends = np.cumsum(lengths + (_HEAD + _TAIL))
    firsts = np.cumsum([0, *shards])
    begins = np.concatenate([[0], ends])[firsts[:-1]]
    paths = [_path(folder, part, number) for number in range(len(shards))]
    for path, begin, last in zip(paths, begins, firsts[1:], strict=True):
        _require_size(path, ends[last - 1] - begin)

    def read(index):
        shard = np.searchsorted(firsts, index, side="right") - 1
        path, length = paths[shard], int(lengths[index])
        # Opened anew: no number of shards is too large, and threads share nothing.
        try:
            data = filesystem.read_bytes(path, int(ends[index] - begins[shard]) - _TAIL - length, length)
        except OSError as error:
            raise OSError(f"cannot be read from {path}: {error.strerror or error}") from error
        if zlib.crc32(data) != crc32[index]:
            raise OSError(f"damaged in {path}: copy or pack the shards again")
        return data

    return ImageList(os.path.join(folder, part), names, read)


def _require_size(path, expected):
    if not filesystem.exists(path):
        raise UserError(f"{path} is missing; copy it there again, or pack the shards again")
    size = filesystem.size(path)
    if size != expected:
        raise UserError(f"{path} is damaged: it has {size} bytes in place of {expected}; copy or pack the shards again")
