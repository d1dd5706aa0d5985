"""A series of DICOM files of one slice each, as one stack; its translation is a series of files, too."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.images import dicom, dicom_results, suffixes
from cyclegan_tf.images.dicom import DicomFile
from cyclegan_tf.images.stacks import Slice, Stack, StackOptions, StackWriter
from cyclegan_tf.storage import filesystem

_TOLERANCE = 1e-3  # The largest difference of direction cosines, which files round.
_MOVE = "move files that do not belong to the series to another folder"
_GAP_TOLERANCE = 0.1  # The largest deviation of a distance between slices, as a share of the usual distance.


class Series(Stack):
    """The slices of a series in the order of their positions along the normal of the slices.

    Without positions, slices are in the order of their instance numbers.

    Args:
      paths: the files, of one frame each.
      options: as in `DicomFile`.

    Attributes:
      paths: the files in the order of the slices.

    Raises:
      ValueError: a file cannot be used, or the slices differ in size, direction or spacing; the message names a file.
    """

    def __init__(self, paths: Sequence[str], options: StackOptions) -> None:
        self._options = options
        files = {}
        for path in paths:
            with _name_file(path), _open(path, options) as file:
                files[path] = file
        self.paths = _sort(files)
        self._files = [files[path] for path in self.paths]
        first = self._files[0]
        self.channels, self.dtype, self.spacing, self.kind = first.channels, first.dtype, first.spacing, first.kind
        self.has_background = first.has_background

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> Slice:
        """Reads a slice as `DicomFile.read` does."""
        with _name_file(self.paths[index]), _open(self.paths[index], self._options) as file:
            return file.read(0)

    def create(
        self, path: str, channels: int, dtype: np.dtype, value_range: ValueRange | None
    ) -> "_SeriesWriter":
        """Creates the files of the translated series in the folder `path`, with the names of this series."""
        headers = [each.describe_result(channels, dtype, value_range) for each in self._files]
        names = [os.path.basename(each) for each in self.paths]
        return _SeriesWriter(path, names, headers, dicom_results.get_lowest(dtype, value_range))

    def close(self) -> None:
        """Does nothing, because files are open only while they are read."""


def read_identifier(path: str) -> str | None:
    """Reads the identifier of the series that a DICOM file belongs to; None for other files.

    A file with the suffix of another format is not opened. A file of several frames, a damaged file, or a file without
    an identifier is a separate series, identified by the path of the file.

    Raises:
      UserError: the file is a DICOM file, and pydicom is not installed.
    """
    suffix = suffixes.match(path)
    if suffix and suffix not in suffixes.DICOM:
        return None
    try:
        with filesystem.open_regular_file(path) as file:
            head = file.read(dicom.HEAD_BYTES)
            if not dicom.is_dicom(head, path):
                return None
            file.seek(0)
            header = dicom.read_header(file, "SeriesInstanceUID", "NumberOfFrames")
            is_single = int(header.get("NumberOfFrames") or 1) == 1
            return str(header.get("SeriesInstanceUID") or path) if is_single else path
    except (OSError, ValueError):  # Translating the file reports the reason.
        return path if dicom.is_dicom(b"", path) else None


@contextlib.contextmanager
def _open(path: str, options: StackOptions) -> Iterator[DicomFile]:
    with filesystem.open_regular_file(path) as file:
        yield DicomFile(file, options)


@contextlib.contextmanager
def _name_file(path: str) -> Iterator[None]:
    """Adds the name of a file to the ValueErrors of the body."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{os.path.basename(path)}: {error}") from error


def _sort(files: dict[str, DicomFile]) -> list[str]:
    """Returns the paths in the order of the slices, after checking that the slices form a stack."""
    numbers = {}
    for path, file in files.items():
        with _name_file(path):
            numbers[path] = dicom.read_whole_number(file.header, "InstanceNumber", 0)
    paths = sorted(files, key=lambda path: (numbers[path], path))
    first = files[paths[0]]
    for path in paths:
        name, file = os.path.basename(path), files[path]
        if (file.shape, file.channels) != (first.shape, first.channels):
            (height, width), (other_height, other_width) = file.shape, first.shape
            raise ValueError(f"{name} has {width} x {height} pixels in {file.channels} channels, but "
                             f"{os.path.basename(paths[0])} has {other_width} x {other_height} in {first.channels}; "
                             f"the slices of a series must have one size; {_MOVE}")
        if file.spacing and first.spacing and not np.allclose(file.spacing[:2], first.spacing[:2], 1e-3):
            raise ValueError(f"{name} has pixels of {file.spacing[0]:g} x {file.spacing[1]:g} mm, but "
                             f"{os.path.basename(paths[0])} of {first.spacing[0]:g} x {first.spacing[1]:g} mm; {_MOVE}")
    directions, positions = (
        [found for path in paths if (found := _read_numbers(files[path], name, count)) is not None]
        for name, count in (("ImageOrientationPatient", 6), ("ImagePositionPatient", 3))
    )
    if not len(directions) == len(positions) == len(paths):
        return paths
    for path, direction in zip(paths, directions, strict=True):
        if np.abs(direction - directions[0]).max() > _TOLERANCE:
            raise ValueError(f"{os.path.basename(path)} and {os.path.basename(paths[0])} are not parallel slices; "
                             f"{_MOVE}")
    normal = np.cross(directions[0][:3], directions[0][3:])
    heights = {path: float(position @ normal) for path, position in zip(paths, positions, strict=True)}
    paths.sort(key=lambda path: heights[path])  # Slices at one position, such as echoes, keep their order.
    _require_equal_gaps(paths, heights)
    return paths


def _read_numbers(file: DicomFile, name: str, count: int) -> np.ndarray | None:
    """Reads the numbers of an attribute; None if the attribute is missing or damaged."""
    try:
        values = np.array([float(value) for value in file.header.get(name) or []])
    except (TypeError, ValueError):
        return None
    return values if values.shape == (count,) else None


def _require_equal_gaps(paths: Sequence[str], heights: dict[str, float]) -> None:
    gaps = np.diff([heights[path] for path in paths])
    apart = gaps[gaps > 1e-3]
    if not apart.size:
        return
    usual = float(np.sort(apart)[(apart.size - 1) // 2])
    for before, after, gap in zip(paths, paths[1:], gaps, strict=False):
        if gap > 1e-3 and abs(gap - usual) > _GAP_TOLERANCE * usual:
            raise ValueError(
                f"{os.path.basename(before)} and {os.path.basename(after)} are {gap:g} mm apart, but other slices "
                f"{usual:g} mm; the slices of a series must have equal distances: is a slice missing?"
            )


class _SeriesWriter(StackWriter):
    """Writes the files of a series into a temporary folder, and moves the complete files to the folder of the results.

    Args:
      folder: folder of the results.
      names: names of the results.
      headers: attributes of each result.
      lowest: as in `dicom_results.FileWriter`.
    """

    def __init__(self, folder: str, names: Sequence[str], headers: Sequence[Any], lowest: float) -> None:
        self._folder, self._names, self._headers, self._lowest = folder, names, headers, lowest
        self._count = 0

    def __enter__(self) -> "_SeriesWriter":
        filesystem.makedirs(self._folder)
        self._temporary = tempfile.mkdtemp(dir=None if filesystem.is_remote(self._folder) else self._folder)
        return self

    def write(self, pixels: np.ndarray, source: Slice) -> None:
        """Writes the next slice."""
        path = os.path.join(self._temporary, self._names[self._count])
        with (
            _name_file(self._names[self._count]),
            dicom_results.FileWriter(path, self._headers[self._count], self._lowest) as writer,
        ):
            writer.write(pixels, source)
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._count < len(self._names):
                    raise ValueError(f"{len(self._names) - self._count} of the slices have not been written")
                for name in self._names:
                    source, target = os.path.join(self._temporary, name), os.path.join(self._folder, name)
                    if filesystem.is_remote(target):
                        with open(source, "rb") as file:
                            filesystem.upload(target, file)
                    else:
                        os.replace(source, target)
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)
