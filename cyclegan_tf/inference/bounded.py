"""Translating images of any size for samples and measures, in bounded memory."""

from collections.abc import Mapping

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.inference.loading import LoadedTranslator
from cyclegan_tf.inference.translator import PixelTranslator
from cyclegan_tf.metrics.task import Translate
from cyclegan_tf.ops import exhaustion
from cyclegan_tf.storage import filesystem

# Images of more pixels are translated by tiles. The paper's generator needs about 0.7 GB for an image of this size.
WHOLE_PIXELS = 2**20
TILE = 512  # Side of a tile in pixels.

# A LoadedTranslator refuses NaN. Training must reach its own check of the losses instead.
AnyTranslator = PixelTranslator | LoadedTranslator


def make_bounded(
    translators: Mapping[Direction, AnyTranslator], config: Config, remedy: str, workdir: str | None = None
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


def _make_bounded(translator: AnyTranslator, whole_pixels: int, remedy: str, folder: str | None) -> Translate:
    def translate(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        tile = TILE if height * width > whole_pixels and translator.supports_tiles else 0
        with exhaustion.explain(f"translating an image of {width} x {height} pixels", remedy):
            return translator.translate_pixels(image, tile, folder)

    return translate
