"""The commands of cyclegan_tf.datasets. Each prints a report and returns the exit status."""

import os

import numpy as np

from cyclegan_tf import console
from cyclegan_tf.config import Config, architectures
from cyclegan_tf.config.run_options import TFDS_NAMES, SliceAxis
from cyclegan_tf.data import cityscapes, inspection, pairing, percentiles, preview, shards, sources, tfds
from cyclegan_tf.data.bad_images import BadImages
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec
from cyclegan_tf.images.stacks import StackOptions
from cyclegan_tf.storage import atomic


def prepare(name: str, data_dir: str) -> int:
    """Downloads and prepares the TFDS set `name`."""
    if name not in TFDS_NAMES:
        raise UserError(f"prepare {name}: expected one of {', '.join(TFDS_NAMES)}")
    parts = tfds.open_tfds(name, data_dir).parts
    counts = ", ".join(f"{len(image_list)} in {part}" for part, image_list in parts.items())
    console.print_line(
        f"{name} is prepared: {counts} images. Train with: cyclegan train --dataset={name}"
        + (f" --data_dir={data_dir}" if data_dir else "")
    )
    return 0


def inspect(path: str, data_dir: str, output: str, on_bad_image: str, slice_axis: SliceAxis, volume: int) -> int:
    """Reads all images of a data set or folder, prints statistics, and writes a grid; status 1 if an image is bad."""
    parts, bad = sources.open_parts(path, data_dir, on_bad_image)
    summaries = inspection.inspect(parts, options=StackOptions(slice_axis=slice_axis, volume=volume))
    print(inspection.format_report(summaries, bad))  # The file names in the report are escaped.
    grid = preview.draw_preview(summaries)
    if grid is not None:
        name = os.path.basename(os.path.abspath(path)).removesuffix(".zip")
        _write_grid(grid, output or f"{name}-preview.png")
    return 1 if bad else 0


def _write_grid(grid: np.ndarray, path: str) -> None:
    with atomic.open_for_writing(path, "wb") as file:
        file.write(codec.encode_png(grid))
    console.print_line(f"preview: {path}")


def preview_training(config: Config, output: str) -> int:
    """Writes a grid of the first training images, as the networks see them."""
    architectures.require_crop_size(config)
    dataset = sources.open_dataset(config)
    if config.trains_on_pairs:
        pairing.require_training_pairs(dataset, config)
    config, dataset = percentiles.measure_ranges(config, dataset)
    _write_grid(preview.draw_training_images(dataset, config), output or "training-preview.png")
    return 0


def prepare_cityscapes(left_img: str, gt_fine: str, output: str) -> int:
    """Makes the authors' version of Cityscapes in the folder `output`."""
    counts = cityscapes.prepare(left_img, gt_fine, output)
    console.print_line(f"{counts['train']} training and {counts['test']} test pairs. Train with: "
                       f"cyclegan train --dataset={output}")
    return 0


def shard(source: str, output: str, data_dir: str, shard_mb: int, on_bad_image: str) -> int:
    """Packs the data set `source` into shards in the folder `output`; status 1 if an image is bad."""
    folders, bad = sources.find_dataset(source, data_dir).folders, BadImages(stop=on_bad_image == "error")
    counts = shards.write(folders, output, shard_mb * 2**20, bad)
    console.print_line(
        f"{', '.join(f'{count} in {part}' for part, count in counts.items())} images"
        + (f", {len(bad)} of them bad" if bad else "")
        + f". Train with: cyclegan train --dataset={output}"
    )
    return 1 if bad else 0
