"""Facts about the networks of a `Config` that do not need TensorFlow."""

import dataclasses
import numbers
from collections.abc import Callable, Iterable
from typing import Any

from cyclegan_tf.config import registries
from cyclegan_tf.config.config import Config
from cyclegan_tf.errors import UserError

# Smallest height and width for a generator: a ResNet's innermost feature maps, a quarter as large, need two pixels for
# reflection padding by one; its stem needs four for reflection padding by three.
SMALLEST_SIZE = 8
# The options that describe a generator (gen_ab, gen_ba) and a discriminator (disc_a, disc_b).
_OPTIONS = {
    "gen": (
        "generator", "ngf", "n_blocks", "n_downs", "norm", "norm_affine", "padding", "dropout", "upsample", "antialias",
    ),
    "disc": ("discriminator", "ndf", "n_layers", "norm", "norm_affine", "antialias"),
}
# The options that change the shapes of a network's weights, unless the network ignores the option.
SHAPE_OPTIONS = ("ngf", "ndf", "n_blocks", "n_downs", "n_layers", "norm", "norm_affine")


def list_options(name: str) -> tuple[str, ...]:
    """Returns the options that describe network `name`; empty if it is not a generator or discriminator."""
    return _OPTIONS.get(name.partition("_")[0], ())


def get_network_channels(config: Config, name: str) -> tuple[int, int]:
    """(input, output) channels of network `name`: gen_ab, gen_ba, disc_a, disc_b, or another one of the model."""
    a, b = config.input_channels, config.output_channels
    found = {"gen_ab": (a, b), "gen_ba": (b, a), "disc_a": (a, 1), "disc_b": (b, 1)}
    own = registries.MODELS[config.model].channels
    found |= own(config) if own else {}
    if name not in found:
        raise UserError(f"--model={config.model} has a network {name}, whose channels are unknown; return its "
                        "channels from the function `channels` that is given to register_model")
    return found[name]


def get_size_multiple(config: Config) -> int:
    """The generator keeps the size of images whose height and width are multiples of this number of pixels."""
    multiple = registries.GENERATORS[config.generator].size_multiple
    return _compute_pixels(multiple, config, f"--generator={config.generator}", "size_multiple")


def get_smallest_size(config: Config) -> int:
    """The smallest height and width, in pixels, that the networks can be trained on."""
    smallest = registries.DISCRIMINATORS[config.discriminator].smallest_size
    return max(SMALLEST_SIZE, _compute_pixels(
        smallest, config, f"--discriminator={config.discriminator}", "smallest_size"
    ))


def _compute_pixels(value: int | Callable[[Config], int], config: Config, option: str, argument: str) -> int:
    """Computes the number of pixels that a registration states for `config`.

    Args:
      value: the number, or a function that returns the number for a Config.
      option, argument: where `value` comes from, for the message: the option that names the registered function, and
        the argument of its registration.

    Raises:
      UserError: the number is not an integer above 0.
    """
    value = value(config) if callable(value) else value
    if not isinstance(value, numbers.Integral) or value < 1:  # Integral includes NumPy's integers.
        raise UserError(f"{option} is registered with {argument} {value!r}; expected a whole number above 0")
    return int(value)


def repeats_pixels(config: Config) -> bool:
    """True if a generator of this package upsamples by repeating pixels."""
    return config.upsample == "resize_conv" or config.generator == "unet_book"


def require_crop_size(config: Config) -> None:
    """Checks that the networks can be trained on crops of `config.crop_size`, if the preprocessing crops.

    Raises:
      UserError: the size is too small or no multiple of `size_multiple`; the message names options that fit.
    """
    if not config.crops:
        return
    crop, multiple, smallest = config.crop_size, get_size_multiple(config), get_smallest_size(config)
    nearest = round(crop / multiple)
    if config.preprocess != "crop" and nearest * multiple > config.load_size:
        nearest -= 1
    fitting = multiple * max(nearest, -(-smallest // multiple))
    remedy = f"use --crop_size={fitting}"
    if config.preprocess != "crop" and fitting > config.load_size:
        remedy += f" with --load_size={fitting}"
    if crop % multiple:
        fewer = range(config.n_downs - 1, 4, -1)
        n_downs = _find_value(config, "n_downs", fewer, lambda other: crop % get_size_multiple(other) == 0)
        raise UserError(f"--crop_size={crop} must be a multiple of {multiple} for "
                        f"--generator={config.generator}; {remedy}{n_downs}")
    if crop < smallest:
        fewer = range(config.n_layers - 1, 0, -1)
        n_layers = _find_value(config, "n_layers", fewer, lambda other: crop >= get_smallest_size(other))
        raise UserError(f"--crop_size={crop} must be at least {smallest} for --generator={config.generator} and "
                        f"--discriminator={config.discriminator}; {remedy}{n_layers}")


def _find_value(config: Config, option: str, values: Iterable[int], fits: Callable[[Config], bool]) -> str:
    """Returns " or --OPTION=VALUE" with the first value that fits, or "" if none does."""
    changes: Iterable[dict[str, Any]] = ({option: value} for value in values)
    found = (change[option] for change in changes if fits(dataclasses.replace(config, **change)))
    return next((f" or --{option}={value}" for value in found), "")
