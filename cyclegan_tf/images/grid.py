"""Draws grids of images for viewing."""

from collections.abc import Sequence

import numpy as np

from cyclegan_tf.images import ranges


def draw(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], scale: int = 1) -> np.ndarray:
    """Draws rows of equally many images under column titles, without resampling.

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
    shown = [[ranges.to_rgb(image) for image in row] for row in rows]
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
