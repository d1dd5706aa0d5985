"""What is exported: one direction of a run, and real images to check the exported thing with."""

import dataclasses
import functools
import itertools
import logging
import os

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.config import TFDS_NAMES
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import pipeline, sources, tfds
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec, ranges
from cyclegan_tf.inference import translator as translator_lib
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.storage import filesystem

log = logging.getLogger("cyclegan_tf")

_N_REPRESENTATIVE = 32


@dataclasses.dataclass(frozen=True)
class Source:
    """A trained generator and where it comes from.

    Attributes:
      workdir: the run directory.
      config: the run's Config.
      direction: the `Direction`.
      translator: the `translator.Translator`, averaged weights where the run has them.
      size: (height, width) that the export shall take, or None for any.
    """

    workdir: str
    config: Config
    direction: Direction
    translator: translator_lib.Translator
    size: tuple | None = None

    @property
    def network(self):
        """The Keras model: float32 (N, H, W, C) in [-1, 1] -> the same, H and W multiples of `multiple`."""
        return self.translator.generator

    @property
    def multiple(self):
        return self.translator.multiple

    @property
    def minimum(self):
        return self.translator.minimum

    @property
    def shape(self):
        """The shape (1, H, W, C) of what an export takes, None where it is free."""
        return (1, *(self.size or (None, None)), self.network.input_shape[-1])

    @functools.cached_property
    def check_pairs(self):
        """[(image, translation)]: two, one of them not square, float32 (1, H, W, C) in [-1, 1]; one for a fixed size.

        From the run's held-out images, or its training images; from the demo set where those are not at hand.
        """
        image = next(self._images(("test", "train"), self._dataset()))
        side = _rounded(self.config.crop_size, self.multiple)
        sizes = [self.size] if self.size else [(side, side), (side, side + self.multiple)]
        fitted = [_fitted(image, *size) for size in sizes]
        return [(image, np.asarray(self.network(image, training=False))) for image in fitted]

    def representative_images(self):
        """Up to 32 training images as float32 (1, H, W, C) in [-1, 1], all of one size, for integer quantization.

        Raises:
          UserError: the run's images are gone.
        """
        try:
            dataset = sources.open_dataset(self.config)
        except UserError as error:
            raise UserError(f"integer quantization needs images that {self.workdir} was trained on, and they are not "
                            f"to be had: {error}; leave int8 out of --precision") from error
        side = _rounded(self.config.crop_size, self.multiple)
        size = self.size or (side, side)
        found = itertools.islice(self._images(("train",), dataset), _N_REPRESENTATIVE)
        return [_fitted(image, *size) for image in found]

    def _dataset(self):
        name = self.config.dataset
        # A check is no reason for a large download.
        if name in TFDS_NAMES and not os.path.exists(name) and not tfds.is_prepared(name, self.config.data_dir):
            log.warning("%s is not prepared here: the check and the sample take images of the demo set", name)
        else:
            try:
                return sources.open_dataset(self.config)
            except UserError as error:
                log.warning("the check and the sample take images of the demo set: %s", error)
        return sources.open_dataset(dataclasses.replace(self.config, dataset="demo"))

    def _images(self, splits, dataset):
        """Those of the direction's domain that can be read, of the first split that has any."""
        for split in splits:
            image_list = getattr(dataset, f"{split}_{self.direction.source}")
            found = (image for image in pipeline.load_test_images(image_list, self.config) if image is not None)
            first = next(found, None)
            if first is not None:
                yield first
                yield from found
                return
        raise UserError(f"none of the images of --dataset={self.config.dataset} can be read")


def load(workdir, direction=Direction.A2B, size=None):
    """The `Source` of a run directory's newest checkpoint.

    Raises:
      UserError: there is no such run or direction, or the network does not take images of that size.
    """
    workdir = workdir if filesystem.is_remote(workdir) else os.path.normpath(workdir)
    translator = translator_lib.load_run(workdir, direction)
    source = Source(workdir, Config.load(run_directory.locate(workdir)), direction, translator, size)
    if size and any(side % source.multiple or side < source.minimum for side in size):
        raise UserError(f"--size={size[0]}x{size[1]}: height and width must be multiples of {source.multiple} and at "
                        f"least {source.minimum} for this network")
    return source


def _rounded(side, multiple):
    return max(round(side / multiple), 1) * multiple


def _fitted(image, height, width):
    return np.asarray(ranges.to_float(codec.resize(image, height, width)), np.float32)[np.newaxis]
