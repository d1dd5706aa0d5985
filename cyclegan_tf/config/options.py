"""How a field of `Config` is declared and validated."""

import dataclasses
from typing import Any, Literal, TypeVar, get_args, get_origin

from cyclegan_tf.config.registries import Registry
from cyclegan_tf.errors import UserError

_T = TypeVar("_T")


class _Unset:
    def __repr__(self) -> str:
        return "DEFAULT"


# The value of an option that the caller of `Config` has not set. A field of a dataclass has one default, but the
# default of an option depends on the model; `Config` replaces this value by the right one.
UNSET: Any = _Unset()


def option(
    default: _T, text: str, *, minimum: float | None = None, may_differ: bool = False,
    registry: Registry | None = None,
) -> _T:
    """Declares an option. Its field's type must be bool, int, float, str or a `Literal` of strings.

    Args:
      default: the value if neither a flag nor config.json nor the registration of the model sets the option.
      text: the help text of the flag.
      minimum: the smallest valid number.
      may_differ: whether a resumed run may change the option, because the option does not affect the run's numbers.
      registry: the registry whose names are the valid values.
    """
    metadata = {
        "default": default, "help": text, "minimum": minimum, "may_differ": may_differ, "registry": registry
    }
    return dataclasses.field(default=UNSET, metadata=metadata)


def get_choices(field: dataclasses.Field) -> tuple[str, ...]:
    """The valid values of a field whose type is a `Literal` or that has a registry; empty for any other field."""
    if field.metadata["registry"] is not None:
        return field.metadata["registry"].names
    return get_args(field.type) if get_origin(field.type) is Literal else ()


def get_value_type(field: dataclasses.Field) -> type:
    """The type of the field's values: bool, int, float or str."""
    return type(field.metadata["default"])


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
    registry, choices, minimum = field.metadata["registry"], get_choices(field), field.metadata["minimum"]
    if registry is not None:
        registry[value]  # Raises for an unknown name.
    if choices and value not in choices:
        raise UserError(f"--{field.name}={value}: expected one of {', '.join(choices)}")
    # NaN must fail too, hence not `value < minimum`.
    if minimum is not None and not value >= minimum:
        raise UserError(f"--{field.name}={value} must be at least {minimum}")
