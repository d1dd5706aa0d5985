"""Translating images of any size for samples and measures, in bounded memory."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.metrics.task import Translate
from cyclegan_tf.ops import exhaustion
from cyclegan_tf.storage import filesystem

# Images of more pixels are translated by tiles. The paper's generator needs about 0.7 GB for an image of this size.
WHOLE_PIXELS = 2**20
TILE = 512  # Side of a tile in pixels.


class TilingTranslator(Protocol):
    """The methods of `translator.Translator` and `loading.LoadedTranslator` that `make_bounded` calls."""

    @property
    def supports_tiles(self) -> bool:
        """Whether `translate` accepts a tile."""

    def translate(self, image: np.ndarray, tile: int = 0, folder: str | None = None) -> np.ndarray:
        """Translates an image (H, W, C) whole, or by tiles of `tile` pixels a side if `tile` is not 0."""


def make_bounded(
    translators: Mapping[Direction, TilingTranslator], config: Config, remedy: str, workdir: str | None = None
) -> dict[Direction, Translate]:
    """Makes functions that translate images (H, W, C): small images whole, larger images by tiles.

    Images of a megapixel, or of the size of a training crop, which fits in memory, are translated whole. So are images
    that a translator cannot translate by tiles.

    Args:
      remedy: what the user can do if memory is exhausted, for the message of a UserError.
      workdir: run directory for the temporary files of tiles, because a disk for checkpoints has enough room; default,
        and for a remote directory: the system's temporary folder.
    """
    whole_pixels = max(WHOLE_PIXELS, config.crop_size**2 if config.crops else 0)
    folder = None if workdir is None or filesystem.is_remote(workdir) else workdir
    return {
        direction: _make_bounded(each, whole_pixels, remedy, folder) for direction, each in translators.items()
    }


def _make_bounded(translator: TilingTranslator, whole_pixels: int, remedy: str, folder: str | None) -> Translate:
    def translate(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        tile = TILE if height * width > whole_pixels and translator.supports_tiles else 0
        with exhaustion.explain(f"translating an image of {width} x {height} pixels", remedy):
            return translator.translate(image, tile, folder)

    return translate
