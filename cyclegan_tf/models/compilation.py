"""How the training step runs: in how many threads, and a network as it is, part by part, or compiled by XLA."""

import functools
import os
import re

import tensorflow as tf

from cyclegan_tf.ops import hardware

keras = tf.keras

# What joins a residual block's input and output: all that the rest of the network reads.
_BLOCK_END = re.compile(r"block\d+_(add|join)")


def set_threads(config):
    """Gives each operation one thread where there are two cores; to be called before TensorFlow's first operation.

    Half of a step is of A to B, half of B to A, so that two cores always have something to do, and operations on small
    maps in two threads mostly wait for each other (experiments/benchmarks). pix2pix has one such half.
    TF_NUM_INTRAOP_THREADS in the environment is stronger.
    """
    if os.cpu_count() == 2 and config.model == "cyclegan":
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


def compile_part(config, function):
    """`function`, a part of a training step, as one XLA program where `config.jit_compile` asks for it.

    Call it while the step is traced: each replica compiles a program on its own variables. "auto" compiles on one GPU,
    where images have one size (experiments/benchmarks has the times).
    """
    auto = hardware.has_gpu() and config.crops and tf.distribute.get_replica_context().num_replicas_in_sync == 1
    if config.jit_compile == "off" or (config.jit_compile == "auto" and not auto):
        return function

    @functools.wraps(function)
    def trace(*arguments):
        with hardware.force_portable_ops():
            return function(*arguments)

    return tf.function(trace, jit_compile=True, autograph=False)


def training_calls(config, networks):
    """{name: function of images} for a training step: networks in training mode, as the config says.

    Only the generators are recomputed: of a discriminator each map is a quarter of the one before.
    """
    return {
        name: _call(network, config.recompute and name.startswith("gen_")) for name, network in networks.items()
    }


def _call(network, recompute):
    parts = [tf.recompute_grad(_trained(part)) for part in _parts(network)] if recompute else [_trained(network)]

    def call(images):
        for part in parts:
            images = part(images)
        return images

    return call


def _trained(network):
    return lambda images: network(images, training=True)


def _parts(network):
    """`network` as models that follow each other and share its layers, cut behind each residual block.

    One map is all that goes from one to the next; a network without such blocks is one part. The first part ends with
    the first block, the last begins behind the last.
    """
    ends = [layer.output for layer in network.layers if _BLOCK_END.fullmatch(layer.name)]
    starts = [network.inputs[0], *ends]
    return [keras.Model(start, end) for start, end in zip(starts, [*ends, network.outputs[0]], strict=True)]
