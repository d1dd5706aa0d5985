"""The two directions in which a model translates between the domains A and B."""

import enum
from typing import Literal, TypeVar

from cyclegan_tf.errors import UserError

_T = TypeVar("_T")

Domain = Literal["a", "b"]
DOMAINS: tuple[Domain, Domain] = ("a", "b")


class Direction(str, enum.Enum):  # noqa: UP042 - Python 3.10 has no StrEnum.
    """A direction of translation. Each member equals its text, "a2b" or "b2a", in comparisons, dict keys and JSON."""

    A2B = "a2b"
    B2A = "b2a"

    def __str__(self) -> str:
        return self.value

    @classmethod
    def parse(cls, text: str) -> "Direction":
        """The direction written "a2b" or "b2a".

        Raises:
          UserError: `text` is neither.
        """
        try:
            return cls(text)
        except ValueError as error:
            raise UserError(f"direction {text!r} is unknown: expected a2b or b2a") from error

    @classmethod
    def find_in_name(cls, name: str) -> "Direction | None":
        """The direction that a file or folder name begins with ("b2a-float16.tflite" is B2A), or None."""
        return next((direction for direction in cls if name.startswith(direction.value)), None)

    @property
    def source(self) -> Domain:
        """The domain that images come from."""
        return "a" if self is Direction.A2B else "b"

    @property
    def target(self) -> Domain:
        """The domain that images are translated to."""
        return self.reverse.source

    @property
    def generator(self) -> str:
        """Name of the generator network: gen_ab or gen_ba."""
        return f"gen_{self.source}{self.target}"

    @property
    def reverse(self) -> "Direction":
        """The opposite direction."""
        return Direction.B2A if self is Direction.A2B else Direction.A2B

    def order(self, of_a: _T, of_b: _T) -> tuple[_T, _T]:
        """Returns the values of the (source, target) domain, given the values of A and B."""
        return (of_a, of_b) if self is Direction.A2B else (of_b, of_a)
