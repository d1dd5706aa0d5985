"""Losses that are NaN or infinite: the error, and a file with the batch that caused them."""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from cyclegan_tf.config.direction import DOMAINS
from cyclegan_tf.errors import UserError
from cyclegan_tf.storage import array_files
from cyclegan_tf.training.distribution import Batch
from cyclegan_tf.training.workers import Workers

ADVICE = "start a new run with a lower --learning_rate, or check the images of the batch"


class NotFinite(UserError):
    """A scalar of a training step is NaN or infinite.

    Attributes:
      step: the training step.
      finding: what is not finite and which file has the batch; the message adds what to do.
    """

    def __init__(self, step: int, names: Sequence[str], batch_path: str) -> None:
        self.step = step
        self.finding = f"step {step}: values are not finite ({', '.join(names)}); the batch is in {batch_path}"
        super().__init__(f"{self.finding}; {ADVICE}, or skip such batches with --on_nonfinite=rollback")


def require_finite(
    step: int, scalars: Mapping[str, float], batches: Sequence[Batch], workdir: str, workers: Workers
) -> None:
    """Checks that all scalars of a step are finite; otherwise the chief writes the batch and all workers raise.

    The file has the arrays `a` and `b`, or `a_0`, `a_1` and so on, one for each replica, if their images have
    different sizes.

    Args:
      scalars: by name; all workers have the same scalars, so all workers agree.
      batches: the batch of each local replica; the file holds the batches of all replicas.

    Raises:
      NotFinite: a scalar is NaN or infinite.
    """
    bad = [name for name, value in scalars.items() if not math.isfinite(value)]
    if not bad:
        return
    path = os.path.join(workdir, f"not-finite-step-{step:06d}.npz")
    parts = workers.gather([{"a": np.array(a), "b": np.array(b)} for a, b in batches])
    if workers.is_chief:
        arrays = {name: array for domain in DOMAINS for name, array in _join(domain, [part[domain] for part in parts])}
        array_files.write(path, arrays)
    raise NotFinite(step, bad, path)


def _join(name: str, arrays: Sequence[np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Returns one array of all images, or each array under a numbered name if the images have different sizes."""
    if len({array.shape[1:] for array in arrays}) == 1:
        return [(name, np.concatenate(arrays))]
    return [(f"{name}_{index}", array) for index, array in enumerate(arrays)]
