"""The length of a run in steps and epochs, and which tasks are due after each step, as pure functions."""

import dataclasses

from cyclegan_tf.config import Config
from cyclegan_tf.data import pipeline


@dataclasses.dataclass(frozen=True)
class DueTasks:
    """The tasks that are due after one step.

    Attributes:
      evaluate: measure the held-out images.
      log: write the losses to metrics.jsonl and TensorBoard.
      end_epoch: write the means of the epoch; at least one epoch ended with the step.
      sample: draw a sample grid.
      checkpoint: write a checkpoint.
    """

    evaluate: bool
    log: bool
    end_epoch: bool
    sample: bool
    checkpoint: bool

    @property
    def need_weights(self) -> bool:
        """Whether a task reads the weights, so no later step may update them first."""
        return self.evaluate or self.sample or self.checkpoint


@dataclasses.dataclass(frozen=True)
class Cadence:
    """The length of a run and the intervals between its tasks.

    Attributes:
      config: its --*_every and --*_epochs options set the intervals.
      images_per_step: images of each domain in a step, over all replicas.
      images_per_epoch: images in the larger domain.
      n_steps: number of the last step; steps are numbered from 1.
    """

    config: Config
    images_per_step: int
    images_per_epoch: int
    n_steps: int

    def count_epochs(self, steps_done: int) -> int:
        """Counts the whole epochs in `steps_done` steps."""
        return steps_done * self.images_per_step // self.images_per_epoch

    def list_due(self, step: int) -> DueTasks:
        """Lists the tasks that are due after `step`; after the last step, all except the end of an unfinished epoch.

        With --eval_every=0, `evaluate` is never due, because each run measures the held-out images at its end anyway.
        """
        config = self.config
        return DueTasks(
            evaluate=config.eval_every > 0 and self.is_due(step, config.eval_every),
            log=self.is_due(step, config.log_every),
            end_epoch=self.count_epochs(step) > self.count_epochs(step - 1),
            sample=self.is_due(step, config.sample_every, config.sample_epochs),
            checkpoint=self.is_due(step, config.checkpoint_every, config.checkpoint_epochs),
        )

    def is_due(self, step: int, every: int, epochs: int = 0) -> bool:
        """True after every `every` steps, after the step that ends every `epochs` epochs, and after the last step.

        0 disables `every` or `epochs`.
        """
        if step == self.n_steps or (every > 0 and step % every == 0):
            return True
        # One step of a large batch may end several epochs.
        return epochs > 0 and self.count_epochs(step) // epochs > self.count_epochs(step - 1) // epochs


def plan_run(config: Config, images_per_epoch: int, n_replicas: int = 1) -> Cadence:
    """Returns the `Cadence` of a run: --max_steps steps if the option is set, else n_epochs + n_epochs_decay epochs."""
    images_per_step = config.batch_size * n_replicas
    n_epochs = config.n_epochs + config.n_epochs_decay
    n_steps = config.max_steps or pipeline.count_steps(n_epochs, images_per_epoch, images_per_step)
    return Cadence(config, images_per_step, images_per_epoch, n_steps)


def is_out_of_patience(config: Config, stale: int) -> bool:
    """True if --patience ends the run after `stale` evaluations in a row without a better value of --keep_best."""
    return 0 < config.patience <= stale
