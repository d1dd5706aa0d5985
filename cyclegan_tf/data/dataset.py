"""`ImageDataset`: the images of two domains as random-access lists."""

import contextlib
import dataclasses
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from cyclegan_tf import console
from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Domain
from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.data.bad_images import BadImages
from cyclegan_tf.errors import UserError, describe_error
from cyclegan_tf.images import codec, headers, units
from cyclegan_tf.images.stacks import Slice

if TYPE_CHECKING:
    import tensorflow as tf

log = logging.getLogger("cyclegan_tf")

Split = Literal["train", "test"]  # "test" images are held out from training.

MASKS = "testMask"  # The folder of the masks.


def _read_no_slice(index: int) -> Slice | None:
    del index
    return None


@dataclasses.dataclass(frozen=True)
class ImageList:
    """A random-access list of the training or test images of one domain.

    Attributes:
      where: the folder or archive of the images, for messages.
      names: the images' names relative to `where`; images of two domains are pairs if their names are equal.
      read: function that returns the encoded bytes of the image with a given index.
      half: "left" or "right" if each file shows A and B side by side; empty otherwise.
      channels: number of channels to decode to.
      bad: record of the images that cannot be used.
      value_range: the values that become -1 and 1; None for the full range of each file's dtype (`images.ranges`).
      open_file: function that opens the file of the image with a given index; None if `open` must wrap `read`'s bytes.
      read_slice: function that returns the slice with a given index, or None for an image that `read` returns whole.
        `slices.expand` sets it if there are slices.
      hash_contents: whether the fingerprint covers the contents of the images, because their names are only numbers.
    """

    where: str
    names: Sequence[str]
    read: Callable[[int], bytes]
    half: str = ""
    channels: int = 3
    bad: BadImages = dataclasses.field(default_factory=BadImages)
    value_range: ValueRange | None = None
    open_file: Callable[[int], IO[bytes]] | None = None
    read_slice: Callable[[int], Slice | None] = _read_no_slice
    hash_contents: bool = False

    @classmethod
    def empty(cls, where: str) -> "ImageList":
        """Returns a list without images."""

        def read(index: int) -> bytes:
            raise IndexError(index)

        return cls(where, [], read)

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Sequence[int]) -> "ImageList":
        """Returns the list of the images at `indices`, in that order."""
        open_file = self.open_file
        return dataclasses.replace(
            self, names=[self.names[index] for index in indices], read=lambda index: self.read(indices[index]),
            open_file=open_file and (lambda index: open_file(indices[index])),
            read_slice=lambda index: self.read_slice(indices[index]),
        )

    def path(self, index: int) -> str:
        """Returns the path of image `index`, for messages."""
        return f"{self.where}/{self.names[index]}"

    def open(self, index: int) -> IO[bytes]:
        """Opens the file of image `index` for reading."""
        return self.open_file(index) if self.open_file else io.BytesIO(self.read(index))

    def decode(self, index: int, target_size: codec.TargetSize | None = None) -> np.ndarray:
        """Decodes image `index` to an array (H, W, channels) of a dtype that `images.ranges` describes.

        Args:
          target_size: computes the size to resize the image to; None keeps the size.

        Raises:
          ValueError, OSError: the image cannot be decoded or read; the message gives the reason.
          MemoryError: memory is exhausted. Logs the path of the image.
        """
        with self._log_exhausted_image(index):
            piece = self.read_slice(index)
            if piece is None and self.value_range is None and not self.half:
                return codec.decode(self._read_file(index), self.channels, target_size)
            image = self._take_half(self._decode_whole(index, piece))
            return codec.resize(image, *target_size(*image.shape[:2])) if target_size else image

    def read_values(self, index: int) -> Slice:
        """Reads the values of image `index` in the unit of the file, with the channels of the file.

        Raises:
          ValueError, OSError, MemoryError: as in `decode`.
        """
        with self._log_exhausted_image(index):
            piece = self._read_whole_values(index)
            units.require_numbers(piece)
            return self.halve(piece)

    def read_valid(self, index: int) -> np.ndarray | None:
        """Reads which pixels of image `index` have data: bool (H, W), or None if all pixels have data."""
        piece = self.read_slice(index)
        return None if piece is None or piece.valid is None else self._take_half(piece.valid)

    def _read_whole_values(self, index: int) -> Slice:
        return self.read_slice(index) or Slice(codec.decode_values(self._read_file(index), self.channels))

    def halve(self, piece: Slice) -> Slice:
        """Returns this list's half of a slice if each file shows A and B side by side, else the whole slice.

        Raises:
          ValueError: the slice is one pixel wide.
        """
        return Slice(self._take_half(piece.pixels), None if piece.valid is None else self._take_half(piece.valid))

    def _take_half(self, image: np.ndarray) -> np.ndarray:
        """Returns this list's half (H, W / 2, ...) of a file that shows A and B side by side, else the whole image."""
        if not self.half:
            return image
        middle = image.shape[1] // 2
        if not middle:
            raise ValueError("too narrow to show two images side by side")
        return image[:, :middle] if self.half == "left" else image[:, middle : 2 * middle]

    def _decode_whole(self, index: int, piece: Slice | None) -> np.ndarray:
        """Decodes image `index` in its original size, with both halves; `piece` is the slice of an image of slices."""
        if piece is None and self.value_range is None:
            return codec.decode(self._read_file(index), self.channels)
        piece = piece or self._read_whole_values(index)
        pixels, n_clipped = units.prepare(piece, self.value_range, self.channels)
        if n_clipped and self.value_range is not None:  # The second condition is for mypy.
            self.bad.add_clipped(self.path(index), n_clipped, piece.values.size, self.value_range)
        return pixels

    def _read_file(self, index: int) -> bytes:
        """Reads the file of image `index`; records a file with several pages, because only the first is used."""
        data, path = self.read(index), self.path(index)
        if path not in self.bad.n_pages and (count := headers.count_pages(data)) > 1:
            self.bad.add_pages(path, count)
        return data

    @contextlib.contextmanager
    def _log_exhausted_image(self, index: int) -> Iterator[None]:
        try:
            yield
        except MemoryError:  # Not a bad image: the image may only be very large.
            log.warning("%s: memory is exhausted while this image is read", console.escape(self.path(index)))
            raise

    def load(self, index: int, target_size: codec.TargetSize | None = None) -> np.ndarray | None:
        """Decodes image `index` as `decode` does; if that fails, adds the image to `bad` and returns None.

        Raises:
          BadImageError: the image cannot be used, and `bad.stop` is set.
          MemoryError: as in `decode`.
        """
        path = self.path(index)
        # A list that stops at bad images decodes the image again, so that each caller gets the error.
        if path in self.bad and path not in self.bad.only_as_pair and not self.bad.stop:
            return None
        try:
            return self.decode(index, target_size)
        except (ValueError, OSError) as error:
            # str() of an OSError would repeat the path.
            self.bad.add(path, describe_error(error))
            return None


@dataclasses.dataclass(frozen=True)
class PairMasks:
    """Masks of the test pairs: measures count only the pixels at which the mask is not 0.

    Attributes:
      images: the masks, files or slices of files, with one channel.
      numbers: maps the index of a pair to the index of the mask; pairs without a mask count as a whole.
    """

    images: ImageList
    numbers: Mapping[int, int] = dataclasses.field(default_factory=dict)

    def path(self, index: int) -> str:
        """Returns the path of the mask of pair `index`, for messages."""
        return self.images.path(self.numbers[index])

    def load(self, index: int) -> np.ndarray | None:
        """Loads the mask of pair `index`: bool (H, W), False where the mask is 0 or has no data.

        Returns:
          None if the pair has no mask.

        Raises:
          UserError: the mask cannot be read.
        """
        number = self.numbers.get(index)
        if number is None:
            return None
        try:
            piece = self.images.read_values(number)
            counts = (piece.pixels != 0).any(axis=-1)
            return counts if piece.valid is None else counts & piece.valid
        except (ValueError, OSError) as error:
            raise UserError(f"mask {self.path(index)} cannot be read: {describe_error(error)}; repair or remove "
                            "it") from error


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A data set: training and test (held-out) images of domains A and B. The test lists may be empty.

    Attributes:
      n_pairs: number of evaluation images (`choose_evaluation_images`) that are pairs: the first ones of both lists.
        `pairing.arrange` sets the number.
      pairing: a sentence for the log that says whether the test images are pairs, and why; empty if a test list is
        empty.
      masks: the masks of the pairs of test images; None if there are none.
      stream: a tf.data.Dataset of pairs (A, B) of images to train on; `train_a` and `train_b` then hold its first
        images. None to train on `train_a` and `train_b`.
      stream_size: number of pairs in the stream; 0 if unknown.
    """

    train_a: ImageList
    train_b: ImageList
    test_a: ImageList
    test_b: ImageList
    n_pairs: int = dataclasses.field(default=0, kw_only=True)
    masks: "PairMasks | None" = dataclasses.field(default=None, kw_only=True)
    pairing: str = dataclasses.field(default="", kw_only=True)
    stream: "tf.data.Dataset | None" = dataclasses.field(default=None, kw_only=True)
    stream_size: int = dataclasses.field(default=0, kw_only=True)

    def get_images(self, split: Split, domain: Domain) -> ImageList:
        """Returns the training or test images of a domain."""
        return self.parts[f"{split}{domain.upper()}"]

    def choose_evaluation_images(self, domain: Domain) -> tuple[Split, ImageList]:
        """Returns the images of a domain for samples and measures, and their split.

        If the domain has no test images, its training images are used.
        """
        split: Split = "test" if self.get_images("test", domain) else "train"
        return split, self.get_images(split, domain)

    def count_images_per_epoch(self, config: Config, n_replicas: int = 1) -> int:
        """Counts the training images of the larger domain; for a stream of unknown size, the images of the run."""
        if self.stream is None:
            return max(len(self.train_a), len(self.train_b))
        return self.stream_size or config.max_steps * config.batch_size * n_replicas

    @property
    def has_pairs(self) -> bool:
        """True if there are evaluation images that are pairs."""
        return self.n_pairs > 0

    @property
    def substitution(self) -> str:
        """A sentence for the log if training images take the place of missing held-out images; empty otherwise."""
        missing = " and ".join(dict.fromkeys(tests.where for tests in (self.test_a, self.test_b) if not tests))
        return f"no held-out images in {missing}: samples and measures use training images" if missing else ""

    @property
    def bad(self) -> BadImages:
        """The record of unusable images, which all lists of an opened data set share."""
        return self.train_a.bad

    @property
    def parts(self) -> dict[str, ImageList]:
        """The four lists by name: trainA, trainB, testA and testB."""
        return {"trainA": self.train_a, "trainB": self.train_b, "testA": self.test_a, "testB": self.test_b}

    @property
    def folders(self) -> dict[str, ImageList]:
        """The lists by folder name: `parts`, or train and test if a file shows A and B side by side; and the masks."""
        folders = {"train": self.train_a, "test": self.test_a} if self.train_a.half else self.parts
        return folders | ({MASKS: self.masks.images} if self.masks else {})
