"""TFDS sets through the real TFDS builder, with an archive of demo images."""

import hashlib
import importlib.util
import os
import shutil
import time
import zipfile

import pytest
from conftest import run_python, run_train

from cyclegan_tf.data import tfds
from cyclegan_tf.data.sources import DEMO_MAPS_DIR
from cyclegan_tf.errors import UserError

# The command of a user, with the expected checksum replaced by that of our archive. Everything else is TFDS's own.
CHILD = """
import sys
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums
name, size, digest = sys.argv.pop(1), int(sys.argv.pop(1)), sys.argv.pop(1)
builder_class = tfds.builder_cls("cycle_gan")
original = builder_class.url_infos
infos = dict(original if isinstance(original, dict) else tfds.builder("cycle_gan/" + name).url_infos)
url = next(url for url in infos if url.endswith(f"/{name}.zip"))
infos[url] = checksums.UrlInfo(size=size, checksum=digest, filename=f"{name}.zip")
builder_class.url_infos = infos
from cyclegan_tf import cli
getattr(cli, sys.argv.pop(1))()
"""


def run_with_archive(archive, command, *arguments):
    """Runs a command whose TFDS expects the checksum of `archive`."""
    data = archive.read_bytes()
    return run_python("-c", CHILD, archive.stem, len(data), hashlib.sha256(data).hexdigest(), command, *arguments)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """horse2zebra.zip of demo images in one top-level folder."""
    path = tmp_path_factory.mktemp("archives") / "horse2zebra.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for split, count in (("trainA", 6), ("trainB", 5), ("testA", 2), ("testB", 3)):
            for file in sorted((DEMO_MAPS_DIR / split).iterdir())[:count]:
                archive.write(file, f"horse2zebra/{split}/{file.name}")
    return path


def test_archive_in_data_dir_trains_to_saved_models(archive, tmp_path):
    arguments = ["--preset=tiny", "--dataset=horse2zebra", f"--data_dir={archive.parent}", f"--workdir={tmp_path}"]
    child = run_with_archive(archive, "train", *arguments)
    assert child.returncode == 0, child.stderr
    assert "6 images per epoch" in child.stderr
    assert (tmp_path / "export" / "a2b" / "saved_model.pb").exists()
    assert "held-out images: cycle_a" in child.stderr
    # The prepared set opens without the archive.
    moved = archive.rename(tmp_path / "elsewhere.zip")
    assert tfds.is_prepared("horse2zebra", str(archive.parent))
    prepared = tfds.open_tfds("horse2zebra", str(archive.parent))
    moved.rename(archive)
    assert (len(prepared.train_a), len(prepared.train_b)) == (6, 5)


@pytest.fixture(scope="module")
def prepared(archive, tmp_path_factory):
    """Folder of the prepared set, apart from the folder of the archive."""
    folder = tmp_path_factory.mktemp("prepared")
    shutil.copy(archive, folder)
    child = run_with_archive(folder / archive.name, "datasets", "prepare", "horse2zebra", f"--data_dir={folder}")
    assert "horse2zebra is prepared: 6 in trainA, 5 in trainB, 2 in testA, 3 in testB images" in child.stdout
    return folder / "cycle_gan"


@pytest.mark.parametrize("description", ['{"name":', '{"name": "cycle_gan", "version": "3.0.0"}'])
def test_damaged_description_is_one_clear_error(description, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "cycle_gan")
    (tmp_path / "cycle_gan" / "horse2zebra" / "3.0.0" / "dataset_info.json").write_text(description)
    with pytest.raises(UserError, match=r"cycle_gan/horse2zebra\S* is (damaged|incomplete).*; remove the folder, then"):
        tfds.open_tfds("horse2zebra", str(tmp_path))


@pytest.mark.parametrize("damage", [
    lambda path: path.unlink(), lambda path: path.write_bytes(b""), lambda path: os.truncate(path, 1000),
], ids=["missing", "empty", "cut"])
def test_images_of_a_damaged_file_are_bad(damage, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "cycle_gan")
    damage(next((tmp_path / "cycle_gan" / "horse2zebra" / "3.0.0").glob("*trainB*")))
    images = tfds.open_tfds("horse2zebra", str(tmp_path)).train_b
    assert [images.load(index) for index in range(len(images))] == [None] * 5
    assert all(reason.startswith("damaged in the prepared set: ") for reason in images.bad.reasons.values())


def test_damaged_record_is_a_bad_image(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "cycle_gan")
    path = next((tmp_path / "cycle_gan" / "horse2zebra" / "3.0.0").glob("*trainA*"))
    part = tfds.open_tfds("horse2zebra", str(tmp_path)).train_a.read(0)[-100:-88]
    assert path.read_bytes().count(part) == 1
    path.write_bytes(path.read_bytes().replace(part, bytes(12)))
    images = tfds.open_tfds("horse2zebra", str(tmp_path)).train_a
    found = [images.load(index) for index in range(len(images))]
    assert len(images.bad) == sum(image is None for image in found) > 0
    assert all(reason.startswith("damaged in the prepared set: ") for reason in images.bad.reasons.values())


def test_archive_that_cannot_be_prepared_is_one_line(tmp_path):
    path = tmp_path / "horse2zebra.zip"
    path.write_bytes(b"PK no archive")
    child = run_with_archive(path, "datasets", "prepare", "horse2zebra", f"--data_dir={tmp_path}")
    assert child.returncode == 2
    assert child.stderr.splitlines()[-1].startswith(f"error: cannot prepare horse2zebra from {path}: ")
    assert "Traceback" not in child.stderr


def test_archive_with_the_wrong_checksum_is_rejected(archive, tmp_path):
    copy = tmp_path / "horse2zebra.zip"
    copy.write_bytes(archive.read_bytes())
    child = run_train("--preset=tiny", "--dataset=horse2zebra", f"--data_dir={tmp_path}", f"--workdir={tmp_path}/run")
    assert child.returncode == 2
    assert f"error: {copy} is not the archive that TFDS expects" in child.stderr
    assert "Traceback" not in child.stderr


def test_missing_network_is_a_quick_error_with_remedies(tmp_path):
    start = time.monotonic()
    # A proxy that refuses connections, so that the test does not depend on the machine's network.
    child = run_train(
        "--dataset=horse2zebra", f"--data_dir={tmp_path}", f"--workdir={tmp_path}/run",
        http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9",
    )
    seconds = time.monotonic() - start
    assert child.returncode == 2
    line = child.stderr.strip().splitlines()[-1]
    assert line.startswith("error: cannot download ")
    for part in ("horse2zebra.zip", "Connection refused", "--data_dir", "--dataset=FOLDER", "--dataset=demo"):
        assert part in line
    assert "Traceback" not in child.stderr
    assert seconds < 60  # TFDS alone would retry for minutes.
    assert not (tmp_path / "run").exists()


def test_windows_has_no_reader_for_sets_by_name(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^--dataset=horse2zebra needs the package array_record, .*; give a folder"):
        tfds.open_tfds("horse2zebra")
    assert not tfds.is_prepared("horse2zebra")
