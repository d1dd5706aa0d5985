"""Makes the pictures of docs/troubles.md: runs with a typical trouble, each beside the same run with its cure.

  python experiments/troubles.py [checkerboard inversion ...] [--steps=2000] [--workdir=runs/troubles] [--output=docs]

Trains each trouble and its cure on the demo set at 64 pixels with equal steps and seeds, draws held-out images and
their translations to OUTPUT/trouble_NAME.jpg. Prints a table with a measure of each trouble: the mean over both
directions and all held-out images. Finished runs are not repeated. All troubles together take nine
runs of a few minutes each on two CPU cores.
"""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import cyclegan_tf
from cyclegan_tf.config import Config
from cyclegan_tf.data import loaders, sources, spread
from cyclegan_tf.images import grid
from cyclegan_tf.inference import loading
from cyclegan_tf.runs import metrics_log

# Sources and their translations, as floats of 0 to 255, (N, H, W, 3) each.
Measure = Callable[[np.ndarray, np.ndarray], float]


def measure_checkerboard(images: np.ndarray, translations: np.ndarray) -> float:
    """The mean strength of a pattern of alternating pixels in the translations, in levels: a for a pattern of +-a."""
    del images
    x = translations
    pattern = x[:, :-1, :-1] - x[:, :-1, 1:] - x[:, 1:, :-1] + x[:, 1:, 1:]
    return float(np.mean(np.abs(pattern)) / 4)


def measure_correlation(images: np.ndarray, translations: np.ndarray) -> float:
    """The mean correlation between the brightness of an image and of its translation: 1 for equal, -1 for inverted."""
    one, other = (each.mean(axis=-1).reshape(len(each), -1) for each in (images, translations))
    return float(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(one, other, strict=True)]))


def measure_change(images: np.ndarray, translations: np.ndarray) -> float:
    """The mean difference between an image and its translation, in levels."""
    return float(np.mean(np.abs(images - translations)))


class Trouble(NamedTuple):
    """A trouble of training and how to provoke it.

    Attributes:
      options: the options that differ from `BASE` in the run with the trouble.
      cure: the options that differ from `BASE` in the run with the cure; troubles without any share this run.
      title: what is measured, for the table.
      measure: the measure; None: the mean loss of the discriminators over the last tenth of the run.
    """

    options: Mapping[str, Any]
    cure: Mapping[str, Any]
    title: str
    measure: Measure | None


# The small U-Net of pix2pix, at half of the preset's size, with the package's default rates and weights.
BASE = {"generator": "unet", "load_size": 72, "crop_size": 64, "diff_augment": "translation,cutout",
        "learning_rate": 2e-4, "lambda_a": 10.0, "lambda_b": 10.0, "lambda_identity": 0.5, "log_every": 20,
        "sample_every": 0}
_LOSS = "loss of the discriminators"
# Without an identity loss, the seed decides whether this ResNet inverts: after 300 steps, seeds 1 and 2 do, and seed 0
# does not. The U-Net keeps the brightness with seeds 0 and 1.
_RESNET = {"generator": "resnet", "n_blocks": 3, "ndf": 4, "seed": 2}
TROUBLES = {
    "checkerboard": Trouble({"upsample": "transpose"}, {}, "pattern of alternating pixels, levels",
                            measure_checkerboard),
    "inversion": Trouble({**_RESNET, "lambda_identity": 0.0}, _RESNET,
                         "correlation of brightness with the source", measure_correlation),
    "collapse": Trouble({"lambda_identity": 0.0, "lambda_a": 0.0, "lambda_b": 0.0}, {},
                        "correlation of brightness with the source", measure_correlation),
    "copy": Trouble({"lambda_identity": 5.0, "ndf": 4}, {}, "difference from the source, levels", measure_change),
    "discriminator": Trouble(
        {"diff_augment": "", "learning_rate": 2e-5, "disc_learning_rate": 1e-3, "pool_size": 0}, {}, _LOSS, None,
    ),
    "few": Trouble({"diff_augment": "", "max_dataset_size": 20}, {"max_dataset_size": 20}, _LOSS, None),
}


def measure(trouble: Trouble, workdir: str, columns: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Measures a trouble in a run, whose images and translations are given for each direction."""
    if trouble.measure:
        return float(np.mean([trouble.measure(*column) for column in columns]))
    records = [record for record in metrics_log.read_records(workdir) if "loss/disc_a" in record]
    last = [record for record in records if record["step"] > 0.9 * records[-1]["step"]]
    return float(np.mean([record[f"loss/disc_{domain}"] for record in last for domain in "ab"]))


def translate_all(config: Config, workdir: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the held-out images and their translations, floats of 0 to 255 (N, H, W, 3), for each direction."""
    dataset = sources.open_dataset(config)
    columns = []
    for direction, translator in loading.load_directions(workdir).items():
        images = list(loaders.load_readable_images(dataset.get_images("test", direction.source), config))
        translations = [translator.translate(image) for image in images]
        columns.append((np.array(images, np.float64), np.array(translations, np.float64)))
    return columns


def draw(sides: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]], wanted: int = 4) -> np.ndarray:
    """Draws sources and translations with the trouble and with the cure, for both directions: uint8 (H, W, 3)."""
    columns = []
    for trouble, cure in zip(*sides, strict=True):
        chosen = spread.choose(len(trouble[0]), wanted)
        columns += [images[chosen].astype(np.uint8) for images in (trouble[0], trouble[1], cure[1])]
    groups = [grid.Group(title, ("source", "trouble", "cured")) for title in ("apples to oranges", "oranges to apples")]
    return grid.draw_groups(list(zip(*columns, strict=True)), groups, scale=2).pixels


def main() -> None:
    """Trains, draws and measures the named troubles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(TROUBLES)}; default: all")
    parser.add_argument("--steps", type=int, default=2000, help="length of each run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the runs; inversion has its own")
    parser.add_argument("--workdir", default="runs/troubles", help="folder of the runs")
    parser.add_argument("--output", default="docs", help="folder of the pictures")
    args = parser.parse_args()
    if unknown := set(args.names) - set(TROUBLES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; expected any of {', '.join(TROUBLES)}")
    table = ["| trouble | measure | with the trouble | cured |", "|---|---|---|---|"]
    for name in args.names or TROUBLES:
        trouble, sides, values = TROUBLES[name], [], []
        for side, options in ((name, trouble.options), (f"{name}_cured" if trouble.cure else "cured", trouble.cure)):
            config = Config.preset("demo", **{**BASE, "seed": args.seed, **options, "max_steps": args.steps})
            workdir = os.path.join(args.workdir, side)
            cyclegan_tf.fit(config, workdir)
            sides.append(translate_all(config, workdir))
            values.append(measure(trouble, workdir, sides[-1]))
        Image.fromarray(draw(sides)).save(os.path.join(args.output, f"trouble_{name}.jpg"), quality=92, optimize=True)
        table.append(f"| {name} | {trouble.title} | {values[0]:.3g} | {values[1]:.3g} |")
        print("\n".join(table), flush=True)


if __name__ == "__main__":
    main()
