"""The sample grid of a run: held-out images and their translations."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cyclegan_tf import console
from cyclegan_tf.config import Config, domains
from cyclegan_tf.config.direction import DOMAINS, Direction
from cyclegan_tf.data import loaders
from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.images import grid, units
from cyclegan_tf.metrics.task import Translate
from cyclegan_tf.runs import directory as run_directory


def draw_sample_grid(
    config: Config, translate: Mapping[Direction, Translate], dataset: ImageDataset, workdir: str, step: int
) -> grid.Picture:
    """Draws `config.n_samples` images of each domain and their translations, one row for each pair of images.

    The images are held-out images, or training images if none are held out, spread evenly over the list of the domain.
    The next image, or the next pair, replaces one that cannot be used. A row shows, for each direction, the image, its
    translation, and the translation back if both directions are trained. A row of held-out pairs shows the images of
    each domain side by side: the true one, the translation of its counterpart, and the true one translated there and
    back.

    Args:
      translate: for each direction that the run learns, a function that translates an image (H, W, C).
      workdir, step: the run directory and the training step of the generators, for the title of the picture.
    """
    heading = f"{console.escape(run_directory.find_name(workdir))}, step {step}"
    image_lists = [dataset.choose_evaluation_images(domain)[1] for domain in DOMAINS]
    if dataset.has_pairs:
        image_lists = [each.subset(range(dataset.n_pairs)) for each in image_lists]
    columns = _plan_columns(domains.find_names(config), list(translate), dataset.has_pairs)
    rows = []
    for a, b in _load_images(config, image_lists, dataset.has_pairs or config.trains_on_pairs):
        images = _translate_pair(a, b, translate)
        # Shrink each row at once, because the full-size images of all rows may not fit in memory.
        # The name of an image ends in the letter of its domain.
        shown = {
            name: units.to_rgb(image, config, "a" if name.endswith("a") else "b") for name, image in images.items()
        }
        rows.append([grid.shrink(shown[name]) for _, group in columns for name, _ in group])
    groups = [grid.Group(title, [text for _, text in group]) for title, group in columns]
    if not rows:
        return grid.Picture(np.full((22, 22, 3), 255, np.uint8), groups, [])
    widest = max(image.shape[1] for row in rows for image in row)
    return grid.draw_groups(rows, groups, heading, scale=max(1, 128 // widest))


def _plan_columns(
    names: domains.DomainNames, directions: Sequence[Direction], are_pairs: bool
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Plans the groups of columns: (title, [(name of an image of `_translate_pair`, title of the column)])."""
    both_ways = len(directions) == 2
    groups = []
    for direction in directions:
        source_name, target_name = direction.order(*names)
        source, target = direction.source, direction.target
        cycled = (f"cycled_{source}", "there and back")
        if are_pairs and both_ways:
            groups.append((source_name, [(source, "truth"), (f"fake_{source}", f"from {target_name}"), cycled]))
            continue
        group = [(source, "original"), (f"fake_{target}", "translation")]
        group += [cycled] * both_ways + [(target, "truth")] * are_pairs
        groups.append((f"{source_name} to {target_name}", group))
    return groups


def _translate_pair(a: np.ndarray, b: np.ndarray, translate: Mapping[Direction, Translate]) -> dict[str, np.ndarray]:
    """Translates an image of each domain in the trained directions: a, b, fake_b, cycled_a, fake_a, cycled_b."""
    images = {"a": a, "b": b}
    for direction, translate_image in translate.items():
        fake = images[f"fake_{direction.target}"] = translate_image(images[direction.source])
        if direction.reverse in translate:
            images[f"cycled_{direction.source}"] = translate[direction.reverse](fake)
    return images


def _load_images(
    config: Config, image_lists: Sequence[ImageList], are_pairs: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields images of both domains, spread over the lists; for pairs, both images must be usable."""
    if are_pairs:
        return ((a, b) for _, (a, b) in loaders.load_test_rows(image_lists, config, config.n_samples))
    loaded = (loaders.load_test_rows([each], config, config.n_samples) for each in image_lists)
    return ((a, b) for (_, [a]), (_, [b]) in zip(*loaded, strict=False))
