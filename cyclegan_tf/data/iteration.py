"""Iterates over a tf.data.Dataset whose threads stop when the caller is done."""

import traceback
from collections.abc import Generator
from typing import Any

import tensorflow as tf


def iterate(dataset: tf.data.Dataset) -> Generator[Any, None, None]:
    """Yields the elements of a data set; closing the generator waits for the Python functions in tf.data's threads.

    Always close the generator, for example with `contextlib.closing`. A tf.data iterator that is still open when the
    process ends can block the process forever: the iterator waits for its Python functions, which the interpreter no
    longer runs.
    """
    try:
        yield from iter(dataset)  # No variable holds the iterator, because a traceback keeps variables.
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # TensorFlow's frames refer to the iterator.
        raise
