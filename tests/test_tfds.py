"""The ten sets of the authors through the real TFDS builder, with the demo images for an archive."""

import hashlib
import time
import zipfile

import pytest
from conftest import run_python, run_train

from cyclegan_tf.data import tfds
from cyclegan_tf.data.sources import DEMO_DIR

# What a user runs, with the known checksum of the genuine archive replaced by that of ours; all else is TFDS's own.
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
from cyclegan_tf import cli, train
cli.run(train.main)
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """horse2zebra.zip with one top folder, made of demo images."""
    path = tmp_path_factory.mktemp("archives") / "horse2zebra.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for split, count in (("trainA", 6), ("trainB", 5), ("testA", 2), ("testB", 3)):
            for file in sorted((DEMO_DIR / split).iterdir())[:count]:
                archive.write(file, f"horse2zebra/{split}/{file.name}")
    return path


def test_an_archive_in_data_dir_trains_through_to_the_saved_models(archive, tmp_path):
    data = archive.read_bytes()
    arguments = ["--preset=tiny", "--dataset=horse2zebra", f"--data_dir={archive.parent}", f"--workdir={tmp_path}"]
    child = run_python("-c", CHILD, "horse2zebra", len(data), hashlib.sha256(data).hexdigest(), *arguments)
    assert child.returncode == 0, child.stderr
    assert "6 images per epoch" in child.stderr
    assert (tmp_path / "export" / "a2b" / "saved_model.pb").exists()
    assert "held-out images: cycle_a" in child.stderr
    # Prepared now: it is opened without the archive.
    moved = archive.rename(tmp_path / "elsewhere.zip")
    assert tfds.is_prepared("horse2zebra", str(archive.parent))
    again = tfds.open_tfds("horse2zebra", str(archive.parent))
    moved.rename(archive)
    assert (len(again.train_a), len(again.train_b)) == (6, 5)


def test_an_archive_that_is_not_the_genuine_one_is_refused(archive, tmp_path):
    copy = tmp_path / "horse2zebra.zip"
    copy.write_bytes(archive.read_bytes())
    child = run_train("--preset=tiny", "--dataset=horse2zebra", f"--data_dir={tmp_path}", f"--workdir={tmp_path}/run")
    assert child.returncode == 2
    assert f"error: {copy} is not the archive that TFDS knows" in child.stderr
    assert "Traceback" not in child.stderr


def test_without_network_and_archive_the_error_comes_soon_and_says_what_to_do(tmp_path):
    start = time.monotonic()
    # A proxy that refuses: no test machine's network decides.
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
    assert seconds < 60  # TFDS by itself retries for minutes.
    assert not (tmp_path / "run").exists()
