"""Trains a run from its config: sets up, resumes, trains and exports."""

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from cyclegan_tf import console
from cyclegan_tf.config import Config, architectures
from cyclegan_tf.config.direction import DOMAINS
from cyclegan_tf.config.idle_options import find_idle_options
from cyclegan_tf.data import given_images, narrow_values, pairing, percentiles, sources
from cyclegan_tf.data.dataset import ImageDataset
from cyclegan_tf.errors import UserError
from cyclegan_tf.models.base import Model
from cyclegan_tf.models.registry import build_model
from cyclegan_tf.ops import cuda_libraries, exhaustion, hardware
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.runs import model_state, training_images
from cyclegan_tf.runs.model_state import Fingerprint, Progress
from cyclegan_tf.training import cadence, memory_remedies, overview, signals, strategies, warm_start
from cyclegan_tf.training.distribution import Replicas
from cyclegan_tf.training.evaluator import Evaluator
from cyclegan_tf.training.loop import TrainingLoop
from cyclegan_tf.training.outputs import Callback, RunOutputs
from cyclegan_tf.training.progress import describe_estimate
from cyclegan_tf.training.run import Run

log = logging.getLogger("cyclegan_tf")


def train(
    config: Config, workdir: str, exit_on_second_signal: bool = False, given: Any = None,
    callbacks: Sequence[Callback] = (),
) -> dict[str, float]:
    """Trains the run of `config` in `workdir` to its end; resumes from the newest checkpoint if there is one.

    Args:
      exit_on_second_signal: `exit_on_second` of `signals.catch_signals`.
      given: images to train on instead of `config.dataset`; see `given_images.open_given`.
      callbacks: see `RunOutputs`.

    Returns:
      The final measures of the held-out images, or of the training images of a domain without held-out images, as in
      metrics.jsonl: floats by name. Empty on all workers but the chief.

    Raises:
      UserError: the data are bad or have changed, a loss is not finite, TensorFlow does not see this machine's GPU, or
        the run directory has other options, is in use or is not writable.
      Stopped: SIGINT, SIGTERM or SIGHUP arrived; the state is saved.
    """
    # 1. The devices, the workers and the data. An error here leaves nothing behind in the run directory.
    config, replicas, dataset = _open(config, workdir, given)
    evaluator = Evaluator(config, dataset)
    workers = replicas.workers
    opened = run_directory.open_run(config, workdir) if workers.is_chief else contextlib.nullcontext()
    with opened, signals.catch_signals(exit_on_second_signal) as stop_requests:
        if workers.is_chief:
            dataset.bad.record_to(os.path.join(workdir, "bad_images.txt"))
        # 2. The model, with weights from the seed, from another run, or from the newest checkpoint.
        run = Run(config, workdir, dataset, replicas, _build_model(config, replicas))
        progress = _restore_or_initialize(run)
        images = training_images.compute_fingerprints(dataset)
        workers.require_equal({
            **config.compute_checksums(),
            **{f"the number of images of {domain.upper()}": images[domain].count for domain in DOMAINS},
            **{f"the training images of {domain.upper()}": int.from_bytes(images[domain].digest[:4], "big")
               for domain in DOMAINS},
            "the step of the newest checkpoint": progress.step,
            # A single worker has nothing to compare, and copying all weights from a GPU takes a while.
            "the initial weights (--init_from) or the state in the checkpoint":
                model_state.compute_checksum(run.model) if workers.count > 1 else 0,
        })
        _require_unchanged_images(run, progress, images)
        progress = dataclasses.replace(progress, images=images)
        if workers.is_chief:
            training_images.write_names(workdir, dataset)
        # 3. The steps that are left, then the final measures and exports.
        _show_overview(run, progress.step)
        with contextlib.closing(RunOutputs(run, evaluator, progress.step, callbacks)) as outputs:
            loop = TrainingLoop(run, outputs, progress)
            with stop_requests.defer() as get_signal:
                loop.run(get_signal)
            return outputs.write_results(loop.n_steps)


def rehearse(config: Config, workdir: str) -> None:
    """Shows the overview of the run that `train` would start or resume, and the memory and time of a step.

    Writes nothing. Trains some steps and shows the time of the fastest, because TensorFlow traces and compiles the
    first step, and also the second step if its images have another size.

    Raises:
      UserError: as in `train`.
    """
    config, replicas, dataset = _open(config, workdir)
    Evaluator(config, dataset)  # Raises a UserError if the run cannot compute its measures.
    run_directory.require_same_options(config, workdir)
    run = Run(config, workdir, dataset, replicas, _build_model(config, replicas))
    progress = _restore_or_initialize(run)
    _require_unchanged_images(run, progress, training_images.compute_fingerprints(dataset))
    _show_overview(run, progress.step)
    n_steps = 2 if config.crops else 4
    times = []
    with run.open_batches(0, n_steps) as batches:
        for number in range(1, n_steps + 1):
            start = time.monotonic()
            with exhaustion.explain(f"step {number}", memory_remedies.describe_for_steps(config)):
                replicas.train_step(run.model, next(batches), lambda: None)()
            times.append(time.monotonic() - start)
    peak = hardware.measure_peak_memory()
    log.info("one step: %.2f s%s", min(times), f", {overview.format_bytes(peak[1])} of {peak[0]}" if peak else "")
    has_ended = cadence.is_out_of_patience(config, progress.stale)
    n_left = 0 if has_ended else max(run.plan().n_steps - progress.step, 0)
    log.info("%s", describe_estimate(n_left, n_left * min(times), on_cpu=not hardware.has_gpu()))


def _open(config: Config, workdir: str, given: Any = None) -> tuple[Config, Replicas, ImageDataset]:
    """Returns the config with its ranges measured, the replicas and the data set; see `train` for errors."""
    console.open_missing_descriptors()
    cuda_libraries.require_gpu_in_use(len(tf.config.list_physical_devices("GPU")))
    architectures.require_crop_size(config)
    replicas = strategies.open_replicas(config)
    if not replicas.workers.is_chief:
        log.setLevel(logging.WARNING)
    else:
        for warning in find_idle_options(config):
            log.warning("%s", warning)
    config = run_directory.adopt_ranges(config, workdir)
    dataset = sources.open_dataset(config) if given is None else given_images.open_given(given, config)
    if config.trains_on_pairs:
        pairing.require_training_pairs(dataset, config)
    config, dataset = percentiles.measure_ranges(config, dataset)
    return config, replicas, dataset


def _show_overview(run: Run, step: int) -> None:
    if run.replicas.workers.is_chief:
        for assumption in filter(None, (run.dataset.pairing, run.dataset.substitution)):
            log.info("%s", assumption)
        for line in overview.describe_run(run, step):
            log.info("%s", line)
        for warning in narrow_values.find_narrow_values(run.config, run.dataset):
            log.warning("%s", warning)


def _require_unchanged_images(run: Run, progress: Progress, images: Mapping[str, Fingerprint]) -> None:
    """Raises a UserError if the training images differ from the checkpoint's, unless --allow_changed_data is set.

    Args:
      images: fingerprints of the training images.
    """
    changes = "; ".join(training_images.list_changes(progress.images, images, run.dataset, run.workdir))
    if changes and not run.config.allow_changed_data:
        raise UserError(f"the training images have changed since step {progress.step}: {changes}; restore the images, "
                        "or continue with the new ones with --allow_changed_data")
    if changes:
        log.warning("continuing with changed training images: %s", changes)


def _build_model(config: Config, replicas: Replicas) -> Model:
    """Builds the model of `config` on its replicas, with initial weights drawn from the seed."""
    tf.keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    remedy = memory_remedies.describe_for_steps(config)
    with exhaustion.explain("building the networks", remedy), replicas.scope():
        model = build_model(config, replicas.local)
    replicas.require_stateless(model.networks)
    return model


def _restore_or_initialize(run: Run) -> Progress:
    """Loads the run's own newest checkpoint, else the networks of --init_from, else nothing; returns the progress."""
    if restored := run.restore_newest():
        path, progress = restored
        log.info("resuming from %s", path)
        return progress
    if run.config.init_from:
        warm_start.initialize(run.model, run.config.init_from)
    return Progress()
