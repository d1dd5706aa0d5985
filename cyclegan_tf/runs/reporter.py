"""What a run reports: TensorBoard events, metrics.jsonl, and sample grids."""

import dataclasses
import json
import os

import numpy as np
import tensorflow as tf

from cyclegan_tf.images import codec
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
        self._path = os.path.join(workdir, "metrics.jsonl")
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
        _keep_records(self._path, lambda record: record["step"] <= step and record["kind"] != "test")
        self._file = filesystem.open_for_appending(self._path)

    def record(self, step, kind, values):
        """Adds a line {"step", "kind", **values} to metrics.jsonl and the values to TensorBoard as KIND scalars.

        Args:
          kind: "train", "epoch", "eval" or "test".
          values: floats by name.
        """
        self._file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        if kind == "test":
            self.sync()  # The run's last page, which comes next, reads the file.
        else:
            self._file.flush()
        self.scalars(step, values if kind == "train" else {f"{kind}/{name}": v for name, v in values.items()})

    def scalars(self, step, values):
        """TensorBoard scalars only."""
        with self._board.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def sample(self, step, grid):
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


def _keep_records(path, wanted):
    """Rewrites a .jsonl file with the records that are `wanted`; a line that a crash left unfinished is dropped."""
    if not filesystem.exists(path):
        return
    kept = []
    with filesystem.open_for_reading(path) as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                break
            if wanted(record):
                kept.append(line)
    with atomic.open_for_writing(path) as file:
        file.writelines(kept)


def read_records(path):
    """The records of a metrics.jsonl, a list of dicts."""
    with filesystem.open_for_reading(path) as file:
        return [json.loads(line) for line in file]


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
