"""Flags of the options: each field of `Config` becomes one, and flags become a `Config`.

Flags exist only on the command line; everything below it takes a `Config`. This module imports no TensorFlow.
"""

import dataclasses

from absl import flags

from cyclegan_tf.config import Config
from cyclegan_tf.config.presets import PRESETS


def define_flags():
    """Defines one absl flag for each option, and --preset; names already defined are left alone."""
    for field in dataclasses.fields(Config):
        if field.name in flags.FLAGS:
            continue
        text = field.metadata["help"]
        if field.metadata["choices"]:
            flags.DEFINE_enum(field.name, field.default, field.metadata["choices"], text)
        else:
            define = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float,
                      str: flags.DEFINE_string}[type(field.default)]
            define(field.name, field.default, text)
    if "no_flip" not in flags.FLAGS:
        flags.DEFINE_bool("no_flip", False, "the same as --noflip, by the name that the authors' code has for it")
    if "preset" not in flags.FLAGS:
        flags.DEFINE_enum("preset", "default", sorted(PRESETS), "set of options that the other flags start from")


def from_arguments(arguments):
    """The Config of flags as the command line has them ("--ngf=8", "--flagfile=demo.flags").

    Raises:
      absl.flags.Error: an unknown flag, or a value that it does not take.
    """
    define_flags()
    own = flags.FlagValues()
    for name in [*(field.name for field in dataclasses.fields(Config)), "preset", "no_flip"]:
        own[name] = flags.FLAGS[name]
    parsed = own.__deepcopy__({})
    parsed(["", *arguments])
    return from_flags(parsed)


def from_flags(flag_values):
    """The Config that the command line asks for: the preset, with the flags given explicitly on top."""
    given = {
        field.name: flag_values[field.name].value
        for field in dataclasses.fields(Config)
        if flag_values[field.name].present
    }
    if flag_values.no_flip:
        given["flip"] = False
    return Config.preset(flag_values.preset, **given)
