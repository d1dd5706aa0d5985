"""Everything that a run writes: records of losses, sample grids, checkpoints, measures and, at the end, exports."""

import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence

from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import saved_model
from cyclegan_tf.inference import bounded, translator
from cyclegan_tf.runs import checkpoints, metrics_log, model_state, page, page_images
from cyclegan_tf.runs.model_state import Progress
from cyclegan_tf.runs.reporter import NullReporter, Reporter
from cyclegan_tf.training import memory_remedies, samples
from cyclegan_tf.training.evaluator import Evaluator, split_by_images
from cyclegan_tf.training.run import Run

log = logging.getLogger("cyclegan_tf")


# Called with a step and its scalars by name.
Callback = Callable[[int, Mapping[str, float]], None]


class RunOutputs:
    """Writes the outputs of a run to its run directory, which the chief has opened.

    All workers must call the same methods in the same order, because some of them exchange data; only the chief writes.

    Args:
      run: the run, whose model has the weights after `step`.
      evaluator: measures the held-out images of the run.
      step: steps done; records and sample grids of later steps are removed.
      callbacks: called by the chief, as `cyclegan_tf.fit` describes.
    """

    def __init__(self, run: Run, evaluator: Evaluator, step: int, callbacks: Sequence[Callback] = ()) -> None:
        self._run, self._evaluator, self._is_chief = run, evaluator, run.replicas.workers.is_chief
        self._translators = translator.make_translators(run.config, run.model.generators)
        remedy = memory_remedies.describe_for_images(run.config)
        self._translate = bounded.make_bounded(self._translators, run.config, remedy, run.workdir)
        self._measures: dict[int, dict[str, float]] = {}  # {step: measures}, only for the newest measured step.
        self._callbacks = callbacks if self._is_chief else ()
        self._writer = checkpoints.NullWriter()
        self._reporter = NullReporter()
        if self._is_chief:
            self._writer = checkpoints.Writer(run.checkpoint_folder, run.config.keep_checkpoints)
            self._reporter = Reporter(run.workdir, run.config, step)

    def close(self) -> None:
        """Waits until everything is written, and closes all files."""
        with contextlib.closing(self._writer), contextlib.closing(self._reporter):
            pass

    def check(self) -> None:
        """Raises an OSError if a background thread could not write a checkpoint."""
        self._writer.check()

    def wait(self) -> None:
        """Waits until all checkpoints are written; raises an OSError if a checkpoint could not be written."""
        self._writer.wait()

    def rewind(self, step: int) -> None:
        """Removes the records and sample grids of the steps after `step`."""
        self._measures = {}
        self._reporter.rewind(step)

    def record_step(self, step: int, scalars: Mapping[str, float], learning_rate: float, speed: float | None) -> None:
        """Writes the scalars of a step to metrics.jsonl and TensorBoard.

        Args:
          speed: images per second, for TensorBoard only; None if unknown.
        """
        self._record(step, metrics_log.TRAIN, {"learning_rate": learning_rate, **scalars})
        if speed is not None:
            self._reporter.write_scalars(step, {"images_per_second": speed})

    def _record(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
        self._reporter.record(step, kind, scalars)
        for callback in self._callbacks if scalars else ():
            try:
                callback(step, dict(scalars))
            except OSError as error:  # `run_directory.open_run` would report a fault of the run directory instead.
                raise UserError(f"a callback failed: {type(error).__name__}: {error}") from error

    def record_epoch(self, step: int, epoch: int, means: Mapping[str, float]) -> None:
        """Writes the mean of each scalar, such as a loss or a gradient norm, over the epoch that ends with `step`."""
        self._reporter.record(step, metrics_log.EPOCH, {"epoch": epoch, **means})

    def write_samples(self, step: int) -> None:
        """Writes a sample grid and updates the page of the run."""
        run = self._run
        run.replicas.pause_watchdog()
        if not self._is_chief:
            return
        run.model.refresh()
        picture = samples.draw_sample_grid(run.config, self._translate, run.dataset, run.workdir, step)
        self._reporter.write_sample(step, picture)
        page.write(run.workdir)

    def write_checkpoint(self, progress: Progress, file_name: str | None = None) -> None:
        """Copies the state of the run and writes it in the background; see `checkpoints.write`."""
        self._reporter.sync()
        self._run.replicas.pause_watchdog()
        pools = self._run.replicas.workers.gather(model_state.collect_pools(self._run.model))
        self._writer.save(self._run.model, progress, file_name, pools)

    def evaluate(self, step: int) -> dict[str, float]:
        """Measures the held-out images after `step`, and writes and returns the measures.

        The result is empty on all workers but the chief.
        """
        self._run.replicas.pause_watchdog()
        measures = self._measure(step)
        if counts := self._evaluator.counts:
            self._reporter.record(step, metrics_log.COUNTS, counts)
        for held_out, values in split_by_images(measures, self._run.dataset).items():
            kind = metrics_log.EVAL if held_out else metrics_log.EVAL_OF_TRAINING
            self._record(step, kind, values)
            if values:
                log.info("step %d, %s", step, _describe_measures(held_out, values))
        return measures

    def write_results(self, step: int) -> dict[str, float]:
        """Exports the generators after the last step, writes the final measures and the page, and returns the measures.

        A second call writes the same files again. The chief does the work while the other workers wait.
        """
        measures = self._write_results(step) if self._is_chief else {}
        self._run.replicas.workers.barrier()
        return measures

    def _write_results(self, step: int) -> dict[str, float]:
        run = self._run
        log.info("exporting the generators and measuring the held-out images")
        run.model.refresh()
        paths = saved_model.export(self._translators, os.path.join(run.workdir, "export"))
        measures = self._measure(step)
        if counts := self._evaluator.counts:
            self._reporter.record(step, metrics_log.FINAL_COUNTS, counts)
        if baselines := self._evaluator.measure_baselines():
            self._reporter.record(step, metrics_log.BASELINES, baselines)
        parts = split_by_images(measures, run.dataset)
        for held_out, values in parts.items():
            kind = metrics_log.FINAL if held_out else metrics_log.FINAL_OF_TRAINING
            self._record(step, kind, values)
        page_images.write(run.workdir, run.config, self._translate, run.dataset, step)
        log.info("page: %s", page.write(run.workdir))
        log.info("SavedModels: %s", ", ".join(paths))
        if run.dataset.bad:
            log.warning("skipped %d images that cannot be used; bad_images.txt lists them", len(run.dataset.bad))
        if clipped := run.dataset.bad.describe_clipped():
            log.warning(clipped)
        for held_out, values in parts.items():
            if values:
                log.info(_describe_measures(held_out, values))
        return measures

    def _measure(self, step: int) -> dict[str, float]:
        """Measures the held-out images after `step`, the newest step; a repeated call does not measure again."""
        if step not in self._measures:
            self._measures = {step: {}}
            if self._is_chief:
                self._run.model.refresh()
                self._measures = {step: self._evaluator(self._translate)}
        return self._measures[step]


def _describe_measures(held_out: bool, measures: Mapping[str, float]) -> str:
    values = ", ".join(f"{name} {value:.4g}" for name, value in measures.items())
    return f"{'held-out' if held_out else 'training'} images: {values}"
