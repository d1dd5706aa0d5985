"""Slices of DICOM files and series, and the files made of their translations, as pydicom and SimpleITK read them."""

import io
import shutil
import sys
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.data import get_testdata_file
from pydicom.pixels import decoders

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import dicom_series
from cyclegan_tf.images.dicom import DicomFile
from cyclegan_tf.images.dicom_series import Series
from cyclegan_tf.images.stacks import Slice, StackOptions
from cyclegan_tf.storage import filesystem

FILES = Path(str(get_testdata_file("CT_small.dcm"))).parent
CT, MR = FILES / "CT_small.dcm", FILES / "MR_small.dcm"
UINT12 = Path(nibabel.__file__).parent / "nicom" / "tests" / "data" / "0.dcm"  # Values 0 .. 4095, each once.
INT16, FLOAT32 = np.dtype(np.int16), np.dtype(np.float32)
HOUNSFIELD = ValueRange(-1024.0, 3071.0)


def read(path, kind=DicomFile, **options):
    return kind(open(path, "rb"), StackOptions(**options))


def read_with_simpleitk(path):
    """All frames in units, (N, H, W, C)."""
    image = SimpleITK.ReadImage(str(path))
    array = SimpleITK.GetArrayFromImage(image)
    return array.reshape(-1, *array.shape[1:3], image.GetNumberOfComponentsPerPixel())


def copy(source, path, dtype, value_range=None):
    """Writes every frame as it is; returns what pydicom reads."""
    with source.create(str(path), source.channels, np.dtype(dtype), value_range) as writer:
        for index in range(len(source)):
            part = source.read(index)
            writer.write(part.pixels, part)
    return pydicom.dcmread(path)


def change(source, path, **attributes):
    """Copies a file with changed attributes; None removes one."""
    dataset = pydicom.dcmread(source)
    for name, value in attributes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)
    return path


# (file, type of the pixels, largest difference from SimpleITK, whose decoders of JPEG round otherwise)
@pytest.mark.parametrize(
    ("name", "dtype", "difference"),
    [
        ("CT_small.dcm", "int32", 0), ("693_J2KI.dcm", "int32", 0), ("J2K_pixelrep_mismatch.dcm", "int32", 0),
        ("JPEG2000.dcm", "int32", 0), ("JPEGLSNearLossless_08.dcm", "uint8", 0),
        ("JPEGLSNearLossless_16.dcm", "int32", 0), ("JPGExtended.dcm", "int32", 1), ("MR_small.dcm", "int32", 0),
        ("MR_small_RLE.dcm", "int32", 0), ("MR_small_bigendian.dcm", "int32", 0), ("MR_small_implicit.dcm", "int32", 0),
        ("MR_small_jp2klossless.dcm", "int32", 0), ("MR_small_jpeg_ls_lossless.dcm", "int32", 0),
        ("MR_small_padded.dcm", "int32", 0), ("examples_overlay.dcm", "int32", 0), ("image_dfl.dcm", "uint8", 0),
        ("ExplVR_BigEnd.dcm", "uint8", 0), ("GDCMJ2K_TextGBR.dcm", "uint8", 0),
        ("SC_rgb_jpeg_dcmtk.dcm", "uint8", 0), ("SC_rgb_dcmtk_+eb+cr.dcm", "uint8", 1),
        ("SC_rgb_dcmtk_+eb+cy+s4.dcm", "uint8", 0), ("SC_rgb_jpeg_gdcm.dcm", "uint8", 0),
        ("SC_rgb_jpeg_lossy_gdcm.dcm", "uint8", 2), ("SC_rgb_rle.dcm", "uint8", 0),
        ("SC_rgb_rle_2frame.dcm", "uint8", 0),
        ("SC_rgb_small_odd.dcm", "uint8", 0), ("SC_ybr_full_422_uncompressed.dcm", "uint8", 0),
        ("examples_jpeg2k.dcm", "uint8", 0), ("examples_rgb_color.dcm", "uint8", 0),
        ("examples_ybr_color.dcm", "uint8", 3),
    ],
)
def test_pixels_are_those_of_simpleitk(name, dtype, difference):
    file = read(FILES / name)
    expected = read_with_simpleitk(FILES / name)
    assert len(file) == len(expected)
    for index in {0, len(file) // 2, len(file) - 1}:
        pixels = file.read(index).pixels
        assert (pixels.dtype, pixels.shape) == (dtype, expected.shape[1:])
        assert np.abs(pixels.astype(float) - expected[index]).max() <= difference


def test_file_with_a_damaged_table_of_frames_is_read_as_a_whole():
    # DCMTK has decoded the second file. SimpleITK takes seconds for the first.
    pixels, expected = (read(FILES / name).read(0).pixels for name in ("SC_rgb_jpeg.dcm", "SC_rgb_jpeg_dcmd.dcm"))
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_palettes_have_all_their_bits():
    pixels = read(FILES / "examples_palette.dcm").read(0).pixels
    # The table has 16 bits; SimpleITK keeps the upper 8.
    assert pixels.dtype == np.uint16
    assert (pixels >> 8 == read_with_simpleitk(FILES / "examples_palette.dcm")[0]).all()


def test_doses_are_scaled_to_gray():
    dataset, file = pydicom.dcmread(FILES / "rtdose.dcm"), read(FILES / "rtdose.dcm")
    assert len(file) == 15
    expected = dataset.pixel_array[14] * 1e-6
    assert float(dataset.DoseGridScaling) == 1e-6
    np.testing.assert_allclose(file.read(14).pixels[..., 0], expected, 1e-6)
    with pytest.raises(ValueError, match="a dose grid cannot be written"):
        file.create("a.dcm", 1, FLOAT32, None)


def test_gray_levels_of_monochrome1_are_inverted(tmp_path):
    for source in (CT, UINT12):  # Signed and unsigned.
        path = change(source, tmp_path / source.name, PhotometricInterpretation="MONOCHROME1")
        assert (read(path).read(0).pixels == read_with_simpleitk(path)[0]).all()
    # 12 bits are stored: 0 becomes 4095.
    assert read(path).read(0).pixels[0, 0, 0] == 4095 - pydicom.dcmread(UINT12).pixel_array[0, 0]


def test_values_are_scaled_to_units(tmp_path):
    stored = pydicom.dcmread(MR).pixel_array
    path = change(MR, tmp_path / "a.dcm", RescaleSlope="0.25", RescaleIntercept="-10.5")
    pixels = read(path).read(0).pixels
    assert pixels.dtype == np.float32
    assert (pixels[..., 0] == 0.25 * stored - 10.5).all()


def make_enhanced(path, **shared):
    """A file of 3 frames whose slopes, 1, 2 and 3, and positions stand in functional groups."""
    dataset = pydicom.dcmread(MR)
    frames = np.stack([dataset.pixel_array + index for index in range(3)])
    dataset.NumberOfFrames, dataset.PixelData = 3, frames.tobytes()

    def make_item(**attributes):
        item = pydicom.Dataset()
        for name, value in attributes.items():
            setattr(item, name, value)
        return item

    measures = make_item(PixelSpacing=[0.5, 0.75], SpacingBetweenSlices=2, SliceThickness=9)
    dataset.SharedFunctionalGroupsSequence = [make_item(PixelMeasuresSequence=[measures])]
    dataset.PerFrameFunctionalGroupsSequence = [
        make_item(
            PixelValueTransformationSequence=[make_item(RescaleSlope=index + 1, RescaleIntercept=-5)],
            PlanePositionSequence=[make_item(ImagePositionPatient=[1, 2, index])],
            FrameContentSequence=[make_item(FrameReferenceDateTime="20260101", InStackPositionNumber=index + 1)],
        ) for index in range(3)
    ]
    dataset.save_as(path)
    return frames


def test_each_frame_has_its_own_slope(tmp_path):
    frames = make_enhanced(tmp_path / "a.dcm")
    file = read(tmp_path / "a.dcm")
    assert (len(file), file.is_volume, file.spacing) == (3, True, (0.5, 0.75, 2))
    for index in range(3):
        assert (file.read(index).pixels[..., 0] == frames[index] * (index + 1) - 5).all()
    result = copy(file, tmp_path / "b.dcm", INT16)
    assert (read_with_simpleitk(tmp_path / "b.dcm")[1, ..., 0] == 2 * frames[1] - 5).all()
    groups = result.PerFrameFunctionalGroupsSequence[2]
    assert "PixelValueTransformationSequence" not in groups
    assert groups.PlanePositionSequence[0].ImagePositionPatient == [1, 2, 2]
    assert "FrameReferenceDateTime" not in groups.FrameContentSequence[0]


def test_modality_lookup_table_gives_the_units(tmp_path):
    dataset = pydicom.dcmread(UINT12)
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 16])
    table.add_new("LUTData", "US", [2 * value + 7 for value in range(4096)])
    dataset.ModalityLUTSequence = [table]
    dataset.save_as(tmp_path / "a.dcm")
    assert (read(tmp_path / "a.dcm").read(0).pixels[..., 0] == 2 * dataset.pixel_array.astype(int) + 7).all()


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


@pytest.mark.parametrize("is_series", [False, True], ids=["frames", "series"])
def test_result_without_all_slices_is_an_error_and_leaves_no_file(tmp_path, is_series):
    if is_series:
        source = read_series(make_series(tmp_path / "a", [0, 1, 2]))
    else:
        source = read(FILES / "SC_rgb_rle_16bit_2frame.dcm")
    part = source.read(0)
    writer = source.create(str(tmp_path / "b" / "result"), source.channels, part.pixels.dtype, None)
    with pytest.raises(ValueError, match="have not been written"), writer:
        writer.write(part.pixels, part)
    assert not [path for path in (tmp_path / "b").rglob("*") if path.is_file()]


def test_files_without_a_path_can_be_read():
    file = DicomFile(io.BytesIO(CT.read_bytes()), StackOptions())
    for _ in range(2):
        assert (file.read(0).pixels == read(CT).read(0).pixels).all()


def test_memory_holds_one_frame(tmp_path):
    dataset = pydicom.dcmread(MR)
    frames = np.zeros((64, 256, 256), np.int16)  # 8 MB.
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns, dataset.PixelData = 64, 256, 256, frames.tobytes()
    dataset.save_as(tmp_path / "a.dcm")
    del dataset, frames
    tracemalloc.start()
    try:
        copy_frames(read(tmp_path / "a.dcm"), tmp_path / "b.dcm")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * 2**20


def copy_frames(source, path):
    with source.create(str(path), 1, INT16, None) as writer:
        for index in range(len(source)):
            part = source.read(index)
            writer.write(part.pixels, part)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(CT.read_bytes()[:-1000]), "has 31906 of 32768 bytes of pixels; copy"),
        (lambda path: path.write_bytes(b"text" * 200), "holds no image"),
        (lambda path: path.write_bytes(b""), "holds no image"),
        (lambda path: shutil.copy(FILES / "rtplan.dcm", path), r"holds no image \(modality RTPLAN\)"),
        (lambda path: change(CT, path, PixelData=None), "it has no pixel data"),
        (lambda path: change(CT, path, Rows=0), "frames of 128 x 0 pixels"),
        (lambda path: change(CT, path, Rows=65535, Columns=65535), "65535 x 65535 pixels"),
        (lambda path: change(CT, path, Columns=200), "has 32768 of 51200 bytes of pixels"),
        (lambda path: change(CT, path, RescaleSlope=0), "rescale slope 0 and intercept -1024; expected a slope other"),
        (lambda path: change(CT, path, RescaleIntercept="inf"), "slope 1 and intercept inf; .*, and finite numbers"),
        (lambda path: shutil.copy(FILES / "badVR.dcm", path), "invalid literal for int"),
        (lambda path: shutil.copy(FILES / "JPEG2000-embedded-sequence-delimiter.dcm", path), "Unable to decode"),
    ],
)
def test_unusable_files_are_named_in_one_line(tmp_path, make, message):
    path = tmp_path / "a.dcm"
    make(path)
    with pytest.raises(ValueError, match=message) as caught:
        read(path).read(0)
    assert "\n" not in str(caught.value)


def test_missing_decoder_names_the_extra(monkeypatch):
    monkeypatch.setattr(decoders.JPEG2000Decoder, "_available", {})
    with pytest.raises(ValueError, match=r"pip install 'cyclegan_tf\[medical\]': .*'JPEG 2000"):
        read(FILES / "693_J2KI.dcm").read(0)


def test_missing_pydicom_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"pip install 'cyclegan_tf\[medical\]'"):
        read(CT)


@pytest.mark.parametrize(("channels", "dtype"), [(2, INT16), (3, FLOAT32)])
def test_results_that_dicom_cannot_hold_are_errors(tmp_path, channels, dtype):
    with pytest.raises(ValueError, match="cannot be written as DICOM"):
        read(CT).create(str(tmp_path / "a.dcm"), channels, dtype, None)


def make_series(folder, positions, **attributes):
    """Files whose names, numbers and positions have three different orders; slice i has the values i."""
    folder.mkdir(exist_ok=True)
    for number, position in enumerate(positions):
        dataset = pydicom.dcmread(CT)
        dataset.ImagePositionPatient, dataset.InstanceNumber = [5, 6, position], number
        dataset.SOPInstanceUID = f"1.2.3.{number}"
        dataset.PixelData = np.full((128, 128), number, np.int16).tobytes()
        for name, value in attributes.items():
            setattr(dataset, name, value)
        dataset.save_as(folder / f"{(7 * number) % 5}.dcm")
    return sorted(map(str, folder.iterdir()))


def read_series(paths):
    return Series(paths, StackOptions())


def list_levels(series):
    return [int(series.read(index).pixels[0, 0, 0]) + 1024 for index in range(len(series))]


def test_series_is_sorted_by_position(tmp_path):
    paths = make_series(tmp_path / "a", [0, 7.5, 2.5, 10, 5])
    assert list_levels(read_series(paths)) == [0, 2, 4, 1, 3]
    # The slices' normal points along -y: coronal slices.
    paths = make_series(tmp_path / "b", [0] * 5, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    for number, path in enumerate(paths):
        change(path, path, ImagePositionPatient=[0, number, 0])
    levels = [pydicom.dcmread(path).InstanceNumber for path in paths]
    reader = SimpleITK.ImageSeriesReader()
    found = reader.GetGDCMSeriesFileNames(str(tmp_path / "b"))
    assert list_levels(read_series(paths)) == [levels[paths.index(path)] for path in found]


def test_series_without_positions_is_sorted_by_number(tmp_path):
    paths = make_series(tmp_path / "a", range(5), ImageOrientationPatient=None)
    assert list_levels(read_series(paths)) == [0, 1, 2, 3, 4]


def test_files_of_other_formats_are_not_opened_to_find_series(monkeypatch):
    opened = []
    open_file = filesystem.open_regular_file
    monkeypatch.setattr(filesystem, "open_regular_file", lambda path: opened.append(path) or open_file(path))
    assert [dicom_series.read_identifier(name) for name in ("a.png", "b.TIF", "c.nii.gz", str(CT))] == [
        None, None, None, pydicom.dcmread(CT).SeriesInstanceUID
    ]
    assert opened == [str(CT)]


def test_series_becomes_a_series(tmp_path):
    paths = make_series(tmp_path / "a", [0, 7.5, 2.5, 10, 5])
    series = read_series(paths)
    with series.create(str(tmp_path / "b"), 1, INT16, None) as writer:
        for index in range(5):
            part = series.read(index)
            writer.write(part.pixels + 1000, part)
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [Path(path).name for path in paths]
    results = [pydicom.dcmread(tmp_path / "b" / Path(path).name) for path in paths]
    assert len({result.SeriesInstanceUID for result in results}) == 1
    assert len({result.SOPInstanceUID for result in results}) == 5
    reader = SimpleITK.ImageSeriesReader()
    volumes = []
    for folder in ("a", "b"):
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / folder)))
        volumes.append(reader.Execute())
    source, translated = volumes
    assert (SimpleITK.GetArrayFromImage(translated) == SimpleITK.GetArrayFromImage(source) + 1000).all()
    for measure in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(source, measure)() == getattr(translated, measure)()


def test_failed_series_leaves_no_file(tmp_path):
    series = read_series(make_series(tmp_path / "a", range(3)))
    part = series.read(0)
    with pytest.raises(KeyError), series.create(str(tmp_path / "b"), 1, INT16, None) as writer:
        writer.write(part.pixels, part)
        raise KeyError
    assert not list((tmp_path / "b").iterdir())


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"Rows": 64, "Columns": 256}, "2.dcm has 256 x 64 pixels in 1 channels, but 0.dcm has 128 x 128 .* move"),
        ({"PixelSpacing": [1, 1]}, "2.dcm has pixels of 1 x 1 mm, but 0.dcm of 0.661468 x 0.661468 mm; move"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, 1]}, "2.dcm and 0.dcm are not parallel slices; move"),
        ({"ImagePositionPatient": [5, 6, 1.5]}, "are 1.5 mm apart, but other slices 1 mm"),
        ({"PixelData": None, "Rows": None}, "2.dcm: it holds no image"),
    ],
)
def test_slices_of_a_series_must_fit(tmp_path, attributes, message):
    paths = make_series(tmp_path / "a", range(5))
    change(paths[2], paths[2], **attributes)
    with pytest.raises(ValueError, match=message):
        read_series(paths)
