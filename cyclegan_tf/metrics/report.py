"""The results of an evaluation as text: a table, keys, and notes on measures that were left out or mean little."""

import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cyclegan_tf.config.direction import Direction
from cyclegan_tf.metrics import baselines, kid
from cyclegan_tf.metrics.measures import Record
from cyclegan_tf.storage import atomic, json_lines

# Smallest number of images in each set for which values of a measure are comparable.
_ENOUGH_IMAGES = {"fid": 2048, "kid": 2 * kid.SUBSET_SIZE}
# How a measure of fewer images is unreliable.
_FEW_IMAGES = {"fid": "is biased upwards", "kid": "varies strongly"}


class Skipped(NamedTuple):
    """A measure that was left out in one direction.

    Attributes:
      name: one of `measures.NAMES`.
      direction: the direction.
      reason: a phrase without the name, such as "needs pairs: equal file names in testA and testB".
    """

    name: str
    direction: Direction
    reason: str


def format_skipped(skipped: Iterable[Skipped]) -> str:
    """Formats a line that says which measures were left out and why; groups measures with the same reason."""
    groups: dict[tuple[str, frozenset[Direction]], list[str]] = {}
    directions: dict[tuple[str, str], set[Direction]] = {}
    for name, direction, reason in skipped:
        directions.setdefault((name, reason), set()).add(direction)
    for (name, reason), found in directions.items():
        groups.setdefault((reason, frozenset(found)), []).append(name)
    parts = [
        f"{', '.join(names)}{f' in direction {min(found)}' if len(found) == 1 else ''} ({reason})"
        for (reason, found), names in groups.items()
    ]
    return f"left out {'; '.join(parts)}"


def list_warnings(records: Iterable[Record]) -> list[str]:
    """Returns a warning for each of FID and KID that was computed from too few images to be meaningful.

    FID is biased upwards (Binkowski et al. 2018, section 4), and its covariances are singular with fewer images than
    features. KID is unbiased, but its subsets are smaller than `kid.SUBSET_SIZE` with fewer than twice as many images.
    """
    fewest: dict[str, int] = {}
    for record in records:
        if record["metric"] in _ENOUGH_IMAGES:
            count = min(record["n"], record["n_reference"])
            fewest[record["metric"]] = min(count, fewest.get(record["metric"], count))
    return [
        f"{name} of {count} images means little, because it {_FEW_IMAGES[name]} with fewer than {_ENOUGH_IMAGES[name]} "
        "(docs/metrics.md): compare it only with values from the same images"
        for name, count in fewest.items() if count < _ENOUGH_IMAGES[name]
    ]


def format_key(metric: str, direction: Direction | str) -> str:
    """Formats the name of a measure and its direction for metrics.jsonl, such as psnr_ab, kid_ba or cycle_a."""
    direction = Direction(direction)
    # "cycle" and "identity" are named after the domain of the images that should come back unchanged.
    one_domain = {"cycle": direction.source, "identity": direction.target}
    return f"{metric}_{one_domain.get(metric, direction.source + direction.target)}"


def index_values(records: Iterable[Record]) -> dict[str, float]:
    """Returns the value of each record by its `format_key`."""
    return {format_key(record["metric"], record["direction"]): record["value"] for record in records}


def format_table(records: Iterable[Record]) -> str:
    """Formats records as a text table with aligned columns; each baseline has a column."""
    records = list(records)
    compared = [name for name in baselines.NAMES if any(name in record.get("baselines", {}) for record in records)]
    rows = [("metric", "direction", "value", "std", "n", *compared, "against")]
    for record in records:
        others = [record.get("baselines", {}).get(name) for name in compared]
        against = f"{record['n_reference']} real, {record['reference']}" if "reference" in record else ""
        if "real_target" in record:
            against = f"real: {record['real_source']:.3g} source, {record['real_target']:.3g} target"
        deviation = record.get("std")
        rows.append((record["metric"], str(record["direction"]), f"{record['value']:.5g}",
                     "" if deviation is None else f"{deviation:.3g}", str(record["n"]),
                     *("" if other is None else f"{other:.5g}" for other in others), against))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def write(records: Sequence[Record], path: str | None) -> None:
    """Writes records as JSON lines to a file, or to stdout if there is no path; prints their table on stderr.

    Raises:
      OSError: the file cannot be written; the lines are on stdout.
    """
    lines = list(map(json_lines.format_line, records))
    print(format_table(records), file=sys.stderr)
    if not path:
        sys.stdout.writelines(lines)
        return
    try:
        with atomic.open_for_writing(path) as file:
            file.writelines(lines)
    except OSError:
        sys.stdout.writelines(lines)
        raise
