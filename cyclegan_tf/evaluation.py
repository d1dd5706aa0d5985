"""Held-out images through a run's generators: the measures of a run and its sample grid."""

import logging

import numpy as np

from cyclegan_tf.data import pipeline
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import grid
from cyclegan_tf.metrics import evaluation, measures

log = logging.getLogger("cyclegan_tf")


class Evaluator:
    """What a run measures of its held-out images: PSNR and SSIM of pairs, else cycle errors, and --eval_metrics.

    Raises:
      UserError: a measure cannot be had on these data, or lacks its weights; or --keep_best names none of them.
    """

    def __init__(self, config, dataset):
        self._config, self._dataset, self._protocol = config, dataset, measures.Protocol()
        self._networks = measures.Networks(self._protocol)
        own = ("psnr", "ssim") if dataset.has_pairs else ("cycle",) if len(config.directions) == 2 else ()
        self._names = tuple(dict.fromkeys((*own, *config.extra_metrics)))
        keys = set()
        for direction in config.directions:
            translate = dict.fromkeys(config.directions)
            task = measures.Task(direction, translate, dataset, config, self._protocol, self._networks)
            for name in self._names:
                measures.KINDS[name](name, task)  # Raises before the run has begun.
                keys.add(evaluation.key(name, direction))
        if config.keep_best and config.keep_best not in keys:
            raise UserError(f"--keep_best={config.keep_best} is none of what this run measures: "
                            f"{', '.join(sorted(keys))}; --eval_metrics adds others")

    def __call__(self, translators):
        """The measures as floats by name, as `evaluation.key` gives it; what cannot be measured is told in the log.

        Args:
          translators: `inference.Translator`s by the directions a2b and b2a; pix2pix has only the first.
        """
        translate = {way: translator.translated for way, translator in translators.items()}
        records, notes = evaluation.measure(
            translate, self._dataset, self._config, self._protocol, self._names, self._networks
        )
        for note in notes:
            log.warning(note)
        return evaluation.by_name(records)


def sample_grid(config, translators, dataset):
    """Rows of the first held-out images (else training images): real, translated, there and back, for each direction.

    With pairs the true translation stands beside them. `translators` as of `Evaluator`; returns uint8 (H, W, 3).
    """
    lists = (dataset.test_a or dataset.train_a, dataset.test_b or dataset.train_b)
    truth = ["truth"] if dataset.has_pairs else []
    titles = {"a2b": ["A", "A to B", "A to B to A"], "b2a": ["B", "B to A", "B to A to B"]}
    there_and_back = len(translators) == 2
    rows = []
    for a, b in zip(*(pipeline.test_images(found, config, config.n_samples) for found in lists), strict=False):
        if a is None or b is None:
            continue
        row = []
        for direction, translator in translators.items():
            source, other, back = (a, b, "b2a") if direction == "a2b" else (b, a, "a2b")
            fake = translator.translated(source)
            row += [source, fake] + ([translators[back].translated(fake)] if there_and_back else [])
            row += [other] if dataset.has_pairs else []
        rows.append(row)
    if not rows:
        return np.full((22, 22, 3), 255, np.uint8)
    widest = max(image.shape[1] for row in rows for image in row)
    columns = [title for direction in translators for title in titles[direction][: 2 + there_and_back] + truth]
    return grid.draw(rows, columns, scale=max(1, 128 // widest))
