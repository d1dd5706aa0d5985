"""The generator to export, and real images to check the export with."""

import dataclasses
import functools
import itertools
import logging
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.config.run_options import TFDS_NAMES
from cyclegan_tf.data import loaders, sources, spread, tfds
from cyclegan_tf.data.dataset import ImageDataset, Split
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec, ranges
from cyclegan_tf.inference import translator as translator_lib
from cyclegan_tf.ops import hardware

log = logging.getLogger("cyclegan_tf")

_N_REPRESENTATIVE = 32  # Images from which integer quantization learns the ranges of the feature maps.


@dataclasses.dataclass(frozen=True)
class Source:
    """A trained generator and the run that it comes from.

    Attributes:
      workdir: run directory.
      config: the run's Config.
      direction: the direction that the generator translates.
      translator: the generator, with averaged weights if the run has them.
      size: (height, width) that the export must accept, or None for any size.
    """

    workdir: str
    config: Config
    direction: Direction
    translator: translator_lib.Translator
    size: tuple[int, int] | None = None

    @property
    def network(self) -> tf.keras.Model:
        """The Keras network: float32 (N, H, W, C) in [-1, 1] -> (N, H, W, C'); H and W are multiples of `multiple`."""
        return self.translator.generator

    @property
    def multiple(self) -> int:
        """Heights and widths must be multiples of this number."""
        return self.translator.multiple

    @property
    def minimum(self) -> int:
        """Smallest height and width."""
        return self.translator.minimum

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Input shape (1, H, W, C) of the export; H and W are None where the size is free."""
        return (1, *(self.size or (None, None)), self.translator.input_channels)

    @functools.cached_property
    def check_pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Pairs (image, translation), float32 (1, H, W, C) in [-1, 1], to check the export with.

        One pair if the size is fixed, otherwise two: a square image and one that is not square. The image comes from
        the run's held-out images, else from its training images. If the data set is not on this machine, the image
        comes from the demo set, or is noise if the network takes neither gray nor color images.
        """
        image = self._load_check_image()
        side = _round_to_multiple(self.config.crop_size, self.multiple)
        sizes = [self.size] if self.size else [(side, side), (side, side + self.multiple)]
        resized = [_resize(image, *size) for size in sizes]
        with hardware.use_exact_float32():
            return [(image, np.asarray(self.network(image, training=False))) for image in resized]

    def _load_check_image(self) -> np.ndarray:
        if dataset := self._open_dataset():
            return next(self._load_images(("test", "train"), dataset))
        shape = self.config.crop_size, self.config.crop_size, self.translator.input_channels
        return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)

    def load_representative_images(self) -> list[np.ndarray]:
        """Loads up to 32 training images for integer quantization: float32 (1, H, W, C) in [-1, 1], all of one size.

        Raises:
          UserError: the run's images cannot be opened.
        """
        try:
            dataset = sources.open_dataset(self.config)
        except UserError as error:
            raise UserError(f"integer quantization needs images that {self.workdir} was trained on, but they cannot be "
                            f"opened: {error}; leave int8 out of --precision") from error
        side = _round_to_multiple(self.config.crop_size, self.multiple)
        size = self.size or (side, side)
        images = itertools.islice(self._load_images(("train",), dataset), _N_REPRESENTATIVE)
        return [_resize(image, *size) for image in images]

    def load_samples(self, count: int, max_side: int) -> list[np.ndarray]:
        """Loads `count` held-out images of the direction's source domain, or fewer if there are fewer, at their size.

        The images are spread evenly over the list; images larger than `max_side` are scaled down. Training images
        replace missing held-out images, and images of the demo set replace a data set that is not on this machine.
        """
        dataset = self._open_dataset()
        if dataset is None:
            return []
        for split in ("test", "train"):
            images = dataset.get_images(split, self.direction.source)
            load = functools.partial(images.load, target_size=functools.partial(codec.fit_into, max_side))
            if samples := [sample for _, sample in spread.load(len(images), count, load)]:
                return samples
        return []

    def _open_dataset(self) -> ImageDataset | None:
        """The run's data set if it is on this machine, else the demo set; None if the demo set has other channels."""
        name, fits_demo = self.config.dataset, self.translator.input_channels in (1, 3)
        substitute = "the check and the samples use images of the demo set" if fits_demo else "the check uses noise"
        # Do not download a large data set for a check.
        if name in TFDS_NAMES and not os.path.exists(name) and not tfds.is_prepared(name, self.config.data_dir):
            log.warning("%s is not prepared here: %s", name, substitute)
        else:
            try:
                return sources.open_dataset(self.config, needs_training=False)
            except UserError as error:
                log.warning("%s: %s", substitute, error)
        # Other options of the run, such as its ranges and pairs, may not fit the demo set.
        channels = {name: getattr(self.config, name) for name in ("input_channels", "output_channels")}
        return sources.open_dataset(Config(dataset="demo", lambda_identity=0.0, **channels)) if fits_demo else None

    def _load_images(self, splits: Sequence[Split], dataset: ImageDataset) -> Iterator[np.ndarray]:
        """Yields the readable images of the direction's source domain, from the first split that has any."""
        for split in splits:
            image_list = dataset.get_images(split, self.direction.source)
            images = loaders.load_readable_images(image_list, self.config)
            first = next(images, None)
            if first is not None:
                yield first
                yield from images
                return
        raise UserError(f"none of the images of {self.config.dataset}, the data set of {self.workdir}, can be read; "
                        "repair or replace them")


def load(
    workdir: str, direction: Direction | None = None, limit: int | None = None, size: tuple[int, int] | None = None
) -> list[Source]:
    """Loads a `Source` for each direction from a run's newest checkpoint.

    Args:
      workdir: run directory, one of its checkpoint files (.npz), or the name of a run in the package.
      direction, limit: which directions to load, as in `translator.load_run`.
      size: (height, width) that the exports must accept; None: any size.

    Raises:
      UserError: `workdir` is not a run or does not learn a direction, or the networks do not accept this size.
    """
    run = translator_lib.load_run(workdir, direction, limit)
    found = [Source(workdir, run.config, each, translator, size) for each, translator in run.translators.items()]
    for source in found:
        if size and any(side % source.multiple or side < source.minimum for side in size):
            raise UserError(f"--size={size[0]}x{size[1]}: height and width must be multiples of {source.multiple} and "
                            f"at least {source.minimum} for this network")
    return found


def _round_to_multiple(side: int, multiple: int) -> int:
    return max(round(side / multiple), 1) * multiple


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(ranges.to_float(codec.resize(image, height, width)), np.float32)[np.newaxis]
