"""Data sets packed into shards: they train as what they were made of, wherever they are, and damage is named."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.data import pipeline, shards, sources
from cyclegan_tf.errors import UserError

BYTES = 4000  # Of a shard: two of the images below, or three.


@pytest.fixture
def folder(tmp_path, make_images):
    """A set of 7 and 5 training images and pairs for testing; one is no image, one a link to nothing."""
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
    stream, _ = pipeline.make_batches(sources.open_dataset(config), config, 0, 8)  # Each domain twice.
    return list(stream.as_numpy_iterator())


def assert_equal(found, expected):
    assert len(found) == len(expected) == 8
    for batch, other in zip(found, expected, strict=True):
        for images, others in zip(batch, other, strict=True):
            np.testing.assert_array_equal(images, others)


def test_batches_of_shards_are_those_of_the_folder(folder, packed):
    expected = batches(folder)
    assert len({images.tobytes() for batch in expected for images in batch}) == 16
    assert_equal(batches(packed), expected)


def test_shards_on_a_remote_file_system_too_whether_copied_or_written_there(folder, packed, tmp_path):
    remote = f"ram://{tmp_path.name}"
    tf.io.gfile.makedirs(f"{remote}/copied")
    for path in packed.iterdir():
        tf.io.gfile.copy(str(path), f"{remote}/copied/{path.name}")
    shards.write(sources.find_dataset(str(folder)).folders, f"{remote}/written", BYTES)
    expected = batches(folder)
    for place in ("copied", "written"):
        assert_equal(batches(f"{remote}/{place}"), expected)
    for path in packed.iterdir():
        with tf.io.gfile.GFile(f"{remote}/written/{path.name}", "rb") as file:
            assert file.read() == path.read_bytes(), "equal sources make equal files"


def test_names_pairs_and_bad_files_are_those_of_the_folder(folder, packed):
    found, expected = (sources.open_dataset(Config(dataset=str(place))) for place in (packed, folder))
    for part, other in zip(vars(found).values(), vars(expected).values(), strict=True):
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


def test_any_reader_of_tfrecords_reads_them(folder, packed):
    files = sorted(packed.glob("trainA-*.tfrecord"))
    # 24 x 24 x 3 random bytes do not compress: some 1.8 kB an image, so that the third is the one that fills a shard.
    assert [path.name for path in files] == ["trainA-00000.tfrecord", "trainA-00001.tfrecord", "trainA-00002.tfrecord"]
    records = list(tf.data.TFRecordDataset([str(path) for path in files]).as_numpy_iterator())
    assert records == [path.read_bytes() for path in sorted((folder / "trainA").rglob("*.png"))]
    assert json.loads((packed / "shards.json").read_text())["parts"]["trainA"]["shards"] == [3, 4, 1]


def test_images_side_by_side_stay_so(tmp_path):
    (tmp_path / "set" / "train").mkdir(parents=True)
    (tmp_path / "set" / "val").mkdir()
    for split, name in (("train", "0.png"), ("train", "1.png"), ("val", "9.png")):
        pixels = np.random.default_rng(ord(name[0])).integers(0, 256, (32, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / split / name)
    counts, unreadable = shards.write(sources.find_dataset(str(tmp_path / "set")).folders, str(tmp_path / "out"), BYTES)
    assert (counts, unreadable) == ({"train": 2, "test": 1}, 0)
    options = {"model": "pix2pix", "lambda_identity": 0.0, "pool_size": 0}
    assert_equal(batches(tmp_path / "out", **options), batches(tmp_path / "set", **options))
    assert sources.find_dataset(str(tmp_path / "out")).has_pairs


def test_the_command_packs_names_what_is_unreadable_and_overwrites_nothing(folder, tmp_path, run_command):
    for status, output in ((1, "packed"), (2, "packed")):
        child = run_command("cyclegan_tf.datasets", "shard", folder, tmp_path / output, "--shard_mb=1")
        assert child.returncode == status, child.stderr
        assert "Traceback" not in child.stderr
        if status == 1:
            assert "8 in trainA, 6 in trainB, 2 in testA, 2 in testB images, 1 of them unreadable" in child.stdout
            assert f"{folder}/trainB/gone.png cannot be read: No such file or directory" in child.stderr
    assert f"error: {tmp_path}/packed is not empty; give a new folder for the shards" in child.stderr
    child = run_command("cyclegan_tf.datasets", "inspect", tmp_path / "packed", f"--output={tmp_path}/grid.png")
    for line in ("trainA: 8 images", "bad files: 2"):
        assert line in child.stdout.splitlines()
    child = run_command("cyclegan_tf.datasets", "shard", "demo_pairs", tmp_path / "pairs")
    assert child.stdout.startswith("40 in trainA, 40 in trainB, 11 in testA, 11 in testB images.")
    sources.find_dataset(str(tmp_path / "pairs")).require_training_pairs()


def edit(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize(("damage", "message"), [
    (lambda path: (path / "trainA-00001.tfrecord").unlink(), "trainA-00001.tfrecord is missing; copy it there again"),
    (lambda path: (path / "trainB-00000.tfrecord").write_bytes((path / "trainB-00000.tfrecord").read_bytes()[:-1]),
     r"trainB-00000.tfrecord is damaged: it has \d+ bytes in place of \d+; copy or pack"),
    (lambda path: (path / "shards.json").write_text("{"), r"shards.json is damaged \(.*\); pack the shards again"),
    (lambda path: (path / "shards.json").write_text("[]"), r"shards.json is damaged \(.*\); pack the shards again"),
    (lambda path: edit(path / "shards.json", lambda index: {**index, "version": 2}), "is of version 2, which this"),
    (lambda path: edit(path / "shards.json", lambda index: index["parts"]["trainA"]["names"].pop() and index),
     "shards.json is damaged .trainA has unequal counts"),
])
def test_a_damaged_set_is_one_line_that_names_the_file(packed, damage, message):
    damage(packed)
    with pytest.raises(UserError, match=message) as caught:
        sources.open_dataset(Config(dataset=str(packed)))
    assert "\n" not in str(caught.value)


def test_a_corrupt_record_is_a_bad_image_that_names_its_shard(packed):
    path = packed / "trainB-00001.tfrecord"
    data = bytearray(path.read_bytes())
    data[500] ^= 1  # In the first record, of some 1.8 kB.
    path.write_bytes(data)
    dataset = sources.open_dataset(Config(dataset=str(packed), on_bad_image="error"))
    # Three images fill the first shard.
    assert all(dataset.train_b.load(index) is not None for index in (0, 1, 2, 4))
    with pytest.raises(UserError, match=rf"{packed}/trainB/003\.png: damaged in {path}: copy or pack") as caught:
        dataset.train_b.load(3)
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(OSError, match=rf"cannot be read from {path}: No such file or directory"):
        dataset.train_b.read(3)
