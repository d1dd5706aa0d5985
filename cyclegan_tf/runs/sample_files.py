"""The sample grids of a run: PNG files that record the place of each image, so that a page can show single images."""

import json
import os
import re
from typing import NamedTuple

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cyclegan_tf.images import codec, grid
from cyclegan_tf.storage import atomic, filesystem

FOLDER = "samples"
_KEY = "cyclegan_tf.tiles"  # The keyword of the PNG file's text.
_NAME = re.compile(r"step-(\d+)\.png")


class Layout(NamedTuple):
    """The places of the images in a sample grid, in pixels.

    Attributes:
      width, height: size of the grid.
      groups: (title, titles of the columns) of each group of columns.
      tiles: [x, y, width, height] of each image, by row and column.
    """

    width: int
    height: int
    groups: list[tuple[str, list[str]]]
    tiles: list[list[list[int]]]


class Sample(NamedTuple):
    """A sample grid of a run.

    Attributes:
      path: relative to the run directory.
      layout: as `read_layout` returns it.
    """

    step: int
    path: str
    layout: Layout | None


def get_path(workdir: str, step: int) -> str:
    """Returns the path of the sample grid of a step."""
    return os.path.join(workdir, FOLDER, f"step-{step:06d}.png")


def write(workdir: str, step: int, picture: grid.Picture) -> None:
    """Writes the sample grid of a step, with the titles of its columns and the places of its images."""
    info = PngInfo()
    info.add_text(_KEY, json.dumps({"groups": picture.groups, "tiles": picture.tiles}, separators=(",", ":")))
    filesystem.makedirs(os.path.join(workdir, FOLDER))
    with atomic.open_for_writing(get_path(workdir, step), "wb") as file:
        codec.write(picture.pixels, file, format="PNG", pnginfo=info)


def list_samples(workdir: str) -> list[Sample]:
    """Lists the sample grids of a run by step."""
    return [
        Sample(step, f"{FOLDER}/{name}", read_layout(os.path.join(workdir, FOLDER, name)))
        for step, name in _list_names(workdir)
    ]


def remove_after(workdir: str, step: int) -> None:
    """Removes the sample grids of steps after `step`."""
    for other, name in _list_names(workdir):
        if other > step:
            filesystem.remove(os.path.join(workdir, FOLDER, name))


def _list_names(workdir: str) -> list[tuple[int, str]]:
    """Lists (step, file name) of the sample grids of a run by step."""
    folder = os.path.join(workdir, FOLDER)
    names = filesystem.listdir(folder) if filesystem.isdir(folder) else []
    return sorted((int(match[1]), name) for name in names if (match := _NAME.fullmatch(name)))


def read_layout(path: str) -> Layout | None:
    """Reads the layout of a sample grid without decoding the picture.

    Returns None if the file has no valid layout, such as a file of version 0.1.0.
    """
    try:
        with filesystem.open_for_reading(path) as file, Image.open(file, formats=["PNG"]) as image:
            layout = json.loads(image.info[_KEY])
            groups = [(str(title), [str(column) for column in columns]) for title, columns in layout["groups"]]
            tiles = [[[int(number) for number in tile] for tile in row] for row in layout["tiles"]]
            n_columns = sum(len(columns) for _, columns in groups)
            if any(len(row) != n_columns or any(len(tile) != 4 for tile in row) for row in tiles):
                return None
            return Layout(image.width, image.height, groups, tiles)
    except (OSError, ValueError, LookupError, TypeError, SyntaxError, RecursionError):
        return None
