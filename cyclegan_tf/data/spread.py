"""Chooses a few images that stand for a whole list."""

import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

_T = TypeVar("_T")


def load(count: int, limit: int, load_one: Callable[[int], _T | None]) -> Iterator[tuple[int, _T]]:
    """Yields (index, load_one(index)) for up to `limit` of `count` indices that are spread evenly.

    The next free index replaces an index for which `load_one` returns None.
    """
    tried: set[int] = set()
    for start in choose(count, limit):
        for index in itertools.chain(range(start, count), range(start)):
            if index in tried:
                continue
            tried.add(index)
            if (loaded := load_one(index)) is not None:
                yield index, loaded
                break


def choose(count: int, wanted: int) -> list[int]:
    """Chooses `wanted` of `count` indices, evenly spaced from 0; all indices if `count` is smaller."""
    wanted = min(count, wanted)
    return [number * count // wanted for number in range(wanted)]
