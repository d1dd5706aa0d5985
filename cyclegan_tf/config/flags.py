"""Command-line flags of the options: one absl flag for each field of `Config`, and --preset.

Only the commands know flags; all other code takes a `Config`. This module imports no TensorFlow.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config import plugins, registries
from cyclegan_tf.config.config import Config
from cyclegan_tf.config.options import get_choices, get_value_type
from cyclegan_tf.config.presets import PRESETS


def define_flags(arguments: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Imports the plugins that `arguments` name, then defines a flag for each option, and --preset.

    Skips flags that are already defined. --help lists the names that the plugins register.

    Raises:
      UserError: a plugin cannot be imported.
    """
    plugins.import_plugins(_find_plugins(arguments))
    definers: dict[type, Callable[..., Any]] = {
        bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string,
    }
    for field in dataclasses.fields(Config):
        if field.name in flag_values:
            continue
        text, default = field.metadata["help"], field.metadata["default"]
        if field.metadata["registry"] is registries.MODELS:
            text = f"{text}. {_describe_defaults()}"
        if choices := get_choices(field):
            flags.DEFINE_enum(field.name, default, choices, text, flag_values=flag_values)
        elif field.metadata["is_path"]:
            cli.define_path(field.name, default, text, flag_values)
        else:
            definers[get_value_type(field)](field.name, default, text, flag_values=flag_values)
    if "preset" not in flag_values:
        flags.DEFINE_enum(
            "preset", "default", sorted(PRESETS), "named set of option values; other flags override it",
            flag_values=flag_values,
        )


def _find_plugins(arguments: Sequence[str]) -> str:
    """The value of --plugins, also in a flagfile, before the other flags are defined."""
    found = flags.FlagValues()
    flags.DEFINE_string("plugins", "", "", flag_values=found)
    try:
        found(["", *arguments], known_only=True)
    except (flags.Error, ValueError):  # Parsing all flags reports the error.
        return ""
    return found["plugins"].value or ""


def _describe_defaults() -> str:
    """The defaults that models change, as a text for --help."""
    changed = {name: registries.MODELS[name].defaults for name in registries.MODELS}
    return "Some models change defaults: " + "; ".join(
        f"{name}: " + ", ".join(f"--{option}={value}" for option, value in defaults.items())
        for name, defaults in changed.items() if defaults
    )


def from_arguments(arguments: Sequence[str]) -> Config:
    """Parses command-line arguments, such as ["--ngf=8", "--flagfile=demo.flags"].

    Raises:
      absl.flags.Error: a flag is unknown or its value is invalid.
      UserError: the options are invalid or contradict each other.
    """
    own = flags.FlagValues()  # Parsing must not change the flags of this process.
    define_flags(arguments, own)
    own(["", *arguments])
    return from_flags(own)


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
