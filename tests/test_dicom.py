"""Slices of DICOM files, as pydicom and SimpleITK read them."""

import io
import shutil
import struct
import sys
import tracemalloc

import numpy as np
import pydicom
import pytest
from dicom_files import CT, FILES, FLOAT32, INT16, MR, UINT12, change, copy, read, read_with_simpleitk
from pydicom.datadict import tag_for_keyword
from pydicom.pixels import decoders

from cyclegan_tf.errors import UserError
from cyclegan_tf.images.dicom import DicomFile
from cyclegan_tf.images.stacks import StackOptions


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


@pytest.mark.parametrize(("is_implicit", "is_little"), [(True, True), (False, True), (False, False)])
def test_files_without_meta_information_are_read(tmp_path, is_implicit, is_little):
    name = "MR_small.dcm" if is_little else "MR_small_bigendian.dcm"
    dataset = pydicom.Dataset(pydicom.dcmread(FILES / name))
    pydicom.dcmwrite(tmp_path / "a.dcm", dataset, implicit_vr=is_implicit, little_endian=is_little, force_encoding=True)
    assert (tmp_path / "a.dcm").read_bytes()[128:132] != b"DICM"
    assert (read(tmp_path / "a.dcm").read(0).pixels[..., 0] == pydicom.dcmread(FILES / name).pixel_array).all()


def test_palettes_have_all_their_bits():
    pixels = read(FILES / "examples_palette.dcm").read(0).pixels
    # The table has 16 bits; SimpleITK keeps the upper 8.
    assert pixels.dtype == np.uint16
    assert (pixels >> 8 == read_with_simpleitk(FILES / "examples_palette.dcm")[0]).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_kind_describes_the_colors_of_a_palette_not_its_indices(tmp_path, bits):
    dataset = pydicom.dcmread(FILES / "examples_palette.dcm")
    names = [f"{color}PaletteColorLookupTable" for color in ("Red", "Green", "Blue")]
    tables = [np.frombuffer(dataset[f"{name}Data"].value, np.uint16) >> (16 - bits) for name in names]
    for name, table in zip(names, tables, strict=True):
        setattr(dataset, f"{name}Descriptor", [256, 0, bits])
        setattr(dataset, f"{name}Data", table.astype(f"uint{bits}").tobytes())
    dataset.save_as(tmp_path / "a.dcm")
    file = read(tmp_path / "a.dcm")
    pixels = file.read(0).pixels
    assert (pixels == np.stack([table[dataset.pixel_array] for table in tables], axis=-1)).all()
    assert (file.kind, file.dtype, pixels.dtype) == (f"DICOM US uint{bits} x 3", f"uint{bits}", f"uint{bits}")


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
    """Makes a file of 3 frames; functional groups hold the positions and the slopes 1, 2 and 3."""
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


def test_monochrome1_inverts_the_values_of_a_lookup_table(tmp_path):
    dataset = pydicom.dcmread(UINT12)
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "US", [4, 1, 16])  # Four entries for the stored values 1 to 4 and those outside.
    table.add_new("LUTData", "US", [0, 10, 20, 1000])
    dataset.ModalityLUTSequence, dataset.PhotometricInterpretation = [table], "MONOCHROME1"
    dataset.PixelData = np.arange(dataset.Rows * dataset.Columns, dtype=np.uint16).tobytes()
    dataset.save_as(tmp_path / "a.dcm")
    assert read(tmp_path / "a.dcm").read(0).pixels[0, :7, 0].tolist() == [1000, 1000, 990, 980, 0, 0, 0]


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


def replace(source, path, name, text):
    """Copies a file and replaces the 16-bit number in attribute `name` with a text of two letters."""
    data, tag = source.read_bytes(), struct.pack("<HH", *divmod(tag_for_keyword(name), 2**16))
    place = data.index(tag + b"US\2\0")
    path.write_bytes(data[: place + 4] + b"LO\2\0" + text.encode() + data[place + 8 + 2 :])


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
        (lambda path: change(CT, path, RescaleSlope=[1, 1]), "not 'MultiValue'"),
        (lambda path: shutil.copy(FILES / "badVR.dcm", path),
         r"^its NumberOfFrames is damaged: invalid literal for int\(\) with base 10: '1A'; repair or remove the file$"),
        (lambda path: change(CT, path, NumberOfFrames=[1, 2]), "^its NumberOfFrames is damaged: .*; repair or remove"),
        (lambda path: replace(CT, path, "Rows", "1A"), "^its Rows is damaged: .*'1A'.*; repair or remove the file$"),
        (lambda path: replace(CT, path, "Columns", "1A"), "^its Columns is damaged: .*'1A'.*; repair or remove"),
        (lambda path: replace(CT, path, "BitsAllocated", "1A"), "^its BitsAllocated is damaged: .*'1A'.*; repair"),
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
