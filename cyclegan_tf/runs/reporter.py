"""Reports of a run in progress: TensorBoard events, metrics.jsonl and sample grids."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.images import grid
from cyclegan_tf.runs import metrics_log, sample_files
from cyclegan_tf.storage import filesystem, json_lines

# TensorBoard opens the two groups of tags whose names come first in the alphabet; these should be images/ and loss/.
_IMAGE_TAG = "images/samples"
_PREFIXES = {
    metrics_log.EPOCH: "per_epoch/",
    metrics_log.EVAL: "measures/",
    metrics_log.EVAL_OF_TRAINING: "measures_of_training_images/",
    metrics_log.FINAL: "measures_final/",
    metrics_log.FINAL_OF_TRAINING: "measures_final_of_training_images/",
    metrics_log.BASELINES: "measures_of_trivial_translations/",
}


class NullReporter:
    """The interface of `Reporter`, without effect: for workers that report nothing."""

    def rewind(self, step: int) -> None:
        """Removes the sample grids and records of steps after `step`, and the final measures."""

    def record(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Adds a record to metrics.jsonl and its values to TensorBoard."""

    def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds training values to TensorBoard only."""

    def write_sample(self, step: int, picture: grid.Picture) -> None:
        """Writes a sample grid into the run directory and to TensorBoard."""

    def sync(self) -> None:
        """Flushes metrics.jsonl to the disk."""

    def close(self) -> None:
        """Closes all files."""


class Reporter(NullReporter):
    """Writes the numbers and sample grids of a run.

    A run that resumes at step k first removes the sample grids of later steps, and their records from metrics.jsonl.
    metrics.jsonl holds only values that (seed, step) determines, so that equal runs write equal files. Speeds go to
    TensorBoard instead.

    Args:
      workdir: the run directory.
      config: the run's Config, shown in TensorBoard's text tab.
      step: number of completed steps; 0 for a new run.
    """

    def __init__(self, workdir: str, config: Config, step: int) -> None:
        self._workdir = workdir
        self._open_log(step)
        with filesystem.translate_errors(workdir):
            self._board = tf.summary.create_file_writer(workdir)
        with self._open_board(step):
            rows = [f"| {name} | {value} |" for name, value in dataclasses.asdict(config).items()]
            tf.summary.text("config", "\n".join(["| option | value |", "|---|---|", *rows]))

    @contextlib.contextmanager
    def _open_board(self, step: int) -> Iterator[None]:
        """Sends the summaries of the body to TensorBoard; raises an OSError if the events cannot be written."""
        with filesystem.translate_errors(self._workdir), self._board.as_default(step):
            yield

    def _open_log(self, step: int) -> None:
        sample_files.remove_after(self._workdir, step)
        self._log = metrics_log.open_log(
            self._workdir, lambda record: record["step"] <= step and record["kind"] not in metrics_log.FINAL_KINDS
        )

    def rewind(self, step: int) -> None:
        self._log.close()
        self._open_log(step)

    def record(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Adds {"step", "kind", **values} to metrics.jsonl and the values to TensorBoard.

        TensorBoard shows the values under the names of `make_tag`.

        Args:
          kind: one of the kinds that `metrics_log` defines.
          values: floats by name.
        """
        self._log.write(json_lines.format_line({"step": step, "kind": kind, **values}))
        if kind in metrics_log.FINAL_KINDS:
            self.sync()  # The final page is written next and reads the file.
        else:
            self._log.flush()
        self._write_scalars(step, kind, values)

    def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._write_scalars(step, metrics_log.TRAIN, values)

    def _write_scalars(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        with self._open_board(step):
            for name, value in values.items():
                if tag := make_tag(kind, name):
                    tf.summary.scalar(tag, value)

    def write_sample(self, step: int, picture: grid.Picture) -> None:
        """Writes samples/step-NNNNNN.png and shows it in TensorBoard."""
        sample_files.write(self._workdir, step, picture)
        self.sync()  # The page is written next and reads metrics.jsonl.
        with self._open_board(step):
            tf.summary.image(_IMAGE_TAG, picture.pixels[np.newaxis])

    def sync(self) -> None:
        """Flushes metrics.jsonl to the disk, so that a crash cannot lose records of steps before a checkpoint."""
        filesystem.sync(self._log)

    def close(self) -> None:
        self._log.close()
        with filesystem.translate_errors(self._workdir):
            self._board.close()


def make_tag(kind: str, name: str) -> str:
    """Returns a value's tag in TensorBoard; empty for counts and epoch numbers, which TensorBoard does not show."""
    if kind == metrics_log.TRAIN:
        return name if name.startswith(("loss/", "score/")) else f"training/{name}"
    if kind in metrics_log.COUNTS_KINDS or (kind, name) == (metrics_log.EPOCH, "epoch"):
        return ""
    return _PREFIXES[kind] + name
