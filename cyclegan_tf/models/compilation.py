"""Execution of a training step: threads, recomputation of feature maps, and compilation by XLA."""

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

from cyclegan_tf.config import Config, architectures
from cyclegan_tf.errors import UserError
from cyclegan_tf.models import replicas
from cyclegan_tf.networks import segments
from cyclegan_tf.ops import hardware

_Function = TypeVar("_Function", bound=Callable)


def set_threads(config: Config) -> None:
    """Gives each TensorFlow operation one thread if the machine has two cores; call before the first operation.

    Half of a CycleGAN step translates A to B, the other half B to A, so both cores always have work. An operation that
    is split between two threads mostly waits for one of them on small feature maps (experiments/benchmarks). The
    operations of a model of one direction, which has no second half, keep both threads. The environment variable
    TF_NUM_INTRAOP_THREADS takes precedence.
    """
    if os.cpu_count() == 2 and len(config.directions) == 2:
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


def compile_step(config: Config, function: _Function) -> _Function:
    """Compiles `function`, which averages gradients over the replicas, as `compile_part` does.

    Raises:
      UserError: --jit_compile=on with several replicas, because an XLA program cannot exchange gradients.
    """
    if config.jit_compile == "on" and replicas.get_count() > 1:
        raise UserError(f"--jit_compile=on does not work with --model={config.model} on several devices; train on one "
                        "device, or with --jit_compile=auto in a new run directory")
    return compile_part(config, function)


def compile_part(config: Config, function: _Function) -> _Function:
    """Returns `function`, a part of a training step, compiled to one XLA program if `config.jit_compile` says so.

    Call this function while the step is traced, because each replica compiles a program for its own variables. "auto"
    compiles if there is one replica on a GPU, all images have one size (times in experiments/benchmarks), and
    TensorFlow can compile the networks.

    Raises:
      UserError: --jit_compile=on with networks that TensorFlow 2.15 cannot compile.
    """
    can_compile = not (hardware.IS_TENSORFLOW_2_15 and architectures.repeats_pixels(config))
    if config.jit_compile == "on" and not can_compile:
        raise UserError("--jit_compile=on: TensorFlow 2.15 cannot compile the gradient of upsampling that repeats "
                        "pixels; use --jit_compile=auto in a new run directory, --upsample=transpose, or a newer "
                        "TensorFlow")
    auto = hardware.has_gpu() and config.crops and replicas.get_count() == 1 and can_compile
    if config.jit_compile == "off" or (config.jit_compile == "auto" and not auto):
        return function

    @functools.wraps(function)
    def trace(*arguments: Any) -> Any:
        with hardware.force_portable_ops():
            return function(*arguments)

    return tf.function(trace, jit_compile=True, autograph=False)


def make_training_call(network: tf.keras.Model, recompute: bool) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function of images (N, H, W, C) that calls `network` in training mode.

    Args:
      recompute: whether the backward pass computes the feature maps again instead of keeping them; only the outputs of
        the network's segments are kept.
    """
    if not recompute:
        return _in_training_mode(network)
    calls = [tf.recompute_grad(_in_training_mode(segment)) for segment in segments.split_into_segments(network)]

    def call(images: tf.Tensor) -> tf.Tensor:
        for segment in calls:
            images = segment(images)
        return images

    return call


def _in_training_mode(network: tf.keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda images: network(images, training=True)
