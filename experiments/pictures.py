"""Draws the pictures of README.md: held-out images and their translations by the models in the package.

  python experiments/pictures.py [--rows=4] [--output=docs]

Writes OUTPUT/MODEL.png for each model. The images are chosen by a rule: of N held-out images of a domain, every n-th by
name from the first, n = N // rows. They are shown at the size of the run's held-out images, each pixel twice as wide
and high. A row has an image and its translation, from A to B and then from B to A. Of pairs, both are of one place, so
that the truth stands beside the translation.
"""

import argparse
import os
from collections.abc import Mapping

import numpy as np
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import pipeline, sources
from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.images import grid
from cyclegan_tf.inference import loading
from cyclegan_tf.metrics.measures import Translate
from cyclegan_tf.runs import directory as run_directory

MODELS = ("demo", "demo_maps")
# The columns of a picture, by the data set of the model: A, A to B, B, B to A.
TITLES = {
    "demo": ("apples", "translated to oranges", "oranges", "translated to apples"),
    "demo_maps": ("satellite image", "map drawn from it", "true map", "satellite image drawn from it"),
}


def choose_images(count: int, wanted: int) -> list[int]:
    """Chooses every n-th of `count` images, n = count // wanted, from the first; all images if there are fewer."""
    return list(range(0, count, max(1, count // wanted)))[:wanted]


def translate_rows(
    translate: Mapping[Direction, Translate], dataset: ImageDataset, config: Config, wanted: int
) -> list[list[np.ndarray]]:
    """Returns rows of images: for each direction, a held-out image and its translation.

    Raises:
      ValueError: a chosen image cannot be read.
    """
    columns = []
    for direction, translate_image in translate.items():
        images = load_images(direction.order(dataset.test_a, dataset.test_b)[0], config, wanted)
        columns += [images, [translate_image(image) for image in images]]
    return [list(row) for row in zip(*columns, strict=False)]


def load_images(images: ImageList, config: Config, wanted: int) -> list[np.ndarray]:
    """Loads the chosen test images of a list.

    Raises:
      ValueError: one of them cannot be read.
    """
    loaded = []
    for index in choose_images(len(images), wanted):
        image = pipeline.load_test_image(images, config, index)
        if image is None:
            raise ValueError(f"{images.path(index)} cannot be read")
        loaded.append(image)
    return loaded


def draw(model: str, wanted: int) -> np.ndarray:
    """Draws the picture of a run or of a model in the package: uint8 (H, W, 3)."""
    config = Config.load(run_directory.locate(model))
    translate = {direction: each.translate for direction, each in loading.load_directions(model).items()}
    rows = translate_rows(translate, sources.open_dataset(config), config, wanted)
    return grid.draw(rows, TITLES[config.dataset], scale=2)


def main() -> None:
    """Draws the picture of each model in the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4, help="images of each domain")
    parser.add_argument("--output", default="docs", help="folder to write MODEL.png into")
    args = parser.parse_args()
    for model in MODELS:
        path = os.path.join(args.output, f"{model}.png")
        Image.fromarray(draw(model, args.rows)).save(path, optimize=True)
        print(f"{path}: {os.path.getsize(path) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
