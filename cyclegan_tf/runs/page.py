"""index.html of a run directory: samples over time, held-out images, measures, curves and options.

The page links to the images in the run's samples/ and gallery/ by relative paths and contains everything else.
"""

import dataclasses
import html
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from typing import Any

from cyclegan_tf.config import Config
from cyclegan_tf.runs import metrics_log
from cyclegan_tf.runs.metrics_log import Record
from cyclegan_tf.storage import atomic, filesystem

RESULTS = "gallery"  # Folder with the translated images and results.json.
# Keys of a row of results.json; all values are text.
_ROW_KEYS, _OPTIONAL_KEYS = ("direction", "name", "split", "before", "after", "truth"), ("split", "truth")
_SAMPLE = re.compile(r"step-(\d+)\.png")
_MOST_POINTS = 1000  # Longer curves are thinned out.
_CHARTS = (
    ("Adversarial losses", re.compile(r"loss/(gen|disc)_.*")),
    ("Other losses", re.compile(r"loss/(?!gen_|disc_).*")),
    ("Mean discriminator outputs", re.compile(r"score/.*")),
    ("Gradient norms", re.compile(r"grad_norm/.*")),
)
_MEASURES = {
    "psnr": "PSNR of {} translations, in dB (higher is better)",
    "ssim": "SSIM of {} translations (higher is better, at most 1)",
    "ms_ssim": "MS-SSIM of {} translations (higher is better, at most 1)",
    "l1": "Mean absolute error of {} translations, range [-1, 1] (lower is better)",
    "lpips": "LPIPS of {} translations (lower is better)",
    "lpips_vgg": "LPIPS of {} translations with VGG16 (lower is better)",
    "fid": "FID of {} translations (lower is better)",
    "kid": "KID of {} translations (lower is better)",
    "cycle": "Mean absolute error of {} images translated there and back, range [-1, 1] (lower is better)",
    "identity": "Mean absolute change of {} images translated to their own domain, range [-1, 1] (lower is better)",
}
# Trivial translations by the names of `metrics.baselines`.
_BASELINES = {
    "input": "The input itself", "mean_color": "Mean color", "color_map": "Color map",
    "color_map_unfair": "Color map fitted to the truth (unfair)",
}
_BASELINES_HINT = (
    "The other columns are translations that only change colors. The mean color and the color map are computed from "
    "training images. A model that is no better than these has learned no more than a tint."
)
_WHICH = {"ab": "A to B", "ba": "B to A", "a": "A", "b": "B"}


def write(workdir: str) -> str:
    """Writes WORKDIR/index.html from the contents of the run directory; returns its path.

    Damaged results and records are left out, and the page says so.

    Raises:
      UserError: `workdir` is not a run directory, or its config.json is damaged.
    """
    config = Config.load(workdir)
    notes: list[str] = []
    records = metrics_log.read_records(workdir, notes.append)
    samples = _list_samples(os.path.join(workdir, "samples"))
    results = _read_results(workdir, notes.append)
    data = {"samples": samples, "results": results, "charts": _collect_charts(records)}
    steps = max([each["step"] for each in (*records, *samples)], default=0)
    text = _fill(
        resources.files("cyclegan_tf.runs").joinpath("page.html").read_text(encoding="utf-8"),
        title=html.escape(os.path.basename(os.path.abspath(workdir))),
        summary=html.escape(f"{config.model} on {config.dataset}, {steps} steps"),
        notes="".join(f"<p class='note'>{html.escape(note)}</p>" for note in notes),
        shown=_describe_shown_images(results["rows"]),
        measures=_format_measures(records),
        options=_format_table(dataclasses.asdict(config).items()),
        # A "</script>" inside a string would end the script element.
        data=json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
    )
    path = os.path.join(workdir, "index.html")
    with atomic.open_for_writing(path, "wb") as file:
        file.write(text.encode(errors="backslashreplace"))  # Names of folders need not be valid UTF-8.
    return path


def _fill(template: str, **values: str) -> str:
    # One pass over the template: placeholders inside a value stay as they are.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def _list_samples(folder: str) -> list[dict[str, Any]]:
    names = sorted(filesystem.listdir(folder)) if filesystem.isdir(folder) else []
    return [{"step": int(match[1]), "path": f"samples/{name}"} for name in names if (match := _SAMPLE.fullmatch(name))]


def _read_results(workdir: str, report: Callable[[str], object]) -> dict[str, Any]:
    """The contents of results.json; no rows if the file is missing or damaged."""
    path = os.path.join(workdir, RESULTS, "results.json")
    if not filesystem.exists(path):
        return {"step": 0, "rows": []}
    try:
        results = json.loads(filesystem.read_bytes(path).decode())
        rows = [
            {key: row[key] for key in _ROW_KEYS if key in row or key not in _OPTIONAL_KEYS} for row in results["rows"]
        ]
        if type(results["step"]) is not int or not all(isinstance(text, str) for row in rows for text in row.values()):
            raise TypeError("a value has the wrong type")
        return {"step": results["step"], "rows": rows}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        report(f"{path} is damaged ({error}): this page shows no translated images. Training rewrites the file when it "
               f"ends, and `cyclegan gallery --model={workdir}` at any time.")
        return {"step": 0, "rows": []}


def _collect_charts(records: Sequence[Record]) -> list[dict[str, Any]]:
    """[{"title", "lines": [{"name", "points": [[step, value], ...]}]}] from the training records."""
    train = [record for record in records if record["kind"] == "train"]
    train = train[:: -(-len(train) // _MOST_POINTS) or 1]
    names = list(dict.fromkeys(name for record in train for name in record))
    charts = []
    for title, pattern in _CHARTS:
        lines = [
            # JSON has no NaN.
            {"name": name.split("/")[1], "points": [
                [r["step"], r[name]] for r in train if math.isfinite(r.get(name, math.nan))
            ]}
            for name in names
            if pattern.fullmatch(name)
        ]
        if lines := [line for line in lines if line["points"]]:
            charts.append({"title": title, "lines": lines})
    return charts


def _describe_shown_images(rows: Iterable[dict[str, str]]) -> str:
    """The heading of the translated images. Runs of version 0.1.0 do not tell training images apart."""
    splits = {row.get("split", "test") for row in rows}
    return {frozenset(["train"]): "Training images", frozenset(["train", "test"]): "Held-out and training images"}.get(
        frozenset(splits), "Held-out images"
    )


def _format_measures(records: Sequence[Record]) -> str:
    """Formats the final measures of held-out images and of training images that take their place, each as a section."""
    sections = []
    for kind, images in ((metrics_log.FINAL, "held-out images"), (metrics_log.FINAL_OF_TRAINING, "training images")):
        last: Record = next((record for record in reversed(records) if record["kind"] == kind), {})
        values = {key: value for key, value in last.items() if key not in ("step", "kind")}
        if values:
            table = _format_measure_table(values, _read_baselines(records))
            sections.append(f"<h2>Measures on {images}</h2><div class=\"card\">{table}</div>")
    none = "<p class='none'>No measures yet. Training computes them when it ends.</p>"
    return "".join(sections) or f"<h2>Measures</h2><div class=\"card\">{none}</div>"


def _read_baselines(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """The final values of trivial translations: {measure: {baseline: value}}."""
    last = next((record for record in reversed(records) if record["kind"] == metrics_log.BASELINES), {})
    found: dict[str, dict[str, float]] = {}
    for key, value in last.items():
        measure, slash, baseline = key.partition("/")
        if slash:
            found.setdefault(measure, {})[baseline] = value
    return found


def _format_measure_table(values: dict[str, float], baselines: dict[str, dict[str, float]]) -> str:
    """A row per measure: the model's value and, if any of the measures has them, those of trivial translations."""
    shown = {key: baselines.get(key, {}) for key in values}
    names = [name for name in _BASELINES if any(name in found for found in shown.values())]
    if not names:
        return _format_table((_describe_measure(key), f"{value:.4g}") for key, value in values.items())
    titles = ["Model", *(_BASELINES[name] for name in names)]
    head = "".join(f"<th scope='col'>{html.escape(title)}</th>" for title in titles)
    lines = [f"<tr><td></td>{head}</tr>"]
    for key, value in values.items():
        numbers = [value, *(shown[key].get(name) for name in names)]
        cells = "".join(f"<td>{'' if number is None else f'{number:.4g}'}</td>" for number in numbers)
        lines.append(f"<tr><th scope='row'>{html.escape(_describe_measure(key))}</th>{cells}</tr>")
    return f"<div class='wide'><table>{''.join(lines)}</table></div><p class='hint'>{_BASELINES_HINT}</p>"


def _describe_measure(key: str) -> str:
    measure, _, which = key.rpartition("_")
    return _MEASURES[measure].format(_WHICH[which]) if measure in _MEASURES and which in _WHICH else key


def _format_table(rows: Iterable[tuple[str, Any]]) -> str:
    lines = [f"<tr><th scope='row'>{html.escape(a)}</th><td>{html.escape(_format(b))}</td></tr>" for a, b in rows]
    return f"<table>{''.join(lines)}</table>"


def _format(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
