"""Draws grids of images for viewing."""

from collections.abc import Sequence

import numpy as np

from cyclegan_tf.images import codec, ranges

LARGEST_SIDE = 1024  # Pixels of the longer side of an image in a grid.
_LARGEST_FIGURE = 2**16 - 100  # Matplotlib refuses figures of 2^16 pixels a side; the titles take 22.


def shrink(image: np.ndarray, side: int = LARGEST_SIDE) -> np.ndarray:
    """Converts an image (H, W, C) by `ranges.to_rgb`, and shrinks it if its longer side has more than `side` pixels."""
    shown = ranges.to_rgb(image)
    scale = min(1.0, side / max(shown.shape[:2]))
    height, width = (max(1, round(length * scale)) for length in shown.shape[:2])
    return codec.resize(shown, height, width)


def draw(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], scale: int = 1) -> np.ndarray:
    """Draws rows of equally many images under column titles.

    Images larger than `LARGEST_SIDE`, or too large for a picture of this many rows, are shrunk; others not resampled.

    Args:
      rows: rows of images (H, W, C) of any supported dtype, converted by `ranges.to_rgb`. The largest image sets the
        size of all cells.
      titles: one title per column.
      scale: integer magnification of every pixel.

    Returns:
      uint8 (H', W', 3).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dpi, gap, header = 100, 4, 22
    side = min(LARGEST_SIDE, _LARGEST_FIGURE // max(len(rows), len(titles)) // scale - gap)
    shown = [[shrink(image, side) for image in row] for row in rows]
    cell_h = scale * max(image.shape[0] for row in shown for image in row) + gap
    cell_w = scale * max(image.shape[1] for row in shown for image in row) + gap
    height, width = header + cell_h * len(shown), cell_w * len(titles)
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    for column, title in enumerate(titles):
        left = column * cell_w + gap / 2
        font = min(9.0, cell_w / (0.85 * len(title)))
        figure.text(left / width, 1 - 15 / height, title, fontsize=font)
        for line, row in enumerate(shown):
            image = np.kron(row[column], np.ones((scale, scale, 1), np.uint8))
            figure.figimage(image, left, height - header - line * cell_h - image.shape[0], origin="upper")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
