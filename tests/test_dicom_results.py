"""Translations written as DICOM files, as pydicom and SimpleITK read the files."""

import errno

import numpy as np
import pydicom
import pytest
from dicom_files import (
    CT,
    FILES,
    FLOAT32,
    HOUNSFIELD,
    INT16,
    UINT12,
    change,
    copy,
    damage_number,
    make_dataset,
    read,
    read_with_simpleitk,
)

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.images.dicom import DicomFile
from cyclegan_tf.images.stacks import Slice
from cyclegan_tf.images.units import choose_dtype


@pytest.mark.parametrize("keep", [False, True], ids=["without patient data", "with patient data"])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("CT_small.dcm", "int16"), ("MR_small_bigendian.dcm", "int16"), ("693_J2KI.dcm", "int16"),
     ("JPEGLSNearLossless_16.dcm", "uint16"), ("image_dfl.dcm", "uint8"), ("SC_rgb_rle_16bit_2frame.dcm", "uint16"),
     ("SC_rgb_small_odd.dcm", "uint8"), ("SC_rgb_jpeg_dcmtk.dcm", "uint8"), ("examples_palette.dcm", "uint16"),
     ("examples_ybr_color.dcm", "uint8"), ("examples_overlay.dcm", "uint16")],
)
def test_result_has_the_pixels_and_the_geometry_of_its_source(tmp_path, name, dtype, keep):
    source = read(FILES / name, keep_patient_data=keep)
    result = copy(source, tmp_path / "a", dtype)
    written = result.pixel_array.reshape(len(source), *source.shape, -1)
    for index in range(len(source)):
        part = source.read(index)
        is_equal = written[index] * result.get("RescaleSlope", 1) == part.pixels
        assert is_equal.all() if part.valid is None else is_equal[part.valid].all()
    original = pydicom.dcmread(FILES / name)
    for keyword in ("Rows", "Columns", "NumberOfFrames", "PixelSpacing", "ImagePositionPatient", "SliceThickness",
                    "ImageOrientationPatient", "Modality", "SOPClassUID", "InstanceNumber", "BodyPartExamined"):
        assert result.get(keyword) == original.get(keyword), keyword
    assert result.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert result.ImageType[0] == "DERIVED"
    assert "neural network" in result.DerivationDescription
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert result[keyword].value not in ("", original.get(keyword))
    assert not any(element.tag.is_private for element in result)
    assert [path.name for path in tmp_path.iterdir()] == ["a"], "no temporary file is left"


PERSONAL = {
    "PatientName": "Doe^Jane", "PatientID": "1234554321", "PatientBirthDate": "19700101", "PatientSex": "F",
    "PatientAge": "056Y", "PatientAddress": "Main Street", "StudyDate": "20260101", "StudyTime": "120000",
    "AccessionNumber": "77700777", "ReferringPhysicianName": "House^G", "InstitutionName": "Clinic",
    "StationName": "CT1", "DeviceSerialNumber": "88811888", "StudyDescription": "Jane's head", "ImageComments": "Jane",
    "OperatorsName": "Roe", "ContentDate": "20260102", "SeriesDescription": "Jane",
}


def test_patient_is_removed_from_results(tmp_path):
    source = change(CT, tmp_path / "a.dcm", **PERSONAL)
    result = copy(read(source), tmp_path / "b.dcm", INT16)
    data = (tmp_path / "b.dcm").read_bytes()
    original = pydicom.dcmread(source)
    for value in (*PERSONAL.values(), original.StudyInstanceUID, original.FrameOfReferenceUID, original.SOPInstanceUID):
        assert value == "F" or value.encode() not in data, value
    for keyword in ("PatientName", "PatientID", "PatientSex", "StudyDate"):  # Required in every file.
        assert result[keyword].is_empty
    assert result.PatientIdentityRemoved == "YES"


def test_patient_is_kept_on_request(tmp_path):
    source = change(CT, tmp_path / "a.dcm", **PERSONAL)
    result = copy(read(source, keep_patient_data=True), tmp_path / "b.dcm", INT16)
    original = pydicom.dcmread(source)
    for keyword in (*PERSONAL, "StudyInstanceUID", "FrameOfReferenceUID"):
        assert keyword == "SeriesDescription" or result[keyword].value == original[keyword].value, keyword
    assert result.SourceImageSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert "PatientIdentityRemoved" not in result


def test_frames_of_an_enhanced_image_are_derived(tmp_path):
    def make_group(frame_type):
        dataset = pydicom.Dataset()
        dataset.CTImageFrameTypeSequence = [pydicom.Dataset()]
        dataset.CTImageFrameTypeSequence[0].FrameType = frame_type
        return dataset

    groups = [make_group(["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])], [make_group("ORIGINAL")]
    source = change(CT, tmp_path / "a.dcm", SharedFunctionalGroupsSequence=groups[0],
                    PerFrameFunctionalGroupsSequence=groups[1])
    result = copy(read(source, keep_patient_data=True), tmp_path / "b.dcm", INT16)
    shared, frames = result.SharedFunctionalGroupsSequence, result.PerFrameFunctionalGroupsSequence
    assert shared[0].CTImageFrameTypeSequence[0].FrameType == ["DERIVED", "SECONDARY", "VOLUME", "NONE"]
    assert frames[0].CTImageFrameTypeSequence[0].FrameType == ["DERIVED", "SECONDARY"]


@pytest.mark.parametrize("keep", [False, True])
def test_frame_increment_pointer_points_to_an_attribute_of_the_result(tmp_path, keep):
    source = change(CT, tmp_path / "a.dcm", FrameTimeVector=[0, 40], FrameIncrementPointer=0x00181065)
    result = copy(read(source, keep_patient_data=keep), tmp_path / "b.dcm", INT16)
    assert result.FrameIncrementPointer in result
    assert result.FrameTimeVector == [0, 40]


def test_attributes_of_the_old_pixels_are_left_out(tmp_path):
    dataset = pydicom.dcmread(CT)
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.add_new("SmallestImagePixelValue", "SS", 0)
    dataset.save_as(tmp_path / "a.dcm")
    source = tmp_path / "a.dcm"
    for keep in (False, True):
        result = copy(read(source, keep_patient_data=keep), tmp_path / f"{keep}.dcm", INT16)
        assert not {"WindowCenter", "WindowWidth", "SmallestImagePixelValue", "PixelPaddingValue"} & set(result.dir())
        assert (result.RescaleSlope, result.RescaleIntercept) == (1, 0)


def test_floats_are_stored_as_steps_of_the_range(tmp_path):
    class Ramp(DicomFile):
        def read(self, index):
            part = super().read(index)
            values = np.linspace(-1024, 3071, part.pixels.size, dtype=np.float32).reshape(part.pixels.shape)
            values[0, 0, 0] = -5000  # Clipped.
            return type(part)(values)

    source = read(CT, Ramp)
    result = copy(source, tmp_path / "a.dcm", FLOAT32, HOUNSFIELD)
    written, expected = read_with_simpleitk(tmp_path / "a.dcm")[0], np.clip(source.read(0).pixels, -1024, 3071)
    assert result.BitsStored == 16
    assert np.abs(written - expected).max() < 4095 / 65535 / 2 + 1e-3
    assert written[0, 0, 0] == -1024


def test_floats_are_rounded_if_the_steps_are_whole_numbers(tmp_path):
    """With the range 0,65535, the step is 1, so that the result has no slope to divide by."""
    class Ramp(DicomFile):
        def read(self, index):
            values = np.linspace(0, 65535, 128 * 128, dtype=np.float32).reshape(128, 128, 1)
            values[0, 0, 0] = 65535.4  # Clipped.
            return Slice(values)

    source = read(CT, Ramp)
    result = copy(source, tmp_path / "a.dcm", FLOAT32, ValueRange(0.0, 65535.0))
    assert (result.RescaleSlope, result.RescaleIntercept) == (1, 0)
    assert (result.pixel_array == np.rint(np.minimum(source.read(0).pixels[..., 0], 65535))).all()


@pytest.mark.parametrize(
    ("padding", "limit", "declared"), [(-2000, None, "SS"), (-2000, -1999, "SS"), (-2000, None, "US")]
)
def test_padding_is_not_valid_and_becomes_the_lowest_value(tmp_path, padding, limit, declared):
    dataset = pydicom.dcmread(CT)
    stored = dataset.pixel_array.copy()
    stored[:3], stored[3] = padding, padding + 1
    dataset.PixelData = stored.tobytes()
    dataset.add_new("PixelPaddingValue", declared, padding % 2**16 if declared == "US" else padding)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", declared, limit)
    dataset.save_as(tmp_path / "a.dcm")
    file = read(tmp_path / "a.dcm")
    valid = file.read(0).valid
    n_padded = 3 if limit is None else 4
    assert not valid[:n_padded].any()
    assert valid[n_padded:].all()
    copy(file, tmp_path / "b.dcm", INT16, HOUNSFIELD)
    assert (read_with_simpleitk(tmp_path / "b.dcm")[0, :n_padded] == -1024).all()


def test_padding_of_floats_without_a_range_becomes_black(tmp_path):
    class Half(DicomFile):
        """A file of zeros, the middle of [-1, 1]; the left half of each row is padding."""

        def read(self, index):
            valid = np.arange(self.shape[1]) >= self.shape[1] // 2
            return Slice(np.zeros((*self.shape, 1), np.float32), np.tile(valid, (self.shape[0], 1)))

    copy(read(CT, Half), tmp_path / "a.dcm", FLOAT32)
    written = read_with_simpleitk(tmp_path / "a.dcm")[0]
    middle = written.shape[1] // 2
    np.testing.assert_allclose(written[:, :middle], -1, atol=1e-4)
    np.testing.assert_allclose(written[:, middle:], 0, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"])
def test_results_of_float_pixels_have_floats(tmp_path, name, dtype):
    values = np.random.default_rng(3).uniform(0, 3, (64, 64)).astype(dtype)
    dataset = pydicom.dcmread(FILES / name)
    element = "FloatPixelData" if dtype == np.float32 else "DoubleFloatPixelData"
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    change(FILES / name, tmp_path / "a.dcm", PixelData=None, BitsStored=None, HighBit=None, PixelRepresentation=None,
           BitsAllocated=8 * values.itemsize, **{element: values.astype(values.dtype.newbyteorder(order)).tobytes()})
    file = read(tmp_path / "a.dcm")
    assert file.dtype == dtype
    assert (file.read(0).pixels[..., 0] == values).all()
    limits = ValueRange(0.0, 4.0)
    copy(file, tmp_path / "b.dcm", choose_dtype(limits, file.dtype), limits)
    assert np.abs(read_with_simpleitk(tmp_path / "b.dcm")[0, ..., 0] - values).max() < 4 / 65535 / 2 + 1e-6


def test_integers_survive_exactly(tmp_path):
    class Steps(DicomFile):
        def read(self, index):
            part = super().read(index)
            values = np.resize(np.arange(-1024, 3072), part.pixels.shape)
            return type(part)(values)

    source = read(CT, Steps)
    copy(source, tmp_path / "a.dcm", INT16, HOUNSFIELD)
    assert (read_with_simpleitk(tmp_path / "a.dcm")[0] == source.read(0).pixels).all()


def test_one_translation_makes_one_series_with_new_identifiers(tmp_path):
    sources = [change(CT, tmp_path / f"{number}.dcm", SOPInstanceUID=f"1.2.{number}") for number in range(2)]
    first, second = (copy(read(source, salt="secret"), f"{source}b", INT16) for source in sources)
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    other = copy(read(tmp_path / "0.dcm"), tmp_path / "other", INT16)  # Options of another translation.
    assert other.SOPInstanceUID != first.SOPInstanceUID
    assert other.SeriesInstanceUID != first.SeriesInstanceUID


def make_enhanced(path):
    """An enhanced CT with the dimensions of its frames, and a private dimension, as some vendors have."""
    indices = [
        make_dataset(  # InStackPositionNumber in FrameContentSequence.
            DimensionOrganizationUID="1.2.3.4", DimensionIndexPointer=0x00209057, FunctionalGroupPointer=0x00209111,
            DimensionDescriptionLabel="Jane's position",
        ),
        make_dataset(
            DimensionOrganizationUID="1.2.3.4", DimensionIndexPointer=0x20051429,
            DimensionIndexPrivateCreator="Vendor DD 001",
        ),
    ]
    frame = make_dataset(FrameContentSequence=[make_dataset(DimensionIndexValues=[3, 1])])
    return change(CT, path, DimensionOrganizationType="3D", DimensionIndexSequence=indices,
                  DimensionOrganizationSequence=[make_dataset(DimensionOrganizationUID="1.2.3.4")],
                  PerFrameFunctionalGroupsSequence=[frame])


@pytest.mark.parametrize("keep", [False, True])
def test_dimensions_of_an_enhanced_image_are_kept(tmp_path, keep):
    source = make_enhanced(tmp_path / "a.dcm")
    result = copy(read(source, keep_patient_data=keep), tmp_path / "b.dcm", INT16)
    assert result.DimensionOrganizationType == "3D"
    first, second = result.DimensionIndexSequence
    assert (first.DimensionIndexPointer, first.FunctionalGroupPointer) == (0x00209057, 0x00209111)
    assert (second.DimensionIndexPointer, second.DimensionIndexPrivateCreator) == (0x20051429, "Vendor DD 001")
    (frame,) = result.PerFrameFunctionalGroupsSequence
    assert frame.FrameContentSequence[0].DimensionIndexValues == [3, 1]
    identifiers = {item.DimensionOrganizationUID for item in (*result.DimensionOrganizationSequence, first, second)}
    assert len(identifiers) == 1
    assert (identifiers == {"1.2.3.4"}) is keep
    assert (b"Jane" in (tmp_path / "b.dcm").read_bytes()) is keep


def test_tiles_of_a_slide_keep_their_positions(tmp_path):
    tiles = [
        make_dataset(PlanePositionSlideSequence=[make_dataset(
            ColumnPositionInTotalImagePixelMatrix=column, RowPositionInTotalImagePixelMatrix=7,
            XOffsetInSlideCoordinateSystem=1.5, YOffsetInSlideCoordinateSystem=column / 4,
            ZOffsetInSlideCoordinateSystem=0.25,
        )]) for column in (1, 101)
    ]
    origin = make_dataset(XOffsetInSlideCoordinateSystem=20, YOffsetInSlideCoordinateSystem=40)
    attributes = {
        "SOPClassUID": pydicom.uid.VLWholeSlideMicroscopyImageStorage, "PerFrameFunctionalGroupsSequence": tiles,
        "TotalPixelMatrixRows": 106, "TotalPixelMatrixColumns": 200, "TotalPixelMatrixOriginSequence": [origin],
        "TotalPixelMatrixFocalPlanes": 1, "NumberOfOpticalPaths": 1, "DimensionOrganizationType": "TILED_SPARSE",
        "ImageOrientationSlide": [0, -1, 0, -1, 0, 0], "ImagedVolumeWidth": 15, "ImagedVolumeHeight": 12,
        "ImagedVolumeDepth": 1,
    }
    source = change(FILES / "SC_rgb_rle_16bit_2frame.dcm", tmp_path / "a.dcm", **attributes)
    result, original = copy(read(source), tmp_path / "b.dcm", "uint16"), pydicom.dcmread(source)
    for name in attributes:
        assert result[name] == original[name], name


def remove_class(source, path, value=None):
    """Copies a file without the SOP class in its meta information.

    The SOP class in the data set becomes `value`, or is removed.
    """
    dataset = pydicom.dcmread(change(source, path, SOPClassUID=value))
    del dataset.file_meta.MediaStorageSOPClassUID
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("missing", [None, ""], ids=["missing", "empty"])
def test_file_without_a_class_becomes_a_secondary_capture(tmp_path, missing, keep):
    source = remove_class(CT, tmp_path / "a.dcm", missing)
    result = copy(read(source, keep_patient_data=keep), tmp_path / "b.dcm", INT16)
    assert result.SOPClassUID == result.file_meta.MediaStorageSOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
    assert result.ConversionType == "SYN"
    assert (result.pixel_array == pydicom.dcmread(CT).pixel_array - 1024).all()


def test_frames_without_a_class_are_an_error_and_leave_no_folder(tmp_path):
    source = read(remove_class(FILES / "SC_rgb_rle_16bit_2frame.dcm", tmp_path / "a.dcm"))
    with pytest.raises(ValueError, match=r"2 frames and no SOP Class UID .*; add the SOP Class UID or remove"):
        copy(source, tmp_path / "b" / "result", "uint16")
    assert not (tmp_path / "b").exists()


def test_a_secondary_capture_keeps_the_type_of_its_conversion(tmp_path):
    # The class requires the attribute. WSD stands for a workstation.
    source = change(FILES / "SC_rgb_small_odd.dcm", tmp_path / "a.dcm", ConversionType="WSD")
    assert copy(read(source), tmp_path / "b.dcm", "uint8").ConversionType == "WSD"


def test_class_may_be_in_the_meta_information_only(tmp_path):
    """nibabel's file lacks the SOP class UID."""
    result = copy(read(UINT12.with_name("decimal_rescale.dcm")), tmp_path / "a.dcm", FLOAT32, ValueRange(0.0, 5000.0))
    assert result.SOPClassUID == result.file_meta.MediaStorageSOPClassUID == pydicom.uid.MRImageStorage


def test_attribute_that_cannot_be_written_is_a_line(tmp_path):
    source = read(damage_number(CT, tmp_path / "a.dcm", "InstanceNumber"))
    with pytest.raises(ValueError, match=r"^its attributes cannot be written: .*can't encode.*; repair or remove"):
        copy(source, tmp_path / "b" / "result", INT16)
    assert not list((tmp_path / "b").iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EINVAL])
def test_errors_of_the_disk_pass_unchanged(tmp_path, monkeypatch, number):
    def fail(*_, **__):
        raise OSError(number, "cannot write")

    monkeypatch.setattr(pydicom, "dcmwrite", fail)
    with pytest.raises(OSError, match="cannot write"):
        copy(read(CT), tmp_path / "a.dcm", INT16)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("missing", [None, ""], ids=["missing", "empty"])
def test_series_without_a_study_gets_one_study(tmp_path, missing, keep):
    sources = [
        change(CT, tmp_path / f"{number}.dcm", StudyInstanceUID=missing, SeriesInstanceUID=series)
        for number, series in enumerate(("1.2.3", "1.2.3", "1.2.4"))
    ]
    first, second, other = (
        copy(read(source, salt="secret", keep_patient_data=keep), f"{source}b", INT16) for source in sources
    )
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert len({first.StudyInstanceUID, other.StudyInstanceUID, first.SeriesInstanceUID}) == 3
    assert "1.2.3" not in (first.StudyInstanceUID, first.SeriesInstanceUID)


def test_file_without_study_and_series_gets_both(tmp_path):
    source = change(CT, tmp_path / "a.dcm", StudyInstanceUID=None, SeriesInstanceUID=None)
    first, second = (copy(read(source, salt="secret"), tmp_path / name, INT16) for name in ("b", "c"))
    identifiers = {getattr(each, f"{level}InstanceUID") for each in (first, second) for level in ("Study", "Series")}
    assert len(identifiers) == 4


def test_result_without_all_slices_is_an_error_and_leaves_no_file(tmp_path):
    source = read(FILES / "SC_rgb_rle_16bit_2frame.dcm")
    part = source.read(0)
    writer = source.create(str(tmp_path / "b" / "result"), source.channels, part.pixels.dtype, None)
    with pytest.raises(ValueError, match="have not been written"), writer:
        writer.write(part.pixels, part)
    assert not [path for path in (tmp_path / "b").rglob("*") if path.is_file()]


@pytest.mark.parametrize(("channels", "dtype"), [(2, INT16), (3, FLOAT32)])
def test_results_that_dicom_cannot_hold_are_errors(tmp_path, channels, dtype):
    with pytest.raises(ValueError, match="cannot be written as DICOM"):
        read(CT).create(str(tmp_path / "a.dcm"), channels, dtype, None)
