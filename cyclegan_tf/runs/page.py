"""index.html of a run directory: samples over time, held-out images, measures, curves and options.

The page links to the images in the run's samples/ and gallery/ by relative paths and contains everything else.
"""

import dataclasses
import html
import json
import os
import re
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Any

from cyclegan_tf.config import Config, domains
from cyclegan_tf.runs import directory, metrics_log, page_charts, page_measures, sample_files
from cyclegan_tf.storage import atomic, filesystem

RESULTS = "gallery"  # Folder with the translated images and results.json.
# Keys of a row of results.json; all values are text.
_ROW_KEYS = ("direction", "name", "split", "before", "after", "truth", "difference")
_OPTIONAL_KEYS = ("split", "truth", "difference")


def write(workdir: str) -> str:
    """Writes WORKDIR/index.html from the contents of the run directory; returns its path.

    Damaged results and records are left out, and the page says so.

    Raises:
      UserError: `workdir` is not a run directory, or its config.json is damaged.
    """
    config = Config.load(workdir)
    names = domains.find_names(config)
    notes: list[str] = []
    records = metrics_log.read_records(workdir, notes.append)
    samples = sample_files.list_samples(workdir)
    results = _read_results(workdir, notes.append)
    steps = max([*(record["step"] for record in records), *(sample.step for sample in samples)], default=0)
    data = {
        "names": names, "results": results, **_share_layouts(samples),
        "charts": page_charts.collect_training_charts(records, names),
        "measures": page_charts.collect_measures(records, names),
    }
    back = " and back" if len(config.directions) == 2 else ""
    text = _fill(
        resources.files("cyclegan_tf.runs").joinpath("page.html").read_text(encoding="utf-8"),
        title=html.escape(directory.find_name(workdir)),
        summary=html.escape(f"{config.model} on {config.dataset}: {names.a} to {names.b}{back}, {steps:,} steps"),
        notes="".join(f"<p class='note'>{html.escape(note)}</p>" for note in notes),
        shown=_describe_shown_images(results["rows"]),
        measures=page_measures.format_sections(records, names),
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


def _share_layouts(samples: Iterable[sample_files.Sample]) -> dict[str, Any]:
    """Stores each layout once, because most samples share one: {"samples", "layouts"}.

    The "layout" of a sample becomes an index of "layouts", or -1 if the sample has no layout.
    """
    layouts: list[sample_files.Layout] = []
    shared = []
    for sample in samples:
        if sample.layout and sample.layout not in layouts:
            layouts.append(sample.layout)
        shared.append(sample._asdict() | {"layout": layouts.index(sample.layout) if sample.layout else -1})
    return {"samples": shared, "layouts": [layout._asdict() for layout in layouts]}


def _read_results(workdir: str, report: Callable[[str], object]) -> dict[str, Any]:
    """Reads results.json: {"step", "rows"}; no rows if the file is missing or damaged."""
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


def _describe_shown_images(rows: Iterable[dict[str, str]]) -> str:
    """Returns the heading of the translated images. Rows of version 0.1.0 have no split and count as held-out."""
    splits = {row.get("split", "test") for row in rows}
    return {frozenset(["train"]): "Training images", frozenset(["train", "test"]): "Held-out and training images"}.get(
        frozenset(splits), "Held-out images"
    )


def _format_table(rows: Iterable[tuple[str, Any]]) -> str:
    lines = [f"<tr><th scope='row'>{html.escape(a)}</th><td>{html.escape(_format(b))}</td></tr>" for a, b in rows]
    return f"<table>{''.join(lines)}</table>"


def _format(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
