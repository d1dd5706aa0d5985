"""The sample grid of a run: held-out images through its generators."""

import numpy as np

from cyclegan_tf.data import pipeline
from cyclegan_tf.images import grid


def sample_grid(config, translators, dataset):
    """Rows of the first held-out images (else training images): real, translated, there and back, for each direction.

    With pairs the true translation stands beside them. `translators` as of `Evaluator`; returns uint8 (H, W, 3).
    """
    lists = (dataset.test_a or dataset.train_a, dataset.test_b or dataset.train_b)
    truth = ["truth"] if dataset.has_pairs else []
    there_and_back = len(translators) == 2
    rows = []
    for a, b in zip(*(pipeline.load_test_images(found, config, config.n_samples) for found in lists), strict=False):
        if a is None or b is None:
            continue
        row = []
        for direction, translator in translators.items():
            source, other = direction.order(a, b)
            fake = translator.translated(source)
            row += [source, fake] + ([translators[direction.reverse].translated(fake)] if there_and_back else [])
            row += [other] if dataset.has_pairs else []
        rows.append(row)
    if not rows:
        return np.full((22, 22, 3), 255, np.uint8)
    widest = max(image.shape[1] for row in rows for image in row)
    columns = []
    for direction in translators:
        source, target = direction.source.upper(), direction.target.upper()
        titles = [source, f"{source} to {target}", f"{source} to {target} to {source}"]
        columns += titles[: 2 + there_and_back] + truth
    return grid.draw(rows, columns, scale=max(1, 128 // widest))
