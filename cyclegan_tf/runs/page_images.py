"""Held-out images before and after translation: small files that the page of a run shows."""

import json
import math
import os
from collections.abc import Callable, Mapping

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import loaders
from cyclegan_tf.data.dataset import ImageDataset
from cyclegan_tf.images import codec, grid, units
from cyclegan_tf.runs.page import RESULTS
from cyclegan_tf.storage import atomic, filesystem

_LIMIT = 8  # Images per direction.


def write(
    workdir: str, config: Config, translate: Mapping[Direction, Callable[[np.ndarray], np.ndarray]],
    dataset: ImageDataset, step: int,
) -> None:
    """Writes WORKDIR/gallery/: translations of up to 8 held-out images per direction, and results.json.

    The images are spread evenly over the list of the domain. Pairs are ordered by the difference of the translation
    from the truth, the smallest first. Training images take the place of missing held-out images.

    Training and `cyclegan gallery` may write at the same time: each writes a folder of its own, which it renames at the
    end, and the last to finish replaces the other. A process that is killed leaves its .tmp folder.

    Args:
      translate: for each direction, a function that translates an image (H, W, C) of any dtype of `images.ranges`.
      dataset: the run's images.
      step: the training step of the generators.
    """
    folder = os.path.join(workdir, RESULTS)
    temporary = filesystem.choose_temporary_path(folder)
    filesystem.makedirs(temporary)
    try:
        _write_files(temporary, config, translate, dataset, step)
        atomic.replace_folder(folder, temporary)
    finally:
        filesystem.remove_tree(temporary)  # Left only if an error occurs.


def _write_files(
    folder: str, config: Config, translate: Mapping[Direction, Callable[[np.ndarray], np.ndarray]],
    dataset: ImageDataset, step: int,
) -> None:
    """Writes the files of WORKDIR/gallery/ into `folder`; takes the other arguments of `write`."""
    rows: list[dict[str, str]] = []
    for direction, translate_image in translate.items():
        split, source = dataset.choose_evaluation_images(direction.source)
        target = dataset.choose_evaluation_images(direction.target)[1]
        found: list[tuple[float, dict[str, str]]] = []
        for index, [image] in loaders.load_test_rows([source], config, _LIMIT):
            before, after = (
                units.to_rgb(each, config, domain)
                for each, domain in ((image, direction.source), (translate_image(image), direction.target))
            )
            shown = {"before": grid.shrink(before), "after": grid.shrink(after)}
            row, difference = {"direction": str(direction), "name": source.names[index], "split": split}, math.inf
            truth = loaders.load_test_image(target, config, index) if index < dataset.n_pairs else None
            if truth is not None:
                shown["truth"] = grid.shrink(units.to_rgb(truth, config, direction.target))
                if shown["truth"].shape == shown["after"].shape:
                    difference = _compute_difference(shown["after"], shown["truth"])
                    row["difference"] = f"{100 * difference:.1f} %"
            for kind, picture in shown.items():
                row[kind] = f"{RESULTS}/{direction}-{len(rows) + len(found):02d}-{kind}.webp"
                _save(picture, os.path.join(folder, os.path.basename(row[kind])))
            found.append((difference, row))
        rows += [row for _, row in sorted(found, key=lambda each: each[0])]
    with atomic.open_for_writing(os.path.join(folder, "results.json")) as file:
        json.dump({"step": step, "rows": rows}, file)


def _compute_difference(image: np.ndarray, truth: np.ndarray) -> float:
    """Computes the mean absolute difference of two uint8 images of one shape, as a share of 255 in [0, 1]."""
    return float(np.mean(np.abs(image.astype(np.int16) - truth)) / 255)


def _save(image: np.ndarray, path: str) -> None:
    with atomic.open_for_writing(path, "wb") as file:
        codec.write(image, file, format="WEBP", lossless=True)
