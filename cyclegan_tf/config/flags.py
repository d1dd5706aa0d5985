"""Command-line flags of the options: one absl flag for each field of `Config`, and --preset.

Only the commands know flags; all other code takes a `Config`. This module imports no TensorFlow.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from cyclegan_tf.config.config import Config
from cyclegan_tf.config.options import get_choices, get_value_type
from cyclegan_tf.config.presets import PRESETS


def define_flags() -> None:
    """Defines a flag for each option, and --preset. Skips names that are already defined."""
    definers: dict[type, Callable[..., Any]] = {
        bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string,
    }
    for field in dataclasses.fields(Config):
        if field.name in flags.FLAGS:
            continue
        text = field.metadata["help"]
        if choices := get_choices(field):
            flags.DEFINE_enum(field.name, str(field.default), choices, text)
        else:
            definers[get_value_type(field)](field.name, field.default, text)
    if "preset" not in flags.FLAGS:
        flags.DEFINE_enum("preset", "default", sorted(PRESETS), "named set of option values; other flags override it")


def from_arguments(arguments: Sequence[str]) -> Config:
    """Parses command-line arguments, such as ["--ngf=8", "--flagfile=demo_maps.flags"].

    Raises:
      absl.flags.Error: a flag is unknown or its value is invalid.
      UserError: the options are invalid or contradict each other.
    """
    define_flags()
    own = flags.FlagValues()
    for name in [*(field.name for field in dataclasses.fields(Config)), "preset"]:
        own[name] = flags.FLAGS[name]
    parsed = copy.deepcopy(own)  # Parsing must not change the flags of this process.
    parsed(["", *arguments])
    return from_flags(parsed)


def from_flags(flag_values: flags.FlagValues) -> Config:
    """Makes a Config from parsed flags: the preset, overridden by the flags that the command line sets.

    Raises:
      UserError: the options are invalid or contradict each other.
    """
    given = {
        field.name: flag_values[field.name].value
        for field in dataclasses.fields(Config)
        if flag_values[field.name].present
    }
    return Config.preset(flag_values.preset, **given)
