"""Shards give the same batches as their source, on local and remote file systems, and report damage."""

import contextlib
import json

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from remote_files import read

from cyclegan_tf.config import Config
from cyclegan_tf.data import pairing, pipeline, shards, sources
from cyclegan_tf.data.bad_images import BadImages
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec

BYTES = 4000  # Size of a shard: two or three of the images below.


@pytest.fixture
def folder(tmp_path, make_images):
    """A data set of 8 and 6 training images and two test pairs; one file is not an image, and one is a broken link."""
    for split, count in (("trainA", 7), ("trainB", 5), ("testA", 2), ("testB", 2)):
        make_images(tmp_path / "set" / split, count)
    make_images(tmp_path / "set" / "trainA" / "inner", 1, size=(30, 20))
    (tmp_path / "set" / "trainA" / "003.png").write_bytes(b"no image")
    (tmp_path / "set" / "trainB" / "gone.png").symlink_to(tmp_path / "nowhere")
    return tmp_path / "set"


@pytest.fixture
def packed(folder, tmp_path):
    shards.write(sources.find_dataset(str(folder)).folders, str(tmp_path / "packed"), BYTES)
    return tmp_path / "packed"


def batches(dataset, **options):
    config = Config.preset("tiny", dataset=str(dataset), batch_size=2, **options)
    stream, _ = pipeline.make_batches(sources.open_dataset(config), config, 0, 8)  # Two passes over each domain.
    return list(stream.as_numpy_iterator())


def assert_equal(found, expected):
    assert len(found) == len(expected) == 8
    for batch, other in zip(found, expected, strict=True):
        for images, others in zip(batch, other, strict=True):
            np.testing.assert_array_equal(images, others)


def test_shards_give_the_batches_of_the_folder(folder, packed):
    expected = batches(folder)
    assert len({images.tobytes() for batch in expected for images in batch}) == 16
    assert_equal(batches(packed), expected)


def test_shards_on_a_remote_file_system(folder, packed, tmp_path):
    remote = f"ram://{tmp_path.name}"
    tf.io.gfile.makedirs(f"{remote}/copied")
    for path in packed.iterdir():
        tf.io.gfile.copy(str(path), f"{remote}/copied/{path.name}")
    shards.write(sources.find_dataset(str(folder)).folders, f"{remote}/written", BYTES)
    expected = batches(folder)
    for place in ("copied", "written"):
        assert_equal(batches(f"{remote}/{place}"), expected)
    for path in packed.iterdir():
        assert read(f"{remote}/written/{path.name}") == path.read_bytes(), "the same source must make the same files"


def test_shards_keep_names_pairs_and_bad_images(folder, packed):
    found, expected = (sources.open_dataset(Config(dataset=str(place))) for place in (packed, folder))
    for part, other in zip(found.parts.values(), expected.parts.values(), strict=True):
        assert list(part.names) == other.names
        for index in range(len(part)):
            loaded, wanted = part.load(index), other.load(index)
            assert (loaded is None) == (wanted is None)
            assert loaded is None or np.array_equal(loaded, wanted)
    assert found.has_pairs
    assert list(found.bad.reasons) == [f"{packed}/trainA/003.png", f"{packed}/trainB/gone.png"]
    small = sources.open_dataset(Config(dataset=str(packed), direction="b2a", max_dataset_size=2))
    assert list(small.train_a.names) == ["000.png", "001.png"]
    assert small.train_a.read(1) == (folder / "trainB" / "001.png").read_bytes()


def test_tfrecord_readers_read_shards(folder, packed):
    files = sorted(packed.glob("trainA-*.tfrecord"))
    # 24 x 24 x 3 random bytes do not compress: an image takes about 1.8 kB, so that the third image fills a shard.
    assert [path.name for path in files] == ["trainA-00000.tfrecord", "trainA-00001.tfrecord", "trainA-00002.tfrecord"]
    records = list(tf.data.TFRecordDataset([str(path) for path in files]).as_numpy_iterator())
    assert records == [path.read_bytes() for path in sorted((folder / "trainA").rglob("*.png"))]
    assert json.loads((packed / "shards.json").read_text())["parts"]["trainA"]["shards"] == [3, 4, 1]


def test_side_by_side_images_stay_side_by_side(tmp_path):
    (tmp_path / "set" / "train").mkdir(parents=True)
    (tmp_path / "set" / "val").mkdir()
    for split, name in (("train", "0.png"), ("train", "1.png"), ("val", "9.png")):
        pixels = np.random.default_rng(ord(name[0])).integers(0, 256, (32, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / split / name)
    counts = shards.write(sources.find_dataset(str(tmp_path / "set")).folders, str(tmp_path / "out"), BYTES)
    assert counts == {"train": 2, "test": 1}
    options = {"model": "pix2pix", "lambda_identity": 0.0, "pool_size": 0}
    assert_equal(batches(tmp_path / "out", **options), batches(tmp_path / "set", **options))
    assert sources.open_dataset(Config(dataset=str(tmp_path / "out"))).has_pairs


@pytest.mark.parametrize("use", [
    sources.find_dataset, sources.open_parts, lambda path: shards.write({}, path, BYTES),
], ids=["train", "inspect", "pack again"])
def test_shards_without_their_index_are_named(use, tmp_path):
    (tmp_path / "trainA-00000.tfrecord").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds shards without shards\.json; copy this file, too, or, if the packing"):
        use(str(tmp_path))


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    with pytest.raises(UserError, match="the name is not valid UTF-8; give another folder"):
        shards.write({}, str(tmp_path / "bad\udcff"), BYTES)
    assert list(tmp_path.iterdir()) == []


def test_shard_command_reports_bad_images_and_never_overwrites(folder, tmp_path, run_command):
    for status, output in ((1, "packed"), (2, "packed")):
        child = run_command("cyclegan_tf.datasets", "shard", folder, tmp_path / output, "--shard_mb=1")
        assert child.returncode == status, child.stderr
        assert "Traceback" not in child.stderr
        if status == 1:
            assert "8 in trainA, 6 in trainB, 2 in testA, 2 in testB images, 2 of them bad" in child.stdout
            assert f"skipping {folder}/trainA/003.png: cannot identify image file" in child.stderr
            assert f"skipping {folder}/trainB/gone.png: No such file or directory" in child.stderr
    assert f"error: {tmp_path}/packed is not empty; give a new folder for the shards" in child.stderr
    child = run_command("cyclegan_tf.datasets", "inspect", tmp_path / "packed", f"--output={tmp_path}/grid.png")
    for line in ("trainA: 8 images", "bad files: 2"):
        assert line in child.stdout.splitlines()
    child = run_command("cyclegan_tf.datasets", "shard", "demo_pairs", tmp_path / "pairs")
    assert child.stdout.startswith("40 in trainA, 40 in trainB, 11 in testA, 11 in testB images.")
    pairing.require_training_pairs(sources.find_dataset(str(tmp_path / "pairs")), Config(model="pix2pix"))


def test_palettes_and_damaged_stacks_in_shards(tmp_path):
    """A file with a palette is good, because training can read it as a picture; a damaged page is bad."""
    pages = np.random.default_rng(0).integers(0, 256, (2, 40, 40)).astype(np.uint8)
    colors = np.random.default_rng(1).integers(0, 65536, (3, 256)).astype(np.uint16)
    for part in "trainA", "trainB":
        (tmp_path / part).mkdir()
        tifffile.imwrite(tmp_path / part / "a.tif", pages, photometric="palette", colormap=colors)
    data = (tmp_path / "trainA" / "a.tif").read_bytes()
    for shown, n_bad in ((data, 0), (data[:-900], 1)):
        parts, bad = sources.open_parts(str(tmp_path))
        shards._check(parts["trainA"], 0, shown)
        assert len(bad) == n_bad


def test_shard_command_can_stop_at_a_bad_image(folder, tmp_path, run_command):
    data = codec.encode_png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    (folder / "trainA" / "003.png").write_bytes(data[:5000])
    child = run_command("cyclegan_tf.datasets", "shard", folder, tmp_path / "packed", "--on_bad_image=error")
    assert child.returncode == 2
    assert child.stderr.strip().splitlines()[-1].startswith(f"error: {folder}/trainA/003.png: image file is truncated")
    assert list((tmp_path / "packed").iterdir()) == [], "another attempt would find the folder not empty"
    child = run_command("cyclegan_tf.datasets", "inspect", folder, "--on_bad_image=error")
    assert child.returncode == 2
    assert "/trainA/003.png: image file is truncated" in child.stderr


def test_arrays_of_many_channels_and_of_values_in_units_are_not_bad(tmp_path):
    zeros, gap = np.zeros((5, 4, 7), np.float32), np.eye(5, 4)[..., np.newaxis] > 0
    for split in ("trainA", "trainB"):
        (tmp_path / "set" / split).mkdir(parents=True)
        for name, array in (("picture", zeros), ("units", zeros.astype(np.int16) - 1000),
                            ("nan", np.where(gap, np.nan, zeros + 9)), ("type", zeros > 0)):
            np.save(tmp_path / "set" / split / f"{name}.npy", array)
    bad = BadImages()
    shards.write(sources.find_dataset(str(tmp_path / "set")).folders, str(tmp_path / "out"), BYTES, bad)
    assert {path.removeprefix(f"{tmp_path}/set/"): reason for path, reason in bad.reasons.items()} == {
        f"{split}/{name}.npy": reason for split in ("trainA", "trainB") for name, reason in (
            ("nan", "4 of 20 pixels are NaN"), ("type", "the values have the type bool; expected integers or floats"),
        )
    }


def edit(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def edit_part(path, **values):
    """Replaces values of trainA in the index; a list replaces only the first item, unless it is `shards`."""

    def change(index):
        part = index["parts"]["trainA"]
        for name, value in values.items():
            part[name] = value + part[name][1:] if isinstance(value, list) and name != "shards" else value
        return index

    edit(path / "shards.json", change)


@pytest.mark.parametrize(("damage", "message"), [
    (lambda path: (path / "trainA-00001.tfrecord").unlink(), "trainA-00001.tfrecord is missing; copy the file again"),
    (lambda path: (path / "trainB-00000.tfrecord").write_bytes((path / "trainB-00000.tfrecord").read_bytes()[:-1]),
     r"trainB-00000.tfrecord is damaged: it has \d+ bytes instead of \d+; copy or pack"),
    (lambda path: (path / "shards.json").write_text("{"), r"shards.json is damaged \(.*\); pack the shards again"),
    (lambda path: (path / "shards.json").write_text("[]"), r"shards.json is damaged \(.*\); pack the shards again"),
    (lambda path: edit(path / "shards.json", lambda index: {**index, "version": 2}), "has the unknown version 2"),
    (lambda path: edit(path / "shards.json", lambda index: index["parts"]["trainA"]["names"].pop() and index),
     "shards.json is damaged .trainA has unequal counts"),
    (lambda path: (path / "shards.json").write_bytes(b'"\xff\xfe"'), r"shards.json is damaged \(.*\); pack the shards"),
    (lambda path: (path / "shards.json").write_text("[" * 100_000), r"shards.json is damaged \(.*\); pack the shards"),
    (lambda path: edit(path / "shards.json", lambda index: {**index, "parts": 5}), r"shards.json is damaged \(.*\)"),
    (lambda path: edit_part(path, names="abcdefgh"), r"damaged \(trainA has no lists\)"),
    (lambda path: edit_part(path, names=[5]), r"damaged \(trainA has a name that is not text\)"),
    (lambda path: edit_part(path, crc32=[-1]), r"damaged \(trainA has the impossible CRC-32 -1\)"),
    (lambda path: edit_part(path, crc32=[2**32]), r"damaged \(trainA has the impossible CRC-32 4294967296\)"),
    (lambda path: edit_part(path, lengths=[2**70]), rf"damaged \(trainA has the impossible length {2**70}\)"),
    (lambda path: edit_part(path, lengths=[-5]), r"damaged \(trainA has the impossible length -5\)"),
    (lambda path: edit_part(path, lengths=[5.5]), r"damaged \(trainA has the impossible length 5\.5\)"),
    (lambda path: edit_part(path, lengths=["5"]), r"damaged \(trainA has the impossible length '5'\)"),
    (lambda path: edit_part(path, shards=[4, -1, 5]), r"damaged \(trainA has the impossible size -1\)"),
    (lambda path: edit_part(path, shards=[True, 7]), r"damaged \(trainA has the impossible size True\)"),
    (lambda path: edit_part(path, shards=[8]), r"trainA-00000.tfrecord is damaged: it has \d+ bytes instead of \d+"),
])
def test_damage_is_a_one_line_error_that_names_the_file(packed, damage, message):
    damage(packed)
    with pytest.raises(UserError, match=message) as caught:
        sources.open_dataset(Config(dataset=str(packed)))
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=4,
)


def read_all(folder):
    """The bytes of each image of each part, None for an image that cannot be read."""

    def read_or_none(part, index):
        with contextlib.suppress(OSError):
            return part.read(index)

    return {name: [read_or_none(part, i) for i in range(len(part))] for name, part in shards.open_parts(folder).items()}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_other_value_in_the_index_is_an_error_or_changes_no_image(packed, data):
    path = packed / "shards.json"
    whole, expected = path.read_text(), read_all(str(packed))
    place = index = json.loads(whole)
    key = data.draw(st.sampled_from(sorted(index)))
    while place[key] and isinstance(place[key], dict | list) and data.draw(st.integers(0, 3)):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(JSON)
    try:
        path.write_text(json.dumps(index))
        found = read_all(str(packed))
        assert all(images[i] in (None, expected[part][i]) for part, images in found.items() for i in range(len(images)))
    except UserError as error:
        assert str(packed) in str(error)
    finally:
        path.write_text(whole)


def test_corrupt_record_is_a_bad_image_that_names_its_shard(packed):
    path = packed / "trainB-00001.tfrecord"
    data = bytearray(path.read_bytes())
    data[500] ^= 1  # A byte of the first record.
    path.write_bytes(data)
    dataset = sources.open_dataset(Config(dataset=str(packed), on_bad_image="error"))
    # The first shard holds three images, so that the damaged image is number 3.
    assert all(dataset.train_b.load(index) is not None for index in (0, 1, 2, 4))
    with pytest.raises(UserError, match=rf"{packed}/trainB/003\.png: damaged in {path}: copy or pack") as caught:
        dataset.train_b.load(3)
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(OSError, match=rf"cannot be read from {path}: No such file or directory"):
        dataset.train_b.read(3)
