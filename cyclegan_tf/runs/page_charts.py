"""The charts of a run's page: losses and other training values, and the measures over time, with names in words."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cyclegan_tf.config.direction import Direction
from cyclegan_tf.config.domains import DomainNames
from cyclegan_tf.runs import metrics_log, page_measures
from cyclegan_tf.runs.metrics_log import Record

_MOST_POINTS = 1000  # Longer curves are thinned out.


class _Chart(NamedTuple):
    """A chart of training records.

    Attributes:
      pattern: matches the names of its values.
      title, hint: what the chart shows, and how to read it.
    """

    pattern: re.Pattern
    title: str
    hint: str


_CHARTS = (
    _Chart(re.compile(r"loss/(gen|disc)_.*"), "Generators against discriminators",
           "The two sides should stay in balance. A discriminator whose loss stays close to 0 tells every translation "
           "from a real image, and its generator learns little from it."),
    _Chart(re.compile(r"loss/cycle_.*"), "Images translated there and back",
           "How far images are from themselves after both translations. This loss should fall."),
    _Chart(re.compile(r"loss/identity_.*"), "Images that need no translation",
           "How much a generator changes images of its target domain. This loss should fall."),
    _Chart(re.compile(r"loss/.*"), "Other losses", "The generators minimize the sum of all their losses."),
    _Chart(re.compile(r"score/.*"), "Scores of the discriminators",
           "The mean scores of real and of translated images. Close scores mean that the discriminators can hardly "
           "tell translations from real images."),
    _Chart(re.compile(r"grad_norm/.*"), "Gradient norms",
           "The size of the gradient of each network's loss. Peaks that are many times higher than the rest are a sign "
           "of unstable training."),
)


def collect_training_charts(records: Sequence[Record], names: DomainNames) -> list[dict[str, Any]]:
    """Collects the charts of the training records: at most 1000 records, evenly spaced.

    Returns:
      [{"title", "hint", "lines": [{"name", "points": [(step, value), ...]}]}].
    """
    train = [record for record in records if record["kind"] == metrics_log.TRAIN]
    train = train[:: -(-len(train) // _MOST_POINTS) or 1]
    left = list(dict.fromkeys(name for record in train for name in record))
    charts = []
    for chart in _CHARTS:
        chosen = [name for name in left if chart.pattern.fullmatch(name)]
        left = [name for name in left if name not in chosen]
        lines = [
            {"name": _describe_value(name, names), "points": points}
            for name in chosen if (points := _collect_points(train, name))
        ]
        if lines:
            charts.append({"title": chart.title, "hint": chart.hint, "lines": lines})
    return charts


def _collect_points(records: Iterable[Record], name: str) -> list[tuple[int, float]]:
    """Lists (step, value) of each record with a finite value `name`; JSON has neither NaN nor infinity."""
    return [(each["step"], each[name]) for each in records if math.isfinite(each.get(name, math.nan))]


def _describe_value(name: str, names: DomainNames) -> str:
    """Names a loss, a score or a gradient norm in words; an unknown value keeps its name without the first part."""
    what = name.partition("/")[2]
    words = {
        "loss/generators": "all losses of the generators", "loss/l1": "difference from the truth",
        "loss/nce": "patches of input and translation",
        "loss/nce_identity": "patches of images that need no translation",
    }
    for direction in Direction:
        source_name, target_name = direction.order(*names)
        source = direction.source
        words |= {
            f"loss/cycle_{source}": f"{source_name} to {target_name} and back", f"loss/identity_{source}": source_name,
            f"score/real_{source}": f"real {source_name}", f"score/fake_{source}": f"translated to {source_name}",
        }
        for kind in ("loss", "grad_norm"):
            words[f"{kind}/{direction.generator}"] = f"generator: {source_name} to {target_name}"
            words[f"{kind}/disc_{source}"] = f"discriminator: {source_name}"
    return words.get(name, what)


def collect_measures(records: Sequence[Record], names: DomainNames) -> list[dict[str, Any]]:
    """Collects the charts of measures with values at two or more steps, in the form of `collect_training_charts`."""
    charts: dict[str, dict[str, Any]] = {}
    for kinds in (metrics_log.HELD_OUT_KINDS, metrics_log.TRAINING_KINDS):
        chosen = [record for record in records if record["kind"] in kinds]
        for key in dict.fromkeys(key for record in chosen for key in record if key not in ("step", "kind")):
            values = dict(_collect_points(chosen, key))
            if len(values) < 2:
                continue
            title, unit, subject = page_measures.describe(key, names)
            chart = charts.setdefault(title, {"title": title, "hint": unit, "lines": []})
            chart["lines"].append({"name": subject or title, "points": list(values.items())})
    return list(charts.values())
