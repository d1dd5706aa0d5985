"""NIfTI volumes, .nii and .nii.gz, as stacks of slices.

Slices have the orientation that radiologists use, in whatever order the file stores its voxels. The top of an axial
slice is anterior; the top of a coronal or sagittal slice is superior. The left of a sagittal slice is anterior; the
left of other slices is the patient's right. Axial slices are numbered from inferior to superior, coronal ones from
posterior to anterior, sagittal ones from the patient's left to the right, so that slices of aligned volumes are pairs.
"""

import contextlib
import dataclasses
import functools
import gzip
import logging
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from types import ModuleType, TracebackType
from typing import IO, Any, cast

import numpy as np

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.errors import describe_error, import_extra
from cyclegan_tf.images import sampling
from cyclegan_tf.images.damage import explain_damage
from cyclegan_tf.images.stacks import Slice, Stack, StackOptions, StackWriter
from cyclegan_tf.storage import atomic, filesystem

_SLICE_AXES = ("sagittal", "coronal", "axial")  # Perpendicular to the patient's axes x, y and z.
_GZIP = b"\x1f\x8b"
_NIFTI_2 = 540  # The first number of a header of version 2: its length.
_MILLIMETERS = {1: 1000.0, 3: 0.001}  # NIfTI's codes for meter and micrometer; other codes count as millimeter.
_SAMPLED_VOXELS = 2**18  # Voxels from which the range of a volume's values is computed.
_DICOM_EXTENSION = 2  # The code of a header extension that holds DICOM attributes.
# Fields of the header for free text, such as a description of the scan or the name of another file of the patient.
_FREE_TEXTS = {"descrip", "aux_file", "db_name"}
_BLOCK_BYTES = 2**18


class Volume(Stack):
    """The slices of a 3-D volume, or of one volume of a 4-D file, as (H, W, 1) in the file's units.

    Memory holds one slice. A compressed file is unpacked to a temporary file when the first slice is read.

    Args:
      file: the opened file, which the stack closes.
      options: direction of the slices, number of the volume in a 4-D file, and the least content of a training slice.

    Raises:
      ValueError: the file is damaged, is not a volume of numbers, or is 4-D without a choice of a volume.
      UserError: nibabel is not installed.
    """

    channels = 1
    has_background = True

    def __init__(self, file: IO[bytes], options: StackOptions) -> None:
        self._file, self._options, self._damage = file, options, ""
        with _describe_damage():
            self._header = self._read_header()
            shape = self._header.get_data_shape()
            self._axes = _orient(self._header.get_best_affine(), options.slice_axis)
            slope, intercept = self._header.get_slope_inter()
        self._stored: np.dtype = self._header.get_data_dtype()
        if self._stored.kind not in "iuf":
            raise ValueError(f"its voxels have the type {self._header.get_value_label('datatype')}; expected numbers")
        if not shape or min(shape) < 1:
            raise ValueError(f"the header gives the impossible shape {shape}")
        self._shape = (*shape, 1, 1)[: max(3, len(shape))]
        self._number = self._choose_volume()
        self._slope, self._intercept = 1.0 if slope is None else slope, intercept or 0.0
        is_whole = float(self._slope).is_integer() and float(self._intercept).is_integer()
        is_whole = is_whole if self._stored.kind in "iu" else not self._is_scaled
        self.dtype = self._stored.newbyteorder("=") if is_whole else np.dtype(np.float32)
        unit = _MILLIMETERS.get(int(self._header["xyzt_units"]) % 8, 1.0)
        zooms = (*map(float, self._header.get_zooms()), 1.0, 1.0)
        row, column, depth = (zooms[axis] * unit for axis in (self._axes.row, self._axes.column, self._axes.slice))
        self.spacing = row, column, depth
        self.kind = f"NIfTI {self._stored.name}"

    @property
    def _is_scaled(self) -> bool:
        return (self._slope, self._intercept) != (1, 0)

    def __len__(self) -> int:
        return self._shape[self._axes.slice]

    def read(self, index: int) -> Slice:
        """Reads a slice in the file's type; uint16 becomes int32, and scaled voxels become float32.

        Voxels that are NaN or infinite are not valid.
        """
        if self._damage:
            raise ValueError(self._damage)
        try:
            with _describe_damage():
                stored = self._planes[index]
        except ValueError as error:
            self._damage = str(error)  # Without this, each of the next slices would unpack the file again.
            raise
        if self._is_scaled:
            pixels = (stored.astype(np.float64) * self._slope + self._intercept).astype(np.float32)
        else:
            pixels = stored.astype(np.int32 if self.dtype == np.uint16 else self.dtype)
        valid = np.isfinite(pixels) if pixels.dtype.kind == "f" else None
        return Slice(pixels[..., np.newaxis], None if valid is None or valid.all() else valid)

    def list_indices(self) -> Sequence[int]:
        """Lists the slices to train on and to measure: slices with a share of content of at least `min_content`.

        Reads the whole volume. Voxels above a tenth of the volume's range, which extends from the 1st to the 99th
        percentile, are content.
        """
        if not self._options.min_content:
            return range(len(self))
        with _describe_damage():
            flat = self._voxels.reshape(-1, order="F")
            sample = np.asarray(sampling.sample_evenly(flat, _SAMPLED_VOXELS), np.float64)
            sample = sample[np.isfinite(sample)]
            low, high = np.percentile(sample, (1, 99)) if sample.size else (0, 0)
            sign = -1 if self._slope < 0 else 1
            threshold = low + (high - low) / 10 if sign > 0 else high - (high - low) / 10
            shares = [np.mean(sign * plane.astype(np.float64) > sign * threshold) for plane in self._planes]
        return [index for index, share in enumerate(shares) if share >= self._options.min_content]

    def close(self) -> None:
        """Closes the file."""
        self.__dict__.pop("_planes", None)
        self.__dict__.pop("_voxels", None)
        self._file.close()

    def create(
        self, path: str, channels: int, dtype: np.dtype, value_range: ValueRange | None
    ) -> "_VolumeWriter":
        """Creates a volume with the affine and the header of this one; see `Stack.create`.

        Raises:
          ValueError: `channels` is not 1.
        """
        if channels != 1:
            raise ValueError(f"a NIfTI volume cannot hold the {channels} channels of the translation")
        header = self._header.copy()
        header.set_data_shape(self._shape[:3])
        header.set_data_dtype(dtype)
        header.set_slope_inter(1, 0)
        header.set_data_offset(0)  # `write_to` sets the offset.
        header["cal_min"], header["cal_max"] = (value_range.low, value_range.high) if value_range else (0, 0)
        if not self._options.keep_patient_data:
            for name in _FREE_TEXTS & set(header):
                header[name] = b""
            header.extensions[:] = [each for each in header.extensions if each.get_code() != _DICOM_EXTENSION]
        return _VolumeWriter(path, header, self._axes)

    def _choose_volume(self) -> int:
        count, chosen = int(np.prod(self._shape[3:])), self._options.volume
        if count == 1:
            return 0
        if len(self._shape) > 4:
            raise ValueError(f"it has the shape {self._shape}; expected a volume of 3 dimensions, or 4 with --volume")
        if not 1 <= chosen <= count:
            what = f"has no volume {chosen}" if chosen else f"holds {count} volumes"
            raise ValueError(f"it {what}; choose one with --volume=1 to --volume={count}")
        return chosen - 1

    def _read_header(self) -> Any:
        nibabel = _import_nibabel()
        length = self._open().read(4)
        is_second = _NIFTI_2 in (int.from_bytes(length, order) for order in ("little", "big"))
        header = (nibabel.Nifti2Header if is_second else nibabel.Nifti1Header).from_fileobj(self._open())
        if not bytes(header["magic"]).startswith(b"n+"):
            raise ValueError("it is the header of a pair .hdr and .img; expected a single file")
        return header

    def _open(self) -> IO[bytes]:
        """Opens the content of the file from its beginning, uncompressed."""
        self._file.seek(0)
        is_compressed = self._file.read(len(_GZIP)) == _GZIP
        self._file.seek(0)
        return cast(IO[bytes], gzip.GzipFile(fileobj=self._file)) if is_compressed else self._file

    @functools.cached_property
    def _voxels(self) -> np.ndarray:
        """The stored numbers of the volume (X, Y, Z), mapped from a file."""
        offset = int(self._header.get_data_offset())
        size = offset + int(np.prod(self._shape, dtype=np.int64)) * self._stored.itemsize
        content = self._open()
        # Neither a compressed file nor a file outside of the local disk can be mapped.
        if content is not self._file or not _has_descriptor(content):
            content = _copy(content, size)
        available = content.seek(0, os.SEEK_END)
        if available < size:
            raise ValueError(f"it ends after {available} of {size} bytes; copy the file again")
        voxels = np.memmap(content, self._stored, "r", offset, self._shape, order="F")
        self._file.close()  # The map has a separate descriptor.
        return voxels.reshape(*self._shape[:3], -1, order="F")[..., self._number]

    @functools.cached_property
    def _planes(self) -> np.ndarray:
        return self._axes.arrange(self._voxels)


class _VolumeWriter(StackWriter):
    """Writes a volume slice by slice to a temporary file, which becomes `path` at the end.

    Args:
      path: path of the result, compressed if it ends in .gz.
      header: the header of the result.
      axes: the axes of the slices.
    """

    def __init__(self, path: str, header: Any, axes: "_Axes") -> None:
        self._path, self._header, self._axes = path, header, axes
        self._count = 0

    def __enter__(self) -> "_VolumeWriter":
        # Use the disk of the result, because the system's folder of temporary files may be in memory.
        folder = os.path.dirname(self._path) or "."
        filesystem.makedirs(folder)
        shape, dtype = self._header.get_data_shape(), self._header.get_data_dtype()
        self._content = tempfile.TemporaryFile(dir=None if filesystem.is_remote(folder) else folder)
        try:
            filesystem.reserve(self._content, math.prod(shape) * dtype.itemsize)
        except OSError:
            self._content.close()
            raise
        self._voxels = np.memmap(self._content, dtype, "r+", shape=shape, order="F")
        self._planes = self._axes.arrange(self._voxels)
        return self

    def write(self, pixels: np.ndarray, source: Slice) -> None:
        """Writes the next slice, (H, W, 1) in units. Voxels without a value become NaN if the volume has floats."""
        is_marked = source.valid is not None and self._planes.dtype.kind == "f"
        self._planes[self._count] = np.where(source.valid, pixels[..., 0], np.nan) if is_marked else pixels[..., 0]
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._content:
            if kind is not None:
                return
            if self._count != len(self._planes):
                raise ValueError(f"only {self._count} of {len(self._planes)} slices were translated")
            self._voxels.flush()
            self._content.seek(0)
            with atomic.open_for_writing(self._path, "wb") as file:
                compressed = self._path.lower().endswith(".gz")
                with gzip.GzipFile("", "wb", 6, file, mtime=0) if compressed else contextlib.nullcontext(file) as out:
                    self._header.write_to(out)
                    out.write(bytes(self._header.get_data_offset() - out.tell()))
                    while block := self._content.read(_BLOCK_BYTES):
                        out.write(block)


@dataclasses.dataclass(frozen=True)
class _Axes:
    """The file's axes of slices, rows and columns, and which of them are reversed."""

    slice: int
    row: int
    column: int
    reversed: tuple[bool, bool, bool]

    def arrange(self, voxels: np.ndarray) -> np.ndarray:
        """Returns a view of `voxels` as (slices, H, W)."""
        steps = tuple(slice(None, None, -1 if flag else 1) for flag in self.reversed)
        return voxels.transpose(self.slice, self.row, self.column)[steps]


def _orient(affine: np.ndarray, slice_axis: str) -> _Axes:
    """Finds the axes of slices perpendicular to the axis of the patient that is closest to `slice_axis`."""
    found = _import_nibabel().io_orientation(affine)
    if np.isnan(found).any():
        raise ValueError("its affine is singular, so its orientation is unknown")
    axes, signs = np.argsort(found[:, 0]), found[np.argsort(found[:, 0]), 1]
    across = _SLICE_AXES.index(slice_axis)
    column, row = (axis for axis in range(3) if axis != across)
    # NIfTI's axes point to the patient's right, anterior and superior. Rows and columns of images begin at these ends;
    # slices are numbered towards these ends.
    is_reversed = signs[across] < 0, signs[row] > 0, signs[column] > 0
    return _Axes(int(axes[across]), int(axes[row]), int(axes[column]), is_reversed)


def _has_descriptor(file: IO[bytes]) -> bool:
    try:
        return file.fileno() >= 0
    except OSError:
        return False


def _copy(content: IO[bytes], size: int) -> IO[bytes]:
    """Copies at most `size` bytes to a temporary file."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - Closed with the array that is mapped from the file.
    while block := content.read(min(_BLOCK_BYTES, size - copy.tell())):
        copy.write(block)
    while content.read(_BLOCK_BYTES):  # Read to the end, because the checksum of a gzip file is at its end.
        pass
    copy.flush()
    return copy


@contextlib.contextmanager
def _describe_damage() -> Iterator[None]:
    """Turns the many exceptions that damaged files raise, in the body, into ValueErrors of one line."""
    try:
        # nibabel and gzip raise HeaderDataError, WrapStructError, EOFError, zlib.error and others.
        with explain_damage(lambda error: f"it is damaged: {describe_error(error)}; copy the file again",
                            passes=(ValueError, OSError)):
            yield
    except gzip.BadGzipFile as error:
        raise ValueError(f"its compression is damaged: {error}; copy the file again") from error


def require_package() -> None:
    """Raises a UserError if nibabel is not installed."""
    _import_nibabel()


def _import_nibabel() -> ModuleType:
    nibabel = import_extra("nibabel", "NIfTI files need the package nibabel", "medical")
    # nibabel logs unusual headers without the name of the file.
    logging.getLogger("nibabel").setLevel(logging.CRITICAL + 1)
    return nibabel
