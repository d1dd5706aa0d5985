"""Writes DICOM files that are computed from other DICOM files: the attributes, and the pixels frame by frame."""

import contextlib
import copy
import os
import struct
from types import TracebackType
from typing import Any

import numpy as np

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.errors import describe_error
from cyclegan_tf.images.damage import explain_damage
from cyclegan_tf.images.stacks import Slice, StackWriter
from cyclegan_tf.storage import atomic, filesystem

# Attributes that a result takes from its source: geometry, and how the image was acquired, without anything about
# people, places and times. With --keep_patient_data, a result takes all attributes except private and outdated ones.
_KEPT = frozenset((
    "SpecificCharacterSet", "SOPClassUID", "Modality", "BodyPartExamined", "Laterality", "ImageLaterality",
    "PatientPosition", "PatientOrientation", "ViewPosition", "PositionReferenceIndicator", "SliceThickness",
    "SpacingBetweenSlices", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio",
    "ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", "GantryDetectorTilt", "InstanceNumber",
    "AcquisitionNumber", "SeriesNumber", "Rows", "Columns", "NumberOfFrames", "FrameIncrementPointer",
    "GridFrameOffsetVector", "FrameTime", "FrameTimeVector", "VolumetricProperties", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "PixelMeasuresSequence", "PlanePositionSequence",
    "PlaneOrientationSequence", "FrameContentSequence", "StackID", "InStackPositionNumber", "KVP",
    "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime",
    "EchoTrainLength", "MagneticFieldStrength", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod", "BurnedInAnnotation", "ConversionType",
    # The dimensions of an enhanced image. A pointer to a private attribute needs the name of the attribute's creator.
    "DimensionOrganizationType", "DimensionOrganizationSequence", "DimensionOrganizationUID", "DimensionIndexSequence",
    "DimensionIndexPointer", "DimensionIndexPrivateCreator", "FunctionalGroupPointer", "FunctionalGroupPrivateCreator",
    "DimensionIndexValues",
    # The positions of the tiles of a slide.
    "PlanePositionSlideSequence", "ColumnPositionInTotalImagePixelMatrix", "RowPositionInTotalImagePixelMatrix",
    "XOffsetInSlideCoordinateSystem", "YOffsetInSlideCoordinateSystem", "ZOffsetInSlideCoordinateSystem",
    "TotalPixelMatrixColumns", "TotalPixelMatrixRows", "TotalPixelMatrixOriginSequence",
    "TotalPixelMatrixFocalPlanes", "NumberOfOpticalPaths", "ImageOrientationSlide", "ImagedVolumeWidth",
    "ImagedVolumeHeight", "ImagedVolumeDepth",
))
# Attributes that describe the source's pixels and would be wrong in the result.
_OUTDATED = frozenset((
    "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence",
    "FrameVOILUTSequence", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "RescaleType",
    "DoseGridScaling", "PixelValueTransformationSequence", "RealWorldValueMappingSequence", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries", "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
    "PaletteColorLookupTableUID", "PresentationLUTShape", "PresentationLUTSequence", "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign", "IconImageSequence", "ICCProfile", "ColorSpace", "PlanarConfiguration",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
))
# Groups of signatures, curves, overlays and pixels.
_OUTDATED_GROUPS = (0x0400, *range(0x5000, 0x5100), *range(0x6000, 0x6100), *range(0x7F00, 0x10000))
# Attributes that every file must have, even if they are empty.
_REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName", "StudyID", "SeriesNumber", "InstanceNumber", "Manufacturer",
)
_MAX_BYTES = 2**32 - 2  # The largest size of the pixels in a file.
_PIXEL_DATA = struct.Struct("<HH2sHI")  # Group, element, type, zero, number of bytes.


def describe(
    source: Any, channels: int, dtype: np.dtype, value_range: ValueRange | None, salt: str, keeps_patient_data: bool
) -> Any:
    """Returns the attributes of a result, a pydicom.Dataset without pixels.

    Args:
      source: the attributes of the file that the result is computed from.
      channels: 1 or 3.
      dtype: an integer type, stored without conversion; or a float type, stored as 65536 steps of `value_range`.
      value_range: lowest and highest value; None for [-1, 1].
      salt: secret of a translation, from which new identifiers are made: files of one series stay one series.
      keeps_patient_data: whether to keep all attributes of the source that are not private and do not describe its
        pixels.

    Raises:
      ValueError: DICOM cannot hold such pixels, or the source has several frames but no SOP Class UID.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    is_possible = channels == 1 or (channels == 3 and dtype in (np.uint8, np.uint16))
    if not is_possible or source.get("Modality") == "RTDOSE":
        what = "a dose grid" if source.get("Modality") == "RTDOSE" else f"{channels} channels of {dtype}"
        raise ValueError(f"translations of {what} cannot be written as DICOM")
    result = _select(source, keeps_patient_data)
    for name in _REQUIRED:
        if name not in result:
            setattr(result, name, None)
    if source_class := _find_class(source):
        result.SOPClassUID = source_class
    else:
        _make_secondary_capture(result)
    _replace_identifiers(result, source, salt, keeps_patient_data)
    result.ImageType = _derive_type(source.get("ImageType"))
    result.SeriesDescription = "Translated by cyclegan_tf"
    result.DerivationDescription = "Computed from another image by a neural network (cyclegan_tf); not acquired"
    _describe_pixels(result, channels, dtype, value_range)
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    result.file_meta.MediaStorageSOPClassUID = result.SOPClassUID
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    return result


def _replace_identifiers(result: Any, source: Any, salt: str, keeps_patient_data: bool) -> None:
    """Replaces a result's identifiers, and adds a reference to the source if patient data are kept; see `describe`."""
    from pydicom import Dataset
    from pydicom.uid import generate_uid

    def derive_uid(given: Any, prefix: str = "") -> str:
        return generate_uid(entropy_srcs=[salt, prefix, str(given)] if given else None)

    def derive_dimension_uid(_: Any, element: Any) -> None:
        if element.keyword == "DimensionOrganizationUID" and element.value:
            element.value = derive_uid(element.value)

    changed = ["SOPInstanceUID", "SeriesInstanceUID"]
    if keeps_patient_data:
        reference = Dataset()
        reference.ReferencedSOPClassUID = _find_class(source)
        reference.ReferencedSOPInstanceUID = source.get("SOPInstanceUID")
        result.SourceImageSequence = [reference]
    else:
        changed += ["StudyInstanceUID", *(["FrameOfReferenceUID"] if "FrameOfReferenceUID" in source else [])]
        result.PatientIdentityRemoved = "YES"
        result.DeidentificationMethod = "cyclegan_tf: only geometry and acquisition are kept"
        result.walk(derive_dimension_uid)
    for name in changed:
        setattr(result, name, derive_uid(source.get(name)))
    if not source.get("StudyInstanceUID"):
        # All files of a series share a study. The prefix keeps the identifiers of study and series different.
        result.StudyInstanceUID = derive_uid(source.get("SeriesInstanceUID"), "StudyInstanceUID")


def _find_class(source: Any) -> str | None:
    """The SOP Class UID of a file; some files state it only in the meta information."""
    return source.get("SOPClassUID") or source.file_meta.get("MediaStorageSOPClassUID")


def _select(source: Any, keeps_all: bool) -> Any:
    """Copies the attributes that a result takes from its source, also within sequences."""
    from pydicom import Dataset

    result = Dataset()
    for element in source:
        if element.tag.is_private or element.tag.group in _OUTDATED_GROUPS or element.keyword in _OUTDATED:
            continue
        if not keeps_all and element.keyword not in _KEPT:
            continue
        if element.VR == "SQ":
            setattr(result, element.keyword, [_select(item, keeps_all) for item in element.value])
        else:
            # A copy, because setting an attribute of the result changes the element.
            result[element.tag] = copy.deepcopy(element)
            if element.keyword == "FrameType":  # The ImageType of each frame of an enhanced image.
                result.FrameType = _derive_type(element.value)
    return result


def _make_secondary_capture(result: Any) -> None:
    """Sets the SOP class of a result to Secondary Capture, which fits any image of one frame.

    Raises:
      ValueError: the result has several frames.
    """
    from pydicom.uid import SecondaryCaptureImageStorage

    count = int(result.get("NumberOfFrames") or 1)
    if count > 1:
        raise ValueError(f"the file has {count} frames and no SOP Class UID (0008,0016), so the kind of the frames is "
                         "unknown; add the SOP Class UID or remove the file")
    result.SOPClassUID = SecondaryCaptureImageStorage
    result.ConversionType = "SYN"  # A synthetic image. The class requires the attribute.


def _derive_type(kinds: Any) -> list[str]:
    """Returns the ImageType of an image derived from one with type `kinds`; keeps the third and later values."""
    return ["DERIVED", "SECONDARY", *([] if not kinds or isinstance(kinds, str) else kinds[2:])]


def get_lowest(dtype: np.dtype, value_range: ValueRange | None) -> float:
    """Returns the lowest value of a result: the lower bound of the range; by default -1 for floats, 0 for integers."""
    if value_range is not None:
        return value_range.low
    return -1.0 if np.dtype(dtype).kind == "f" else 0.0


def _describe_pixels(result: Any, channels: int, dtype: np.dtype, value_range: ValueRange | None) -> None:
    from pydicom.valuerep import format_number_as_ds

    stored, slope, low = dtype, 1.0, 0.0
    if dtype.kind == "f":
        low, high = get_lowest(dtype, value_range), 1.0 if value_range is None else value_range.high
        stored, slope = np.dtype(np.uint16), (high - low) / 65535
    result.SamplesPerPixel = channels
    result.BitsAllocated = result.BitsStored = 8 * stored.itemsize
    result.HighBit, result.PixelRepresentation = 8 * stored.itemsize - 1, int(stored.kind == "i")
    if channels == 3:
        result.PhotometricInterpretation, result.PlanarConfiguration = "RGB", 0
        return
    result.PhotometricInterpretation = "MONOCHROME2"
    result.RescaleSlope, result.RescaleIntercept = format_number_as_ds(slope), format_number_as_ds(low)
    result.RescaleType = "US"  # Unspecified.


def _describe_damage(error: Exception) -> str:
    # If a text cannot be encoded, pydicom raises a TypeError, whose context is the UnicodeError.
    reason = error.__context__ if isinstance(error.__context__, UnicodeError) else error
    return f"its attributes cannot be written: {describe_error(reason)}; repair or remove the file"


class FileWriter(StackWriter):
    """Writes a file frame by frame. The file appears under its name when the context ends without an error.

    Args:
      path: path of the result.
      header: the attributes of the result, from `describe`.
      lowest: value of pixels that are padding in the source.

    Raises:
      ValueError: the pixels exceed the size of a DICOM file, or pydicom cannot write an attribute.
    """

    def __init__(self, path: str, header: Any, lowest: float = 0) -> None:
        self._path, self._header, self._lowest = path, header, lowest
        self._dtype = np.dtype(f"<{'i' if header.PixelRepresentation else 'u'}{header.BitsAllocated // 8}")
        self._left = int(header.get("NumberOfFrames") or 1)
        self._size = header.Rows * header.Columns * header.SamplesPerPixel * self._dtype.itemsize * self._left
        if self._size > _MAX_BYTES:
            raise ValueError(f"the {self._size} bytes of the translation exceed the size of a DICOM file")
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> "FileWriter":
        import pydicom

        filesystem.makedirs(os.path.dirname(self._path) or ".")
        with contextlib.ExitStack() as opened:
            self._file = opened.enter_context(atomic.open_for_writing(self._path, "w+b"))
            with explain_damage(_describe_damage, passes=(OSError,)):
                pydicom.dcmwrite(self._file, self._header, enforce_file_format=True)
            # The pixels are appended by hand, because pydicom would need all frames at once.
            self._file.write(_PIXEL_DATA.pack(0x7FE0, 0x10, b"OW", 0, self._size + self._size % 2))
            self._opened = opened.pop_all()
        return self

    def write(self, pixels: np.ndarray, source: Slice) -> None:
        """Writes the next frame, (H, W, 1) in units or (H, W, 3) in colors."""
        if source.valid is not None:
            pixels = np.where(source.valid[..., np.newaxis], pixels, pixels.dtype.type(self._lowest))
        if self._header.SamplesPerPixel == 1:
            slope, intercept = float(self._header.RescaleSlope), float(self._header.RescaleIntercept)
            if (slope, intercept) != (1, 0) or pixels.dtype.kind == "f":
                limits = np.iinfo(self._dtype)
                pixels = np.clip(np.rint((pixels.astype(np.float64) - intercept) / slope), limits.min, limits.max)
        self._file.write(pixels.astype(self._dtype).tobytes())
        self._left -= 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._opened.__exit__(kind, error, trace)
            return
        with self._opened:
            if self._left:
                raise ValueError(f"{self._left} of the frames have not been written")
            self._file.write(bytes(self._size % 2))
