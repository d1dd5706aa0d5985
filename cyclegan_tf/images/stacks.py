"""The interface of files that hold several slices, or values in a unit; `stack_files` opens such files.

A slice is one image of such a file: a page of a TIFF file, a frame of a DICOM file, a plane of a NIfTI volume. Files of
other formats, and TIFF files of one plain picture, are not stacks; `codec` reads such files.
"""

import abc
import contextlib
import dataclasses
import secrets
from collections.abc import Sequence

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Domain
from cyclegan_tf.config.run_options import SliceAxis
from cyclegan_tf.config.value_ranges import ValueRange


@dataclasses.dataclass(frozen=True)
class StackOptions:
    """How to divide a file into slices.

    Attributes:
      channels: channels of a slice that the networks expect. Pages of one plane each become the channels of a slice if
        the file says that the pages are channels and their number is `channels`.
      in_units: whether values keep their unit, because a range of the domain maps values to [-1, 1]. If False, slices
        have the dtypes of `images.ranges` if possible; transparent pixels, for example, are composited on white.
      slice_axis: direction of the slices of a NIfTI volume.
      volume: number of the volume in a 4-D NIfTI file, from 1. With 0, a 4-D file is an error.
      min_content: `Stack.list_indices` leaves out NIfTI slices with a smaller share, in [0, 1], of pixels that are
        brighter than the background.
      keep_patient_data: whether translated DICOM files keep the patient's data, and NIfTI files attributes of DICOM and
        free text in the header.
      salt: secret from which the identifiers of translated DICOM files are made, so that a series stays a series.
    """

    channels: int = 3
    in_units: bool = False
    slice_axis: SliceAxis = "axial"
    volume: int = 0
    min_content: float = 0.0
    keep_patient_data: bool = False
    salt: str = dataclasses.field(default_factory=secrets.token_hex, repr=False)


def make_options(config: Config, domain: Domain, min_content: float = 0.0) -> StackOptions:
    """Returns the options with which a run divides the files of a domain into slices."""
    return StackOptions(
        config.get_channels(domain), config.has_units(domain), config.slice_axis, config.volume, min_content
    )


@dataclasses.dataclass(frozen=True)
class Slice:
    """One image of a file.

    Attributes:
      pixels: (H, W, C) of any integer or float dtype, in the unit of the file.
      valid: bool (H, W), False where the file has no data; None if the file has data everywhere.
      alpha: the alpha channel (H, W) of the dtype of the pixels, or None.
    """

    pixels: np.ndarray
    valid: np.ndarray | None = None
    alpha: np.ndarray | None = None

    @property
    def values(self) -> np.ndarray:
        """Returns the values of the pixels with data: (H, W, C) if all pixels have data, else (number of pixels, C)."""
        return self.pixels if self.valid is None else self.pixels[self.valid]


class StackWriter(abc.ABC):
    """Receives the translated slices of a file, one after the other."""

    @abc.abstractmethod
    def write(self, pixels: np.ndarray, source: Slice) -> None:
        """Writes the next slice, (H, W, C'), whose source is `source`. Pixels without data keep the file's mark."""


class Stack(abc.ABC):
    """An opened file of slices. One thread at a time uses it.

    Attributes:
      kind: format, dtype and channels, such as "TIFF uint16 x 1".
      dtype: dtype of the values in the file, from which `units.choose_dtype` chooses the dtype of results. Slices may
        have a wider dtype, which holds the values in their unit.
      channels: channels of a slice.
      spacing: distances in mm between rows, columns and slices, or None.
      no_data: the value that marks pixels without data, or None.
      has_copies: whether the file has smaller copies of slices, which a translation leaves out.
      has_masks: whether the file has masks of slices, which are ignored, and which a translation leaves out.
      lacks_pages: whether the file describes pages that it does not have.
      has_units: False if the numbers in the file are not values, but indices of a palette.
      is_plain: True if `codec.decode` reads the same image.
      has_more_metadata: True if the file has metadata that `images.files` does not keep.
      has_background: True if the lowest values are background, as in CT and MR.
    """

    kind: str
    dtype: np.dtype
    channels: int
    spacing: tuple[float, float, float] | None = None
    no_data: float | None = None
    has_copies: bool = False
    has_masks: bool = False
    lacks_pages: bool = False
    has_units: bool = True
    is_plain: bool = False
    has_more_metadata: bool = True
    has_background: bool = False

    @property
    def is_volume(self) -> bool:
        """True if slices are named FILE[INDEX]; False for a file of one image, whose name is FILE."""
        return len(self) > 1

    @abc.abstractmethod
    def __len__(self) -> int:
        """The number of slices."""

    @abc.abstractmethod
    def read(self, index: int) -> Slice:
        """Reads slice `index`.

        Raises:
          ValueError: the slice is damaged, or differs in kind from the other slices; the message gives the reason.
        """

    def list_indices(self) -> Sequence[int]:
        """Lists the indices of the slices to train on and to measure; all slices by default."""
        return range(len(self))

    @abc.abstractmethod
    def create(
        self, path: str, channels: int, dtype: np.dtype, value_range: ValueRange | None
    ) -> contextlib.AbstractContextManager[StackWriter]:
        """Creates the translation of this file at `path`, with the metadata of this file.

        The file appears only when it is complete. The caller must write all slices in their order.

        Args:
          channels: channels of the translated slices.
          dtype: dtype of the translated slices; their values are in the unit of their own domain.
          value_range: the range of the translated values, if the values have a unit.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the file."""
