"""A series of DICOM files is a volume in SimpleITK's order, and its translation is a series again."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_files import CT, INT16, change, damage_number

from cyclegan_tf.images import dicom_series
from cyclegan_tf.images.dicom_series import Series
from cyclegan_tf.images.stacks import StackOptions
from cyclegan_tf.storage import filesystem


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
        ({"RescaleSlope": [1, 1]}, "2.dcm: .* not 'MultiValue'"),
        ({"InstanceNumber": [1, 2]}, "2.dcm: its InstanceNumber is damaged: .*; repair or remove the file"),
    ],
)
def test_slices_of_a_series_must_fit(tmp_path, attributes, message):
    paths = make_series(tmp_path / "a", range(5))
    change(paths[2], paths[2], **attributes)
    with pytest.raises(ValueError, match=message):
        read_series(paths)


def test_result_without_all_slices_is_an_error_and_leaves_no_file(tmp_path):
    series = read_series(make_series(tmp_path / "a", range(3)))
    part = series.read(0)
    writer = series.create(str(tmp_path / "b"), 1, INT16, None)
    with pytest.raises(ValueError, match="have not been written"), writer:
        writer.write(part.pixels, part)
    assert not list((tmp_path / "b").iterdir())


def test_slice_that_cannot_be_written_is_named(tmp_path):
    paths = make_series(tmp_path / "a", range(3))
    damage_number(paths[1], Path(paths[1]), "AcquisitionNumber")
    series = read_series(paths)
    part = series.read(0)
    writer = series.create(str(tmp_path / "b"), 1, INT16, None)
    with pytest.raises(ValueError, match=r"^2\.dcm: its attributes cannot be written: .*; repair or remove"), writer:
        for _ in range(3):
            writer.write(part.pixels, part)
    assert not list((tmp_path / "b").iterdir())
