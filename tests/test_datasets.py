"""The datasets command."""

import dataclasses
import re
import time
import zipfile

import numpy as np
import pytest
import remote_files
import tifffile
from conftest import run_python
from PIL import Image, JpegImagePlugin

from cyclegan_tf.config import run_options
from cyclegan_tf.data import catalog, cityscapes, inspection, sources
from cyclegan_tf.errors import UserError


def run(*arguments, **options):
    return run_python("-m", "cyclegan_tf.datasets", *arguments, **options)


def test_help_and_list_are_quick_and_complete():
    start = time.monotonic()
    text, listed = run("--help").stdout, run("list").stdout
    assert time.monotonic() - start < 4
    commands = ("list", "prepare NAME", "inspect PATH", "preview", "prepare-cityscapes", "shard SOURCE OUTPUT",
                "--left_img", "--data_dir")
    for command in commands:
        assert command in text
    for name in ("demo_maps", "cityscapes", *run_options.TFDS_NAMES):
        assert name in listed


@pytest.mark.parametrize("argument", ["--help", "list"])
def test_help_and_list_do_not_import_tensorflow(argument):
    child = run_python("-X", "importtime", "-m", "cyclegan_tf.datasets", argument)
    assert "cyclegan_tf.config.flags" in child.stderr
    assert "tensorflow" not in child.stderr


def test_catalog_has_every_dataset_with_its_counts():
    demos = ("demo", "demo_maps", "demo_pairs")
    assert {entry.name for entry in catalog.CATALOG} == {*demos, "cityscapes", *run_options.TFDS_NAMES}
    for name in demos:
        parts = sources.find_dataset(name).parts.values()
        assert next(entry.counts for entry in catalog.CATALOG if entry.name == name) == tuple(map(len, parts))


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "error: no command; expected one of list, prepare, inspect, preview, prepare-cityscapes"),
    (["inspet"], "error: unknown command inspet; did you mean inspect?"),
    (["xyzzy"], "error: unknown command xyzzy; expected one of list, prepare, inspect, preview, prepare-cityscapes"),
    (["inspect"], "error: usage: inspect PATH"),
    (["prepare", "cityscapes"], "error: prepare cityscapes: expected one of apple2orange"),
    (["prepare-cityscapes", "--left_img=x.zip"], "error: --gt_fine is missing; prepare-cityscapes needs --left_img"),
    (["inspect", "/no/such"], "error: --dataset=/no/such: no such folder or .zip"),
    (["list", "--output=x.png"], "error: --output is not an option of list; leave --output out"),
    (["shard", "/no/such", "x", "--noflip"], "error: --flip is not an option of shard; leave --flip out"),
])
def test_invalid_arguments_are_one_line_errors(run_command, arguments, message):
    child = run_command("cyclegan_tf.datasets", *arguments)
    assert child.returncode == 2
    assert child.stderr.strip().splitlines()[-1].startswith(message)
    assert "Traceback" not in child.stderr


def test_inspect_prints_statistics_and_draws_a_grid(tmp_path):
    for name, color, size in (("trainA/0.jpg", "red", (300, 200)), ("trainA/1.jpg", "red", (64, 32)),
                              ("trainB/0.png", "blue", (40, 40))):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, color).save(tmp_path / "set" / name)
    np.save(tmp_path / "set" / "trainB" / "x.npy", np.zeros((9, 8, 5), np.float32))
    (tmp_path / "set" / "trainB" / "page.jpg").write_text("<html>")
    child = run("inspect", tmp_path / "set", f"--output={tmp_path}/grid.png")
    assert child.returncode == 1, child.stderr
    for line in (
        "trainA: 2 images", "  kinds: 2 JPEG RGB", "  sizes: 1 of 300 x 200, 1 of 64 x 32", "trainB: 3 images",
        "  kinds: 1 NPY float32 x 5, 1 PNG RGB", "bad files: 1",
        f"  {tmp_path}/set/trainB/page.jpg: cannot identify image file", f"preview: {tmp_path}/grid.png",
    ):
        assert line in child.stdout.splitlines()
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    # The first cell shows the first image with a longer side of 128 pixels.
    assert np.abs(grid[22 + 40, 2 + 60].astype(int) - [254, 0, 0]).max() <= 1
    assert grid[22 + 20, 134 + 20].tolist() == [0, 0, 255]


def test_inspect_names_the_grid_after_the_folder(tmp_path, monkeypatch, run_command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cats.2023").mkdir()
    Image.new("L", (5, 4)).save(tmp_path / "cats.2023" / "a.png")
    child = run_command("cyclegan_tf.datasets", "inspect", "cats.2023")
    assert "preview: cats.2023-preview.png" in child.stdout.splitlines()


def test_inspect_accepts_any_folder_of_images(tmp_path):
    Image.new("L", (5, 4)).save(tmp_path / "a.png")
    parts, bad = sources.open_parts(str(tmp_path))
    (summary,) = inspection.inspect(parts).values()
    assert (summary.count, dict(summary.sizes), dict(summary.kinds)) == (1, {(5, 4): 1}, {"PNG L": 1})
    assert not bad
    (tmp_path / "a.png").rename(tmp_path / "a.txt")
    with pytest.raises(UserError, match="no images in"):
        sources.open_parts(str(tmp_path))


def test_broken_link_named_like_a_domain_is_an_error(tmp_path):
    (tmp_path / "trainA").symlink_to(tmp_path / "nowhere")
    Image.new("L", (5, 4)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="trainA is not a folder"):
        sources.open_parts(str(tmp_path))


def test_example_images_are_evenly_spaced(tmp_path):
    for index in range(11):
        Image.new("RGB", (4, 4), (index,) * 3).save(tmp_path / f"{index:02d}.png")
    (summary,) = inspection.inspect(sources.open_parts(str(tmp_path))[0]).values()
    assert [image[0, 0, 0] for image in summary.shown] == [0, 2, 4, 6, 8, 10]


def test_the_next_image_takes_the_place_of_a_bad_example(tmp_path):
    for index in range(11):
        Image.new("RGB", (4, 4), (index,) * 3).save(tmp_path / f"{index:02d}.png")
    for index in (0, 1, 2, 5, 6):
        (tmp_path / f"{index:02d}.png").write_bytes(b"")
    (summary,) = inspection.inspect(sources.open_parts(str(tmp_path))[0]).values()
    # Without bad images, these would be 0, 2, 4, 6, 8 and 10. Each image takes the place of the earliest bad one.
    assert [image[0, 0, 0] for image in summary.shown] == [3, 4, 7, 8, 9, 10]


def test_animations_are_listed(tmp_path, caplog):
    for name, count in (("a", 3), ("b", 1), ("c", 2)):
        first, *others = (Image.new("L", (4, 5), 50 * number) for number in range(count))
        first.save(tmp_path / f"{name}.gif", save_all=True, append_images=others)
    parts, bad = sources.open_parts(str(tmp_path))
    lines = inspection.format_report(inspection.inspect(parts), bad).splitlines()
    assert lines[1] == "  kinds: 1 GIF P, 1 GIF P of 2 pages, 1 GIF P of 3 pages"
    assert lines[3:] == [
        "files with several pages (only page 1 is used): 2", f"  {tmp_path}/a.gif: 3 pages",
        f"  {tmp_path}/c.gif: 2 pages", "bad files: none",
    ]
    # Training has no list, but one line in its log.
    (record,) = caplog.records
    assert re.fullmatch(rf"{tmp_path}/[ac]\.gif: only page 1 of [32] is used, and only page 1 of other such files; .*",
                        record.getMessage())


def test_slices_and_bands_of_tiff_files_are_images(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 5, 4), np.uint8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((5, 4), np.uint8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((5, 4, 3), np.uint16), photometric="rgb", compression="lzw")
    elevation = np.linspace(-400, 8800, 20, dtype=np.float32).reshape(5, 4)
    tifffile.imwrite(tmp_path / "d.tif", elevation, photometric="minisblack")
    tifffile.imwrite(tmp_path / "e.tif", np.full((4, 5, 6), 7, np.uint16), photometric="minisblack",
                     planarconfig="contig", extrasamples=["unspecified"] * 5)
    tifffile.imwrite(tmp_path / "f.tif", np.ones((2, 5, 4), np.uint8), photometric="palette",
                     colormap=np.full((3, 256), 65535, np.uint16))
    parts, bad = sources.open_parts(str(tmp_path))
    (summary,) = inspection.inspect(parts).values()
    lines = inspection.format_report({"set": summary}, bad).splitlines()
    values = np.concatenate([elevation.ravel(), [0] * 60, [7] * 120])
    assert lines == [
        "set: 9 images in 6 files",
        "  kinds: 3 TIFF uint8 x 1, 2 TIFF uint8 x 3, 1 TIFF L, 1 TIFF float32 x 1, 1 TIFF uint16 x 3, "
        "1 TIFF uint16 x 6",
        "  sizes: 8 of 4 x 5, 1 of 5 x 4",
        "  values: -400 to 8800, 98 % of them {:.6g} to {:.6g}".format(*np.percentile(values, (1, 99))),
        "bad files: none",
    ]
    # Black to white from the 1st to the 99th percentile.
    grays = next(image for image in summary.shown if image.max() == 255)[..., 0].ravel()
    np.testing.assert_allclose(grays, np.clip((np.arange(20) - 0.19) / 18.62 * 255, 0, 255), atol=0.51)


def test_values_of_scaled_levels_are_the_stored_ones(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 4095\n\0\0\3\xe8")  # 0 and 1000, decoded as 0 and 16004.
    parts, bad = sources.open_parts(str(tmp_path))
    lines = inspection.format_report(inspection.inspect(parts), bad).splitlines()
    assert "  values: 0 to 1000, 98 % of them 0 to 1000" in lines  # `channels` is 3, which repeats each level.


@pytest.mark.parametrize("bands", [2, 4])
def test_a_page_of_few_bands_is_an_image_of_values(tmp_path, bands):
    values = np.arange(20 * bands, dtype=np.uint16).reshape(5, 4, bands)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig")
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-9])
    parts, bad = sources.open_parts(str(tmp_path))
    (summary,) = inspection.inspect(parts).values()
    assert (dict(summary.kinds), dict(summary.sizes)) == ({f"TIFF uint16 x {bands}": 1}, {(4, 5): 1})
    assert (summary.low, summary.high) == (0, values.max())
    assert list(bad.reasons) == [f"{tmp_path}/b.tif"]


def test_arrays_of_values_in_units_are_images(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 4, 2), np.float32))
    scan = np.linspace(-1000, 900, 20).reshape(5, 4)
    np.save(tmp_path / "b.npy", scan.astype(np.int16))
    np.save(tmp_path / "c.npy", np.where(scan > 0, np.nan, scan))
    parts, bad = sources.open_parts(str(tmp_path))
    (summary,) = inspection.inspect(parts).values()
    assert inspection.format_report({"set": summary}, bad).splitlines() == [
        "set: 3 images", "  kinds: 1 NPY float32 x 2, 1 NPY int16 x 1", "  sizes: 2 of 4 x 5",
        "  values: -1000 to 900, 98 % of them {:.6g} to {:.6g}".format(
            *np.percentile([*[0] * 40, *scan.astype(np.int16).ravel()], (1, 99))),
        "bad files: 1",
        f"  {tmp_path}/c.npy: 9 of 20 pixels are NaN",
    ]
    assert [(image.min(), image.max()) for image in summary.shown][1] == (0, 255)


def test_each_file_is_read_once(tmp_path):
    Image.new("L", (5, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    np.save(tmp_path / "c.npy", np.zeros((5, 4), np.int16))
    parts, bad = sources.open_parts(str(tmp_path))
    ((name, images),) = parts.items()
    read = []
    counted = dataclasses.replace(images, read=lambda index: (read.append(index), images.read(index))[1])
    (summary,) = inspection.inspect({name: counted}).values()
    assert sorted(read) == [0, 1, 2]
    assert dict(summary.kinds) == {"PNG L": 1, "NPY int16 x 1": 1}
    assert list(bad.reasons) == [f"{tmp_path}/b.png"]


def test_report_has_one_line_for_a_name_of_two_lines(tmp_path):
    (tmp_path / "a\nb.png").write_bytes(b"no image")
    parts, bad = sources.open_parts(str(tmp_path))
    last = inspection.format_report(inspection.inspect(parts), bad).splitlines()[-1]
    assert last == rf"  {tmp_path}/a\nb.png: cannot identify image file"


@pytest.mark.parametrize(("sizes", "text"), [
    ([(5, 40), (6, 30), (7, 20), (8, 10), (9, 50)], "5 to 9 pixels wide, 10 to 50 high"),
    ([(5, 4), (6, 4), (7, 4), (8, 4), (12345, 4)], "5 to 12345 pixels wide, 4 high"),
])
def test_report_gives_the_range_of_many_sizes(tmp_path, sizes, text):
    for width, height in sizes:
        Image.new("L", (width, height)).save(tmp_path / f"{width}.png")
    parts, bad = sources.open_parts(str(tmp_path))
    lines = inspection.format_report(inspection.inspect(parts), bad).splitlines()
    assert lines[1:] == [
        "  kinds: 5 PNG L", f"  sizes: 5 different, {text}", "bad files: none",
    ]


def test_preview_draws_the_first_training_images(tmp_path):
    for name, color in (("trainA", "red"), ("trainB", "blue")):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), color).save(tmp_path / "set" / name / "0.png")
    child = run("preview", f"--dataset={tmp_path}/set", "--preset=tiny", f"--output={tmp_path}/batch.png")
    assert child.returncode == 0, child.stderr
    with Image.open(tmp_path / "batch.png") as image:
        # Six rows of two 32 px crops, magnified four times, each with a gap of 4 px, below a header of 22 px.
        assert image.size == (2 * (4 * 32 + 4), 22 + 6 * (4 * 32 + 4))
        assert image.getpixel((66, 700)) == (255, 0, 0)
        assert image.getpixel((66 + 132, 700)) == (0, 0, 255)


@pytest.fixture
def archives(tmp_path):
    """Small versions of the two official archives, with two training scenes and one validation scene."""
    left, labels = tmp_path / "leftImg8bit_trainvaltest.zip", tmp_path / "gtFine_trainvaltest.zip"
    ramp = np.tile(np.linspace(0, 255, 512).astype(np.uint8)[:, np.newaxis], (256, 1, 3))
    ramp[128:] = np.random.default_rng(0).integers(0, 256, (128, 512, 3))
    Image.fromarray(ramp).save(tmp_path / "photo.png")
    with zipfile.ZipFile(left, "w") as photos, zipfile.ZipFile(labels, "w") as colors:
        for phase, city, number in (("train", "aachen", 1), ("train", "bochum", 2), ("val", "lindau", 3)):
            scene = f"{phase}/{city}/{city}_000000_{number:06d}"
            with photos.open(f"leftImg8bit/{scene}_leftImg8bit.png", "w") as file:
                Image.fromarray(ramp).save(file, "PNG")
            for kind in ("color", "labelIds"):
                with colors.open(f"gtFine/{scene}_gtFine_{kind}.png", "w") as file:
                    Image.new("RGBA", (512, 256), (0, 80 * number, 70, 255)).save(file, "PNG")
    return left, labels


@pytest.mark.parametrize("name", ["archives", "folders"])
def test_cityscapes_is_read_from_a_remote_file_system(archives, tmp_path, name):
    remote, given = f"ram://{tmp_path.name}", []
    for path, folder in zip(archives, ("leftImg8bit", "gtFine"), strict=True):
        remote_files.store(f"{remote}/{path.name}", path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                remote_files.store(f"{remote}/unpacked/{member}", archive.read(member))
        given.append(f"{remote}/{path.name}" if name == "archives" else f"{remote}/unpacked/{folder}")
    assert cityscapes.prepare(*given, str(tmp_path / "out")) == {"train": 2, "test": 1}
    assert len(list((tmp_path / "out" / "trainB").iterdir())) == 2


@pytest.mark.parametrize("unpacked", [False, True])
def test_cityscapes_becomes_pairs_as_the_authors_make_them(archives, tmp_path, unpacked):
    given = archives
    if unpacked:
        for path in archives:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(tmp_path / "unpacked")
        given = (tmp_path / "unpacked" / "leftImg8bit", tmp_path / "unpacked" / "gtFine")
    child = run(
        "prepare-cityscapes", f"--left_img={given[0]}", f"--gt_fine={given[1]}", f"--output={tmp_path}/out"
    )
    assert child.returncode == 0, child.stderr
    assert "2 training and 1 test pairs" in child.stdout
    made = sources.open_folder(tmp_path / "out")
    assert made.train_a.names == made.train_b.names == ["aachen_000000_000001.jpg", "bochum_000000_000002.jpg"]
    assert made.test_a.names == made.test_b.names == ["lindau_000000_000003.jpg"]
    photo, label = made.train_a.decode(1), made.train_b.decode(1)
    assert photo.shape == label.shape == (256, 256, 3)
    np.testing.assert_allclose(photo[64, :, 0], np.linspace(0, 255, 256), atol=2)
    # As the authors' script: bicubic; JPEG of quality 100 (all quantization tables are 1), no chroma subsampling.
    with Image.open(tmp_path / "out" / "trainA" / made.train_a.names[1]) as image:
        assert all(set(table) == {1} for table in image.quantization.values())
        assert JpegImagePlugin.get_sampling(image) == 0
    with Image.open(tmp_path / "photo.png") as image:
        image.resize((256, 256), Image.Resampling.BICUBIC).save(tmp_path / "photo.jpg", quality=100, subsampling=0)
    with Image.open(tmp_path / "photo.jpg") as image:
        np.testing.assert_array_equal(photo, np.asarray(image))
    assert np.abs(label.astype(int) - [0, 160, 70]).max() <= 2


def test_cityscapes_resumes_and_reports_missing_files(archives, tmp_path):
    left, labels = archives
    kept = tmp_path / "out" / "trainA" / "aachen_000000_000001.jpg"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"made before")
    assert cityscapes.prepare(str(left), str(labels), str(tmp_path / "out")) == {"train": 2, "test": 1}
    assert kept.read_bytes() == b"made before"
    with pytest.raises(UserError, match=r"/no/such\.zip does not exist; get the archives from cityscapes-dataset\.com"):
        cityscapes.prepare("/no/such.zip", str(labels), str(tmp_path / "out"))
    with zipfile.ZipFile(left, "a") as photos:
        photos.writestr("leftImg8bit/train/ulm/ulm_000000_000009_leftImg8bit.png", b"")
    with pytest.raises(UserError, match=r"train/ulm_000000_000009 exists only in .*leftImg8bit.*without a pair: 1"):
        cityscapes.prepare(str(left), str(labels), str(tmp_path / "out"))
