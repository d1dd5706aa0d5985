"""Training a run from its config: resume, loop, report, finish."""

import contextlib
import fcntl
import logging
import math
import os
import signal
import sys
import time

import numpy as np
import tensorflow as tf
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from cyclegan_tf import checkpoints, evaluation, inference, saved_model, schedules
from cyclegan_tf import config as config_lib
from cyclegan_tf.data import pipeline, sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.gallery import page, results
from cyclegan_tf.pix2pix import Pix2Pix
from cyclegan_tf.summaries import Reporter, RunningMeans
from cyclegan_tf.training import CycleGAN

log = logging.getLogger("cyclegan_tf")

MODELS = {"cyclegan": CycleGAN, "pix2pix": Pix2Pix}


class Stopped(Exception):
    """The run was asked to stop by a signal, and has saved its state."""

    def __init__(self, signum, step):
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}; start again to go on")
        self.status = 128 + signum


def train(config, workdir):
    """Trains `config` in run directory `workdir` to its end; goes on from the newest checkpoint where there is one.

    Returns:
      The final measures of held-out images, as in metrics.jsonl: floats by name.

    Raises:
      UserError: bad data, a run directory with other options or in use, or a loss that is not finite.
      Stopped: SIGTERM or SIGINT came; the state is saved.
    """
    # 1. The data first: without it nothing is written.
    dataset = sources.open_dataset(config)
    if config.model == "pix2pix":
        dataset.require_training_pairs()
    os.makedirs(workdir, exist_ok=True)
    with _locked(workdir), _logging_to(os.path.join(workdir, "log.txt")), _signals() as asked_to_stop:
        _claim(config, workdir)
        # 2. Networks, from their seed.
        tf.keras.utils.set_random_seed(config.seed)
        model = MODELS[config.model](config)
        # 3. The run directory's own checkpoint, else another run's networks, else from scratch.
        step, sums = 0, {}
        found = checkpoints.newest(os.path.join(workdir, "checkpoints"), report=log.warning)
        if found:
            step, sums = checkpoints.restore(model, found[1], found[0])
            log.info("going on from %s", found[0])
        elif config.init_from:
            checkpoints.initialize(model, config.init_from)
        run = _Run(config, workdir, model, dataset, RunningMeans(sums), Reporter(workdir, config, step))
        # 4. The steps that are left, then measures and exports.
        with contextlib.closing(run.reporter):
            run.loop(step, asked_to_stop)
            return run.finish()


class _Run:
    """The state of a run in progress, and what its loop does at each cadence."""

    def __init__(self, config, workdir, model, dataset, means, reporter):
        self.config, self.workdir, self.model, self.dataset = config, workdir, model, dataset
        self.means, self.reporter = means, reporter
        self.translators = inference.translators(config, model.generators)
        self.images_per_epoch = max(len(dataset.train_a), len(dataset.train_b))
        self.n_steps = config.max_steps or self._steps(config.n_epochs + config.n_epochs_decay)

    def _steps(self, epochs):
        return pipeline.steps_of_epochs(epochs, self.images_per_epoch, self.config.batch_size)

    def epoch(self, step):
        """Number, from 0, of the epoch that the image at the beginning of `step` (from 0) belongs to."""
        return step * self.config.batch_size // self.images_per_epoch

    def learning_rate(self, step):
        """Adam's rate in `step` (from 0): by epochs, or by steps where the run's length is given in steps."""
        config = self.config
        done, constant, decay = self.epoch(step), config.n_epochs, config.n_epochs_decay
        if config.max_steps:
            share = constant / max(constant + decay, 1)
            constant = round(config.max_steps * share)
            done, decay = step, config.max_steps - constant
        factor = schedules.factor(config.lr_policy, done, constant, decay, config.lr_decay_every)
        return config.learning_rate * factor

    def loop(self, first, asked_to_stop):
        if first == 0:
            self.sample(0)
        stream, loaders = pipeline.batches(self.dataset, self.config, first, self.n_steps)
        log.info("training steps %d to %d, %d images an epoch", first + 1, self.n_steps, self.images_per_epoch)
        batches, speedometer = iter(stream), _Speedometer(first * self.config.batch_size)
        with _progress_bar(self.n_steps * self.config.batch_size, first * self.config.batch_size) as progress:
            for step in range(first + 1, self.n_steps + 1):
                batch = _next(batches, loaders)
                self.model.set_learning_rate(self.learning_rate(step - 1))
                values = {name: float(value) for name, value in self.model.train_step(*batch).items()}
                self._require_finite(step, values, batch)
                self.means.add(values)
                progress.set_postfix_str(_losses(values), refresh=False)
                progress.update(self.config.batch_size)
                if self._due(step, self.config.log_every):
                    self.log(step, values, speedometer(step * self.config.batch_size), quiet=not progress.disable)
                if self.epoch(step) > self.epoch(step - 1):
                    self.summarize_epoch(step)
                if self._due(step, self.config.sample_every):
                    self.sample(step)
                stopping = asked_to_stop()
                if stopping or self._due(step, self.config.checkpoint_every):
                    self.checkpoint(step)
                if stopping:
                    raise Stopped(stopping, step)
        self._report_bad_images(loaders)

    def _due(self, step, every):
        """The one cadence rule: every so many steps, and after the last one."""
        return step == self.n_steps or (every > 0 and step % every == 0)

    def _require_finite(self, step, values, batch):
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            path = os.path.join(self.workdir, f"not-finite-step-{step:06d}.npz")
            np.savez(path, a=batch[0], b=batch[1])
            raise UserError(
                f"step {step}: {', '.join(bad)} not finite; the batch is in {path}, the last good state in "
                f"{os.path.join(self.workdir, 'checkpoints')}; lower --learning_rate or look at the images"
            )

    def log(self, step, values, speed, quiet):
        self.reporter.record(step, "train", {"learning_rate": self.learning_rate(step - 1), **values})
        self.reporter.scalars(step, {"images_per_second": speed})
        if not quiet:
            log.info("step %d/%d: %s, %.1f images/s", step, self.n_steps, _losses(values), speed)

    def summarize_epoch(self, step):
        """Means over the epoch that ends with `step`: losses, and the gradient norm of each network."""
        means = self.means.take()
        self.reporter.record(step, "epoch", {"epoch": self.epoch(step), **means})
        log.info("epoch %d done: %s", self.epoch(step), ", ".join(
            f"{name} {value:.3f}" for name, value in means.items() if name.startswith(("loss/", "grad_norm/"))
        ))

    def sample(self, step):
        self.reporter.sample(step, evaluation.sample_grid(self.config, self.translators, self.dataset))
        page.write(self.workdir)

    def checkpoint(self, step):
        folder = os.path.join(self.workdir, "checkpoints")
        checkpoints.save(folder, self.model, step, self.means.sums, self.config.keep_checkpoints)

    def finish(self):
        """Measures the held-out images and exports both generators; safe to repeat."""
        measures = evaluation.held_out(self.config, self.translators, self.dataset)
        folder = os.path.join(self.workdir, "export")
        paths = saved_model.export(self.translators, folder)
        self.reporter.record(self.n_steps, "test", measures)
        results.write(self.workdir, self.config, self.translators, self.dataset, self.n_steps)
        page.write(self.workdir)
        log.info("SavedModels: %s", ", ".join(paths))
        log.info("held-out images: %s", ", ".join(f"{name} {value:.4g}" for name, value in measures.items()))
        return measures

    def _report_bad_images(self, loaders):
        bad = {name: reason for loader in loaders for name, reason in loader.bad.items()}
        for name, reason in bad.items():
            log.warning("left out %s: %s", name, reason)


class _Speedometer:
    """Images per second between two readings of the number of images so far."""

    def __init__(self, images):
        self._images, self._time = images, time.monotonic()

    def __call__(self, images):
        now = time.monotonic()
        speed = (images - self._images) / (now - self._time)
        self._images, self._time = images, now
        return speed


@contextlib.contextmanager
def _progress_bar(total, initial):
    """A bar over images on a terminal, with log lines above it; elsewhere nothing."""
    bar = tqdm(total=total, initial=initial, unit="images", disable=not sys.stderr.isatty())
    with bar, contextlib.nullcontext() if bar.disable else logging_redirect_tqdm():
        yield bar


def _losses(values):
    return ", ".join(f"{name.removeprefix('loss/')} {v:.3f}" for name, v in values.items() if name.startswith("loss/"))


def _next(batches, loaders):
    try:
        return next(batches)
    except tf.errors.OpError as error:
        for loader in loaders:
            if loader.error:
                raise loader.error from error
        raise


def _claim(config, workdir):
    """Writes config.json, after making sure that it may replace the one that is there."""
    path = os.path.join(workdir, "config.json")
    if os.path.exists(path):
        differences = config_lib.difference(config_lib.Config.load(workdir), config)
        if differences:
            raise UserError(f"{workdir} holds a run with other options ({'; '.join(differences)}): give the same ones "
                            "to go on with it, or another --workdir")
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        file.write(config.to_json())
    os.replace(path + ".tmp", path)


@contextlib.contextmanager
def _locked(workdir):
    """Holds the run directory; the lock ends with the process, however it ends."""
    with open(os.path.join(workdir, ".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process trains in {workdir}; wait for it or use another --workdir") from error
        yield


@contextlib.contextmanager
def _logging_to(path):
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()


@contextlib.contextmanager
def _signals():
    """SIGTERM and SIGINT only leave a note, which the yielded function returns; a second SIGINT acts at once."""
    noted = []

    def note(signum, frame):
        if noted and signum == signal.SIGINT:
            raise KeyboardInterrupt
        noted.append(signum)

    try:
        old = {signum: signal.signal(signum, note) for signum in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # Not in the main thread: signals are somebody else's.
        old = {}
    try:
        yield lambda: noted[0] if noted else None
    finally:
        for signum, handler in old.items():
            signal.signal(signum, handler)
