"""Records as lines of JSON, which has no numbers for infinity and NaN (RFC 8259, section 6)."""

import json
import math
from collections.abc import Mapping
from typing import Any

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def format_line(record: Mapping[str, Any]) -> str:
    """Returns the record as a line of JSON with the strings "NaN", "Infinity" and "-Infinity" for such floats.

    Python's `float` and JavaScript's `Number` convert the three strings to the floats.
    """
    return json.dumps(_replace_not_finite(record), allow_nan=False) + "\n"


def _replace_not_finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _replace_not_finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_not_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(float(value))  # Python spells the float like the string.
    return value


def parse_number(value: Any) -> Any:
    """Returns the float for which `format_line` writes the string `value`; returns any other value unchanged."""
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
