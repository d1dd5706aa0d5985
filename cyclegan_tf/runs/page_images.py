"""Held-out images before and after translation, as small files beside the page."""

import json
import os

from cyclegan_tf.data import pipeline
from cyclegan_tf.images import codec, ranges
from cyclegan_tf.runs.page import RESULTS
from cyclegan_tf.storage import atomic, filesystem

_LIMIT = 8  # Images of each direction.


def write(workdir, config, translators, dataset, step):
    """Writes WORKDIR/gallery/: up to 8 held-out (else training) images a direction, translated, and results.json.

    Args:
      translators: `translator.Translator`s by the directions a2b and b2a, or one of them.
      dataset: the run's `ImageDataset`.
      step: the step that the generators are of.
    """
    folder = os.path.join(workdir, RESULTS)
    temporary = f"{folder}.tmp"
    filesystem.remove_tree(temporary)  # Of a run that was killed.
    filesystem.makedirs(temporary)
    lists = dataset.test_a or dataset.train_a, dataset.test_b or dataset.train_b
    rows = []
    for direction, translator in translators.items():
        source, target = direction.order(*lists)
        found = pipeline.load_test_images(source, config, _LIMIT)
        truths = pipeline.load_test_images(target, config, _LIMIT) if dataset.has_pairs else [None] * _LIMIT
        for name, image, truth in zip(source.names, found, truths, strict=False):
            if image is None:
                continue
            shown = {"before": image, "after": translator.translate(image)}
            if truth is not None:
                shown["truth"] = truth
            row = {"direction": direction, "name": name}
            for kind, picture in shown.items():
                row[kind] = f"{RESULTS}/{direction}-{len(rows):02d}-{kind}.webp"
                _save(picture, os.path.join(temporary, os.path.basename(row[kind])))
            rows.append(row)
    with atomic.open_for_writing(os.path.join(temporary, "results.json")) as file:
        json.dump({"step": step, "rows": rows}, file)
    atomic.replace_folder(folder, temporary)


def _save(image, path):
    with atomic.open_for_writing(path, "wb") as file:
        codec.write(ranges.to_rgb(image), file, format="WEBP", lossless=True)
