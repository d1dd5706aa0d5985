"""Statistics of a data set (counts, sizes, kinds, bad files), and grids of its images and of training images."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import os
from collections.abc import Mapping

import numpy as np
from tqdm import tqdm

from cyclegan_tf import console
from cyclegan_tf.config import Config
from cyclegan_tf.data import pipeline
from cyclegan_tf.data.dataset import BadImages, ImageDataset, ImageList
from cyclegan_tf.images import codec, grid, tiff, units
from cyclegan_tf.storage import array_files

_CELL_PIXELS = 128  # The longer side of an image in a grid.


@dataclasses.dataclass
class Summary:
    """Statistics of one part (such as trainA) of a data set.

    Attributes:
      count: number of images, including bad ones.
      kinds: counts by kind, such as "JPEG RGB" or "NPY float32 x 5".
      sizes: counts by (width, height).
      shown: evenly spaced example images, shrunk to the size of a grid cell.
    """

    count: int
    kinds: collections.Counter[str]
    sizes: collections.Counter[tuple[int, int]]
    shown: list[np.ndarray]


def describe(data: bytes) -> tuple[str, int]:
    """Returns an encoded image's kind, such as "JPEG RGB", and the number of channels to decode it with.

    Raises the exceptions of Pillow, tifffile and NumPy if `data` is not an image.
    """
    if data.startswith(codec.NPY_SIGNATURE):
        array = array_files.parse(data)
        channels = array.shape[2] if array.ndim == 3 else 1
        return f"NPY {array.dtype} x {channels}", channels
    n_pages = codec.count_pages(data)
    pages = f" of {n_pages} pages" if n_pages > 1 else ""
    if tiff.needs_tifffile(data):
        return f"TIFF {tiff.describe(data)}{pages}", 3
    with codec.open_with_pillow(data) as image:
        return f"{image.format} {image.mode}{pages}", 3


def count_channels(data: bytes) -> int:
    """Returns the number of channels to decode a file to: the channels of an array, or 3 for any other image."""
    try:
        return describe(data)[1]
    except Exception:  # Whoever decodes the image learns the reason.
        return 3


def inspect(parts: Mapping[str, ImageList], n_shown: int = 6) -> dict[str, Summary]:
    """Reads all images of all parts. Bad images are added to the lists' `bad`."""
    return {name: _inspect_part(name, image_list, n_shown) for name, image_list in parts.items()}


def _inspect_part(name: str, image_list: ImageList, n_shown: int) -> Summary:
    summary = Summary(len(image_list), collections.Counter(), collections.Counter(), [])
    wanted = {round(i) for i in np.linspace(0, len(image_list) - 1, min(n_shown, len(image_list)))}

    def load(index: int) -> tuple[str, np.ndarray | None]:
        """Returns (kind, image); None for a bad image."""
        try:
            kind, channels = describe(image_list.read(index))
        except Exception:  # The next line records the reason.
            kind, channels = "unknown", 3
        return kind, dataclasses.replace(image_list, channels=channels).load(index)

    def examine(index: int) -> tuple[str, tuple[int, int]] | None:
        """Returns (kind, size); None for a bad image."""
        kind, image = load(index)
        return None if image is None else (kind, (image.shape[1], image.shape[0]))

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        # In blocks, because a future for each of a million images would take much memory.
        blocks = (range(start, min(start + 1024, len(image_list))) for start in range(0, len(image_list), 1024))
        results = (result for block in blocks for result in pool.map(examine, block))
        due = 0  # Number of example images to show; the next image takes the place of a bad one.
        bar = tqdm(results, name, len(image_list), unit="images", disable=None, leave=False)
        for index, result in enumerate(bar):
            due += index in wanted
            if result is None:
                continue
            kind, size = result
            summary.kinds[kind] += 1
            summary.sizes[size] += 1
            if due and (image := load(index)[1]) is not None:
                summary.shown.append(grid.shrink(image, _CELL_PIXELS))
                due -= 1
    return summary


def format_report(summaries: Mapping[str, Summary], bad: BadImages) -> str:
    """Formats summaries, bad files, and files of several pages as lines of text."""
    lines = []
    for name, summary in summaries.items():
        lines.append(f"{console.escape(name)}: {summary.count} images")
        lines.append("  kinds: " + (_format_counts(summary.kinds) or "none"))
        if len(summary.sizes) > 4:
            widths, heights = zip(*summary.sizes, strict=True)
            lines.append(f"  sizes: {len(summary.sizes)} different, {min(widths)} to {max(widths)} pixels wide, "
                         f"{min(heights)} to {max(heights)} high")
        elif summary.sizes:
            lines.append("  sizes: " + _format_counts({f"{w} x {h}": n for (w, h), n in summary.sizes.items()}))
    if bad.n_pages:
        lines.append(f"files with several pages (only page 1 is used): {len(bad.n_pages)}")
        lines += [f"  {console.escape(path)}: {count} pages" for path, count in sorted(bad.n_pages.items())]
    lines.append(f"bad files: {len(bad) or 'none'}")
    return "\n".join(lines + [f"  {console.escape(f'{path}: {reason}')}" for path, reason in bad.reasons.items()])


def _format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def draw_preview(summaries: Mapping[str, Summary]) -> np.ndarray | None:
    """Draws a grid with a column of example images for each part, as uint8 (H, W, 3); None if there are no images."""
    columns = {name: summary.shown for name, summary in summaries.items() if summary.shown}
    if not columns:
        return None
    height = max(map(len, columns.values()))
    blank = np.full((_CELL_PIXELS, _CELL_PIXELS, 3), 255, np.uint8)
    rows = [[shown[i] if i < len(shown) else blank for shown in columns.values()] for i in range(height)]
    return grid.draw(rows, list(columns))


def draw_training_images(dataset: ImageDataset, config: Config, n_shown: int = 6) -> np.ndarray:
    """Draws the first images A and B of training, augmented and in the order of the batches, as uint8 (H, W, 3).

    Args:
      n_shown: number of rows.
    """
    stream, loaders = pipeline.make_batches(dataset, config, 0, -(-n_shown // config.batch_size))
    with contextlib.closing(pipeline.read_batches(stream, loaders)) as batches:
        rows = [
            [units.show(image.numpy(), config, domain) for image, domain in zip(pair, "ab", strict=True)]
            for batch in batches for pair in zip(*batch, strict=True)
        ]
    widest = max(image.shape[1] for row in rows for image in row)
    return grid.draw(rows[:n_shown], ["A", "B"], scale=max(1, _CELL_PIXELS // widest))
