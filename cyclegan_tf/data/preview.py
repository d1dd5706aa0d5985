"""What a data set holds: counts, sizes, kinds and bad files, and grids to look at: its images, a training batch."""

import collections
import concurrent.futures
import dataclasses
import io
import os

import numpy as np
from PIL import Image
from tqdm import tqdm

from cyclegan_tf.data import pipeline
from cyclegan_tf.images import codec, grid, ranges

_CELL = 128  # Pixels of the longer side of an image in the preview.


@dataclasses.dataclass
class Summary:
    """What was found in one part (trainA ...) of a data set.

    Attributes:
      count: images, bad ones included.
      kinds: how many of each, as "JPEG RGB" or "NPY float32 x 5".
      sizes: how many of each (width, height).
      shown: some of them, evenly drawn, small.
    """

    count: int
    kinds: collections.Counter
    sizes: collections.Counter
    shown: list


def describe(data):
    """(kind, channels to decode it with) of an encoded image; raises what Pillow and NumPy do."""
    if data[:6] == b"\x93NUMPY":
        array = np.load(io.BytesIO(data), allow_pickle=False)
        channels = array.shape[2] if array.ndim == 3 else 1
        return f"NPY {array.dtype} x {channels}", channels
    with Image.open(io.BytesIO(data)) as image:
        return f"{image.format} {image.mode}", 3


def inspect(parts, n_shown=6):
    """Reads all images of the `sources.open_parts`; returns a `Summary` by part. Bad images go to the lists' `bad`."""
    return {name: _inspect_part(name, image_list, n_shown) for name, image_list in parts.items()}


def _inspect_part(name, image_list, n_shown):
    summary = Summary(len(image_list), collections.Counter(), collections.Counter(), [])
    wanted = {round(i) for i in np.linspace(0, len(image_list) - 1, min(n_shown, len(image_list)))}

    def examine(index):
        try:
            kind, channels = describe(image_list.read(index))
        except Exception:  # decode, below, names the reason.
            kind, channels = "unknown", 3
        image = dataclasses.replace(image_list, channels=channels).load(index)
        if image is None:
            return None, None, None
        small = _small(ranges.to_rgb(image)) if index in wanted else None
        return kind, (image.shape[1], image.shape[0]), small

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        # In blocks: a future for each of a million images would not be small.
        blocks = (range(start, min(start + 1024, len(image_list))) for start in range(0, len(image_list), 1024))
        found = (result for block in blocks for result in pool.map(examine, block))
        for kind, size, small in tqdm(found, name, len(image_list), unit="images", disable=None, leave=False):
            if kind is None:
                continue
            summary.kinds[kind] += 1
            summary.sizes[size] += 1
            if small is not None:
                summary.shown.append(small)
    return summary


def _small(image):
    scale = min(1.0, _CELL / max(image.shape[:2]))
    return codec.resize(image, *(max(1, round(side * scale)) for side in image.shape[:2]))


def format_report(summaries, bad):
    """The summaries and bad files (path -> reason) as lines of text."""
    lines = []
    for name, summary in summaries.items():
        lines.append(f"{name}: {summary.count} images")
        lines.append("  kinds: " + (_counted(summary.kinds) or "none"))
        widths, heights = ([size[axis] for size in summary.sizes] for axis in (0, 1))
        if len(summary.sizes) > 4:
            lines.append(f"  sizes: {len(summary.sizes)} different, {min(widths)} to {max(widths)} pixels wide, "
                         f"{min(heights)} to {max(heights)} high")
        elif summary.sizes:
            lines.append("  sizes: " + _counted({f"{w} x {h}": n for (w, h), n in summary.sizes.items()}))
    lines.append(f"bad files: {len(bad) or 'none'}")
    return "\n".join(lines + [f"  {path}: {reason}" for path, reason in bad.items()])


def _counted(counts):
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def draw_preview(summaries):
    """uint8 (H, W, 3): a column of images for each part that has any; None if none has."""
    columns = {name: summary.shown for name, summary in summaries.items() if summary.shown}
    if not columns:
        return None
    height = max(map(len, columns.values()))
    blank = np.full((_CELL, _CELL, 3), 255, np.uint8)
    rows = [[shown[i] if i < len(shown) else blank for shown in columns.values()] for i in range(height)]
    return grid.draw(rows, list(columns))


def draw_training_images(dataset, config, n_shown=6):
    """uint8 (H, W, 3): rows of the first images A and B that training sees, in the batches' order, augmented.

    Args:
      dataset: `dataset.ImageDataset`.
      n_shown: rows; fewer where the first batches hold fewer.
    """
    stream, _ = pipeline.make_batches(dataset, config, 0, -(-n_shown // config.batch_size))
    rows = [[a, b] for batch in stream.as_numpy_iterator() for a, b in zip(*batch, strict=True)]
    widest = max(image.shape[1] for row in rows for image in row)
    return grid.draw(rows[:n_shown], ["A", "B"], scale=max(1, _CELL // widest))
