"""Draws grids of images for viewing."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from cyclegan_tf.images import codec, ranges

LARGEST_SIDE = 1024  # Pixels of the longer side of an image in a grid.
_LARGEST_FIGURE = 2**16 - 200  # Matplotlib refuses figures of 2^16 pixels a side; titles and gaps take less than 200.
_DPI = 100
# In pixels: between images, between groups of columns, and the heights of the three kinds of titles.
_GAP, _GROUP_GAP, _HEADING, _GROUP_TITLE, _COLUMN_TITLE = 4, 20, 26, 20, 22


class Group(NamedTuple):
    """Neighboring columns of a grid.

    Attributes:
      title: the title above the columns' titles; may be empty.
      columns: the title of each column.
    """

    title: str
    columns: Sequence[str]


class Rectangle(NamedTuple):
    """The place of an image in a picture, in pixels from the top left corner."""

    x: int
    y: int
    width: int
    height: int


class Picture(NamedTuple):
    """A drawn grid.

    Attributes:
      pixels: uint8 (H, W, 3).
      groups: the groups of columns.
      tiles: the place of each image, by row and column.
    """

    pixels: np.ndarray
    groups: Sequence[Group]
    tiles: Sequence[Sequence[Rectangle]]


def shrink(image: np.ndarray, side: int = LARGEST_SIDE) -> np.ndarray:
    """Converts an image (H, W, C) by `ranges.to_rgb`, and shrinks it if its longer side has more than `side` pixels."""
    shown = ranges.to_rgb(image)
    return codec.resize(shown, *codec.fit_into(side, *shown.shape[:2]))


def draw(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], scale: int = 1) -> np.ndarray:
    """Draws rows of equally many images under column titles, as `draw_groups` does; returns uint8 (H, W, 3)."""
    return draw_groups(rows, [Group("", titles)], scale=scale).pixels


def draw_groups(
    rows: Sequence[Sequence[np.ndarray]], groups: Sequence[Group], heading: str = "", scale: int = 1
) -> Picture:
    """Draws rows of equally many images under a heading and the titles of groups and columns.

    Images larger than `LARGEST_SIDE`, or too large for a picture of this many rows, are shrunk; other images are not
    resampled.
    Titles that are too wide get a smaller font.

    Args:
      rows: rows of images (H, W, C) of any supported dtype, converted by `ranges.to_rgb`. The largest image sets the
        size of all cells.
      scale: integer magnification of every pixel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_columns = sum(len(group.columns) for group in groups)
    side = min(LARGEST_SIDE, _LARGEST_FIGURE // max(len(rows), n_columns) // scale - _GAP)
    shown = [[shrink(image, side) for image in row] for row in rows]
    cell_h = scale * max(image.shape[0] for row in shown for image in row) + _GAP
    cell_w = scale * max(image.shape[1] for row in shown for image in row) + _GAP
    group_top = _HEADING if heading else 0
    column_top = group_top + (_GROUP_TITLE if any(group.title for group in groups) else 0)
    top = column_top + _COLUMN_TITLE
    height, width = top + cell_h * len(rows), cell_w * n_columns + _GROUP_GAP * (len(groups) - 1)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    _write(canvas, heading, 0, 0, width, weight="bold")
    lefts: list[int] = []
    for number, group in enumerate(groups):
        left = len(lefts) * cell_w + number * _GROUP_GAP
        _write(canvas, group.title, left, group_top, len(group.columns) * cell_w, weight="bold")
        for title in group.columns:
            _write(canvas, title, left, column_top, cell_w)
            lefts.append(left + _GAP // 2)
            left += cell_w
    tiles = []
    for line, row in enumerate(shown):
        places = []
        for image, left in zip(row, lefts, strict=True):
            large = np.kron(image, np.ones((scale, scale, 1), np.uint8))
            place = Rectangle(left, top + line * cell_h, large.shape[1], large.shape[0])
            figure.figimage(large, place.x, height - place.y - place.height, origin="upper")
            places.append(place)
        tiles.append(places)
    with _without_warnings():
        canvas.draw()
    return Picture(np.asarray(canvas.buffer_rgba())[..., :3].copy(), groups, tiles)


def _write(canvas: Any, text: str, left: int, top: int, width: int, **style: Any) -> None:
    """Writes one line of text in a font of 9 points, or in a smaller font if the text would be too wide."""
    figure = canvas.figure
    right, bottom = figure.get_size_inches() * _DPI
    place = (left + _GAP / 2) / right, 1 - (top + 15) / bottom
    written = figure.text(*place, text, fontsize=9.0, parse_math=False, **style)
    with _without_warnings():
        drawn = written.get_window_extent(canvas.get_renderer()).width
    written.set_fontsize(9.0 * min(1.0, (width - _GAP) / max(drawn, 1)))


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Silences the warning about characters that Matplotlib's font lacks; a box takes their place."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        yield
