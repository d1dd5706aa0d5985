"""Seeds of the random numbers that a training step draws."""

import hashlib

import tensorflow as tf


def make_step_seed(seed: int, use: str, iteration: tf.Tensor) -> tf.Tensor:
    """Returns the seed, int64 (2,), of the random numbers that one step of a run draws for one `use`.

    A resumed run draws the numbers that the uninterrupted run would have drawn, because the seed depends only on the
    arguments.

    Args:
      seed: seed of the run.
      use: name of a purpose, such as "dropout"; different uses get unrelated numbers.
      iteration: number of past generator updates, int64 scalar. A step that loss scaling skips does not count.
    """
    digest = hashlib.blake2b(f"{seed}/{use}".encode(), digest_size=7).digest()  # 7 bytes leave room to add numbers.
    return tf.stack([tf.constant(int.from_bytes(digest, "big"), tf.int64), tf.cast(iteration, tf.int64)])
