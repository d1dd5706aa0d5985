"""index.html of a run directory: samples over time, held-out results, curves, measures, options.

The page refers to the run's samples/ and gallery/ by relative paths, and holds everything else itself.
"""

import html
import json
import os
import re
from importlib import resources

from cyclegan_tf.config import Config
from cyclegan_tf.runs import metrics_log
from cyclegan_tf.storage import atomic, filesystem

RESULTS = "gallery"  # Folder of the held-out images, with results.json.
_SAMPLE = re.compile(r"step-(\d+)\.png")
_MOST_POINTS = 1000  # Of a curve; more are thinned out.
_CHARTS = (
    ("Adversarial losses", re.compile(r"loss/(gen|disc)_.*")),
    ("Other losses", re.compile(r"loss/(?!gen_|disc_).*")),
    ("Discriminators' mean scores", re.compile(r"score/.*")),
    ("Gradient norms", re.compile(r"grad_norm/.*")),
)
_MEASURES = {
    "psnr": "PSNR {} against the true image, dB (more is better)",
    "ssim": "SSIM {} against the true image (1 is equal)",
    "cycle": "Mean difference of {} from the image there and back, in units of [-1, 1]",
}


def write(workdir):
    """Writes WORKDIR/index.html from what the run directory holds; returns its path.

    Raises:
      UserError: it is no run directory.
    """
    config = Config.load(workdir)
    records = metrics_log.read_records(workdir)
    data = {
        "samples": _samples(os.path.join(workdir, "samples")),
        "results": _results(workdir),
        "charts": _charts(records),
    }
    steps = max([record["step"] for record in records] + [sample["step"] for sample in data["samples"]], default=0)
    name = os.path.basename(os.path.abspath(workdir))
    text = _fill(
        resources.files("cyclegan_tf.runs").joinpath("page.html").read_text(encoding="utf-8"),
        title=html.escape(name),
        summary=html.escape(f"{config.model} on {config.dataset}, {steps} steps"),
        measures=_table(_measures(records)),
        options=_table(json.loads(config.to_json()).items()),
        # "</script>" in a name must not end the script.
        data=json.dumps(data).replace("<", "\\u003c"),
    )
    path = os.path.join(workdir, "index.html")
    with atomic.open_for_writing(path) as file:
        file.write(text)
    return path


def _fill(template, **values):
    # In one pass, so that a value is never taken for a place.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def _samples(folder):
    names = sorted(filesystem.listdir(folder)) if filesystem.isdir(folder) else []
    return [{"step": int(match[1]), "path": f"samples/{name}"} for name in names if (match := _SAMPLE.fullmatch(name))]


def _results(workdir):
    path = os.path.join(workdir, RESULTS, "results.json")
    if not filesystem.exists(path):
        return {"step": 0, "rows": []}
    with filesystem.open_for_reading(path) as file:
        return json.load(file)


def _charts(records):
    """[{"title", "lines": [{"name", "points": [[step, value], ...]}]}] of the train records."""
    train = [record for record in records if record["kind"] == "train"]
    train = train[:: -(-len(train) // _MOST_POINTS) or 1]
    names = list(dict.fromkeys(name for record in train for name in record))
    charts = []
    for title, pattern in _CHARTS:
        lines = [
            {"name": name.split("/")[1], "points": [[r["step"], r[name]] for r in train if name in r]}
            for name in names
            if pattern.fullmatch(name)
        ]
        if lines:
            charts.append({"title": title, "lines": lines})
    return charts


def _measures(records):
    """(description, value) of the last test record."""
    last = next((record for record in reversed(records) if record["kind"] == "test"), {})
    for name, value in last.items():
        if name not in ("step", "kind"):
            measure, _, which = name.partition("_")
            which = {"ab": "A to B", "ba": "B to A"}.get(which, which.upper())
            yield _MEASURES.get(measure, name).format(which), f"{value:.4g}"


def _table(rows):
    lines = [f"<tr><th scope='row'>{html.escape(a)}</th><td>{html.escape(_shown(b))}</td></tr>" for a, b in rows]
    return f"<table>{''.join(lines)}</table>" if lines else "<p class='none'>None yet: they come when the run ends.</p>"


def _shown(value):
    return str(value).lower() if isinstance(value, bool) else str(value)
