"""Defines an absl flag for each option of a run."""

import dataclasses
from collections.abc import Callable
from typing import Any

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config import registries
from cyclegan_tf.config.options import get_choices, get_value_type
from cyclegan_tf.config.run_options import FIELDS


def define(flag_values: flags.FlagValues) -> None:
    """Defines a flag for each option of a run; skips flags that are already defined."""
    for name, field in FIELDS.items():
        if name not in flag_values:
            text = field.metadata["help"]
            if field.metadata["registry"] is registries.MODELS:
                text = f"{text}. {_describe_defaults()}"
            _define(field, field.metadata["default"], text, flag_values)


def define_override(name: str, note: str) -> None:
    """Defines the flag of option `name` for a command whose model has the option; the flag's default is None.

    Args:
      note: follows the help text of the option, such as "default: as in the run".
    """
    field = FIELDS[name]
    _define(field, None, f"{field.metadata['help']}; {note}", flags.FLAGS)


def _define(field: dataclasses.Field, default: Any, text: str, flag_values: flags.FlagValues) -> None:
    definers: dict[type, Callable[..., Any]] = {
        bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string,
    }
    if choices := get_choices(field):
        flags.DEFINE_enum(field.name, default, choices, text, flag_values=flag_values)
    elif field.metadata["is_path"]:
        cli.define_path(field.name, default, text, flag_values)
    else:
        definers[get_value_type(field)](field.name, default, text, flag_values=flag_values)


def _describe_defaults() -> str:
    """The defaults that models change, as a text for --help."""
    changed = {name: registries.MODELS[name].defaults for name in registries.MODELS}
    return "Some models change defaults: " + "; ".join(
        f"{name}: " + ", ".join(f"--{option}={value}" for option, value in defaults.items())
        for name, defaults in changed.items() if defaults
    )
