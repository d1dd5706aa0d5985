"""Which files translate reads, and the names and formats of their results."""

import contextlib
import os
import re

import numpy as np
import pytest
from PIL import Image
from translations import PHOTOS, list_names, make_translator, run, translate_all

from cyclegan_tf.config.value_ranges import Units, ValueRange
from cyclegan_tf.errors import UserError
from cyclegan_tf.images.codec import decode
from cyclegan_tf.inference import jobs


@pytest.mark.parametrize(("pattern", "expected"), [
    ("photos/*.png", ["000.png", "001.png", "002.png"]),
    ("photos/**/0?1.*", ["001.png", "deep/001.bmp", "deep/er/001.jpg"]),
    ("photos/*/er/*", ["deep/er/000.jpg", "deep/er/001.jpg"]),
    ("photos/deep/000.bmp", ["000.bmp"]),
    ("photos/*", ["000.png", "001.png", "002.png", "old.png"]),
])
def test_patterns_and_single_files_find_images(photos, tmp_path, pattern, expected):
    assert translate_all(tmp_path / pattern, tmp_path / "out") == {}
    assert list_names(tmp_path / "out") == expected


def test_a_pattern_finds_the_images_that_its_folder_has(photos, tmp_path):
    (photos / "000.png").rename(photos / "IMG_1")  # An image without a suffix.
    (photos / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")  # No suffix of an image, and cannot be decoded.
    (photos / "DICOMDIR").write_bytes(bytes(128) + b"DICM")  # An index, which has no pixels.
    (photos / "deep").rename(tmp_path / "deep")
    found = [jobs.find(str(pattern), str(tmp_path / "out")) for pattern in (photos, photos / "*")]
    assert [name for _, name in found[0]] == ["001.png", "002.png", "IMG_1", "old.GIF", "phone.HEIC"]
    assert found[0] == found[1]


def test_an_output_folder_above_the_input_hides_no_input(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for pattern, expected in (
        ("photos/000.png", ["000.png"]), ("photos/deep", PHOTOS[3:7]), ("photos/*.png", PHOTOS[:3]),
    ):
        translate_all(pattern, ".")
        made = [name.removeprefix("deep/") for name in expected]
        assert [name for name in list_names(tmp_path) if not name.startswith("photos/")] == made
        for name in made:
            (tmp_path / name).unlink()


def test_a_named_file_in_the_output_folder_is_an_input(photos, tmp_path):
    (photos / "link.png").symlink_to(photos / "deep" / "000.bmp")
    assert len(jobs.find(str(photos), str(photos / "deep"))) == 4
    found = jobs.find(str(photos / "link.png"), str(photos / "deep"))
    assert found == [(str(photos / "link.png"), "link.png")]


@pytest.mark.parametrize(("pattern", "output"), [("photos/001.png", "same/001.png"), ("photos/deep", "photos")])
def test_no_result_replaces_an_input(photos, tmp_path, pattern, output):
    (tmp_path / "same").symlink_to(photos)
    (photos / "deep" / "er").rename(photos / "deep" / "deep")
    (photos / "deep" / "deep" / "000.jpg").rename(photos / "deep" / "deep" / "000.bmp")
    with pytest.raises(UserError, match=r"^the result of .* would replace the input file .*00\d\.\w+; give another"):
        translate_all(tmp_path / pattern, tmp_path / output, overwrite=True)


def test_a_folder_leaves_its_videos_out_with_a_warning(photos, caplog):
    (photos / "out").mkdir()
    for name in ("clip.mp4", "deep/dance.AVI", "out/clip.mp4"):
        (photos / name).write_bytes(b"\0\0\0\x18ftypisom")
    assert len(jobs.find(str(photos), str(photos / "out"))) == len(PHOTOS)
    (photos / "no_video.mp4").mkdir()
    (message,) = caplog.messages
    assert message.startswith(f"--input={photos}: left out 2 videos; to translate videos, give --input='")
    found = [jobs.find(pattern, str(photos / "out")) for pattern in re.findall("--input='(.*?)'", message)]
    assert [[name for _, name in each] for each in found] == [["deep/dance.AVI"], ["clip.mp4"]]


def test_a_single_file_can_name_its_result(photos, tmp_path):
    translate_all(photos / "000.png", tmp_path / "new" / "zebra.jpg")
    assert Image.open(tmp_path / "new" / "zebra.jpg").format == "JPEG"


@pytest.mark.parametrize("output", ["a.gif", "a.mp4"])
def test_an_output_format_that_cannot_be_written_is_an_error(photos, tmp_path, output):
    (path, *_), *_ = jobs.find(str(photos), str(tmp_path / "out"))
    found = [(path, os.path.basename(path))]
    with pytest.raises(UserError, match=rf"--output=.*{output}: .* cannot be written as such a file; give a folder"):
        jobs.plan(found, str(tmp_path / output), 3)
    with pytest.raises(UserError, match="cannot be written as such a file"):
        jobs.plan(found, str(tmp_path / "a.png"), 5)


@pytest.mark.parametrize(("source", "value_range", "endings"), [
    ("a.png", None, ".jpg, .jpeg, .png, .bmp, .webp, .npy, .tif, .tiff"),
    ("a.npy", ValueRange(0, 4095), ".npy"), ("a.nii", None, ".nii, .nii.gz"), ("a.avi", None, ".mp4, .m4v, .mov, .mkv"),
])
def test_an_unknown_suffix_of_a_single_result_is_an_error_with_the_known_ones(tmp_path, source, value_range, endings):
    found, output = [(str(tmp_path / source), source)], str(tmp_path / "a.xyz")
    with pytest.raises(UserError) as raised:
        jobs.plan(found, output, 1, value_range=value_range, is_file=True)
    assert str(raised.value) == (f"--output={output}: {tmp_path}/{source} cannot be written as such a file; give a "
                                 f"folder, such as {output}/, or a name that ends in one of {endings}")


@pytest.mark.parametrize(("output", "is_file"), [
    ("a.xyz", False), ("a.xyz/", True), ("v1.2", True), ("made.xyz", True),
])
def test_folders_of_results_may_have_a_dot_in_their_names(tmp_path, output, is_file):
    (tmp_path / "made.xyz").mkdir()
    (job,) = jobs.plan([(str(tmp_path / "a.png"), "a.png")], f"{tmp_path}/{output}", 3, is_file=is_file)
    assert job.target == str(tmp_path / output / "a.png")


@pytest.mark.parametrize(("source", "output", "fits"), [
    ("a.npy", "b.npy", True), ("a.npy", "b.png", False), ("a.npy", "b.tif", False), ("a.tif", "b.png", False),
    ("a.tif", "b.tiff", True), ("a.png", "b.tif", True),
])
def test_a_result_in_a_unit_keeps_the_format_of_arrays_and_tiff_files(tmp_path, source, output, fits):
    found = [(str(tmp_path / source), source)]
    with contextlib.nullcontext() if fits else pytest.raises(UserError, match="cannot be written as such a file"):
        jobs.plan(found, str(tmp_path / output), 1, value_range=ValueRange(0, 4095))
    assert jobs.plan(found, str(tmp_path / output), 1)[0].target == str(tmp_path / output)


@pytest.mark.parametrize("output", ["notes.txt", "old.GIF"])
def test_a_file_that_cannot_hold_all_results_is_an_error(photos, tmp_path, output):
    with pytest.raises(UserError, match=f"--output={photos}/{output} is a file; give a folder"):
        translate_all(photos, photos / output)


def test_arrays_keep_their_values_whatever_their_suffix(tmp_path):
    (tmp_path / "in").mkdir()
    values = np.linspace(0, 4095, 48, dtype=np.float32).reshape(4, 4, 3)
    with open(tmp_path / "in" / "scan.dat", "wb") as file:
        np.save(file, values)
    units = Units(ValueRange(0, 4095), ValueRange(0, 4095))
    assert run(tmp_path / "in", make_translator(3, units), tmp_path / "out") == {}
    np.testing.assert_allclose(np.load(tmp_path / "out" / "scan.npy"), values, atol=1e-3)


def test_existing_files_are_replaced_only_on_request(photos, tmp_path):
    translate_all(photos / "*.png", tmp_path / "out")
    (tmp_path / "out" / "001.png").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"out/000\.png exists already \(and 2 more\): give another --output, or --ov"):
        translate_all(photos, tmp_path / "out")
    assert (tmp_path / "out" / "001.png").read_bytes() == b"precious"
    assert list_names(tmp_path / "out") == ["000.png", "001.png", "002.png"], "nothing was begun"
    translate_all(photos, tmp_path / "out", overwrite=True)
    assert list_names(tmp_path / "out") == PHOTOS
    assert decode((tmp_path / "out" / "001.png").read_bytes()).shape == (24, 24, 3)


def test_the_output_folder_must_not_be_the_input_folder_and_may_be_inside(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    for pattern in (photos, photos / "*.png", photos / "000.png"):
        with pytest.raises(UserError, match="is the folder of the input"):
            translate_all(pattern, tmp_path / "link")
    assert translate_all(photos, photos / "out") == {}
    assert translate_all(photos, photos / "out", overwrite=True) == {}
    assert list_names(photos / "out") == PHOTOS


def test_jpeg_files_keep_any_suffix(tmp_path, make_images):
    for suffix in (".jpe", ".jfif", ".jpeg"):
        make_images(tmp_path / "in", 1, suffix=suffix)
    out = str(tmp_path / "out")
    assert sorted(job.target for job in jobs.plan(jobs.find(str(tmp_path / "in"), out), out, 3)) == [
        f"{out}/000.jfif", f"{out}/000.jpe", f"{out}/000.jpeg"
    ]


def test_equal_result_names_and_missing_files_are_errors(tmp_path, make_images):
    make_images(tmp_path / "photos", 1)
    Image.new("P", (5, 6)).save(tmp_path / "photos" / "000.gif")
    with pytest.raises(UserError, match=r"000\.gif and .*000\.png would both become .*out/000\.png"):
        translate_all(tmp_path / "photos", tmp_path / "out")
    for pattern in ("nothing", "photos/*.tif", "photos/000.jpg"):
        with pytest.raises(UserError, match="no such file or folder, or no images in it"):
            translate_all(tmp_path / pattern, tmp_path / "out")
