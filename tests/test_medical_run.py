"""A run on volumes and DICOM files from training to translated volumes, through the commands."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

NIFTI_FILES = Path(nibabel.__file__).parent / "tests" / "data"
CT = Path(str(get_testdata_file("CT_small.dcm")))
# Left-anterior-superior int16, and right-anterior-superior float32 of another size.
ANATOMICAL, MOVED = NIFTI_FILES / "anatomical.nii", NIFTI_FILES / "reoriented_anat_moved.nii"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set whose domains are volumes; the held-out volumes are pairs."""
    folder = tmp_path_factory.mktemp("volumes") / "set"
    for part, file, name in (
        ("trainA", ANATOMICAL, "scan.nii"), ("trainB", MOVED, "scan.nii"), ("testA", ANATOMICAL, "1.nii"),
        ("testB", ANATOMICAL, "1.nii"),
    ):
        (folder / part).mkdir(parents=True)
        shutil.copy(file, folder / part / name)
    return folder


def test_a_run_on_volumes_translates_volumes(folder, tmp_path, run_command):
    workdir = tmp_path / "run"
    result = run_command(
        "cyclegan_tf.train", "--preset=tiny", f"--dataset={folder}", f"--workdir={workdir}", "--input_channels=1",
        "--output_channels=1", "--range_a=0,20000", "--range_b=percentile:1,99", "--slice_axis=coronal",
        "--window=8000,4000", "--max_steps=3", "--max_dataset_size=30",
    )
    assert result.returncode == 0, result.stderr
    config = json.loads((workdir / "config.json").read_text())
    low, high = (float(number) for number in config["range_b"].partition("=")[2].split(","))
    training = json.loads((workdir / "training_images.json").read_text())
    assert "scan.nii[20]" in json.dumps(training)
    assert (workdir / "index.html").exists()
    assert list((workdir / "samples").iterdir())
    measures = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert any("psnr_ab" in measure for measure in measures)

    result = run_command(
        "cyclegan_tf.translate", f"--model={workdir}", f"--input={ANATOMICAL}", f"--output={tmp_path}/out.nii.gz",
    )
    assert result.returncode == 0, result.stderr
    source, translated = nibabel.load(ANATOMICAL), nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(translated.affine, source.affine)
    assert translated.shape == source.shape
    assert low <= translated.get_fdata().min() < translated.get_fdata().max() <= high

    # The run's range clips the values of a CT image, which is translated nevertheless.
    result = run_command(
        "cyclegan_tf.translate", f"--model={workdir}", f"--input={CT}", f"--output={tmp_path}/dicom",
        "--keep_patient_data",
    )
    assert result.returncode == 0, result.stderr
    assert "are outside of the range 0,20000 and are clipped" in result.stderr
    assert pydicom.dcmread(tmp_path / "dicom" / CT.name).PatientName == "CompressedSamples^CT1"

    result = run_command("cyclegan_tf.gallery", f"--model={workdir}")
    assert result.returncode == 0, result.stderr


def test_a_data_set_without_usable_files_is_one_line(folder, tmp_path, run_command):
    for part in ("trainA", "trainB"):
        (tmp_path / "set" / part).mkdir(parents=True)
        shutil.copy(NIFTI_FILES / "example4d.nii.gz", tmp_path / "set" / part)
    result = run_command(
        "cyclegan_tf.train", "--preset=tiny", f"--dataset={tmp_path}/set", f"--workdir={tmp_path}/run",
        "--range_a=0,1000", "--range_b=0,1000", "--input_channels=1", "--output_channels=1",
    )
    assert result.returncode == 2
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: none of the 1 images in ")
    assert last.endswith("example4d.nii.gz: it holds 2 volumes; choose one with --volume=1 to --volume=2")
    assert "Traceback" not in result.stderr
