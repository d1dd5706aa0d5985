"""How a field of `Config` is declared and validated."""

import dataclasses
from typing import Any, Literal, TypeVar, get_args, get_origin

from cyclegan_tf.errors import UserError

_T = TypeVar("_T")


def option(default: _T, text: str, *, minimum: float | None = None, may_differ: bool = False) -> _T:
    """Declares an option. Its field's type must be bool, int, float, str or a `Literal` of strings.

    Args:
      default: the value if neither a flag nor config.json sets the option.
      text: the help text of the flag.
      minimum: the smallest valid number.
      may_differ: whether a resumed run may change the option, because the option does not affect the run's numbers.
    """
    metadata = {"help": text, "minimum": minimum, "may_differ": may_differ}
    return dataclasses.field(default=default, metadata=metadata)


def get_choices(field: dataclasses.Field) -> tuple[str, ...]:
    """The valid values of a field whose type is a `Literal`; empty for any other field."""
    return get_args(field.type) if get_origin(field.type) is Literal else ()


def get_value_type(field: dataclasses.Field) -> type:
    """The type of the field's values: bool, int, float or str."""
    return type(field.default)


def validate(field: dataclasses.Field, value: Any) -> None:
    """Checks the type and the limits of an option's value. Integers are valid floats.

    Raises:
      UserError: the value is invalid; the message names the flag.
    """
    expected = get_value_type(field)
    if isinstance(value, int) and expected is float:
        value = float(value)
    if type(value) is not expected:
        raise UserError(f"--{field.name}={value!r} must be of type {expected.__name__}")
    choices, minimum = get_choices(field), field.metadata["minimum"]
    if choices and value not in choices:
        raise UserError(f"--{field.name}={value}: expected one of {', '.join(choices)}")
    # NaN must fail too, hence not `value < minimum`.
    if minimum is not None and not value >= minimum:
        raise UserError(f"--{field.name}={value} must be at least {minimum}")
