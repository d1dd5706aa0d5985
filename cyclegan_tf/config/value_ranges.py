"""Ranges of pixel values in their own unit, such as Hounsfield units: the options range_a, range_b and window."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

from cyclegan_tf.errors import UserError

# Values are integers if the bounds of their range are whole numbers at least this far apart, and otherwise fractions.
_WHOLE_STEPS = 255
_PERCENTILE = "percentile:"


@dataclasses.dataclass(frozen=True)
class ValueRange:
    """The values that stand for -1 and 1 inside the networks.

    Attributes:
      low: becomes -1; smaller values are clipped.
      high: becomes 1; larger values are clipped.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("low", "high"):  # Integers of Python 3.11 have no method is_integer.
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def is_whole(self) -> bool:
        """True if the values are integers: both bounds are whole numbers at least 255 apart."""
        return self.low.is_integer() and self.high.is_integer() and self.high - self.low >= _WHOLE_STEPS

    def __str__(self) -> str:
        return f"{_format(self.low)},{_format(self.high)}"


@dataclasses.dataclass(frozen=True)
class Units:
    """The ranges of the images that a generator takes and gives; None for images whose files define their range."""

    source: ValueRange | None = None
    target: ValueRange | None = None

    def __bool__(self) -> bool:
        return self.source is not None or self.target is not None

    def to_lists(self) -> dict[str, list[float]]:
        """{"source": [low, high], "target": [low, high]} without the ranges that are None: metadata of exports."""
        ranges = {"source": self.source, "target": self.target}
        return {name: [limits.low, limits.high] for name, limits in ranges.items() if limits is not None}

    @classmethod
    def from_lists(cls, ranges: Mapping[str, Sequence[float]]) -> "Units":
        """Returns the units from which `to_lists` makes `ranges`.

        Raises:
          ValueError, TypeError: `ranges` is not a result of `to_lists`.
        """
        return cls(**{name: ValueRange(*map(float, limits)) for name, limits in ranges.items()})


NO_UNITS = Units()


@dataclasses.dataclass(frozen=True)
class RangeOption:
    """The parsed value of --range_a or --range_b.

    Attributes:
      percentiles: the lower and the upper percentile of the training images that define the range; None if the user
        gave the range itself.
      value: the range; None if it is still to be measured.
    """

    percentiles: tuple[float, float] | None = None
    value: ValueRange | None = None


def parse_range(flag: str, text: str) -> RangeOption:
    """Parses LOW,HIGH, or percentile:P,Q, or percentile:P,Q=LOW,HIGH of a run that has measured its percentiles.

    Args:
      flag: name of the option, for error messages.
      text: empty for images whose files define their range: 8 and 16 bits, and floats in [-1, 1].

    Raises:
      UserError: the text has another form, or the bounds are reversed.
    """
    if not text:
        return RangeOption()
    if not text.startswith(_PERCENTILE):
        return RangeOption(None, ValueRange(*_parse_bounds(flag, text, text)))
    request, separator, measured = text.removeprefix(_PERCENTILE).partition("=")
    low, high = _parse_bounds(flag, text, request)
    if low < 0 or high > 100:
        raise UserError(f"--{flag}={text}: percentiles must be in 0 .. 100, as in --{flag}=percentile:1,99")
    return RangeOption((low, high), ValueRange(*_parse_bounds(flag, text, measured)) if separator else None)


def record_range(text: str, value: ValueRange) -> str:
    """The text percentile:P,Q with the range that was measured, for config.json."""
    return f"{text}={value}"


def is_record_of(stored: str, text: str) -> bool:
    """True if `stored` is the text of `record_range` for the option value `text`."""
    request, record = parse_range("range", text), parse_range("range", stored)
    is_request = request.percentiles is not None and request.value is None
    return is_request and record.value is not None and record.percentiles == request.percentiles


def parse_window(flag: str, text: str) -> tuple[ValueRange | None, ValueRange | None]:
    """Parses CENTER,WIDTH, or CENTER,WIDTH/CENTER,WIDTH for A and B; the part of A or of B may be empty.

    Args:
      flag: name of the option, for error messages.
      text: empty for the whole range.

    Returns:
      The values that pictures show as black and as white, of A and of B; None for a domain without a window.

    Raises:
      UserError: the text has another form, or a width is not positive.
    """
    of_a, separator, of_b = text.partition("/")
    return _parse_one_window(flag, text, of_a), _parse_one_window(flag, text, of_b if separator else of_a)


def _parse_one_window(flag: str, text: str, part: str) -> ValueRange | None:
    if not part:
        return None
    numbers = _parse_numbers(part)
    if numbers is None:
        raise UserError(f"--{flag}={text}: expected CENTER,WIDTH, as in --{flag}=40,400, or CENTER,WIDTH/CENTER,WIDTH "
                        "for A and B")
    center, width = numbers
    if width <= 0:
        raise UserError(f"--{flag}={text}: the width {_format(width)} is not above 0; give CENTER,WIDTH, as in "
                        f"--{flag}=40,400")
    return ValueRange(center - width / 2, center + width / 2)


def _parse_bounds(flag: str, text: str, part: str) -> tuple[float, float]:
    numbers = _parse_numbers(part)
    if numbers is None:
        raise UserError(f"--{flag}={text}: expected LOW,HIGH, as in --{flag}=-1024,3071, or percentile:LOW,HIGH, as in "
                        f"--{flag}=percentile:1,99")
    if numbers[0] == numbers[1]:
        raise UserError(f"--{flag}={text}: both bounds are {_format(numbers[0])}; give two different ones")
    if numbers[0] > numbers[1]:
        raise UserError(f"--{flag}={text}: {_format(numbers[0])} is not below {_format(numbers[1])}; give the lower "
                        "bound first")
    return numbers


def _parse_numbers(text: str) -> tuple[float, float] | None:
    """Two finite numbers that are separated by a comma, or None."""
    number = r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
    found = re.fullmatch(f"{number},{number}", text)
    if not found:
        return None
    low, high = map(float, found.groups())
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _format(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
