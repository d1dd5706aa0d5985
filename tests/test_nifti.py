"""Slices of NIfTI volumes, and volumes made of slices, as nibabel and SimpleITK read them."""

import errno
import gzip
import io
import os
import sys
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.errors import UserError
from cyclegan_tf.images.nifti import Volume
from cyclegan_tf.images.stacks import StackOptions

FILES = Path(nibabel.__file__).parent / "tests" / "data"
ANATOMICAL = FILES / "anatomical.nii"  # int16, left-anterior-superior.
FLOAT32 = np.dtype(np.float32)
# Volumes of 2 x 3 x 4 mm whose axes lie in several directions.
AFFINES = {
    "RAS": np.diag([2.0, 3, 4, 1]),
    "LPI": np.diag([-2.0, -3, -4, 1]),
    "ASR": np.array([[0, 0, 4.0, -7], [2, 0, 0, 8], [0, 3, 0, 9], [0, 0, 0, 1]]),
    "oblique": np.array([[1.6, -1.8, 0, 5], [1.2, 2.4, 0, 6], [0, 0, -4, 7], [0, 0, 0, 1]]),
}


def make_options(axis="axial", volume=0, min_content=0.0, **options):
    return StackOptions(slice_axis=axis, volume=volume, min_content=min_content, **options)


def open_volume(path, options):
    return Volume(open(path, "rb"), options)


def write_volume(path, array, affine=None, kind=nibabel.Nifti1Image):
    nibabel.save(kind(array, np.eye(4) if affine is None else affine), path)
    return path


def count_voxels(shape=(5, 6, 7)):
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def read_slices(volume):
    return np.stack([volume.read(index).pixels[..., 0] for index in range(len(volume))])


def copy(source, path, dtype=FLOAT32, value_range=None):
    """Writes every slice of a volume as it is."""
    with source.create(str(path), 1, dtype, value_range) as writer:
        for index in range(len(source)):
            part = source.read(index)
            writer.write(part.pixels, part)
    return nibabel.load(path)


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("orientation", AFFINES)
def test_slices_are_upright_whatever_the_order_of_voxels(tmp_path, axis, orientation):
    path = write_volume(tmp_path / "a.nii", count_voxels(), AFFINES[orientation])
    # SimpleITK orders voxels from right to left, anterior to posterior, inferior to superior, as (z, y, x).
    oriented = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS"))
    superior_first = oriented[::-1]
    expected = {  # From inferior to superior, posterior to anterior, left to right.
        "axial": oriented, "coronal": superior_first.transpose(1, 0, 2)[::-1],
        "sagittal": superior_first.transpose(2, 0, 1)[::-1],
    }[axis]
    np.testing.assert_array_equal(read_slices(open_volume(path, make_options(axis))), expected)


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("code", ["RAS", "LPI", "ASR", "SLA"])
def test_aligned_volumes_have_the_same_slices_whatever_their_axes(tmp_path, axis, code):
    image = nibabel.Nifti1Image(count_voxels(), np.diag([2.0, 3, 4, 1]))
    orientation = nibabel.orientations.axcodes2ornt(code)
    nibabel.save(image, tmp_path / "a.nii")
    nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), orientation)), tmp_path / "b.nii")
    assert "".join(nibabel.aff2axcodes(nibabel.load(tmp_path / "b.nii").affine)) == code
    slices = [read_slices(open_volume(tmp_path / name, make_options(axis))) for name in ("a.nii", "b.nii")]
    np.testing.assert_array_equal(slices[1], slices[0])


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize(
    ("name", "volume"),
    [("anatomical.nii", 0), ("standard.nii.gz", 0), ("example4d.nii.gz", 2), ("example_nifti2.nii.gz", 1),
     ("functional.nii", 20), ("reoriented_anat_moved.nii", 0), ("resampled_anat_moved.nii", 0)],
)
def test_result_has_the_voxels_and_the_header_of_its_source(tmp_path, axis, name, volume):
    result = copy(open_volume(FILES / name, make_options(axis, volume, keep_patient_data=True)), tmp_path / name)
    original = nibabel.load(FILES / name)
    voxels = original.get_fdata().astype(np.float32)  # Scaled in float64.
    voxels = voxels if voxels.ndim == 3 else voxels[..., volume - 1]
    np.testing.assert_array_equal(result.get_fdata(dtype=np.float32), voxels)
    assert type(result) is type(original)
    assert result.get_data_dtype().name == "float32"
    changed = {"dim", "pixdim", "datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter", "cal_max", "cal_min"}
    for field in set(original.header) - changed:
        np.testing.assert_array_equal(result.header[field], original.header[field], field)
    np.testing.assert_array_equal(result.affine, original.affine)
    assert result.header.get_zooms() == original.header.get_zooms()[:3]
    assert [path.name for path in tmp_path.iterdir()] == [name], "no temporary file is left"


def test_result_keeps_an_integer_type_and_tells_the_display_range(tmp_path):
    volume = open_volume(ANATOMICAL, make_options())
    result = copy(volume, tmp_path / "a.nii.gz", volume.dtype, ValueRange(-1024.0, 3071.0))
    assert result.get_data_dtype().name == volume.dtype.name == "int16"
    assert (np.asarray(result.dataobj) == np.asarray(nibabel.load(ANATOMICAL).dataobj)).all()
    assert (result.header["cal_min"], result.header["cal_max"]) == (-1024, 3071)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("keeps", [False, True])
def test_free_text_in_the_header_is_patient_data(tmp_path, keeps, kind):
    image = kind(count_voxels(), np.eye(4))
    names = {"descrip", "aux_file", "db_name"} & set(image.header)
    for name in names:
        image.header[name] = b"Jane Doe"
    nibabel.save(image, tmp_path / "a.nii")
    copy(open_volume(tmp_path / "a.nii", make_options(keep_patient_data=keeps)), tmp_path / "b.nii")
    result = nibabel.load(tmp_path / "b.nii").header
    assert {name: result[name].item() for name in names} == dict.fromkeys(names, b"Jane Doe" if keeps else b"")
    assert (b"Jane Doe" in (tmp_path / "b.nii").read_bytes()) == keeps


def test_dicom_attributes_in_the_header_are_left_out(tmp_path):
    image = nibabel.Nifti1Image(count_voxels(), np.eye(4))
    for code, content in ((2, b"PatientName"), (6, b"a comment")):
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(code, content))
    nibabel.save(image, tmp_path / "a.nii")
    for keeps, codes in ((False, [6]), (True, [2, 6])):
        result = copy(open_volume(tmp_path / "a.nii", make_options(keep_patient_data=keeps)), tmp_path / f"{keeps}.nii")
        assert result.header.extensions.get_codes() == codes
        assert (result.get_fdata() == image.get_fdata()).all()


@pytest.mark.parametrize(
    ("stored", "expected"),
    [("int8", "int8"), ("uint8", "uint8"), ("int16", "int16"), (">i2", "int16"), ("uint16", "int32"),
     ("int32", "int32"), ("float32", "float32"), ("float64", "float64")],
)
def test_values_without_scale_keep_their_type(tmp_path, stored, expected):
    array = count_voxels((3, 4, 5)).astype(stored)
    pixels = open_volume(write_volume(tmp_path / "a.nii", array), make_options()).read(4).pixels
    assert pixels.dtype == expected
    assert set(pixels.ravel()) == set(array[:, :, 4].ravel())


def test_values_are_scaled_to_units(tmp_path):
    image = nibabel.Nifti1Image(count_voxels((3, 4, 5)), np.eye(4))
    image.header.set_slope_inter(0.5, -1024)
    with open(tmp_path / "a.nii", "wb") as file:
        image.header.write_to(file)
        file.write(np.asarray(image.dataobj).tobytes(order="F"))
    pixels = open_volume(tmp_path / "a.nii", make_options()).read(0).pixels
    assert pixels.dtype == np.float32
    assert sorted(pixels.ravel()) == [0.5 * value - 1024 for value in range(0, 60, 5)]


@pytest.mark.parametrize(("slope", "intercept", "expected"), [(1, -1024, "int16"), (2, 0, "int16"),
                                                              (0.5, 0, "float32"), (1, 0.5, "float32")])
def test_whole_units_keep_the_integer_type(tmp_path, slope, intercept, expected):
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4))
    image.header.set_slope_inter(slope, intercept)
    with open(tmp_path / "a.nii", "wb") as file:
        image.header.write_to(file)
        file.write(bytes(2 * 3 * 4 * 5))
    assert open_volume(tmp_path / "a.nii", make_options()).dtype == expected


def test_voxels_that_are_not_finite_are_not_valid(tmp_path):
    array = np.zeros((3, 4, 5), np.float32)
    array[0, 0, 1], array[1, 1, 1] = np.nan, np.inf
    volume = open_volume(write_volume(tmp_path / "a.nii", array), make_options())
    assert volume.read(0).valid is None
    assert volume.read(1).valid.sum() == 10


@pytest.mark.parametrize(("axis", "spacing"), [("axial", (3, 2, 4)), ("coronal", (4, 2, 3)), ("sagittal", (4, 3, 2))])
def test_spacing_is_of_rows_columns_and_slices(tmp_path, axis, spacing):
    volume = open_volume(write_volume(tmp_path / "a.nii", count_voxels(), AFFINES["LPI"]), make_options(axis))
    assert volume.spacing == spacing
    assert volume.kind == "NIfTI int16"


@pytest.mark.parametrize(("code", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (3 + 8, 0.001), (7, 1)],
                         ids=["unknown", "meter", "millimeter", "micrometer", "with seconds", "invalid"])
def test_spacing_is_in_millimeters(tmp_path, code, factor):
    path = write_volume(tmp_path / "a.nii", count_voxels(), AFFINES["LPI"])
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[123] = code  # The field xyzt_units.
    (tmp_path / "a.nii").write_bytes(data)
    assert open_volume(path, make_options()).spacing == pytest.approx((3 * factor, 2 * factor, 4 * factor))


@pytest.mark.parametrize("sign", [1, -1], ids=["white on black", "negative slope"])
def test_training_slices_have_content(tmp_path, sign):
    # 0, 1, 2 ... 9 of the 100 pixels of a slice are content.
    array = np.zeros((10, 10, 10), np.int16)
    for index in range(10):
        array[:index, 0, index] = 1000
    array += np.arange(10, dtype=np.int16)  # Noise, well below a tenth of the range.
    image = nibabel.Nifti1Image(sign * array, np.eye(4))
    image.header.set_slope_inter(sign, 0)
    with open(tmp_path / "a.nii", "wb") as file:
        image.header.write_to(file)
        file.write((sign * array).tobytes(order="F"))
    for share, first in ((0, 0), (0.01, 1), (0.05, 5), (0.5, 10)):
        volume = open_volume(tmp_path / "a.nii", make_options(min_content=share))
        assert list(volume.list_indices()) == [*range(first, 10)]


def test_files_without_a_descriptor_can_be_read():
    for data in (ANATOMICAL.read_bytes(), gzip.compress(ANATOMICAL.read_bytes(), 1)):
        volume = Volume(io.BytesIO(data), make_options())
        assert (read_slices(volume) == read_slices(open_volume(ANATOMICAL, make_options()))).all()


@pytest.mark.parametrize("axis", ["axial", "sagittal"])
def test_memory_holds_slices_instead_of_the_volume(tmp_path, axis):
    shape = (96, 96, 192)  # 7 MB; a slice has 74 kB.
    path = write_volume(tmp_path / "a.nii.gz", np.broadcast_to(np.float32(1), shape))
    tracemalloc.start()
    try:
        copy(open_volume(path, make_options(axis)), tmp_path / "b.nii.gz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * 2**20


def write_header(path, **fields):
    """Writes a small volume with changed header fields."""
    image = nibabel.Nifti1Image(count_voxels((3, 4, 5)), np.eye(4))
    data = bytearray(image.to_bytes())
    header = np.frombuffer(data, image.header.structarr.dtype, count=1)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(bytes(data))
    return path


def flip_bit(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(ANATOMICAL.read_bytes()[:-1]), r"ends after 68001 of 68002 bytes"),
        (lambda path: path.write_bytes(gzip.compress(ANATOMICAL.read_bytes())[:-5000]), "damaged"),
        (lambda path: path.write_bytes(b"\x1f\x8bxxxxxxxx"), "compression is damaged"),
        (lambda path: path.write_bytes(flip_bit(gzip.compress(ANATOMICAL.read_bytes(), 0), 9999)), "CRC check"),
        (lambda path: path.write_bytes(gzip.compress(ANATOMICAL.read_bytes())[:-8]), "damaged"),
        (lambda path: path.write_bytes(b"text" * 200), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: write_header(path, magic=b"ni1"), r"pair \.hdr and \.img"),
        (lambda path: write_header(path, dim=[3, 3, 0, 5, 1, 1, 1, 1]), r"impossible shape \(3, 0, 5\)"),
        (lambda path: write_header(path, dim=[3, 3, -4, 5, 1, 1, 1, 1]), r"impossible shape \(3, -4, 5\)"),
        (lambda path: write_header(path, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]), "ends after 472 of"),
        (lambda path: write_header(path, sform_code=1, srow_x=0), "affine is singular"),
        (lambda path: write_header(path, datatype=9999), "damaged: data code 9999 not recognized"),
        (lambda path: write_volume(path, np.zeros((3, 4, 5), np.complex64)), "voxels have the type complex64"),
        (lambda path: write_volume(path, np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])), "type RGB"),
        (lambda path: write_volume(path, np.zeros((3, 4, 5, 2), np.int16)), "2 volumes; choose one with --volume=1"),
        (lambda path: write_volume(path, np.zeros((3, 4, 5, 1, 3), np.int16)), "expected a volume of 3 dimensions"),
    ],
)
def test_unusable_files_are_named_in_one_line(tmp_path, make, message, caplog):
    path = tmp_path / "a.nii"
    make(path)
    with pytest.raises(ValueError, match=message) as caught:
        open_volume(path, make_options()).read(0)
    assert "\n" not in str(caught.value)
    assert not caplog.records, "nibabel's lines do not name the file"


def test_no_damage_of_a_compressed_volume_changes_voxels(tmp_path):
    array = np.random.default_rng(3).integers(-999, 999, (5, 6, 7)).astype(np.int16)
    path = write_volume(tmp_path / "a.nii.gz", array)
    good, expected = path.read_bytes(), read_slices(open_volume(path, make_options()))
    n_named, places = 0, range(0, len(good), 9)
    for place in places:
        path.write_bytes(flip_bit(good, place))
        try:
            found = read_slices(open_volume(path, make_options()))
        except ValueError:
            n_named += 1
        else:
            assert (found == expected).all(), place
    assert n_named >= len(places) - 1, "byte 9 tells the system that wrote the file"


def test_volume_must_exist(tmp_path):
    path = write_volume(tmp_path / "a.nii", np.zeros((3, 4, 5, 2), np.int16))
    with pytest.raises(ValueError, match="no volume 3; choose one with --volume=1 to --volume=2"):
        open_volume(path, make_options(volume=3))
    # The number applies to 4-D files of a set that also has 3-D files.
    assert len(open_volume(ANATOMICAL, make_options(volume=2))) == 25


def test_failure_leaves_no_file(tmp_path):
    volume = open_volume(ANATOMICAL, make_options())
    part = volume.read(0)
    with pytest.raises(ValueError, match="only 1 of 25 slices"), volume.create(
        str(tmp_path / "a.nii"), 1, FLOAT32, None
    ) as writer:
        writer.write(part.pixels, part)
    with pytest.raises(KeyError), volume.create(str(tmp_path / "a.nii"), 1, FLOAT32, None):
        raise KeyError
    with pytest.raises(ValueError, match="cannot hold the 3 channels"):
        volume.create(str(tmp_path / "a.nii"), 3, FLOAT32, None)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error(monkeypatch, tmp_path):
    """The space is reserved first: the process dies if a write to a mapped file finds none."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    volume = open_volume(ANATOMICAL, make_options())
    with pytest.raises(OSError, match="No space left on device"):
        copy(volume, tmp_path / "a.nii")
    assert not list(tmp_path.iterdir())


def test_missing_nibabel_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(UserError, match=r"pip install 'cyclegan_tf\[medical\]'"):
        open_volume(ANATOMICAL, make_options())
