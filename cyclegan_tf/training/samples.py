"""The sample grid of a run: held-out images through its generators."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import pipeline
from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.images import grid
from cyclegan_tf.metrics.measures import Translate


def draw_sample_grid(
    config: Config, translate: Mapping[Direction, Translate], dataset: ImageDataset
) -> np.ndarray:
    """Draws the first `config.n_samples` images of each domain and their translations, one row for each pair of images.

    The images are held-out images, or training images if none are held out; the next image, or the next pair, takes
    the place of a bad one. For each direction a row shows the image, its translation, and the translation back if both
    directions are trained. Held-out pairs also show the true translation.

    Args:
      translate: for each direction that the run learns, the function of an image to its translation.

    Returns:
      uint8 (H, W, 3).
    """
    image_lists = (dataset.test_a or dataset.train_a, dataset.test_b or dataset.train_b)
    if dataset.has_pairs:
        image_lists = (dataset.test_a.subset(range(dataset.n_pairs)), dataset.test_b.subset(range(dataset.n_pairs)))
    both_ways = len(translate) == 2
    rows = []
    for a, b in _load_images(config, image_lists, dataset.has_pairs or config.trains_on_pairs):
        row = []
        for direction, translate_image in translate.items():
            source, target = direction.order(a, b)
            fake = translate_image(source)
            row += [source, fake]
            if both_ways:
                row.append(translate[direction.reverse](fake))
            if dataset.has_pairs:
                row.append(target)
        # Shrunk now, because the whole images of all rows may not fit in memory.
        rows.append([grid.shrink(image) for image in row])
    if not rows:
        return np.full((22, 22, 3), 255, np.uint8)
    columns = []
    for direction in translate:
        near, far = direction.source.upper(), direction.target.upper()
        columns += [near, f"{near} to {far}"]
        columns += [f"{near} to {far} to {near}"] * both_ways + ["truth"] * dataset.has_pairs
    widest = max(image.shape[1] for row in rows for image in row)
    return grid.draw(rows, columns, scale=max(1, 128 // widest))


def _load_images(
    config: Config, image_lists: Sequence[ImageList], are_pairs: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the first images of both domains that can be used; of pairs, both images must be usable."""
    if are_pairs:
        return ((a, b) for _, (a, b) in pipeline.load_test_rows(image_lists, config, config.n_samples))
    domains = (pipeline.load_test_rows([each], config, config.n_samples) for each in image_lists)
    return ((a, b) for (_, [a]), (_, [b]) in zip(*domains, strict=False))
