"""Names of the two domains of a run, for pictures and web pages."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cyclegan_tf.config.config import Config

LONGEST_NAME = 40  # Characters; longer names do not fit above a column of pictures.
# Names of the images in trainA and trainB of the data sets whose own names do not say what they contain.
_NAMES = {
    "demo": ("apple", "orange"),
    "demo_maps": ("satellite image", "map"),
    "demo_pairs": ("satellite image", "map"),
    "facades": ("facade", "label map"),
    "maps": ("aerial photo", "map"),
    "iphone2dslr_flower": ("iPhone photo", "DSLR photo"),
    "summer2winter_yosemite": ("summer", "winter"),
}
_TWO_NAMES = re.compile(r"([^\W\d]+)2([^\W\d]+)")


class DomainNames(NamedTuple):
    """The names of the domains A and B of a run."""

    a: str
    b: str


def find_names(config: "Config") -> DomainNames:
    """Finds the names of a run's domains.

    A name is --name_a or --name_b, else a part of the data set's name (horse2zebra, or a folder runs/horse2zebra), else
    A or B. --direction=b2a swaps the names that come from the data set.
    """
    folder = re.split(r"[/\\]", config.dataset.rstrip("/\\"))[-1].removesuffix(".zip")
    match = _TWO_NAMES.fullmatch(folder)
    found = ("A", "B")
    if folder in _NAMES:
        found = _NAMES[folder]
    elif match and all(len(name) <= LONGEST_NAME for name in match.groups()):
        found = (match[1].replace("_", " "), match[2].replace("_", " "))
    if config.direction == "b2a" and found != ("A", "B"):
        found = found[::-1]
    return DomainNames(config.name_a or found[0], config.name_b or found[1])


def find_name_conflicts(config: "Config") -> Iterator[str]:
    """Yields a message for each of --name_a and --name_b that cannot be shown."""
    for flag, name in (("name_a", config.name_a), ("name_b", config.name_b)):
        if not name.isprintable():
            yield f"--{flag}={name!a} has characters that cannot be shown; use printable characters"
        elif len(name) > LONGEST_NAME:
            yield f"--{flag}={name} has {len(name)} characters; use at most {LONGEST_NAME}"
    names = find_names(config)
    if names.a == names.b and (config.name_a or config.name_b):
        yield f"domains A and B are both called {names.a}; set --name_a and --name_b to different names"
