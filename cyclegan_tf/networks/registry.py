"""Builds the networks that a Config describes, from the functions registered for them, and checks what they return."""

import re
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config, architectures, registries
from cyclegan_tf.errors import UserError, get_first_line
from cyclegan_tf.networks import graph, initialization, patch_features
from cyclegan_tf.ops import exhaustion

# The functions whose networks have translated or scored a probe in this process, with the probe's sizes and channels.
_PROBED: set[tuple[Callable, int, int]] = set()


def build_generator(config: Config, name: str) -> tf.keras.Model:
    """Builds generator `name` (gen_ab, gen_ba ...) as `config` describes it, with fresh weights.

    Raises:
      UserError: the registered function does not fulfill the contract of `register_generator`.
    """
    build = registries.GENERATORS[config.generator].build
    inputs, outputs = architectures.get_network_channels(config, name)
    make = partial(build, config, input_channels=inputs, output_channels=outputs, name=name)
    require = _Requirements(f"--generator={config.generator}", make, name, inputs)
    network = require.network
    shape = tuple(network.input_shape)
    require(shape[1:3] == (None, None), f"takes images of {shape[1]} x {shape[2]} pixels only; build it on "
            f"keras.Input((None, None, {inputs}))")
    out = tuple(network.output_shape)
    require(len(out) == 4 and out[-1] == outputs, f"returns {out}; expected images (N, H, W, {outputs})")
    multiple = architectures.get_size_multiple(config)
    if config.recompute:
        _require_repeatable(require, network, multiple, inputs)
    if (build, multiple, inputs) not in _PROBED:
        _probe_generator(require, network, multiple, inputs)
        _PROBED.add((build, multiple, inputs))
    return _initialize(config, network)


def _make_probe(multiple: int, channels: int) -> np.ndarray:
    """A small image of the largest amplitude that images can have, float32 (1, H, 2 H, channels)."""
    side = -(-architectures.SMALLEST_SIZE // multiple) * multiple
    return np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (1, side, 2 * side, channels))


def _require_repeatable(require: "_Requirements", network: tf.keras.Model, multiple: int, channels: int) -> None:
    remedy = (
        "--recompute runs layers twice; remove --recompute, or the layers that are random or keep running statistics"
    )
    require(not network.non_trainable_variables, f"has weights that are not trainable; {remedy}")
    images = _make_probe(multiple, channels)
    first, second = (np.asarray(network(images, training=True)) for _ in range(2))
    require(np.array_equal(first, second), f"returns different values for the same images in training mode; {remedy}")


def _probe_generator(require: "_Requirements", network: tf.keras.Model, multiple: int, channels: int) -> None:
    images = _make_probe(multiple, channels)
    size, side = images.shape[:3], images.shape[1]
    translated = require.run(images)
    require(translated.shape[:3] == size, f"makes images of {' x '.join(map(str, translated.shape[1:3]))} pixels from "
            f"{side} x {2 * side} pixels; keep the size, or register a size_multiple that differs from {multiple}")
    largest = np.abs(translated).max()
    require(largest <= 1 + 1e-5, f"returns values up to {largest:.3g} in magnitude; end it with tanh, because images "
            "are in [-1, 1]")


def build_discriminator(config: Config, name: str) -> tf.keras.Model:
    """Builds discriminator `name` (disc_a or disc_b) as `config` describes it, with fresh weights.

    Raises:
      UserError: the registered function does not fulfill the contract of `register_discriminator`.
    """
    build = registries.DISCRIMINATORS[config.discriminator].build
    inputs = architectures.get_network_channels(config, name)[0]
    make = partial(build, config, input_channels=inputs, name=name)
    require = _Requirements(f"--discriminator={config.discriminator}", make, name, inputs)
    network = require.network
    if config.penalizes_gradient:
        require_no_batch_norm(f"--gan_mode={config.gan_mode}", f"--discriminator={config.discriminator}", network)
    # A crop size below the registered smallest size is an error elsewhere, before a run starts.
    side = max(config.crop_size, architectures.get_smallest_size(config))
    if (build, side, inputs) not in _PROBED and config.crops:
        images = np.random.default_rng(0).uniform(-1, 1, (2, side, side, inputs))
        scores = require.run(images.astype(np.float32))
        require(scores.shape[:1] == (2,) and scores.size > 0, f"returns scores {scores.shape} for 2 images; expected "
                "the images along the first axis, and at least one score for each")
        _PROBED.add((build, side, inputs))
    return _initialize(config, network)


def require_no_batch_norm(user: str, option: str, network: tf.keras.Model) -> None:
    """Raises a UserError if `network` has a batch norm, which makes the images of a batch depend on each other.

    Args:
      user: the option that does not work with a batch norm, such as "--gan_mode=wgangp".
      option: the option that names the network, such as "--discriminator=mine".
    """
    for layer in graph.list_layers(network):
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            raise UserError(f"{user} does not work with a batch norm, which makes the images of a batch depend on each "
                            f"other, but the network of {option} has the batch norm {layer.name}; use instance norms")


class _Requirements:
    """Raises a UserError that names the registered function for the first thing that is wrong with its network.

    Args:
      option: the option that names the function, for messages.
      make: builds the network with the registered function.
      name: the name that the network must have.
      channels: channels that the network must accept.

    Attributes:
      network: the network that the function returned.
    """

    def __init__(self, option: str, make: Callable[[], tf.keras.Model], name: str, channels: int) -> None:
        self._option = option
        self.network = network = make()
        self(isinstance(network, tf.keras.Model), f"is a {type(network).__name__}; return a keras.Model")
        single = len(getattr(network, "inputs", None) or ()) == 1 and len(network.outputs) == 1
        self(single, "must be a functional keras.Model of one input and one output: return "
             "keras.Model(inputs, outputs, name=name)")
        self(network.name == name, f"is called {network.name}; pass name={name!r} on to keras.Model")
        shape = tuple(network.input_shape)
        self(len(shape) == 4 and shape[-1] == channels, f"takes {shape}; expected images (N, H, W, {channels})")
        suspects = [
            layer.name for layer in network.layers
            if layer.weights and re.fullmatch(rf"{type(layer).__name__.lower()}\d*", layer.name.replace("_", ""))
        ]
        # Keras numbers default layer names across all networks of a process, so a second network has other names.
        kept = {layer.name for layer in make().layers} if suspects else set()
        for suspect in suspects:
            self(suspect in kept, f"has a layer {suspect} whose name Keras has chosen and will choose differently in "
                 "another process; give layers with weights a name, because checkpoints find weights by the names")
        dtype = tf.as_dtype(network.outputs[0].dtype)
        self(dtype == tf.float32, f"returns {dtype.name}; give the last layer dtype=\"float32\"")

    def __call__(self, fulfilled: bool, problem: str) -> None:
        if not fulfilled:
            raise UserError(f"{self._option}: the network of the registered function {problem}")

    def run(self, images: np.ndarray) -> np.ndarray:
        """Runs the network in inference mode; its values must be finite."""
        size = " x ".join(map(str, images.shape[1:3]))
        try:
            values = np.asarray(self.network(images, training=False))
        except Exception as error:
            if exhaustion.is_exhausted(error):
                raise
            raise UserError(f"{self._option}: the network of the registered function fails on images of {size} pixels: "
                            f"{get_first_line(error)}") from error
        self(bool(np.isfinite(values).all()), f"returns values that are not finite for images of {size} pixels")
        return values


def build_feature_network(
    config: Config, generator: tf.keras.Model, layers: Sequence[str], name: str
) -> tf.keras.Model:
    """Builds the feature network of CUT for the outputs of the `layers` of `generator`, with fresh weights."""
    maps = patch_features.find_maps(generator, layers)
    return _initialize(
        config, patch_features.build_feature_network([m.shape[-1] for m in maps], config.nce_features, name)
    )


def _initialize(config: Config, network: tf.keras.Model) -> tf.keras.Model:
    """Applies --initialization=xavier; for "normal", keeps the weights that the builder drew."""
    if config.initialization == "xavier":
        initialization.initialize_xavier(network)
    return network
