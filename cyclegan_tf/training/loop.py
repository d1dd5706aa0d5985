"""The training loop: queues steps, reads their losses, does the tasks that are due, and stops or rolls back."""

import contextlib
import dataclasses
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from cyclegan_tf.errors import Stopped, UserError
from cyclegan_tf.metrics import measures
from cyclegan_tf.ops import exhaustion, hardware
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.runs.model_state import Progress
from cyclegan_tf.training import cadence, memory_remedies, schedules
from cyclegan_tf.training.distribution import Batch
from cyclegan_tf.training.nonfinite import ADVICE, NotFinite, require_finite
from cyclegan_tf.training.outputs import RunOutputs
from cyclegan_tf.training.progress import Display, open_display
from cyclegan_tf.training.run import Run
from cyclegan_tf.training.running_means import RunningMeans
from cyclegan_tf.training.signals import GetSignal

log = logging.getLogger("cyclegan_tf")

# The most rollbacks to one checkpoint. If so many rollbacks fail, the data are not the cause.
_MAX_ROLLBACKS = 5


class QueuedStep(NamedTuple):
    """A step that the device may still be computing.

    Attributes:
      step: number of the step, from 1.
      batches: the batch of each local replica.
      read_scalars: waits for the end of the step; returns its scalars by name.
    """

    step: int
    batches: list[Batch]
    read_scalars: Callable[[], dict[str, float]]


class TrainingLoop:
    """Trains a model from its current step to the end of the run.

    Args:
      run: the run, whose model has the weights of the current step.
      outputs: writes the records, sample grids, checkpoints, measures and exports of the run.
      progress: the current step and everything else, apart from the model, that a checkpoint holds.

    Attributes:
      n_steps: number of the last step; becomes smaller if the run ends early.
    """

    def __init__(self, run: Run, outputs: RunOutputs, progress: Progress) -> None:
        self._run, self._outputs, self._cadence = run, outputs, run.plan()
        self._memory_remedy = memory_remedies.describe_for_steps(run.config)
        self._rollbacks: Counter[int] = Counter()  # By the step of the checkpoint.
        self._optimizer_rate: float | None  # The learning rate that the optimizers have, if known.
        self._resume_from(progress)
        workers = run.replicas.workers
        may_be_stored = run.config.keep_best and workers.is_chief
        stored = checkpoints.read_best_value(run.checkpoint_folder) if may_be_stored else None
        self._stored_best = workers.broadcast(math.nan if stored is None else stored)  # In best.npz; NaN if unknown.
        # A resumed run may have done more steps than its options now ask for; its results keep the number of its steps.
        is_stale = cadence.is_out_of_patience(run.config, progress.stale)
        if is_stale and progress.step < self.n_steps:
            log.info("the run ended after step %d, because %s did not improve in %d evaluations; raise --patience to "
                     "continue", progress.step, run.config.keep_best, progress.stale)
        elif progress.step >= self.n_steps:
            log.info("the run has already reached step %d of %d, so nothing is trained; raise --%s to continue",
                     progress.step, self.n_steps, "max_steps" if run.config.max_steps else "n_epochs")
        if is_stale or progress.step > self.n_steps:
            self._end_after(progress.step)

    @property
    def n_steps(self) -> int:
        return self._cadence.n_steps

    def run(self, get_signal: GetSignal) -> None:
        """Trains until the last step; rolls back after a non-finite loss if --on_nonfinite=rollback is set.

        Args:
          get_signal: returns the signal that asks this process to stop, if one has arrived.

        Raises:
          NotFinite: a loss is NaN or infinite, and --on_nonfinite=rollback is not set.
          UserError: the images cannot be read, or the run cannot roll back.
          Stopped: a signal arrived; the state is saved.
        """
        if self._progress.step == 0:
            self._outputs.write_samples(0)
        while self._progress.step < self.n_steps:
            try:
                self._run_steps(get_signal)
            except NotFinite as error:
                if self._run.config.on_nonfinite != "rollback":
                    raise
                self._roll_back(error)
        self._outputs.wait()

    def _run_steps(self, get_signal: GetSignal) -> None:
        """Trains until the last step or until one of the exceptions that `run` lists.

        The losses of a step are read after the next step is queued, so a GPU has work while losses are read. Only a
        task that needs the weights, or a signal, makes the loop read all queued steps first. The losses of the
        first step are read before the second step is queued. A CPU computes a step while the step is queued, so the
        speed would otherwise omit the time of the second step.
        """
        shown = open_display(
            self._progress.step, self.n_steps, self._cadence.images_per_step, on_cpu=not hardware.has_gpu()
        )
        queue: deque[QueuedStep] = deque()
        first, received = self._progress.step + 1, None
        with self._open_batches() as batches, shown as display:
            while self._progress.step < self.n_steps:
                newest = self._queue_step(self._progress.step + len(queue) + 1, next(batches), get_signal)
                queue.append(newest)
                read_all = newest.step == first or self._cadence.list_due(newest.step).need_weights
                while queue and (len(queue) > 1 or read_all or received):
                    step, batch, read_scalars = queue.popleft()
                    with exhaustion.explain(f"step {step}", self._memory_remedy):
                        scalars = read_scalars()
                    require_finite(step, scalars, batch, self._run.workdir, self._run.replicas.workers)
                    self._complete_step(step, scalars, display)
                    received = received or self._run.replicas.agree_on_signal(get_signal)
                    if received and not queue:
                        self._write_checkpoint()
                        self._outputs.wait()
                        # The launcher kills the chief soon after the other workers have ended, even during the write.
                        self._run.replicas.workers.barrier()
                        raise Stopped(received, step)

    def _open_batches(self) -> contextlib.AbstractContextManager[Iterator[list[Batch]]]:
        """Opens the batches of the remaining steps; see `Run.open_batches`."""
        progress, run = self._progress, self._run
        log.info("training steps %d to %d, %d images per epoch%s", progress.step + 1, self.n_steps,
                 self._cadence.images_per_epoch, run.replicas.describe(run.config))
        if run.dataset.stream is not None and progress.step:
            log.warning("skipping the images of %d steps in the tf.data.Dataset; the run resumes exactly only if the "
                        "data set yields the same images in the same order", progress.step + progress.skipped)
        return run.open_batches(progress.step + progress.skipped, self.n_steps + progress.skipped)

    def _queue_step(self, step: int, batches: list[Batch], get_signal: GetSignal) -> QueuedStep:
        rate = self._compute_learning_rate(step)
        if rate != self._optimizer_rate:
            self._run.model.set_learning_rate(rate)
            self._optimizer_rate = rate
        with exhaustion.explain(f"step {step}", self._memory_remedy):
            return QueuedStep(step, batches, self._run.replicas.train_step(self._run.model, batches, get_signal))

    def _compute_learning_rate(self, step: int) -> float:
        done = step - 1
        epochs = self._cadence.count_epochs(done)
        return schedules.compute_learning_rate(self._run.config, done, epochs, self._run.replicas.count)

    def _complete_step(self, step: int, scalars: Mapping[str, float], display: Display) -> None:
        """Counts `step` as done and does the tasks that are due after `step`."""
        self._progress.step = step
        self._means.add(scalars)
        display.complete_step(step, scalars)
        if self._cadence.list_due(step).evaluate:
            with display.pause("measuring the held-out images"):
                self._evaluate(step)
        due = self._cadence.list_due(step)  # Listed again, because the evaluation may end the run at this step.
        if due.log:
            self._outputs.record_step(step, scalars, self._compute_learning_rate(step), display.read_speed())
        if due.end_epoch:
            epoch, means = self._cadence.count_epochs(step), self._means.take()
            self._outputs.record_epoch(step, epoch, means)
            display.log_epoch(epoch, means)
        with display.pause("writing samples and checkpoints"):
            if due.sample:
                self._outputs.write_samples(step)
            if due.checkpoint:
                self._write_checkpoint()
        self._outputs.check()

    def _evaluate(self, step: int) -> None:
        """Measures the held-out images, keeps the best checkpoint, and ends the run if --patience is used up."""
        progress, name = self._progress, self._run.config.keep_best
        values = self._outputs.evaluate(step)
        if not name:
            return
        value = self._run.replicas.workers.broadcast(values.get(name, math.nan))
        if measures.is_better(name, value, progress.best):
            progress.best, progress.stale = value, 0
            # After a restart, evaluations between the resumed checkpoint and best.npz are repeated. They may have other
            # values on a GPU, or be of other steps if --eval_every has changed.
            if not measures.is_better(name, self._stored_best, value):
                self._stored_best = value
                self._write_checkpoint(checkpoints.BEST)
        elif progress.best is not None:  # --patience counts from the first evaluation with a finite value.
            progress.stale += 1
            if cadence.is_out_of_patience(self._run.config, progress.stale):
                log.info("ending after step %d: %s has not improved on %.4g in %d evaluations", step, name,
                         progress.best, progress.stale)
                self._end_after(step)

    def _write_checkpoint(self, file_name: str | None = None) -> None:
        progress = dataclasses.replace(self._progress, epoch_sums=self._means.sums)
        self._outputs.write_checkpoint(progress, file_name)

    def _end_after(self, step: int) -> None:
        self._cadence = dataclasses.replace(self._cadence, n_steps=step)

    def _resume_from(self, progress: Progress) -> None:
        self._progress, self._means = dataclasses.replace(progress), RunningMeans(progress.epoch_sums)
        self._optimizer_rate = None

    def _roll_back(self, error: NotFinite) -> None:
        """Restores the newest checkpoint; training resumes with the data that follow the batch of the failed step."""
        self._outputs.wait()
        workers = self._run.replicas.workers
        workers.barrier()
        found = self._run.restore_newest()
        if found is None:
            raise UserError(f"{error.finding}; there is no checkpoint to roll back to yet; {ADVICE}") from error
        _, restored = found
        workers.require_equal({"the step of the newest checkpoint": restored.step})
        self._rollbacks[restored.step] += 1
        if self._rollbacks[restored.step] > _MAX_ROLLBACKS:
            raise UserError(
                f"{error.finding}; {_MAX_ROLLBACKS} rollbacks to step {restored.step} did not help; {ADVICE}"
            ) from error
        skipped = self._progress.skipped + error.step - restored.step
        # A rollback keeps best.npz, so `best`, the value of that checkpoint, must not change either.
        best = self._progress.best
        # If `best` is newer than the checkpoint, the checkpoint counts evaluations from before `best`.
        stale = restored.stale if best == restored.best else 0
        self._resume_from(dataclasses.replace(
            restored, skipped=skipped, best=best, stale=stale, images=self._progress.images,
        ))
        self._outputs.rewind(restored.step)
        # Log a string and not the error, because a handler that stores records would keep the tensors in its traceback.
        log.warning("%s; rolled back to step %d, resuming with the data after that batch", error.finding, restored.step)
        # Checkpoint now, so that a restart does not repeat the rollback.
        self._write_checkpoint()
