"""DICOM files of one or several frames as stacks of slices.

Values are in the units of the file: stored values with rescale slope and intercept, such as Hounsfield units. The gray
levels of MONOCHROME1 files, in which the lowest is white, are inverted within the stored bits. Colors are RGB.
"""

import contextlib
import logging
import math
import re
import warnings
from types import ModuleType
from typing import IO, Any

import numpy as np

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.errors import describe_error, import_extra
from cyclegan_tf.images import codec, dicom_results, suffixes
from cyclegan_tf.images.damage import explain_damage
from cyclegan_tf.images.stacks import Slice, Stack, StackOptions
from cyclegan_tf.storage import array_files

HEAD_BYTES = 132  # The signature is behind a preamble of 128 bytes, which may look like the beginning of a TIFF file.
# The tags of pixels that are floats of 32 and 64 bits, in files of little-endian and big-endian order.
_FLOAT_PIXELS = (b"\xe0\x7f\x08\0", b"\xe0\x7f\x09\0", b"\x7f\xe0\0\x08", b"\x7f\xe0\0\x09")
# pydicom's warnings on unusual files do not name the file.
warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")


def is_dicom(head: bytes, name: str) -> bool:
    """True if a file is a DICOM file by its suffix, or by its first `HEAD_BYTES` bytes."""
    return bool(suffixes.match(name, suffixes.DICOM)) or head[128:] == b"DICM"


def read_header(file: IO[bytes], *names: str) -> Any:
    """Reads the attributes of a DICOM file without the pixels, as a pydicom.Dataset.

    Args:
      names: the attributes to read; all if there are none.

    Raises:
      ValueError: the file is damaged; the message gives the reason.
    """
    pydicom = _import_pydicom()
    with _describe_damage():
        # Without `force`, pydicom refuses files that lack the preamble and the signature, as old files do.
        return pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(names) or None)


def read_whole_number(header: Any, name: str, default: int) -> int:
    """Reads the attribute `name` of a pydicom.Dataset; `default` if the attribute is missing, empty or 0.

    Raises:
      ValueError: the attribute is not one whole number; the message names the attribute.
    """
    with explain_damage(lambda error: f"its {name} is damaged: {describe_error(error)}; repair or remove the file"):
        return int(header.get(name) or default)


class DicomFile(Stack):
    """The frames of a file, (H, W, 1) in the file's units or (H, W, 3) in colors. Memory holds one frame.

    Args:
      file: the opened file, which the stack closes.
      options: whether results keep the patient's data; see `StackOptions`.

    Attributes:
      header: the attributes, without the pixels.
      shape: height and width in pixels.

    Raises:
      ValueError: the file is damaged or holds no image; the message gives the reason.
      UserError: pydicom is not installed.
    """

    def __init__(self, file: IO[bytes], options: StackOptions) -> None:
        self._file, self._options = file, options
        self.header = read_header(file)
        has_floats = file.read(4) in _FLOAT_PIXELS  # pydicom stops before the tag of the pixels.
        with _describe_damage():
            if "Rows" not in self.header or "Columns" not in self.header:
                modality = self.header.get("Modality") or "unknown"
                raise ValueError(f"it holds no image (modality {modality}); expected a DICOM file with pixels")
            height, width = (read_whole_number(self.header, name, 0) for name in ("Rows", "Columns"))
            self._count = read_whole_number(self.header, "NumberOfFrames", 1)
            bits = self._palette_bits or read_whole_number(self.header, "BitsAllocated", 16)
            self.spacing = self._read_spacing()
            self.channels = 1 if self._color_space.startswith("MONOCHROME") else 3
            self.has_background = self.channels == 1
            is_signed = self.header.get("PixelRepresentation") and not self._palette_bits
            kind = "f" if has_floats else "i" if is_signed else "u"
            stored = np.dtype(f"{kind}{max(1, bits // 8)}")
            is_whole = all(number.is_integer() for number in self._read_scale(0))
            self.dtype = stored if has_floats or is_whole else np.dtype(np.float32)
            modality = f" {self.header.get('Modality')}" if self.header.get("Modality") else ""
        if min(height, width, self._count) < 1 or height * width > codec.MAX_PIXELS:
            raise ValueError(f"it has {self._count} frames of {width} x {height} pixels; expected at least 1 frame of "
                             f"1 to {codec.MAX_PIXELS} pixels")
        self.shape = height, width
        self.kind = f"DICOM{modality} {stored.name}{' x 3' if self.channels == 3 else ''}"

    def __len__(self) -> int:
        return self._count

    def read(self, index: int) -> Slice:
        """Reads a frame.

        Gray levels are uint8 if the file stores 8 unsigned bits without slope and intercept, else int32 (int64 for
        values of 32 bits), or float32 (float64) if slope or intercept is not a whole number. Colors are uint8 or
        uint16, or int64 if a color does not use all of its bits. Padding is not valid.
        """
        pydicom = _import_pydicom()
        with _describe_damage(f"frame {index}: " if self.is_volume else ""):
            stored = array_files.to_native(self._read_stored(index))
            if self._color_space == "PALETTE COLOR":
                stored = pydicom.pixels.apply_color_lut(stored, self.header)
            if self.channels == 1:
                return Slice(self._apply_units(stored, index)[..., np.newaxis], self._find_valid(stored))
            bits = 8 * stored.itemsize if self._color_space == "PALETTE COLOR" else self._bits_stored
            uses_all_bits = stored.dtype == np.uint8 or (stored.dtype == np.uint16 and bits == 16)
            return Slice(stored if uses_all_bits else stored.astype(np.int64))

    def create(
        self, path: str, channels: int, dtype: np.dtype, value_range: ValueRange | None
    ) -> dicom_results.FileWriter:
        """Creates a file with the geometry of this one, new identifiers, and a note of its derivation.

        Integers are stored as they are, and floats as 65536 steps of `value_range`; see `Stack.create`.

        Raises:
          ValueError: DICOM files cannot hold such pixels.
        """
        lowest = dicom_results.get_lowest(dtype, value_range)
        return dicom_results.FileWriter(path, self.describe_result(channels, dtype, value_range), lowest)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def describe_result(self, channels: int, dtype: np.dtype, value_range: ValueRange | None) -> Any:
        """Returns the attributes of a result, as `create` writes them."""
        with _describe_damage():
            return dicom_results.describe(
                self.header, channels, np.dtype(dtype), value_range, self._options.salt,
                self._options.keep_patient_data,
            )

    @property
    def _color_space(self) -> str:
        return str(self.header.get("PhotometricInterpretation") or "MONOCHROME2")

    @property
    def _palette_bits(self) -> int:
        """The bits of a color in the palette, which may exceed the bits of an index; 0 for a file without a palette."""
        descriptor = self.header.get("RedPaletteColorLookupTableDescriptor")
        if self._color_space != "PALETTE COLOR" or not descriptor:
            return 0
        n_colors, _, bits = map(int, descriptor)
        # Like pydicom, trust the length of the table more than the declared bits. A number of 0 stands for 2^16.
        table = self.header.get("RedPaletteColorLookupTableData")
        return 8 * len(table) // (n_colors or 2**16) if table else bits

    @property
    def _bits_stored(self) -> int:
        return int(self.header.get("BitsStored") or self.header.get("BitsAllocated") or 16)

    def _read_stored(self, index: int) -> np.ndarray:
        """Reads the stored values of a frame, decompressed."""
        pydicom = _import_pydicom()
        self._file.seek(0)
        with contextlib.suppress(ValueError, AttributeError):
            return pydicom.pixels.pixel_array(self._file, index=index)
        # Deflated files, files without meta information, and some damaged ones, can be read as a whole only.
        self._file.seek(0)
        dataset = pydicom.dcmread(self._file, force=True)
        dataset.ensure_file_meta()
        if "TransferSyntaxUID" not in dataset.file_meta:  # Such files are not compressed.
            dataset.file_meta.TransferSyntaxUID = {
                (True, True): pydicom.uid.ImplicitVRLittleEndian, (False, True): pydicom.uid.ExplicitVRLittleEndian,
                (False, False): pydicom.uid.ExplicitVRBigEndian,
            }[dataset.original_encoding]
        return pydicom.pixels.pixel_array(dataset, index=index)

    def _find_valid(self, stored: np.ndarray) -> np.ndarray | None:
        """Finds the pixels (H, W) that are not padding, such as the corners of a CT image; None without padding."""
        padding = self.header.get("PixelPaddingValue")
        if padding is None or stored.dtype.kind == "f":
            return None
        # Some files declare signed padding with unsigned pixels, or the reverse.
        limits = np.array([padding, self.header.get("PixelPaddingRangeLimit", padding)], np.int64).astype(stored.dtype)
        is_valid = (stored < limits.min()) | (stored > limits.max())
        return None if is_valid.all() else is_valid

    def _apply_units(self, stored: np.ndarray, index: int) -> np.ndarray:
        if "ModalityLUTSequence" in self.header:
            return self._look_up_units(stored)
        if self._color_space == "MONOCHROME1" and stored.dtype.kind in "iu":
            inverted = 2**self._bits_stored - 1 - stored.astype(np.int64) if stored.dtype.kind == "u" else ~stored
            stored = inverted.astype(stored.dtype)
        slope, intercept = self._read_scale(index)
        is_wide = stored.itemsize > 2
        if stored.dtype.kind == "f" or not slope.is_integer() or not intercept.is_integer():
            units = stored.astype(np.float64) * slope + intercept
            return units.astype(np.float64 if stored.itemsize > 4 else np.float32)
        if stored.dtype == np.uint8 and self._bits_stored == 8 and (slope, intercept) == (1, 0):
            return stored
        return (stored.astype(np.int64) * int(slope) + int(intercept)).astype(np.int64 if is_wide else np.int32)

    def _look_up_units(self, stored: np.ndarray) -> np.ndarray:
        """Applies the modality lookup table; MONOCHROME1 inverts the values between the table's lowest and highest."""
        apply = _import_pydicom().pixels.apply_modality_lut
        values = apply(stored, self.header).astype(np.int32)
        if self._color_space != "MONOCHROME1":
            return values
        length, first, _ = map(int, self.header.ModalityLUTSequence[0].LUTDescriptor)
        table = apply(np.arange(first, first + (length or 2**16)), self.header).astype(np.int32)
        return table.min() + table.max() - values

    def _read_scale(self, index: int) -> tuple[float, float]:
        """Reads the slope and the intercept of a frame's values.

        Raises:
          ValueError: the slope is 0, which makes all values equal, or a number is not finite.
        """
        slope = self._find("PixelValueTransformationSequence", "RescaleSlope", index)
        slope = self.header.get("DoseGridScaling") if slope is None else slope
        intercept = self._find("PixelValueTransformationSequence", "RescaleIntercept", index)
        found = 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)
        if self.channels == 1 and (found[0] == 0 or not all(map(math.isfinite, found))):  # Colors have no unit.
            raise ValueError(f"its values have the rescale slope {found[0]:g} and intercept {found[1]:g}; expected a "
                             "slope other than 0, and finite numbers; repair or remove the file")
        return found

    def _read_spacing(self) -> tuple[float, float, float] | None:
        """Reads the distances in mm between rows, columns and slices (0 if unknown); None if the file has none."""
        spacing = self._find("PixelMeasuresSequence", "PixelSpacing") or self.header.get("ImagerPixelSpacing")
        between = self._find("PixelMeasuresSequence", "SpacingBetweenSlices")
        between = between or self._find("PixelMeasuresSequence", "SliceThickness")
        with contextlib.suppress(TypeError, ValueError):
            row, column = map(float, spacing)
            return row, column, float(between or 0)
        return None

    def _find(self, sequence: str, name: str, index: int = 0) -> Any:
        """Finds the attribute `name` of a frame, else of all frames; None if the file has neither."""
        frames, shared = (
            self.header.get(f"{scope}FunctionalGroupsSequence") or [] for scope in ("PerFrame", "Shared")
        )
        for groups in (*frames[index : index + 1], *shared[:1]):
            found = groups.get(sequence) or []
            if found and name in found[0]:
                return found[0].get(name)
        return self.header.get(name)


def _describe_damage(where: str = "") -> contextlib.AbstractContextManager[None]:
    """Returns a context that turns the many exceptions of pydicom and its decoders into ValueErrors of one line.

    Args:
      where: beginning of the line.
    """
    return explain_damage(lambda error: where + _describe(error))


def _describe(error: Exception) -> str:
    text = describe_error(error)
    if "missing dependencies" in text:
        return f"its pixels are compressed in a way that needs pip install 'cyclegan_tf[medical]': {text}"
    if "no pixel data" in text or "PixelData" in text:
        return "it has no pixel data"
    if cut_off := re.search(r"pixel data is less than expected \((\d+) vs (\d+) bytes\)", text):
        return f"it has {cut_off[1]} of {cut_off[2]} bytes of pixels; copy the file again"
    return text


def _import_pydicom() -> ModuleType:
    pydicom = import_extra("pydicom", "DICOM files need the package pydicom", "medical")
    # pydicom logs unusual contents without the name of the file.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return pydicom
