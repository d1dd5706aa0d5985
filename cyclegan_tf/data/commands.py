"""The commands of `datasets`: each prints what it did, and returns its exit status."""

import os

from cyclegan_tf.config.config import TFDS_NAMES
from cyclegan_tf.data import catalog, cityscapes, preview, shards, sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec
from cyclegan_tf.storage import atomic


def list_known():
    print(catalog.format_table())
    return 0


def prepare(name, data_dir):
    if name not in TFDS_NAMES:
        raise UserError(f"prepare {name}: not one of {', '.join(TFDS_NAMES)}")
    dataset = sources.find_dataset(name, data_dir)
    counts = ", ".join(f"{len(part)} in {part.where.split()[-1]}" for part in vars(dataset).values())
    print(f"{name} is prepared: {counts} images. Train with: python -m cyclegan_tf.train --dataset={name}"
          + (f" --data_dir={data_dir}" if data_dir else ""))
    return 0


def inspect(path, data_dir, output):
    parts, bad = sources.open_parts(path, data_dir)
    summaries = preview.inspect(parts)
    print(preview.format_report(summaries, bad.reasons))
    grid = preview.draw_preview(summaries)
    if grid is not None:
        name = os.path.splitext(os.path.basename(os.path.normpath(path)))[0]
        _write_grid(grid, output or f"{name}-preview.png")
    return 1 if bad else 0


def _write_grid(grid, path):
    with atomic.open_for_writing(path, "wb") as file:
        file.write(codec.encode_png(grid))
    print(f"preview: {path}")


def preview_training(config, output):
    dataset = sources.open_dataset(config)
    if config.paired:
        dataset.require_training_pairs()
    _write_grid(preview.draw_training_images(dataset, config), output or "training-preview.png")
    return 0


def prepare_cityscapes(left_img, gt_fine, output):
    for name, value in ("left_img", left_img), ("gt_fine", gt_fine), ("output", output):
        if not value:
            raise UserError(f"prepare-cityscapes needs --left_img, --gt_fine and --output; --{name} is missing")
    counts = cityscapes.prepare(left_img, gt_fine, output)
    print(f"{counts['train']} training and {counts['test']} test pairs. Train with: python -m cyclegan_tf.train "
          f"--dataset={output}")
    return 0


def shard(source, output, data_dir, shard_mb):
    folders = sources.find_dataset(source, data_dir).folders
    counts, n_unreadable = shards.write(folders, output, shard_mb * 2**20)
    print(f"{', '.join(f'{count} in {part}' for part, count in counts.items())} images"
          + (f", {n_unreadable} of them unreadable" if n_unreadable else "")
          + f". Train with: python -m cyclegan_tf.train --dataset={output}")
    return 1 if n_unreadable else 0
