"""Translating images of any size for samples and measures, in bounded memory."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.ops import exhaustion

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


def count_whole_pixels(config: Config) -> int:
    """The most pixels of an image that is translated whole: at least a training crop's, which fits in memory."""
    return max(WHOLE_PIXELS, config.crop_size**2 if config.crops else 0)


def make_bounded(
    translator: TilingTranslator, whole_pixels: int, remedy: str, folder: str | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a function that translates an image (H, W, C): whole up to `whole_pixels` pixels, otherwise by tiles.

    An image that `translator` cannot translate by tiles is translated whole.

    Args:
      remedy: what the user can do if memory is exhausted, for the message of a UserError.
      folder: folder for the temporary files of tiles; default: the system's temporary folder.
    """

    def translate(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        tile = TILE if height * width > whole_pixels and translator.supports_tiles else 0
        with exhaustion.explain(f"translating an image of {width} x {height} pixels", remedy):
            return translator.translate(image, tile, folder)

    return translate
