"""The measures of a run in words, and as a table of its page."""

import html
from collections.abc import Sequence
from typing import Literal, NamedTuple

from cyclegan_tf.config.direction import Direction
from cyclegan_tf.config.domains import DomainNames
from cyclegan_tf.runs import metrics_log
from cyclegan_tf.runs.metrics_log import Record


class _Measure(NamedTuple):
    """The words for a measure.

    Attributes:
      title: the name of the measure.
      unit: the unit or range of the values, and which values are better.
      subject: what is measured: "translation", "cycle" (there and back), or "domain" (the images of a domain).
    """

    title: str
    unit: str
    subject: Literal["translation", "cycle", "domain"] = "translation"


_DIFFERENCE = "mean absolute difference of values in [-1, 1], lower is better"
_MEASURES = {
    "psnr": _Measure("PSNR", "dB, higher is better"),
    "ssim": _Measure("SSIM", "at most 1, higher is better"),
    "ms_ssim": _Measure("MS-SSIM", "at most 1, higher is better"),
    "l1": _Measure("Difference from the truth", _DIFFERENCE),
    "mae": _Measure("Mean absolute error", "in the unit of the images, lower is better"),
    "psnr_range": _Measure("PSNR over the range of values", "dB, higher is better"),
    "lpips": _Measure("LPIPS", "lower is better"),
    "lpips_vgg": _Measure("LPIPS with VGG16", "lower is better"),
    "fid": _Measure("FID", "lower is better"),
    "kid": _Measure("KID", "lower is better"),
    "cycle": _Measure("Cycle error", _DIFFERENCE, "cycle"),
    "identity": _Measure("Change of images that need no translation", _DIFFERENCE, "domain"),
}
# Trivial translations by the names of `metrics.baselines`.
_BASELINES = {
    "input": "The input itself", "mean_color": "Mean color", "color_map": "Color map",
    "color_map_unfair": "Color map fitted to the truth (unfair)",
}
_BASELINES_HINT = (
    "The other columns are trivial translations: the input itself, and translations that only change colors. The mean "
    "color and the color map come from training images. A model that is no better than the other columns has learned "
    "no more than a tint."
)


def format_sections(records: Sequence[Record], names: DomainNames) -> str:
    """Formats the newest measures of held-out images and of training images that take their place, each as a section.

    The final measures are the newest ones of a run that has ended.
    """
    sections = []
    for kinds, images in (
        (metrics_log.HELD_OUT_KINDS, "held-out images"),
        (metrics_log.TRAINING_KINDS, "training images"),
    ):
        last: Record = next((record for record in reversed(records) if record["kind"] in kinds), {})
        values = {key: value for key, value in last.items() if key not in ("step", "kind")}
        if values:
            table = _format_table(values, _read_baselines(records), _read_counts(records), names)
            title = f"Measures on {images}, after step {last['step']:,}"
            sections.append(f"<h2>{title}</h2><div class=\"card\">{table}</div>")
    none = "<p class='none'>No measures yet. Training computes them when it ends.</p>"
    return "".join(sections) or f"<h2>Measures</h2><div class=\"card\">{none}</div>"


def _read_counts(records: Sequence[Record]) -> dict[str, float]:
    """Returns the number of images behind each of the newest measures; empty for a run that did not record it."""
    return next((record for record in reversed(records) if record["kind"] in metrics_log.COUNTS_KINDS), {})


def _read_baselines(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Returns the final values of trivial translations: {measure: {baseline: value}}."""
    last = next((record for record in reversed(records) if record["kind"] == metrics_log.BASELINES), {})
    found: dict[str, dict[str, float]] = {}
    for key, value in last.items():
        measure, slash, baseline = key.partition("/")
        if slash:
            found.setdefault(measure, {})[baseline] = value
    return found


def _format_table(
    values: dict[str, float], baselines: dict[str, dict[str, float]], counts: dict[str, float], names: DomainNames
) -> str:
    """Formats a row per measure: the values of the model and of trivial translations, and the number of images.

    Columns in which all cells would be empty are left out.
    """
    shown = {key: baselines.get(key, {}) for key in values}
    trivial = [name for name in _BASELINES if any(name in found for found in shown.values())]
    columns: dict[str, list[str]] = {"Model": [f"{value:.4g}" for value in values.values()]}
    for name in trivial:
        columns[_BASELINES[name]] = ["" if name not in found else f"{found[name]:.4g}" for found in shown.values()]
    if any(key in counts for key in values):
        columns["Images"] = [f"{counts[key]:.0f}" if key in counts else "" for key in values]
    head = "".join(f"<th scope='col'>{html.escape(title)}</th>" for title in columns)
    lines = [f"<tr><td></td>{head}</tr>"]
    for key, *cells in zip(values, *columns.values(), strict=True):
        title, unit, subject = map(html.escape, describe(key, names))
        label = f"{title}{subject and f', {subject}'}{unit and f' <small>{unit}</small>'}"
        lines.append(f"<tr><th scope='row'>{label}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    hint = f"<p class='hint'>{_BASELINES_HINT}</p>" if trivial else ""
    return f"<div class='wide'><table>{''.join(lines)}</table></div>{hint}"


def describe(key: str, names: DomainNames) -> tuple[str, str, str]:
    """Describes a measure of metrics.jsonl: (title, unit, subject); the title of an unknown measure is its key."""
    name, _, which = key.rpartition("_")
    measure = _MEASURES.get(name)
    subjects = {}
    for direction in Direction:
        source_name, target_name = direction.order(*names)
        subjects[f"{direction.source}{direction.target}"] = {"translation": f"{source_name} to {target_name}"}
        subjects[direction.source] = {"cycle": f"{source_name} to {target_name} and back", "domain": source_name}
    subject = subjects.get(which, {}).get(measure.subject) if measure else None
    return (measure.title, measure.unit, subject) if measure and subject else (key, "", "")
