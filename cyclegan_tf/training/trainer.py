"""Training a run from its config: resume, loop, report, finish."""

import contextlib
import dataclasses
import logging
import math
import os
from collections import Counter, deque

import tensorflow as tf

from cyclegan_tf.data import pipeline, sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import saved_model
from cyclegan_tf.inference import translator
from cyclegan_tf.metrics import measures
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.models.pix2pix import Pix2Pix
from cyclegan_tf.ops import cuda_libraries, hardware
from cyclegan_tf.runs import checkpoints, page, page_images
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.runs.checkpoints import Progress
from cyclegan_tf.runs.reporter import Reporter, RunningMeans, Silent
from cyclegan_tf.training import cadence, distribution, samples, schedules, signals, warm_start
from cyclegan_tf.training.evaluator import Evaluator
from cyclegan_tf.training.nonfinite import NotFinite, require_finite
from cyclegan_tf.training.progress import Speedometer, progress_bar

log = logging.getLogger("cyclegan_tf")

MODELS = {"cyclegan": CycleGAN, "pix2pix": Pix2Pix}
_MOST_ROLLBACKS = 5  # To one checkpoint; then the data are not what is wrong.


def train(config, workdir):
    """Trains `config` in run directory `workdir` to its end; goes on from the newest checkpoint where there is one.

    Returns:
      The final measures of held-out images, as in metrics.jsonl: floats by name.

    Raises:
      UserError: bad data, a run directory with other options, in use or not writable, or a loss that is not finite.
      signals.Stopped: SIGTERM or SIGINT came; the state is saved.
    """
    cuda_libraries.require_gpu_in_use(len(tf.config.list_physical_devices("GPU")))
    # 1. All workers there, and the data: without them nothing is written.
    replicas = distribution.open_replicas(config)
    if not replicas.is_chief:
        log.setLevel(logging.WARNING)
    if gpus := hardware.describe_gpus():
        log.info(gpus)
    dataset = sources.open_dataset(config)
    if config.paired:
        dataset.require_training_pairs()
    evaluator = Evaluator(config, dataset)
    with run_directory.open_run(config, workdir) if replicas.is_chief else contextlib.nullcontext():
        if replicas.is_chief:
            dataset.bad.record_to(os.path.join(workdir, "bad_images.txt"))
        # 2. Networks, from their seed.
        tf.keras.utils.set_random_seed(config.seed)
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        with replicas.scope():
            model = MODELS[config.model](config, replicas.local)
        replicas.require_stateless(model.networks)
        # 3. The run directory's own checkpoint, else the networks of --init_from, else from scratch.
        progress = Progress()
        found = checkpoints.read_newest(os.path.join(workdir, "checkpoints"))
        if found:
            progress = checkpoints.restore(model, found[1], found[0], replicas.local, replicas.count)
            log.info("going on from %s", found[0])
        elif config.init_from:
            warm_start.initialize(model, config.init_from)
        replicas.require_equal(
            options=config.fingerprint(), images_of_A=len(dataset.train_a), images_of_B=len(dataset.train_b),
            the_step_of_the_newest_checkpoint=progress.step,
        )
        run = _Run(config, workdir, model, dataset, evaluator, progress, replicas)
        # 4. The steps that are left, then measures and exports.
        with contextlib.closing(run):
            with signals.requests() as asked_to_stop:
                run.train(asked_to_stop)
            return run.finish()


class _Run:
    """The state of a run in progress, and what its loop does at each cadence."""

    def __init__(self, config, workdir, model, dataset, evaluator, progress, replicas):
        self.config, self.workdir, self.model, self.dataset, self.evaluator = config, workdir, model, dataset, evaluator
        self.replicas = replicas
        self._take_up(progress)
        self._translators = translator.translators(config, model.generators)
        self.cadence = cadence.plan_run(config, max(len(dataset.train_a), len(dataset.train_b)), replicas.count)
        if 0 < config.patience <= self.stale:
            self._end_with(self.step)
        self._rollbacks = Counter()
        self._checkpoints = os.path.join(workdir, "checkpoints")
        self.writer = self.reporter = Silent()
        if replicas.is_chief:
            self.writer = checkpoints.Writer(self._checkpoints, config.keep_checkpoints)
            self.reporter = Reporter(workdir, config, self.step)

    def close(self):
        with contextlib.closing(self.writer), contextlib.closing(self.reporter):
            pass

    @property
    def translators(self):
        """Of the generators as they are now."""
        self.model.refresh()
        return self._translators

    def _take_up(self, progress):
        self.step, self.skipped, self.means = progress.step, progress.skipped, RunningMeans(progress.epoch_sums)
        self.best, self.stale = progress.best, progress.stale
        self._measures = {}  # Of one step.
        self._rate = None  # The learning rate that the optimizers have.

    def _progress(self):
        return Progress(self.step, self.skipped, self.means.sums, self.best, self.stale)

    @property
    def n_steps(self):
        return self.cadence.n_steps

    def _end_with(self, step):
        self.cadence = dataclasses.replace(self.cadence, n_steps=step)

    def learning_rate(self, step):
        """Adam's learning rate in `step`, from 1."""
        return schedules.learning_rate(
            self.config, step - 1, self.cadence.count_epochs(step - 1), self.replicas.count
        )

    def train(self, asked_to_stop):
        """Does the steps that are left; where a loss is not finite and the config says so, goes back and on."""
        if self.step == 0:
            self.sample(0)
        while self.step < self.n_steps:
            try:
                self._loop(asked_to_stop)
            except NotFinite as error:
                if self.config.on_nonfinite != "rollback":
                    raise
                self._roll_back(error)
        self.writer.wait()

    def _loop(self, asked_to_stop):
        first, size, replicas = self.step, self.cadence.images_per_step, self.replicas
        stream, loaders = pipeline.make_batches(
            self.dataset, self.config, first + self.skipped, self.n_steps + self.skipped, replicas.local, replicas.count
        )
        log.info("training steps %d to %d, %d images an epoch%s", first + 1, self.n_steps,
                 self.cadence.images_per_epoch, replicas.describe(self.config))
        batches, speedometer = iter(stream), Speedometer(first * size)
        queued, stopping = deque(), None
        with progress_bar(self.n_steps * size, first * size) as bar:
            while self.step < self.n_steps:
                step = self.step + len(queued) + 1
                batch = [pipeline.take_batch(batches, loaders) for _ in replicas.local]
                self._set_learning_rate(step)
                queued.append((step, batch, replicas.train_step(self.model, batch, asked_to_stop)))
                # A step is read when the next one is queued, so that a GPU never waits for the host; unless something
                # needs the weights as they are after this step.
                while queued and (len(queued) > 1 or stopping or self.cadence.list_due(step).need_weights):
                    done, batch, read = queued.popleft()
                    values = read()
                    require_finite(done, values, batch, self.workdir, replicas)
                    self._complete(done, values, bar, speedometer)
                    stopping = stopping or replicas.agree_on_signal(asked_to_stop)
                    if stopping and not queued:
                        self.checkpoint()
                        self.writer.wait()
                        raise signals.Stopped(stopping, done)

    def _complete(self, step, values, bar, speedometer):
        """Does what is due after `step`."""
        self.step = step
        self.means.add(values)
        if self.cadence.list_due(step).evaluate:
            self.evaluate(step)
        due = self.cadence.list_due(step)  # The measurement may have made this step the last one.
        bar.set_postfix_str(_losses(values), refresh=False)
        bar.update(self.cadence.images_per_step)
        if due.log:
            self.log(step, values, speedometer(step * self.cadence.images_per_step), quiet=not bar.disable)
        if due.end_epoch:
            self.summarize_epoch(step)
        if due.sample:
            self.sample(step)
        if due.checkpoint:
            self.checkpoint()
        self.writer.check()

    def _set_learning_rate(self, step):
        rate = self.learning_rate(step)
        if rate != self._rate:
            self.model.set_learning_rate(rate)
            self._rate = rate

    def _roll_back(self, error):
        """Returns to the newest checkpoint; the data go on behind those of the step that failed."""
        self.writer.wait()
        self.replicas.barrier()
        found = checkpoints.read_newest(self._checkpoints)
        if found is None:
            raise UserError(f"{error}; there is no checkpoint yet to go back to") from error
        progress = checkpoints.restore(self.model, found[1], found[0], self.replicas.local, self.replicas.count)
        self._rollbacks[progress.step] += 1
        if self._rollbacks[progress.step] > _MOST_ROLLBACKS:
            raise UserError(f"{error}; went back to step {progress.step} {_MOST_ROLLBACKS} times already") from error
        # best.npz stays, and so what it was worth.
        self._take_up(dataclasses.replace(
            progress, skipped=self.skipped + error.step - progress.step, best=self.best, stale=self.stale
        ))
        self.reporter.rewind(self.step)
        # Its text: a record that is kept must not keep the tensors of the step with it.
        log.warning("%s; going on from step %d with the data after that", str(error), self.step)
        # The way on is part of the state: started again, the run does not go through this a second time.
        self.checkpoint()

    def log(self, step, values, speed, quiet):
        self.reporter.record(step, "train", {"learning_rate": self.learning_rate(step), **values})
        self.reporter.write_scalars(step, {"images_per_second": speed})
        if not quiet:
            log.info("step %d/%d: %s, %.1f images/s", step, self.n_steps, _losses(values), speed)

    def summarize_epoch(self, step):
        """Means over the epoch that ends with `step`: losses, and the gradient norm of each network."""
        means = self.means.take()
        self.reporter.record(step, "epoch", {"epoch": self.cadence.count_epochs(step), **means})
        log.info("epoch %d done: %s", self.cadence.count_epochs(step), ", ".join(
            f"{name} {value:.3f}" for name, value in means.items() if name.startswith(("loss/", "grad_norm/"))
        ))

    def sample(self, step):
        self.replicas.pause_watchdog()
        if not self.replicas.is_chief:
            return
        self.reporter.write_sample(step, samples.sample_grid(self.config, self.translators, self.dataset))
        page.write(self.workdir)

    def checkpoint(self, file_name=None):
        self.reporter.sync()
        self.replicas.pause_watchdog()
        pools = self.replicas.gather(checkpoints.collect_pools(self.model))
        self.writer.save(self.model, self._progress(), file_name, pools)

    def measures(self, step):
        """Measures of the held-out images after `step`, which is the newest; made once."""
        if step not in self._measures:
            self._measures = {step: self.evaluator(self.translators) if self.replicas.is_chief else {}}
        return self._measures[step]

    def evaluate(self, step):
        """Measures, keeps the best checkpoint, and ends the run with `step` when nothing has got better for long."""
        self.replicas.pause_watchdog()
        values, name = self.measures(step), self.config.keep_best
        self.reporter.record(step, "eval", values)
        log.info("step %d, held-out images: %s", step, _numbers(values))
        if not name:
            return
        value = self.replicas.broadcast(values.get(name, math.nan))
        if measures.is_better(name, value, self.best):
            self.best, self.stale = value, 0
            self.checkpoint(checkpoints.BEST)
            return
        if self.best is None:  # Not one could be measured yet.
            return
        self.stale += 1
        if 0 < self.config.patience <= self.stale:
            log.info("ending after step %d: %s has not got better than %.4g in %d measurements", step, name, self.best,
                     self.stale)
            self._end_with(step)

    def finish(self):
        """Exports both generators and measures the held-out images; safe to repeat. The chief does; the others wait."""
        values = self._finish() if self.replicas.is_chief else {}
        self.replicas.barrier()
        return values

    def _finish(self):
        paths = saved_model.export(self.translators, os.path.join(self.workdir, "export"))
        values = self.measures(self.n_steps)
        self.reporter.record(self.n_steps, "test", values)
        page_images.write(self.workdir, self.config, self.translators, self.dataset, self.n_steps)
        page.write(self.workdir)
        log.info("SavedModels: %s", ", ".join(paths))
        if self.dataset.bad:
            log.warning("left out %d images that cannot be used: see bad_images.txt", len(self.dataset.bad))
        log.info("held-out images: %s", _numbers(values))
        return values


def _losses(values):
    return ", ".join(f"{name.removeprefix('loss/')} {v:.3f}" for name, v in values.items() if name.startswith("loss/"))


def _numbers(values):
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
