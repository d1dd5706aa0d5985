"""Remote files for tests, on TensorFlow's ram://, a file system in the memory of the process."""

import io
import os

import tensorflow as tf

from cyclegan_tf.storage import filesystem


def read(path) -> bytes:
    """The content of a remote file, as TensorFlow reads it."""
    with tf.io.gfile.GFile(str(path), "rb") as file:
        return file.read()


def store(path, data):
    """Writes a remote file and creates its folder: ram:// lists only folders that were created."""
    tf.io.gfile.makedirs(os.path.dirname(path))
    filesystem.upload(path, io.BytesIO(data))


class Killed(BaseException):
    """Ends a run or a write as a kill does: `except Exception` does not catch this exception."""
