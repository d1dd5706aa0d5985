"""Losses that are NaN or infinite: the error, and the batch that goes with it."""

import math
import os

import numpy as np

from cyclegan_tf.errors import UserError
from cyclegan_tf.storage import atomic


class NotFinite(UserError):
    """A value of training step `step` is NaN or infinite."""

    def __init__(self, step, names, batch_path):
        super().__init__(
            f"step {step}: {', '.join(names)} not finite; the batch is in {batch_path}; lower --learning_rate, look at "
            "the images, or go on past them with --on_nonfinite=rollback"
        )
        self.step = step


def require_finite(step, values, batches, workdir, replicas):
    """Raises `NotFinite` where one of `values`, which all workers have alike, is; the chief writes the batch first.

    Args:
      batches: the pair of batches of each local replica; written is that of all replicas.
    """
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if not bad:
        return
    path = os.path.join(workdir, f"not-finite-step-{step:06d}.npz")
    parts = replicas.gather([{"a": np.array(a), "b": np.array(b)} for a, b in batches])
    if replicas.is_chief:
        with atomic.open_for_writing(path, "wb") as file:
            np.savez(file, **{name: np.concatenate([part[name] for part in parts]) for name in "ab"})
    raise NotFinite(step, bad, path)
