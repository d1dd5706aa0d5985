"""How a field of `Config` is declared and validated."""

import dataclasses
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

from cyclegan_tf.config.registries import Registry
from cyclegan_tf.errors import UserError
from cyclegan_tf.storage import path_checks

_T = TypeVar("_T")


class _Unset:
    def __repr__(self) -> str:
        return "DEFAULT"


# The value of an option that the caller of `Config` has not set. A field of a dataclass has one default, but the
# default of an option depends on the model; `Config` replaces this value by the right one.
UNSET: Any = _Unset()

# TensorFlow counts pixels and the like in 32 bits.
LARGEST_INTEGER = 2**31 - 1


def option(
    default: _T, text: str, *, minimum: float | None = None, maximum: float | None = None, below: float | None = None,
    may_differ: bool = False, per_machine: bool = False, registry: Registry | None = None, is_path: bool = False,
    is_list: bool = False, check: Callable[[str, str], object] | None = None, section: str = "",
) -> _T:
    """Declares an option. Its field's type must be bool, int, float, str or a `Literal` of strings.

    Args:
      default: the value if neither a flag nor config.json nor the registration of the model sets the option.
      text: the help text of the flag.
      minimum: the smallest valid number.
      maximum: the largest valid number; for integers LARGEST_INTEGER by default.
      below: a limit that numbers must not reach, not even when they are rounded to 32 bits.
      may_differ: whether a resumed run may change the option: options that do not affect the numbers, and the length
        of the run.
      per_machine: whether the option may differ between the workers of a run, because the option is about a machine's
        own files and memory.
      registry: the registry whose names are the valid values.
      is_path: whether the value may be a path; the flag then replaces a ~ at its start by the home folder.
      is_list: whether the value is a list of names separated by commas; see `split_names`.
      check: called with the option's name and value; raises a UserError if the value is invalid.
      section: the title of the group of options that begins with this option; if empty, the option is in the group of
        the option before.
    """
    metadata = {
        "default": default, "help": text, "minimum": minimum, "maximum": maximum, "below": below,
        "may_differ": may_differ, "per_machine": per_machine, "registry": registry, "is_path": is_path,
        "is_list": is_list, "check": check, "section": section,
    }
    return dataclasses.field(default=UNSET, metadata=metadata)


def get_choices(field: dataclasses.Field) -> tuple[str, ...]:
    """The valid values of a field whose type is a `Literal` or that has a registry; empty for any other field."""
    if field.metadata["registry"] is not None:
        return tuple(field.metadata["registry"])
    return get_args(field.type) if get_origin(field.type) is Literal else ()


def get_value_type(field: dataclasses.Field) -> type:
    """The type of the field's values: bool, int, float or str."""
    return type(field.metadata["default"])


def validate(field: dataclasses.Field, value: Any) -> Any:
    """Checks an option's value, as its declaration says; returns the value, with an integer for a float converted.

    Raises:
      UserError: the value is invalid; the message names the flag.
    """
    expected, flag = get_value_type(field), f"--{field.name}={value}"
    if type(value) is int and expected is float:
        value = float(value) if abs(value) < 2**1023 else math.inf
    if type(value) is not expected:
        raise UserError(f"--{field.name}={value!r} must be of type {expected.__name__}")
    if isinstance(value, str):
        path_checks.require_utf8(field.name, value)
        if field.metadata["is_list"]:
            split_names(field.name, value)  # Raises for an empty name.
    registry, choices = field.metadata["registry"], get_choices(field)
    if registry is not None:
        registry[value]  # Raises for an unknown name.
    if choices and value not in choices:
        raise UserError(f"{flag}: expected one of {', '.join(choices)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{flag} must be a finite number")
    if isinstance(value, int | float):
        _validate_limits(flag, value, field.metadata["minimum"], field.metadata["maximum"], field.metadata["below"])
    if check := field.metadata["check"]:
        check(field.name, value)
    return value


def split_names(option: str, value: str) -> list[str]:
    """Returns the names in `value`, which commas separate and spaces may surround; none for an empty value.

    Raises:
      UserError: a name is empty; the message begins with the flag of `option`.
    """
    names = [name.strip() for name in value.split(",")] if value else []
    if "" in names:
        raise UserError(f"--{option}={value}: a name is empty; remove the comma beside it")
    return names


def require_names(option: str, text: str, known: Sequence[str], unique: bool = False) -> list[str]:
    """Splits `text` into names with `split_names`; raises a UserError for an invalid name.

    Args:
      option: the name of the option, for error messages.
      text: names separated by commas.
      known: the valid names.
      unique: whether a name that is given twice is an error.

    Raises:
      UserError: a name is empty, is not in `known`, or is given twice.
    """
    names = split_names(option, text)
    if wrong := [name for name in names if name not in known or (unique and names.count(name) > 1)]:
        raise UserError(
            f"--{option}={text}: {'repeated' if wrong[0] in known else 'unknown'} {wrong[0]}; expected any of "
            f"{', '.join(known)}{', each once at most' if unique else ''}"
        )
    return names


def _validate_limits(
    flag: str, value: float, minimum: float | None, maximum: float | None, below: float | None
) -> None:
    if maximum is None and isinstance(value, int):
        maximum = LARGEST_INTEGER
    if minimum is not None and value < minimum:
        raise UserError(f"{flag} must be at least {minimum}")
    if maximum is not None and value > maximum:
        raise UserError(f"{flag} must be at most {maximum}")
    if below is not None and value >= below:
        raise UserError(f"{flag} must be below {below}")
    if below is not None and struct.unpack("f", struct.pack("f", value))[0] >= below:
        raise UserError(f"{flag} becomes {below} when TensorFlow rounds the number to 32 bits; give a smaller one")
