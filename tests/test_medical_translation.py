"""Translating DICOM files, series and NIfTI volumes: units, names, geometry and memory."""

import dataclasses
import re
import shutil
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import translations
from dicom_files import UINT12, damage_number
from PIL import Image
from pydicom.data import get_testdata_file
from translations import list_names

from cyclegan_tf.config.value_ranges import Units, ValueRange
from cyclegan_tf.errors import UserError
from cyclegan_tf.images.stacks import StackOptions
from cyclegan_tf.inference import batch, file_translation, jobs, loading

NIFTI_FILES = Path(nibabel.__file__).parent / "tests" / "data"
DICOM_FILES = Path(str(get_testdata_file("CT_small.dcm"))).parent
CT, MR = DICOM_FILES / "CT_small.dcm", DICOM_FILES / "MR_small.dcm"
HOUNSFIELD, MAGNETIC = ValueRange(-1024.0, 3071.0), ValueRange(0.0, 2047.5)


def make_translator(units=None, function=lambda images: images, channels=1, **options):
    """A translator that returns its images, in the given units."""
    units = Units(HOUNSFIELD, HOUNSFIELD) if units is None else units
    return translations.make_translator(channels, units, function, **options)


def translate(source, output, translator, **options):
    found = jobs.find(str(source), str(output))
    planned = jobs.plan(found, str(output), translator.output_channels, value_range=translator.units.target)
    return batch.run(translator, planned, **options)


def read_units(path):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


@pytest.mark.parametrize("name", ["a.dcm", "a.IMA", "a", "1.2.840.113"])
def test_dicom_file_keeps_name_and_units(tmp_path, name):
    (tmp_path / "in").mkdir()
    shutil.copy(CT, tmp_path / "in" / name)
    assert translate(tmp_path / "in", tmp_path / "out", make_translator()) == {}
    assert list_names(tmp_path / "out") == [name]
    assert (read_units(tmp_path / "out" / name) == read_units(CT)).all()
    result = pydicom.dcmread(tmp_path / "out" / name)
    assert result.BitsAllocated == 16, "as in the source"
    assert result.PatientName == ""


def test_other_stack_options_keep_the_units(tmp_path):
    translator = dataclasses.replace(
        make_translator(), stack_options=StackOptions(1, in_units=True, keep_patient_data=True)
    )
    assert translate(CT, tmp_path, translator) == {}
    assert (read_units(tmp_path / "CT_small.dcm") == read_units(CT)).all()
    assert pydicom.dcmread(tmp_path / "CT_small.dcm").PatientName == "CompressedSamples^CT1"


def test_whole_range_of_hounsfield_units_survives(tmp_path):
    dataset = pydicom.dcmread(CT)
    dataset.PixelData = np.resize(np.arange(4096, dtype=np.int16), (128, 128)).tobytes()
    dataset.save_as(tmp_path / "a.dcm")
    assert translate(tmp_path / "a.dcm", tmp_path / "out", make_translator()) == {}
    expected = np.resize(np.arange(-1024, 3072), (128, 128))
    assert (read_units(tmp_path / "out" / "a.dcm")[0] == expected).all()


def test_values_take_the_unit_of_the_target(tmp_path):
    assert translate(CT, tmp_path, make_translator(Units(HOUNSFIELD, MAGNETIC))) == {}
    expected = (read_units(CT).astype(float) + 1024) / 2
    # 0 .. 2047.5 has no whole end, so it is stored in 65536 steps.
    assert np.abs(read_units(tmp_path / "CT_small.dcm") - expected).max() <= 2047.5 / 65535 / 2 + 1e-4


def test_network_of_colors_keeps_gray_files_gray(tmp_path):
    assert translate(CT, tmp_path, make_translator(channels=3)) == {}
    assert pydicom.dcmread(tmp_path / "CT_small.dcm").SamplesPerPixel == 1
    assert (read_units(tmp_path / "CT_small.dcm") == read_units(CT)).all()


def test_colors_and_frames_need_no_range(tmp_path):
    translator = make_translator(Units(), lambda images: -images, channels=3)
    assert translate(DICOM_FILES / "SC_rgb_rle_2frame.dcm", tmp_path, translator) == {}
    source = pydicom.dcmread(DICOM_FILES / "SC_rgb_rle_2frame.dcm").pixel_array
    assert (pydicom.dcmread(tmp_path / "SC_rgb_rle_2frame.dcm").pixel_array == 255 - source).all()


def test_patient_data_is_kept_on_request(tmp_path):
    translate(CT, tmp_path, make_translator(keep_patient_data=True))
    assert pydicom.dcmread(tmp_path / "CT_small.dcm").PatientName == "CompressedSamples^CT1"


@pytest.fixture
def series(tmp_path):
    """A folder of a series of four slices, a file of another series, and a file of several frames."""
    folder = tmp_path / "in" / "patient"
    folder.mkdir(parents=True)
    for number in range(4):
        dataset = pydicom.dcmread(CT)
        dataset.ImagePositionPatient, dataset.InstanceNumber = [5, 6, -2 * number], number
        dataset.SOPInstanceUID = f"1.2.3.{number}"
        dataset.save_as(folder / f"slice{number}")
    shutil.copy(MR, folder / "mr.dcm")
    shutil.copy(DICOM_FILES / "examples_ybr_color.dcm", tmp_path / "in" / "frames.dcm")
    return tmp_path / "in"


def test_files_of_a_series_are_one_job(tmp_path, series):
    translator = make_translator(channels=3)
    found = jobs.find(str(series), str(tmp_path / "out"))
    planned = jobs.plan(found, str(tmp_path / "out"), 3, value_range=HOUNSFIELD)
    assert sorted((Path(job.source).name, job.n_files) for job in planned) == [
        ("frames.dcm", 1), ("mr.dcm", 1), ("slice0", 4)
    ]
    assert batch.count_slices(translator, planned) == 4 + 1 + 30
    amounts = []
    assert batch.run(translator, planned, update=amounts.append) == {
        str(series / "frames.dcm"): "translations of 3 channels of int16 cannot be written as DICOM"
    }
    assert sum(amounts) == 4 + 1 + 30
    assert list_names(tmp_path / "out") == ["patient/mr.dcm", *(f"patient/slice{number}" for number in range(4))]
    results = [pydicom.dcmread(tmp_path / "out" / "patient" / f"slice{number}") for number in range(4)]
    assert len({result.SeriesInstanceUID for result in results}) == 1
    assert [result.ImagePositionPatient[2] for result in results] == [0, -2, -4, -6]


def test_all_files_of_a_skipped_series_are_counted(tmp_path, series, caplog):
    (series / "patient" / "slice2").unlink()
    with caplog.at_level("INFO", "cyclegan_tf"):
        reasons = make_translator().translate_files(series / "patient", tmp_path / "out")
    assert sorted(reasons) == [str(series / "patient" / f"slice{number}") for number in (0, 1, 3)]
    skipped, done = caplog.messages
    assert re.match(r"skipped .*/slice\d and 2 more of its series: slice3 and slice1 are 4 mm apart", skipped)
    assert done == f"translated 1 of 4 files into {tmp_path}/out"


def test_python_writes_the_files_of_the_command(tmp_path, series, monkeypatch, run_command):
    shutil.copy(NIFTI_FILES / "anatomical.nii", series / "brain.nii")
    (series / "bad.png").write_bytes(b"no image")
    translator = make_translator(Units(HOUNSFIELD, MAGNETIC), subtract_mean)
    monkeypatch.setattr(loading, "load", lambda *_: translator)
    child = run_command("cyclegan_tf.translate", "--model=run", f"--input={series}", f"--output={tmp_path}/command")
    assert child.returncode == 1
    assert translator.translate_files(series, tmp_path / "python") == {
        str(series / "bad.png"): "cannot identify image file"
    }
    names = ["brain.nii", "frames.dcm", "patient/mr.dcm", *(f"patient/slice{number}" for number in range(4))]
    assert list_names(tmp_path / "python") == list_names(tmp_path / "command") == names
    for name in names:
        written, expected = ((tmp_path / folder / name).read_bytes() for folder in ("python", "command"))
        assert written == expected, name


def test_python_keeps_patient_data_and_replaces_results_only_on_request(tmp_path):
    translator = make_translator()
    assert translator.translate_files(CT, tmp_path) == {}
    assert pydicom.dcmread(tmp_path / CT.name).PatientName == ""
    with pytest.raises(UserError, match=f"^{tmp_path}/CT_small.dcm exists already: give another --output, or --over"):
        translator.translate_files(CT, tmp_path)
    assert translator.translate_files(CT, tmp_path, overwrite=True, keep_patient_data=True) == {}
    assert pydicom.dcmread(tmp_path / CT.name).PatientName == "CompressedSamples^CT1"
    assert (read_units(tmp_path / CT.name) == read_units(CT)).all()


def test_python_chooses_the_volume_and_the_direction_of_its_slices(tmp_path):
    seen = set()

    def record(images):
        seen.add(images.shape[1:])
        return images

    source = nibabel.load(NIFTI_FILES / "example4d.nii.gz")
    voxels = source.get_fdata()[..., 1]
    limits = ValueRange(voxels.min(), voxels.max())
    translator = make_translator(Units(limits, limits), record)
    skipped = translator.translate_files(NIFTI_FILES / "example4d.nii.gz", tmp_path)
    assert list(skipped.values()) == ["it holds 2 volumes; choose one with --volume=1 to --volume=2"]
    assert translator.translate_files(
        NIFTI_FILES / "example4d.nii.gz", tmp_path / "b.nii.gz", volume=2, slice_axis="sagittal"
    ) == {}
    assert (nibabel.load(tmp_path / "b.nii.gz").get_fdata() == voxels).all()
    assert seen == {(24, 96, 1)}  # The file has 128 x 96 x 24 voxels, the first axis from right to left.


def test_arguments_of_python_reach_the_translation(tmp_path, monkeypatch):
    seen = []

    def record(translator, jobs, batch_size, tile, update, max_side):
        seen.append((translator.stack_options.keep_patient_data, batch_size, tile, max_side))
        return {}

    monkeypatch.setattr(file_translation.batch, "run", record)
    make_translator().translate_files(CT, tmp_path, batch_size=3, tile=16, max_side=40, keep_patient_data=True)
    assert seen == [(True, 3, 16, 40)]


def test_python_expands_the_home_folder_and_refuses_an_empty_output(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert make_translator().translate_files(CT, "~/out/") == {}
    assert (tmp_path / "out" / CT.name).exists()
    with pytest.raises(UserError, match=r"^--output is empty; give a folder"):
        make_translator().translate_files(CT, "")


@pytest.mark.parametrize(("options", "message"), [
    ({"batch_size": 0}, "--batch_size=0 must be at least 1"), ({"tile": -1}, "--tile=-1 must be at least 0"),
    ({"max_side": -8}, "--max_side=-8 must be at least 0"), ({"volume": -1}, "--volume=-1 must be at least 0"),
    ({"tile": "12"}, "--tile='12' must be an integer"), ({"max_side": 20.5}, "--max_side=20.5 must be an integer"),
    ({"slice_axis": "Axial"}, "--slice_axis=Axial: expected one of axial, coronal, sagittal"),
], ids=str)
def test_wrong_arguments_of_python_have_the_errors_of_the_command(tmp_path, options, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        make_translator().translate_files(CT, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_feature_maps_of_tiles_lie_in_the_folder_of_the_results(tmp_path, series, monkeypatch):
    given = set()

    def translate_by_tiles(self, images, tile, folder):
        given.add(folder)
        return images

    monkeypatch.setattr(loading.LoadedTranslator, "translate_pixels", translate_by_tiles)
    (series / "patient" / "mr.dcm").unlink()
    assert translate(series / "patient", tmp_path / "series", make_translator()) == {}
    assert translate(CT, tmp_path / "file", make_translator()) == {}
    assert given == {str(tmp_path / "series"), str(tmp_path / "file")}


def test_incomplete_series_is_named_and_left_out(tmp_path, series):
    (series / "patient" / "slice2").unlink()
    bad = translate(series / "patient", tmp_path / "out", make_translator())
    assert list(bad.values()) == [
        "slice3 and slice1 are 4 mm apart, but other slices 2 mm; the slices of a series must have equal distances: is "
        "a slice missing?"
    ]
    assert list_names(tmp_path / "out") == ["mr.dcm"]


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("name", ["anatomical.nii", "standard.nii.gz", "example4d.nii.gz", "functional.nii"])
def test_identity_returns_the_volume(tmp_path, name, axis):
    source = nibabel.load(NIFTI_FILES / name)
    voxels = source.get_fdata() if len(source.shape) == 3 else source.get_fdata()[..., 1]
    limits = ValueRange(*map(float, (np.floor(voxels.min()), np.ceil(voxels.max()))))
    translator = make_translator(Units(limits, limits), slice_axis=axis, volume=2)
    assert translate(NIFTI_FILES / name, tmp_path, translator, batch_size=5) == {}
    result = nibabel.load(tmp_path / name)
    # Integers come back exactly, floats with the precision of the network's float32.
    tolerance = 0 if source.get_data_dtype().kind in "iu" and name != "functional.nii" else 1e-6
    np.testing.assert_allclose(result.get_fdata(), voxels, rtol=tolerance, atol=tolerance * 1e3)
    np.testing.assert_array_equal(result.affine, source.affine)
    assert result.shape == source.shape[:3]
    assert result.get_data_dtype().name == ("float32" if tolerance else source.get_data_dtype().name)


def test_voxels_without_a_value_stay_without(tmp_path):
    voxels = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    voxels[1, 2, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    limits = ValueRange(0.0, 100.0)
    assert translate(tmp_path / "a.nii", tmp_path / "out", make_translator(Units(limits, limits))) == {}
    np.testing.assert_allclose(nibabel.load(tmp_path / "out" / "a.nii").get_fdata(), voxels, atol=1e-5)


def test_empty_slices_stay_empty(tmp_path):
    voxels = np.full((8, 8, 4), -1024, np.int16)
    voxels[:, :, 1] = -1023
    voxels[:, :, 2] = -3000  # Clipped.
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    translator = make_translator(Units(HOUNSFIELD, MAGNETIC), lambda images: np.full_like(images, 1))
    assert translate(tmp_path / "a.nii", tmp_path / "out", translator) == {}
    result = nibabel.load(tmp_path / "out" / "a.nii").get_fdata()
    assert [set(result[..., index].ravel()) for index in range(4)] == [{0.0}, {2047.5}, {0.0}, {0.0}]


def test_slices_are_translated_independently_of_their_volume(tmp_path):
    """The range of the run applies to each slice, so that equal slices have equal translations."""
    voxels = np.zeros((8, 8, 6), np.int16)
    voxels[2:5, 3:6, 1] = voxels[2:5, 3:6, 4] = 700
    voxels[:, :, 2] = 3000
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii.gz")

    def normalize(images):
        """Depends on the whole image, as instance normalization does."""
        return np.tanh((images - images.mean((1, 2), keepdims=True)) * 3)

    assert translate(tmp_path / "a.nii.gz", tmp_path / "out", make_translator(function=normalize), batch_size=3) == {}
    result = nibabel.load(tmp_path / "out" / "a.nii.gz").get_fdata()
    assert (result[..., 1] == result[..., 4]).all()
    assert (result[..., 0] == result[..., 5]).all()


def test_memory_is_that_of_some_slices(tmp_path):
    shape = (128, 128, 160)  # 5 MB of int16, 10 MB of float32.
    voxels = np.random.default_rng(0).integers(0, 9, shape, np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii.gz")
    translate(CT, tmp_path / "first", make_translator())  # Imports what is needed.
    tracemalloc.start()
    try:
        assert translate(tmp_path / "a.nii.gz", tmp_path / "out", make_translator()) == {}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * 2**20
    assert (np.asarray(nibabel.load(tmp_path / "out" / "a.nii.gz").dataobj) == voxels).all()


def test_results_must_have_the_format_of_their_source(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "photo.png")
    for source, output in (
        (NIFTI_FILES / "anatomical.nii", "a.png"), (CT, "a.nii"), (tmp_path / "photo.png", "a.dcm"),
        (tmp_path / "photo.png", "a.nii.gz"),
    ):
        found = jobs.find(str(source), str(tmp_path / "out" / output))
        with pytest.raises(UserError, match="cannot be written as such a file; give a folder"):
            jobs.plan(found, str(tmp_path / "out" / output), 1)


@pytest.mark.parametrize("source", [CT, NIFTI_FILES / "anatomical.nii"], ids=["DICOM", "NIfTI"])
def test_a_result_that_cannot_be_written_is_named(tmp_path, source):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "out"
    assert translate(source, target, make_translator()) == {
        str(source): f"cannot write {target}/{source.name}: Not a directory"
    }


def test_dicom_file_that_cannot_be_written_is_left_out(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    damage_number(CT, folder / "a.dcm", "InstanceNumber")
    shutil.copy(UINT12.with_name("decimal_rescale.dcm"), folder / "b.dcm")  # A file without a SOP class UID.
    shutil.copy(MR, folder / "c.dcm")
    bad = translate(folder, tmp_path / "out", make_translator())
    assert list(bad) == [str(folder / "a.dcm")]
    assert bad[str(folder / "a.dcm")].startswith("its attributes cannot be written: ")
    assert list_names(tmp_path / "out") == ["b.dcm", "c.dcm"]


def test_one_result_may_have_another_name(tmp_path):
    limits = ValueRange(-1024.0, 31000.0)
    for source, name in ((NIFTI_FILES / "anatomical.nii", "b.nii.gz"), (CT, "c.dcm")):
        assert translate(source, tmp_path / name, make_translator(Units(limits, limits))) == {}
    assert (nibabel.load(tmp_path / "b.nii.gz").get_fdata() ==
            nibabel.load(NIFTI_FILES / "anatomical.nii").get_fdata()).all()
    assert (read_units(tmp_path / "c.dcm") == read_units(CT)).all()


def subtract_mean(images):
    """A network that, as instance norm, is sensitive to the values of all pixels; empty images become gray."""
    return np.clip(images - np.mean(images, axis=(1, 2), keepdims=True), -1, 1)


def test_loaded_translator_gives_the_values_of_the_command(tmp_path):
    voxels = np.random.default_rng(5).uniform(500, 3000, (8, 9, 4)).astype(np.float32)
    voxels[:5, :, 1] = np.nan
    voxels[..., 2] = np.nan
    voxels[..., 3] = -1024
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    translator = make_translator(Units(HOUNSFIELD, HOUNSFIELD), subtract_mean)
    assert translate(tmp_path / "a.nii", tmp_path / "out", translator) == {}
    # Slices are upright: rows are the second axis, backwards, and columns the first, backwards.
    written = nibabel.load(tmp_path / "out" / "a.nii").get_fdata().T[:, ::-1, ::-1]
    result = translator.translate(tmp_path / "a.nii")[..., 0]
    has_data = ~np.isnan(written)
    np.testing.assert_array_equal(has_data, np.isfinite(voxels.T[:, ::-1, ::-1]))
    np.testing.assert_array_equal(result[has_data], written[has_data])
    assert (result[2:] == -1024).all()  # Without data, and empty.
    assert (result[0] != -1024).all()


def test_loaded_translator_reads_volumes():
    limits = ValueRange(-1000.0, 31000.0)
    result = make_translator(Units(limits, limits), slice_axis="coronal").translate(NIFTI_FILES / "anatomical.nii")
    assert result.shape == (41, 25, 33, 1)
    assert sorted(result.ravel()) == sorted(nibabel.load(NIFTI_FILES / "anatomical.nii").get_fdata().ravel())
