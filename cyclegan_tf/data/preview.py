"""Grids of a data set's images, and of training images."""

import contextlib
from collections.abc import Mapping

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import DOMAINS
from cyclegan_tf.data import pipeline
from cyclegan_tf.data.dataset import ImageDataset
from cyclegan_tf.data.inspection import CELL_PIXELS, Summary
from cyclegan_tf.images import grid, units

_N_ROWS = 6  # Of images in training.


def draw_preview(summaries: Mapping[str, Summary]) -> np.ndarray | None:
    """Draws a grid with a column of example images for each part, as uint8 (H, W, 3); None if there are no images."""
    columns = {name: summary.shown for name, summary in summaries.items() if summary.shown}
    if not columns:
        return None
    height = max(map(len, columns.values()))
    blank = np.full((CELL_PIXELS, CELL_PIXELS, 3), 255, np.uint8)
    rows = [[shown[i] if i < len(shown) else blank for shown in columns.values()] for i in range(height)]
    return grid.draw(rows, list(columns))


def draw_training_images(dataset: ImageDataset, config: Config) -> np.ndarray:
    """Draws the first images A and B of training, augmented and in the order of the batches, as uint8 (H, W, 3)."""
    stream, loaders = pipeline.make_batches(dataset, config, 0, -(-_N_ROWS // config.batch_size))
    with contextlib.closing(pipeline.read_batches(stream, loaders)) as batches:
        rows = [
            [units.to_rgb(image.numpy(), config, domain) for image, domain in zip(pair, DOMAINS, strict=True)]
            for batch in batches for pair in zip(*batch, strict=True)
        ]
    widest = max(image.shape[1] for row in rows for image in row)
    return grid.draw(rows[:_N_ROWS], ["A", "B"], scale=max(1, CELL_PIXELS // widest))
