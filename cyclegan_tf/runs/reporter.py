"""What a run reports: TensorBoard events, metrics.jsonl, and sample grids."""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from cyclegan_tf.images import codec
from cyclegan_tf.runs import metrics_log
from cyclegan_tf.storage import atomic, filesystem


class Reporter:
    """Writes a run's numbers and pictures; opened again at step k, it forgets what was reported after k.

    metrics.jsonl holds only what (seed, step) determines, so that two equal runs write equal files; speeds and times go
    to TensorBoard.

    Args:
      workdir: the run directory.
      config: its Config, shown in TensorBoard's text tab.
      step: the step that the run goes on from; 0 for a new one.
    """

    def __init__(self, workdir, config, step):
        self._workdir = workdir
        self._file = None
        self.rewind(step)
        self._samples = os.path.join(workdir, "samples")
        filesystem.makedirs(self._samples)
        self._board = tf.summary.create_file_writer(workdir)
        with self._board.as_default(step):
            rows = [f"| {name} | {value} |" for name, value in dataclasses.asdict(config).items()]
            tf.summary.text("config", "\n".join(["| option | value |", "|---|---|", *rows]))

    def rewind(self, step):
        """Forgets the records of later steps, and the final measures."""
        if self._file:
            self._file.close()
        self._file = metrics_log.open_log(
            self._workdir, lambda record: record["step"] <= step and record["kind"] != "test"
        )

    def record(self, step, kind, values):
        """Adds a line {"step", "kind", **values} to metrics.jsonl and the values to TensorBoard as KIND scalars.

        Args:
          kind: "train", "epoch", "eval" or "test".
          values: floats by name.
        """
        self._file.write(metrics_log.format_record({"step": step, "kind": kind, **values}))
        if kind == "test":
            self.sync()  # The run's last page, which comes next, reads the file.
        else:
            self._file.flush()
        self.write_scalars(step, values if kind == "train" else {f"{kind}/{name}": v for name, v in values.items()})

    def write_scalars(self, step, values):
        """TensorBoard scalars only."""
        with self._board.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def write_sample(self, step, grid):
        """Writes samples/step-NNNNNN.png and shows it in TensorBoard; `grid` is uint8 (H, W, 3)."""
        path = os.path.join(self._samples, f"step-{step:06d}.png")
        with atomic.open_for_writing(path, "wb") as file:
            file.write(codec.encode_png(grid))
        self.sync()  # As the last record: for the page that shows the sample.
        with self._board.as_default(step):
            tf.summary.image("samples", grid[np.newaxis])

    def sync(self):
        """Makes the records durable: a checkpoint must not survive a crash that they do not."""
        filesystem.sync(self._file)

    def close(self):
        self._file.close()
        self._board.close()


class Silent:
    """Stands for a `Reporter` or a checkpoint writer on workers that write nothing: every method does nothing."""

    def __getattr__(self, name):
        return lambda *arguments: None


class RunningMeans:
    """Means of named values over the steps of an epoch, kept as sums that a checkpoint can hold."""

    def __init__(self, sums=None):
        self.sums = dict(sums or {})

    def add(self, values):
        for name, value in {**values, "count": 1.0}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self):
        """The means so far; starts again."""
        count = self.sums.pop("count", 1.0)
        means = {name: value / count for name, value in self.sums.items()}
        self.sums = {}
        return means
