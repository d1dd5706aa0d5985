"""Translating files: batches, errors, unreadable files, shrinking, and the command line."""

import errno
import os
import struct
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import tifffile
import translations
from conftest import run_python
from PIL import Image
from translations import PHOTOS, Negative, list_names, make_translator, translate_all

from cyclegan_tf.config.value_ranges import Units, ValueRange
from cyclegan_tf.errors import UserError
from cyclegan_tf.images.codec import decode
from cyclegan_tf.inference import batch, jobs, loading, translator


def test_results_keep_their_names_and_images_of_a_size_form_batches(photos, tmp_path):
    model, done = Negative(), []
    assert translate_all(photos, tmp_path / "out", model, batch_size=2, update=done.append) == {}
    assert list_names(tmp_path / "out") == PHOTOS
    assert sum(done) == pytest.approx(len(PHOTOS))
    for name in ("001.png", "deep/001.bmp"):
        original, result = (decode((folder / name).read_bytes()) for folder in (photos, tmp_path / "out"))
        assert (result == 255 - original).all()
    assert sorted(shape[:3] for shape in model.batches) == [
        (1, 6, 5), (1, 24, 24), (2, 20, 30), (2, 24, 24), (2, 24, 24)
    ]


def test_batches_have_at_most_a_megapixel(tmp_path):
    (tmp_path / "photos").mkdir()
    for index, height in enumerate((512, 512, 512, 1025, 1025)):
        Image.new("RGB", (1024, height)).save(tmp_path / "photos" / f"{index}.png")
    model = Negative()
    translate_all(tmp_path / "photos", tmp_path / "out", model, batch_size=8)
    assert sorted(model.batches) == [
        (1, 512, 1024, 3), (1, 1025, 1024, 3), (1, 1025, 1024, 3), (2, 512, 1024, 3)
    ]


def test_few_images_wait_in_memory(tmp_path, make_images, monkeypatch):
    for height in range(8, 28):
        make_images(tmp_path / "photos" / str(height), 1, size=(height, 8))
    model, most = Negative(), []
    read = batch.image_files.read
    monkeypatch.setattr(batch.image_files, "read", lambda *arguments: (
        most.append(len(most) - sum(shape[0] for shape in model.batches)) or read(*arguments)
    ))
    translate_all(tmp_path / "photos", tmp_path / "out", model, batch_size=2)
    assert len(list_names(tmp_path / "out")) == 20
    assert max(most) <= 4 * 2


def test_nothing_is_written_if_a_video_cannot_be_translated(photos, tmp_path):
    (photos / "clip.mp4").write_bytes(b"")
    gray = make_translator()
    planned = jobs.plan(jobs.find(str(photos / "*"), str(tmp_path / "out")), str(tmp_path / "out"), 1)
    with pytest.raises(UserError, match=r"clip\.mp4: the model maps 1 channels to 1; videos need a model"):
        batch.run(gray, planned)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_if_the_network_does_not_support_tiles(photos, tmp_path):
    inputs = tf.keras.Input((None, None, 3))
    network = tf.keras.Model(inputs, tf.keras.layers.Softmax(axis=1, name="rows")(inputs))
    model = translator.Translator(network, 1, 1)
    with pytest.raises(UserError, match="tiles are not possible: the receptive field of layer rows"):
        translate_all(photos, tmp_path / "out", model, tile=28)  # Some images are smaller, and could be translated.
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_if_nibabel_is_missing(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "a.tif", np.zeros((2, 4, 4), np.uint8), photometric="minisblack")
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(UserError, match="NIfTI files need the package nibabel"):
        translations.run(tmp_path / "in", make_translator(1), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unreadable_files_are_reported_and_the_others_translated(photos, tmp_path):
    (photos / "001.png").write_bytes((photos / "001.png").read_bytes()[:200])
    (photos / "empty.jpg").touch()
    bad = translate_all(photos, tmp_path / "out", batch_size=3)
    assert sorted(bad) == [str(photos / "001.png"), str(photos / "empty.jpg")]
    assert all(bad.values())
    assert list_names(tmp_path / "out") == [name for name in PHOTOS if name != "001.png"]


def test_results_that_cannot_be_written_are_reported_and_the_others_written(photos, tmp_path):
    (tmp_path / "out" / "001.png").mkdir(parents=True)
    (tmp_path / "out" / "deep").write_text("a file where a folder is needed")
    bad = translate_all(photos, tmp_path / "out", batch_size=3, overwrite=True)
    assert sorted(bad) == [str(photos / name) for name in ("001.png", *PHOTOS[3:7])]
    assert bad[str(photos / "001.png")] == f"cannot write {tmp_path}/out/001.png: Is a directory"
    assert bad[str(photos / PHOTOS[3])].startswith(f"cannot write {tmp_path}/out/deep/000.bmp: ")
    assert list_names(tmp_path / "out") == ["000.png", "002.png", "deep", "old.png"]


def test_a_full_disk_costs_only_the_files_that_do_not_fit(tmp_path, make_images, monkeypatch):
    make_images(tmp_path / "photos", 2)
    make_images(tmp_path / "photos" / "large", 1, size=(100, 100))
    save = Image.Image.save

    def save_small(image, file, **options):
        if image.height == 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(image, file, **options)

    monkeypatch.setattr(Image.Image, "save", save_small)
    assert translate_all(tmp_path / "photos", tmp_path / "out") == {
        f"{tmp_path}/photos/large/000.png": f"cannot write {tmp_path}/out/large/000.png: No space left on device"
    }
    assert list_names(tmp_path / "out") == ["000.png", "001.png"]


def make_huge(path):
    """A TIFF file that declares more pixels than the memory holds."""
    tifffile.imwrite(path, np.zeros((4, 4, 3), np.uint16), photometric="rgb", bigtiff=True, byteorder=">")
    data = bytearray(path.read_bytes())
    for tag in (256, 257):  # Width and height: one 2-byte or 4-byte value.
        position = data.index(struct.pack(">H", tag), 16)
        kind, = struct.unpack_from(">H", data, position + 2)
        struct.pack_into({3: ">H", 4: ">I"}[kind], data, position + 12, 60_000)
    path.write_bytes(data)


UNREADABLE = {
    "huge.tif": (make_huge, "60000 x 60000 pixels exceed the limit of 178956970 pixels"),
    "nan.npy": (lambda path: np.save(path, np.full((24, 24, 3), np.nan, np.float32)), "1728 of 1728 values are NaN"),
    "levels.npy": (lambda path: np.save(path, np.full((24, 24, 3), 255, np.float32)), "the values are 255 to 255"),
    "pipe.png": (os.mkfifo, "not a regular file"),
    "pipe.tif": (os.mkfifo, "not a regular file"),
    "loop.png": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "folder.png": (lambda path: path.symlink_to(path.parent.parent), "not a regular file"),
}


def test_each_unreadable_file_costs_only_itself(tmp_path, make_images):
    make_images(tmp_path / "photos", 1)
    np.save(tmp_path / "photos" / "good.npy", np.full((24, 24, 3), 0.5, np.float32))
    tifffile.imwrite(tmp_path / "photos" / "big.tif", np.full((24, 24, 3), 7, np.uint8), photometric="rgb",
                     bigtiff=True)
    for name, (make, _) in UNREADABLE.items():
        make(tmp_path / "photos" / name)
    bad = translate_all(tmp_path / "photos", tmp_path / "out")
    assert sorted(bad) == sorted(f"{tmp_path}/photos/{name}" for name in UNREADABLE)
    for name, (_, reason) in UNREADABLE.items():
        assert bad[f"{tmp_path}/photos/{name}"].startswith(reason)
    assert list_names(tmp_path / "out") == ["000.png", "big.tif", "good.npy"]
    assert (np.load(tmp_path / "out" / "good.npy") == -0.5).all()
    assert (tifffile.imread(tmp_path / "out" / "big.tif") == 248).all()


@pytest.mark.parametrize("error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM")],
                         ids=["host", "TensorFlow"])
def test_a_batch_that_is_too_large_is_translated_one_by_one(tmp_path, make_images, error):
    make_images(tmp_path / "photos", 3)
    make_images(tmp_path / "photos" / "large", 1, size=(100, 100))

    def negate(images):
        if images.size > 24 * 24 * 3:
            raise error
        return -images

    bad = translate_all(tmp_path / "photos", tmp_path / "out", make_translator(3, function=negate))
    assert bad == {
        f"{tmp_path}/photos/large/000.png": "the translation ran out of memory; give --tile=512, or a smaller tile"
    }
    assert list_names(tmp_path / "out") == ["000.png", "001.png", "002.png"]


def test_an_error_of_several_lines_becomes_one(tmp_path, make_images):
    make_images(tmp_path / "photos", 1)

    def fail(images):
        raise tf.errors.InternalError(None, None, "convolution failed\n\t [[node conv]]")

    bad = translate_all(tmp_path / "photos", tmp_path / "out", make_translator(3, function=fail))
    assert list(bad.values()) == ["convolution failed [[node conv]]"]


def test_progress_by_tiles_never_decreases(tiny_run, tmp_path, make_images):
    make_images(tmp_path / "photos", 3, size=(24, 24))
    steps = []
    model = loading.load(tiny_run)
    assert translate_all(tmp_path / "photos", tmp_path / "out", model, tile=16, update=steps.append) == {}
    assert min(steps) >= 0
    assert sum(steps) == pytest.approx(3)


def test_large_images_are_shrunk_on_request(tmp_path):
    (tmp_path / "photos").mkdir()
    # Large squares of one color, whose shrunken image is known: a quarter as large, without a blend away from borders.
    colors = np.array([[[200, 10, 20, 0], [30, 220, 40, 80]], [[50, 60, 240, 160], [70, 80, 90, 255]]], np.uint8)
    large = np.kron(colors, np.ones((80, 120, 1), np.uint8))
    exif = Image.Exif()
    exif[271] = "camera"
    exif.get_ifd(0x8769).update({0xA002: 240, 0xA003: 160, 0x829A: 0.5})  # Width, height, time of exposure.
    Image.fromarray(large).save(tmp_path / "photos" / "alpha.png", exif=exif)
    Image.fromarray(large[..., :3]).save(tmp_path / "photos" / "large.png")
    Image.fromarray(large[:20, :60, :3]).save(tmp_path / "photos" / "small.png")
    np.save(tmp_path / "photos" / "array.npy", large[..., :3])
    assert translate_all(tmp_path / "photos", tmp_path / "out", max_side=60) == {}
    for name in ("large.png", "array.npy"):
        path = tmp_path / "out" / name
        result = np.load(path) if name == "array.npy" else np.asarray(Image.open(path))
        assert result.shape == (40, 60, 3)
        for row, column in np.ndindex(2, 2):
            square = result[20 * row + 5 : 20 * row + 15, 30 * column + 5 : 30 * column + 25]
            assert (square == 255 - colors[row, column, :3]).all()
    assert Image.open(tmp_path / "out" / "small.png").size == (60, 20)
    result = Image.open(tmp_path / "out" / "alpha.png")
    assert (result.mode, result.size, result.getexif()[271]) == ("RGBA", (60, 40), "camera")
    assert dict(result.getexif().get_ifd(0x8769)) == {0x829A: 0.5}
    assert [result.getpixel((x, y))[3] for y in (10, 30) for x in (15, 45)] == [0, 80, 160, 255]


@pytest.mark.parametrize("kind", ["stack", "geometry", "imagej", "video", "units"])
def test_nothing_is_written_if_a_file_cannot_be_shrunk(photos, tmp_path, kind):
    model = Negative()
    if kind == "stack":
        tifffile.imwrite(photos / "stack.tif", np.zeros((3, 20, 30), np.uint8), photometric="minisblack")
        message = "stack.tif: --max_side is not for files of slices"
    elif kind == "geometry":  # A GeoTIFF file with the size of its pixels on the ground.
        tags = [(33550, "d", 3, (10.0, 10.0, 0.0), True)]
        tifffile.imwrite(photos / "map.tif", np.zeros((20, 30), np.uint8), photometric="minisblack", extratags=tags)
        message = "map.tif: --max_side is not for files of slices, or files whose geometry the result keeps"
    elif kind == "imagej":
        tifffile.imwrite(photos / "cell.tif", np.zeros((20, 30), np.uint8), imagej=True, resolution=(4, 4))
        message = "cell.tif: --max_side is not for files of slices, or files whose geometry the result keeps"
    elif kind == "video":
        (photos / "clip.mp4").write_bytes(b"")
        message = "clip.mp4: --max_side is not for videos"
    else:
        model.units = Units(ValueRange(0, 100), None)
        message = "--max_side is not for a model of images in units"
    with pytest.raises(UserError, match=message):
        translate_all(photos / "**", tmp_path / "out", model, max_side=16)
    assert not (tmp_path / "out").exists()


def test_tiles_need_a_generator_with_layers(photos, tmp_path):
    with pytest.raises(UserError, match="tiles need the generator's layers"):
        translate_all(photos, tmp_path / "out", tile=512)
    assert not (tmp_path / "out").exists()


def run_translate(*arguments, **options):
    return run_python("-m", "cyclegan_tf.translate", *arguments, **options)


def test_the_command_translates_files(tiny_run, tmp_path, make_images, run_command):
    make_images(tmp_path / "photos" / "b", 2, size=(30, 41))
    Image.open(tmp_path / "photos" / "b" / "000.png").convert("L").save(tmp_path / "photos" / "gray.tif")
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no image")
    (tmp_path / "photos" / "clip.mp4").write_bytes(b"")
    arguments = [f"--input={tmp_path}/photos", "--direction=b2a", f"--output={tmp_path}/out", "--tile=16"]
    child = run_translate(f"--model={tiny_run}", *arguments)
    assert child.returncode == 1
    assert child.stderr.strip().splitlines()[-2:] == [
        f"skipped {tmp_path}/photos/bad.jpg: cannot identify image file",
        f"translated 3 of 4 files into {tmp_path}/out",
    ]
    assert child.stderr.count("left out 1 video;") == 1
    expected = loading.load(tiny_run, "b2a").translate(str(tmp_path / "photos" / "b" / "001.png"))
    result = decode((tmp_path / "out" / "b" / "001.png").read_bytes())
    np.testing.assert_allclose(result.astype(int), expected, atol=1)
    assert Image.open(tmp_path / "out" / "gray.tif").mode == "L"
    again = run_command("cyclegan_tf.translate", f"--model={tiny_run}", *arguments)
    assert again.returncode == 2
    assert again.stderr.strip().splitlines()[-1].startswith(f"error: {tmp_path}/out/b/000.png exists already (and 2 mo")


def test_mistakes_on_the_command_line_are_one_line_and_status_2(tiny_run, tmp_path, make_images, run_command):
    make_images(tmp_path / "photos", 1)
    image = tmp_path / "photos" / "000.png"
    given = {"model": tiny_run, "input": tmp_path / "photos", "output": tmp_path / "out"}
    for changes, message in (
        ({"model": None}, "error: --model is missing; see --help"),
        ({"output": tmp_path / "photos"}, f"error: --output={tmp_path}/photos is the folder of the input"),
        ({"volume": -1}, "error: --volume=-1 must be at least 0"),
        # The input and the output are checked before the model.
        ({"input": "nope", "model": "/no/such"}, "error: --input=nope: no such file"),
        ({"output": image / "out", "model": "/no/such"},
         f"error: --output={image}/out: cannot write into folder {image} (Not a directory); give a path in another"),
        ({"input": image, "output": tmp_path / "a.xyz"}, f"error: --output={tmp_path}/a.xyz: {image} cannot be wri"),
    ):
        options = (f"--{key}={value}" for key, value in {**given, **changes}.items() if value)
        child = run_command("cyclegan_tf.translate", *options)
        assert child.returncode == 2
        assert child.stderr.strip().splitlines()[-1].startswith(message)
        assert "Traceback" not in child.stderr
        assert not (tmp_path / "out").exists()


def test_help_is_quick():
    start = time.monotonic()
    child = run_translate("--help")
    assert time.monotonic() - start < 2
    assert "cyclegan translate --model=runs/horse2zebra --input=photos" in child.stdout
    for name in ("model", "input", "output", "direction", "tile", "batch_size", "[no]overwrite"):
        assert f"--{name}:" in child.stdout
