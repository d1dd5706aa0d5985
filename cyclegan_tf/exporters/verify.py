"""Runs an exported generator in its own runtime, in a new process, and compares its images with the run's."""

import dataclasses
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters.source import Source

log = logging.getLogger("cyclegan_tf")

_RUNNER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "runner.py")
_REPEATS = 7
_ALTERNATIVE = "choose another --format, or another --precision of tflite"


@dataclasses.dataclass(frozen=True)
class Artifact:
    """An exported file or folder, and the bounds for its differences from the run's images.

    Attributes:
      name: name inside the output folder.
      runtime: the runtime of `runner.py` that runs it.
      largest: bound for the largest difference of a pixel, in units of the range [-1, 1].
      mean: bound for the mean difference, in the same units.
    """

    name: str
    runtime: str
    largest: float
    mean: float = float("inf")


@dataclasses.dataclass(frozen=True)
class Result:
    """The measurements of a check.

    Attributes:
      artifact: the checked file or folder.
      size_bytes: its size on the disk.
      largest, mean: differences from the run's images, in units of the range [-1, 1].
      milliseconds: {number of threads: latency}; 0 stands for the runtime's default number.
      image_size: (height, width) of the image that gave the latency.
    """

    artifact: Artifact
    size_bytes: int
    largest: float
    mean: float
    milliseconds: dict[int, float]
    image_size: tuple[int, int]

    def __str__(self) -> str:
        threads = {0: "", 1: " with 1 thread", 2: " with 2 threads"}
        times = ", ".join(f"{value:.1f} ms{threads[n]}" for n, value in self.milliseconds.items())
        return (f"{self.artifact.name}: {self.size_bytes / 1e6:.2f} MB ({self.size_bytes} bytes), largest difference "
                f"{self.largest:.2g} (bound {self.artifact.largest:.2g}), mean {self.mean:.2g}; {times} at "
                f"{self.image_size[0]}x{self.image_size[1]}")


def check(artifact: Artifact, folder: str, source: Source) -> Result:
    """Runs an artifact in `folder` on the check images of `source`, logs the result and returns it.

    Raises:
      UserError: the artifact does not run in its runtime, or its images differ by more than its bounds.
    """
    images, expected = zip(*source.check_pairs, strict=True)
    path = os.path.join(folder, artifact.name)
    outputs = run(artifact.runtime, path, images)
    given = [outputs[f"image{i}"] for i in range(len(images))]
    for ours, theirs in zip(expected, given, strict=True):
        if theirs.shape != ours.shape:
            raise UserError(f"{artifact.name} returns images of shape {theirs.shape}; expected {ours.shape}. Nothing "
                            f"was written; {_ALTERNATIVE}")
    differences = [np.abs(theirs - ours) for ours, theirs in zip(expected, given, strict=True)]
    # Mean difference of an image of one color, which must fail however wide the bounds are.
    flat = float(np.mean([np.mean(np.abs(ours - np.median(ours))) for ours in expected]))
    times = {n: float(outputs[f"milliseconds_{n}"]) for n in (0, 1, 2) if f"milliseconds_{n}" in outputs}
    # np.max and np.mean propagate NaN, which then fails the comparison below.
    largest, mean = (float(np.max([measure(d) for d in differences])) for measure in (np.max, np.mean))
    result = Result(artifact, _count_bytes(path), largest, mean, times, images[0].shape[1:3])
    mean_bound = min(artifact.mean, max(0.9 * flat, 1e-4))
    if not (largest <= artifact.largest and mean <= mean_bound):
        bound = f"{artifact.largest:.2g} and mean {mean_bound:.2g}"
        raise UserError(f"{artifact.name} does not match the generator's images: largest difference {largest:.3g}, "
                        f"mean {mean:.3g}; at most {bound} are allowed. Nothing was written; {_ALTERNATIVE}")
    log.info("%s", result)
    return result


def run(runtime: str, path: str, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Runs an exported generator in a new process; returns the arrays image0, image1 ... and milliseconds_N.

    See `runner.py`.

    Raises:
      UserError: the runtime fails; the message ends with the last line of its output.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = os.path.join(folder, "inputs.npz"), os.path.join(folder, "outputs.npz")
        arrays = {f"image{i}": image for i, image in enumerate(images)}
        np.savez(inputs, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes any keyword for allow_pickle.
        child = subprocess.run(
            [sys.executable, _RUNNER, runtime, path, inputs, outputs, str(_REPEATS)],
            capture_output=True, text=True, errors="replace", check=False,
            # Keep the runner's folder off sys.path: its files have the names of packages. Hide GPUs, which may compute
            # convolutions in TensorFloat-32.
            env={**os.environ, "PYTHONSAFEPATH": "1", "CUDA_VISIBLE_DEVICES": "-1"},
        )
        if child.returncode:
            lines = child.stderr.strip().splitlines() or [f"exit status {child.returncode}"]
            raise UserError(f"{os.path.basename(path)} does not run in its own runtime ({runtime}): {lines[-1]}; "
                            f"{_ALTERNATIVE}")
        return dict(np.load(outputs))


def _count_bytes(path: str) -> int:
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(parent, name)) for parent, _, names in os.walk(path) for name in names)
