"""Seeds of the random numbers that a training step draws."""

import hashlib

import tensorflow as tf


def make_step_seed(seed: int, use: str, iteration: tf.Tensor) -> tf.Tensor:
    """Returns the seed, int64 (2,), for what step `iteration` (int64 scalar) of a run with `seed` draws for one `use`.

    Different uses get unrelated numbers. A resumed run draws the numbers that the uninterrupted run would have drawn,
    because nothing but the arguments decides.
    """
    digest = hashlib.blake2b(f"{seed}/{use}".encode(), digest_size=7).digest()  # 7 bytes leave room to add numbers.
    return tf.stack([tf.constant(int.from_bytes(digest, "big"), tf.int64), tf.cast(iteration, tf.int64)])
