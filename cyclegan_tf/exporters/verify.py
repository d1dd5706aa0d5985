"""Runs an exported generator in its own runtime, in a fresh process, and compares its images with the package's."""

import dataclasses
import logging
import os
import subprocess
import sys
import tempfile

import numpy as np

from cyclegan_tf.errors import UserError

log = logging.getLogger("cyclegan_tf")

RUNNER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "runner.py")
_REPEATS = 7


@dataclasses.dataclass(frozen=True)
class Artifact:
    """One exported file or folder, and how far its images may be from the package's.

    Attributes:
      name: inside the output folder.
      runtime: the one of `runner.py` that runs it.
      largest: the largest difference of a pixel allowed, in units of the range [-1, 1].
      mean: the largest mean difference allowed, in the same units.
    """

    name: str
    runtime: str
    largest: float
    mean: float = float("inf")


@dataclasses.dataclass(frozen=True)
class Result:
    """What a check measured; differences in units of the range [-1, 1], latency by number of threads (0: default)."""

    artifact: Artifact
    size_bytes: int
    largest: float
    mean: float
    milliseconds: dict
    image_size: tuple

    def __str__(self):
        threads = {0: "", 1: " with 1 thread", 2: " with 2 threads"}
        times = ", ".join(f"{value:.1f} ms{threads[n]}" for n, value in self.milliseconds.items())
        return (f"{self.artifact.name}: {self.size_bytes / 1e6:.2f} MB ({self.size_bytes} bytes), largest difference "
                f"{self.largest:.2g} (bound {self.artifact.largest:.2g}), mean {self.mean:.2g}; {times} at "
                f"{self.image_size[0]}x{self.image_size[1]}")


def check(artifact, folder, source):
    """The `Result` of an artifact in `folder`.

    Raises:
      UserError: it does not run in its runtime, or its images are further from the package's than its bounds.
    """
    images, expected = zip(*source.check_pairs, strict=True)
    path = os.path.join(folder, artifact.name)
    outputs = run(artifact.runtime, path, images)
    given = [outputs[f"image{i}"] for i in range(len(images))]
    for ours, theirs in zip(expected, given, strict=True):
        if theirs.shape != ours.shape:
            raise UserError(f"{artifact.name} gives images of shape {theirs.shape}, not {ours.shape}: nothing was "
                            "written")
    differences = [np.abs(theirs - ours) for ours, theirs in zip(expected, given, strict=True)]
    # Whatever the bounds, an image of one color must not pass for one with contrast.
    flat = float(np.mean([np.mean(np.abs(ours - np.median(ours))) for ours in expected]))
    times = {n: float(outputs[f"milliseconds_{n}"]) for n in (0, 1, 2) if f"milliseconds_{n}" in outputs}
    # A NaN anywhere is the largest.
    largest, mean = (float(np.max([measure(d) for d in differences])) for measure in (np.max, np.mean))
    result = Result(artifact, _bytes(path), largest, mean, times, images[0].shape[1:3])
    mean_bound = min(artifact.mean, max(0.9 * flat, 1e-4))
    if not (largest <= artifact.largest and mean <= mean_bound):
        bound = f"{artifact.largest:.2g} and mean {mean_bound:.2g}"
        raise UserError(f"{artifact.name} gives other images in its own runtime: largest difference {largest:.3g}, "
                        f"mean {mean:.3g}, where {bound} is allowed; nothing was written")
    log.info("%s", result)
    return result


def run(runtime, path, images):
    """Arrays image0 ... and milliseconds_N of an exported generator in a fresh process; see `runner.py`.

    Raises:
      UserError: the runtime does not run it; with the last line that it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = os.path.join(folder, "inputs.npz"), os.path.join(folder, "outputs.npz")
        np.savez(inputs, **{f"image{i}": image for i, image in enumerate(images)})
        child = subprocess.run(
            [sys.executable, RUNNER, runtime, path, inputs, outputs, str(_REPEATS)],
            capture_output=True, text=True, errors="replace", check=False,
            # The runner's neighbours are no modules of anyone else's.
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        if child.returncode:
            lines = child.stderr.strip().splitlines() or [f"exit status {child.returncode}"]
            raise UserError(f"{os.path.basename(path)} does not run in its own runtime ({runtime}): {lines[-1]}")
        return dict(np.load(outputs))


def _bytes(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(parent, name)) for parent, _, names in os.walk(path) for name in names)
