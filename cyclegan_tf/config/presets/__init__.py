"""Named sets of option values: --preset=NAME takes the options of the flagfile NAME.flags in this folder."""

from pathlib import Path
from typing import Any

from absl import flags

from cyclegan_tf.config import field_flags

_FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in _FOLDER.glob("*.flags")))


def read(name: str) -> dict[str, Any]:
    """The values that the preset sets, by the name of the option; `name` is one of `NAMES`."""
    flag_values = flags.FlagValues()
    field_flags.define(flag_values)
    flag_values(["", f"--flagfile={_FOLDER / name}.flags"])
    return {flag: flag_values[flag].value for flag in flag_values if flag_values[flag].present}


def describe() -> str:
    """The first line of each preset, as a text for --help."""
    return "; ".join(f"{name}: {_summarize(name)}" for name in NAMES)


def _summarize(name: str) -> str:
    with open(_FOLDER / f"{name}.flags", encoding="utf-8") as file:
        text = file.readline().removeprefix("# ").strip().removesuffix(".")
    return text[:1].lower() + text[1:]
