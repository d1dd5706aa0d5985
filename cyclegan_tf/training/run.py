"""`Run`: the options, images, replicas and model that all parts of a training run share."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator

from cyclegan_tf.config import Config
from cyclegan_tf.data import pipeline
from cyclegan_tf.data.dataset import ImageDataset
from cyclegan_tf.errors import UserError
from cyclegan_tf.models.base import Model
from cyclegan_tf.runs import checkpoints, model_state
from cyclegan_tf.runs.model_state import Progress
from cyclegan_tf.training import cadence
from cyclegan_tf.training.distribution import Batch, Replicas


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready to train. `Progress` holds the step and the other numbers that change during a run.

    Attributes:
      config: the options, with measured ranges of values.
      workdir: the run directory.
      dataset: the training images and the held-out images.
      replicas: the replicas of the model.
      model: the networks, optimizers and image pools of this worker's replicas.
    """

    config: Config
    workdir: str
    dataset: ImageDataset
    replicas: Replicas
    model: Model

    @property
    def checkpoint_folder(self) -> str:
        """The folder of the run's checkpoints."""
        return os.path.join(self.workdir, "checkpoints")

    def plan(self) -> cadence.Cadence:
        """Computes the length of the run and the intervals between its tasks from its options."""
        images_per_epoch = self.dataset.count_images_per_epoch(self.config, self.replicas.count)
        return cadence.plan_run(self.config, images_per_epoch, self.replicas.count)

    @contextlib.contextmanager
    def open_batches(self, first_step: int, end_step: int) -> Iterator[Iterator[list[Batch]]]:
        """Loads the batches of steps first_step to end_step - 1, counted from 0; stops loading after the body.

        Yields:
          An iterator with a list for each step: the batch of each replica of this worker. The iterator raises the
          errors of `pipeline.read_batches`, and a UserError if a tf.data.Dataset ends before the run.
        """
        local = self.replicas.local
        stream, loaders = pipeline.make_batches(
            self.dataset, self.config, first_step, end_step, local, self.replicas.count
        )
        with contextlib.closing(pipeline.read_batches(stream, loaders)) as batches:
            yield (_take(batches, len(local)) for _ in range(first_step, end_step))

    def restore_newest(self) -> tuple[str, Progress] | None:
        """Restores the model from the newest checkpoint; returns its path and progress, or None without one.

        Raises:
          UserError: the checkpoint does not fit the run; see `model_state.restore`.
        """
        found = checkpoints.read_newest(self.checkpoint_folder)
        if found is None:
            return None
        path, arrays = found
        return path, model_state.restore(self.model, arrays, path, self.replicas.local, self.replicas.count)


def _take(batches: Iterator[Batch], count: int) -> list[Batch]:
    """Returns the next `count` batches."""
    try:
        return [next(batches) for _ in range(count)]
    except StopIteration:
        raise UserError("the tf.data.Dataset has ended before the run; give a data set that can be iterated more "
                        "than once") from None
