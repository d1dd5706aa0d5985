"""What one option of a `Config` is: a default, the text of its help, its limits, and whether it decides the numbers."""

import dataclasses

from cyclegan_tf.errors import UserError


def option(default, text, *, choices=None, minimum=None, may_differ=False):
    """A dataclass field with its flag help, its limits, and whether a resumed run may change it."""
    metadata = {"help": text, "choices": choices, "minimum": minimum, "may_differ": may_differ}
    return dataclasses.field(default=default, metadata=metadata)


def check(field, value):
    """Raises a UserError that names the flag unless `value` is of the dataclass field's type and within its limits."""
    kind = type(field.default)
    if isinstance(value, int) and kind is float:
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"--{field.name}={value!r} must be of type {kind.__name__}")
    choices, minimum = field.metadata["choices"], field.metadata["minimum"]
    if choices and value not in choices:
        raise UserError(f"--{field.name}={value} is none of: {', '.join(choices)}")
    # Written so that NaN fails too.
    if minimum is not None and not value >= minimum:
        raise UserError(f"--{field.name}={value} must be at least {minimum}")
