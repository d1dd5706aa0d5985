"""Command-line flags of the options: one absl flag for each field of `Config`, and --preset.

Only the commands know flags; all other code takes a `Config`. This module imports no TensorFlow.
"""

import logging
from collections.abc import Sequence
from typing import Any

from absl import flags

from cyclegan_tf.config import field_flags, plugins, presets
from cyclegan_tf.config.config import Config
from cyclegan_tf.config.options import validate
from cyclegan_tf.config.run_options import FIELDS

log = logging.getLogger("cyclegan_tf")


def group_options() -> dict[str, list[str]]:
    """The names of all options by the title of their group, in the order of the fields of `Config`."""
    groups: dict[str, list[str]] = {}
    for field in FIELDS.values():
        if title := field.metadata["section"]:
            groups[title] = names = []
        names.append(field.name)
    return groups


def define_flags(arguments: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Imports the plugins that `arguments` name, then defines a flag for each option, and --preset.

    Skips flags that are already defined. --helpfull lists the names that the plugins register.

    Raises:
      UserError: a plugin cannot be imported.
    """
    plugins.import_plugins(_find_plugins(arguments))
    field_flags.define(flag_values)
    if "preset" not in flag_values:
        flags.DEFINE_enum(
            "preset", None, presets.NAMES,
            f"named set of option values, which other options override. {presets.describe()}", flag_values=flag_values,
        )


def _find_plugins(arguments: Sequence[str]) -> str:
    """Reads --plugins from the command line or a flagfile, before the other flags are defined."""
    found = flags.FlagValues()
    flags.DEFINE_string("plugins", "", "", flag_values=found)
    try:
        found(["", *arguments], known_only=True)
    except (flags.Error, ValueError):  # Parsing all flags reports the error.
        return ""
    return found["plugins"].value or ""


def from_arguments(arguments: Sequence[str]) -> Config:
    """Parses command-line arguments, such as ["--ngf=8", "--flagfile=experiments/discogan.flags"].

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

    Warns if flags set epochs, but the preset sets the length of the run in steps.

    Raises:
      UserError: the options are invalid or contradict each other.
    """
    given: dict[str, Any] = {
        name: flag_values[name].value for name in FIELDS if flag_values[name].present
    }
    if not flag_values.preset:
        return Config(**given)
    config = Config.preset(flag_values.preset, **given)
    epochs = [f"--{name}" for name in ("n_epochs", "n_epochs_decay") if name in given]
    if epochs and config.max_steps and "max_steps" not in given:
        log.warning("--preset=%s sets --max_steps=%d, so %s changes the learning rate, not the length of the run; add "
                    "--max_steps=0 to train for epochs", flag_values.preset, config.max_steps, " with ".join(epochs))
    return config


def read_overrides(*names: str) -> dict[str, Any]:
    """Returns the values of the options `names` that the command line sets; see `field_flags.define_override`.

    Raises:
      UserError: a value is invalid.
    """
    given = (name for name in names if flags.FLAGS[name].present)
    return {name: validate(FIELDS[name], flags.FLAGS[name].value) for name in given}
