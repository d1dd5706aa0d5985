"""Data sets of DICOM files and NIfTI volumes: which slices are training images, and with which values."""

import configparser
import gzip
import os
import re
import shutil
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from cyclegan_tf.config import Config
from cyclegan_tf.data import inspection, pairing, shards, sources
from cyclegan_tf.data.bad_images import BadImages
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import nifti
from cyclegan_tf.images.stacks import StackOptions

NIFTI_FILES = Path(nibabel.__file__).parent / "tests" / "data"
DICOM_FILES = Path(str(get_testdata_file("CT_small.dcm"))).parent


@pytest.fixture
def folder(tmp_path):
    for name in ("trainA", "trainB", "testA", "testB"):
        (tmp_path / name).mkdir()
    return tmp_path


def open_set(folder, **options):
    options = {"input_channels": 1, "output_channels": 1, "range_a": "0,1000", "range_b": "0,1000", **options}
    return sources.open_dataset(Config(dataset=str(folder), **options))


def write_volume(path, filled, shape=(6, 5, 8)):
    """Writes a volume of empty slices, except the slices with the numbers `filled`: their value is 100 + number."""
    array = np.zeros(shape, np.int16)
    for index in filled:
        array[1:4, 1:4, index] = 100 + index
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 1, 3, 1])), path)


def list_numbers(image_list):
    return [int(name.rpartition("[")[2].rstrip("]")) for name in image_list.names]


def test_slices_without_content_are_left_out(folder):
    for part in ("trainA", "testA", "trainB", "testB"):
        write_volume(folder / part / "scan.nii.gz", range(2, 6))
    dataset = open_set(folder)
    assert list(dataset.train_a.names) == [f"scan.nii.gz[{number}]" for number in range(2, 6)]
    assert list_numbers(dataset.train_b) == [2, 3, 4, 5]
    assert list_numbers(dataset.test_a) == list_numbers(dataset.test_b) == [2, 3, 4, 5]
    assert list_numbers(open_set(folder, min_content=0).train_a) == [*range(8)]
    assert list_numbers(open_set(folder, max_dataset_size=3).train_a) == [2, 3, 4]
    # 0 .. 1000 is mapped to -1 .. 1.
    assert dataset.train_a.decode(1).max() == np.float32(103 / 500 - 1)
    assert dataset.train_a.decode(1).min() == -1


def test_a_set_without_content_names_the_option(folder):
    for part in ("trainA", "trainB"):
        write_volume(folder / part / "scan.nii.gz", range(2, 6))
    with pytest.raises(UserError, match=r"trainA has the content that --min_content=0\.9 asks for; give a lower"):
        open_set(folder, min_content=0.9)


def test_slices_of_pairs_follow_the_content_of_a(folder):
    write_volume(folder / "trainA" / "scan.nii.gz", range(2, 6))
    write_volume(folder / "trainB" / "scan.nii", range(4, 8))
    for limit, numbers in ((0, [2, 3, 4, 5]), (2, [2, 3])):
        dataset = open_set(folder, model="pix2pix", max_dataset_size=limit)
        pairing.require_training_pairs(dataset, Config(model="pix2pix"))
        assert list_numbers(dataset.train_a) == list_numbers(dataset.train_b) == numbers
    write_volume(folder / "trainB" / "other.nii", [3])
    config = Config(model="pix2pix")
    with pytest.raises(UserError, match=r"other\.nii\[0\] has no counterpart"):
        pairing.require_training_pairs(open_set(folder, model="pix2pix"), config)


def test_held_out_pairs_follow_the_content_of_a(folder):
    for part in ("trainA", "trainB"):
        write_volume(folder / part / "a.nii", [3])
    write_volume(folder / "testA" / "scan.nii.gz", range(2, 6))
    write_volume(folder / "testB" / "scan.nii", range(4, 8))
    dataset = open_set(folder)
    assert dataset.n_pairs == 4
    assert list_numbers(dataset.test_a) == list_numbers(dataset.test_b) == [2, 3, 4, 5]
    (folder / "testB" / "scan.nii").rename(folder / "testB" / "other.nii")
    for paired in ("auto", "no"):
        dataset = open_set(folder, paired=paired)
        assert (dataset.n_pairs, list_numbers(dataset.test_b)) == (0, [4, 5, 6, 7])


@pytest.mark.parametrize(("axis", "count", "shape"), [
    ("axial", 24, (96, 128)), ("coronal", 96, (24, 128)), ("sagittal", 128, (24, 96)),
])
def test_options_choose_direction_and_volume(folder, axis, count, shape):
    for part in ("trainA", "trainB"):
        shutil.copy(NIFTI_FILES / "example4d.nii.gz", folder / part)
    found = open_set(folder, slice_axis=axis, volume=2, min_content=0).train_a
    assert len(found) == count
    assert found.decode(count // 2).shape == (*shape, 1)
    voxels = nibabel.as_closest_canonical(nibabel.load(NIFTI_FILES / "example4d.nii.gz")).get_fdata()[..., 1]
    plane = np.take(voxels, count // 2, {"sagittal": 0, "coronal": 1, "axial": 2}[axis])
    expected = np.sort(np.clip(plane.ravel(), 0, 1000) / 500 - 1)
    np.testing.assert_allclose(np.sort(found.decode(count // 2).ravel()), expected, atol=1e-6)


def test_dicom_files_are_found_with_and_without_suffix(folder):
    for name in ("a.dcm", "b.DCM", "c.IMA", "d", "DICOMDIR"):
        shutil.copy(DICOM_FILES / "CT_small.dcm", folder / "trainA" / name)
    shutil.copy(DICOM_FILES / "rtdose.dcm", folder / "trainB" / "frames")
    dataset = open_set(folder, range_a="-1024,3071")
    assert list(dataset.train_a.names) == ["a.dcm", "b.DCM", "c.IMA", "d"]
    assert list_numbers(dataset.train_b) == [*range(15)]
    units = pydicom.dcmread(DICOM_FILES / "CT_small.dcm").pixel_array.astype(float) - 1024
    for index in range(4):
        np.testing.assert_allclose(dataset.train_a.decode(index)[..., 0], (units - 1023.5) / 2047.5, atol=1e-6)


def test_archives_hold_volumes_and_dicom_files(folder):
    for part in ("trainA", "trainB"):
        write_volume(folder / part / "scan.nii.gz", [3])
        write_volume(folder / part / "plain.nii", [4])
        shutil.copy(DICOM_FILES / "CT_small.dcm", folder / part / "slice")
    archive = shutil.make_archive(str(folder / "set"), "zip", folder)
    from_folder, from_archive = (open_set(place).train_a for place in (folder, archive))
    assert list(from_archive.names) == list(from_folder.names) == ["plain.nii[4]", "scan.nii.gz[3]", "slice"]
    for index in range(3):
        assert (from_archive.decode(index) == from_folder.decode(index)).all()


def test_shards_hold_files_of_several_volumes(folder):
    bad = BadImages()
    data = (NIFTI_FILES / "example4d.nii.gz").read_bytes()
    for part in ("trainA", "trainB"):
        (folder / part / "a.nii.gz").write_bytes(data)
        (folder / part / "b.nii.gz").write_bytes(data[:-9])
    shards.write(sources.find_dataset(str(folder)).folders, str(folder / "shards"), 2**20, bad)
    assert sorted(bad.reasons) == [f"{folder}/{part}/b.nii.gz" for part in ("trainA", "trainB")]
    images, packed = (open_set(place, volume=2).train_a for place in (folder, folder / "shards"))
    assert list(packed.names) == list(images.names)
    np.testing.assert_array_equal(packed.decode(0), images.decode(0))


@pytest.mark.parametrize(("name", "package"), [("anatomical.nii", "nibabel"), ("0.dcm", "pydicom")])
def test_missing_package_ends_the_command(folder, monkeypatch, name, package):
    for part in ("trainA", "trainB"):
        shutil.copy(NIFTI_FILES / name, folder / part)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"need the package {package}: pip install 'cyclegan_tf\[medical\]'"):
        open_set(folder)


def test_large_packages_are_an_extra():
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    required, extra = (
        set(re.findall(r"^([\w-]+)", lines, flags=re.MULTILINE))
        for lines in (setup["options"]["install_requires"], setup["options.extras_require"]["medical"])
    )
    assert {"pydicom", "pylibjpeg", "nibabel"} <= extra
    assert required.isdisjoint({*extra, "SimpleITK", "rasterio", "GDAL", "nilearn"})
    assert {"tifffile", "imagecodecs"} <= required


def test_opening_a_named_pipe_does_not_block(folder):
    write_volume(folder / "trainA" / "a.nii", [3])
    write_volume(folder / "trainB" / "b.nii", [3])
    os.mkfifo(folder / "trainA" / "pipe.nii")
    found = open_set(folder).train_a
    assert list(found.names) == ["a.nii[3]", "pipe.nii"]
    assert found.load(1) is None
    assert list(found.bad.reasons.values()) == ["not a regular file"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("anatomical.nii", {"range_a": ""}, r"anatomical\.nii\[0\]: .*--range_a"),
        ("example4d.nii.gz", {}, r"example4d\.nii\.gz: it holds 2 volumes; choose one with --volume=1 to --volume=2"),
        ("../../nicom/tests/data/csa_slice_norm.dcm", {}, r"csa_slice_norm\.dcm: it has no pixel data"),
    ],
    ids=["no range", "4-D", "no pixels"],
)
def test_unusable_files_are_named(folder, name, options, message):
    for part in ("trainA", "trainB"):
        shutil.copy(NIFTI_FILES / name, folder / part)
    found = open_set(folder, on_bad_image="error", min_content=0, **options).train_a
    with pytest.raises(UserError, match=message):
        found.load(0)


def test_inspect_tells_kinds_values_and_spacings(folder):
    for part in ("trainA", "trainB"):
        shutil.copy(DICOM_FILES / "CT_small.dcm", folder / part / "b")
    shutil.copy(NIFTI_FILES / "anatomical.nii", folder / "trainA")
    shutil.copy(NIFTI_FILES / "example4d.nii.gz", folder / "trainB")
    shutil.copy(DICOM_FILES / "rtplan.dcm", folder / "trainB")
    parts, bad = sources.open_parts(str(folder))
    summaries = inspection.inspect(parts)
    volume = nibabel.load(NIFTI_FILES / "anatomical.nii").get_fdata()
    lines = inspection.format_report(summaries, bad).splitlines()
    assert lines[:4] == [
        "trainA: 26 images in 2 files", "  kinds: 25 NIfTI int16, 1 DICOM CT int16",
        "  sizes: 25 of 33 x 41, 1 of 128 x 128",
        "  spacings: 25 of 2 x 2 mm, slices 2 mm apart; 1 of 0.6615 x 0.6615 mm, slices 5 mm apart",
    ]
    assert (summaries["trainA"].low, summaries["trainA"].high) == (-896, volume.max())
    assert lines[4].startswith("  values: -896 to 30393, 98 % of them ")
    # Three pictures of each file that has three.
    assert [image.shape for image in summaries["trainA"].shown] == [*[(41, 33, 3)] * 3, (128, 128, 3)]
    assert lines[5:7] == ["trainB: 3 images", "  kinds: 1 DICOM CT int16"]
    assert lines[-3:] == [
        "bad files: 2",
        f"  {folder}/trainB/example4d.nii.gz: it holds 2 volumes; choose one with --volume=1 to --volume=2",
        f"  {folder}/trainB/rtplan.dcm: it holds no image (modality RTPLAN); expected a DICOM file with pixels",
    ]
    (_, chosen) = inspection.inspect(sources.open_parts(str(folder))[0], options=StackOptions(volume=2)).values()
    assert chosen.kinds["NIfTI int16"] == 24


def test_a_damaged_volume_is_one_bad_file_and_unpacked_once(folder, monkeypatch):
    data = bytearray(gzip.compress((NIFTI_FILES / "anatomical.nii").read_bytes(), 0))
    data[9999] ^= 1
    (folder / "trainA" / "a.nii.gz").write_bytes(data)
    copies, copy = [], nifti._copy
    monkeypatch.setattr(nifti, "_copy", lambda *args: copies.append(args) or copy(*args))
    parts, bad = sources.open_parts(str(folder / "trainA"))
    inspection.inspect(parts)
    ((path, reason),) = bad.reasons.items()
    assert path == f"{folder}/trainA/a.nii.gz"
    assert "CRC check failed" in reason
    assert len(copies) == 1


def test_inspect_command_takes_the_direction_of_slices(folder, run_command):
    for part in ("trainA", "trainB"):
        shutil.copy(NIFTI_FILES / "anatomical.nii", folder / part)
    result = run_command("cyclegan_tf.datasets", "inspect", folder, "--slice_axis=sagittal", f"--output={folder}/a.png")
    assert result.returncode == 0, result.stderr
    assert "  sizes: 33 of 41 x 25" in result.stdout.splitlines()
