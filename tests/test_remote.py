"""Runs, images and models on a remote file system: TensorFlow's ram://, which lives as long as this process."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from remote_files import Killed, read, store
from translations import make_translator

import cyclegan_tf
from cyclegan_tf.config import Config
from cyclegan_tf.data import sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import files as image_files
from cyclegan_tf.inference import batch as batch_lib
from cyclegan_tf.inference import jobs, loading
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.runs.metrics_log import read_records
from cyclegan_tf.runs.reporter import Reporter
from cyclegan_tf.training import trainer, warm_start


def upload(folder, remote):
    """Copies a local folder to a remote one; returns the remote path."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            tf.io.gfile.makedirs(f"{remote}/{path.parent.relative_to(folder)}".removesuffix("/."))
            tf.io.gfile.copy(str(path), f"{remote}/{path.relative_to(folder)}")
    return remote


@pytest.fixture(scope="module")
def remote_run(tmp_path_factory):
    """The run of `tiny_run` with run directory and images on ram://, killed in step 3 and resumed from step 2."""
    name = f"ram://{tmp_path_factory.mktemp('remote').name}"
    config = Config.preset("tiny", dataset=upload(sources.DEMO_MAPS_DIR, f"{name}/demo_maps"))
    with pytest.MonkeyPatch.context() as patch:
        record = Reporter.record

        def record_and_die(self, step, kind, values):
            record(self, step, kind, values)
            if step == 3:
                raise Killed

        patch.setattr(Reporter, "record", record_and_die)
        with pytest.raises(Killed):
            trainer.train(config, f"{name}/tiny")
    assert [step for step, _ in checkpoints.list_files(f"{name}/tiny/checkpoints")] == [2]
    trainer.train(config, f"{name}/tiny")
    return f"{name}/tiny"


def test_remote_run_equals_local_run(remote_run, tiny_run):
    assert f"resuming from {remote_run}/checkpoints/step-00000002.npz" in read(f"{remote_run}/log.txt").decode()
    assert sorted(step for step, _ in checkpoints.list_files(f"{remote_run}/checkpoints")) == [2, 4]
    ours, theirs = (checkpoints.read(f"{run}/checkpoints/step-00000004.npz") for run in (remote_run, tiny_run))
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    assert read(f"{remote_run}/metrics.jsonl") == (tiny_run / "metrics.jsonl").read_bytes()
    for step in (0, 2, 4):
        name = f"samples/step-{step:06d}.png"
        assert read(f"{remote_run}/{name}") == (tiny_run / name).read_bytes()
    shown = sorted(path.name for path in (tiny_run / "gallery").iterdir())
    assert sorted(tf.io.gfile.listdir(f"{remote_run}/gallery")) == shown
    # The pages differ only in the name of the dataset.
    page, dataset = read(f"{remote_run}/index.html").decode(), Config.load(remote_run).dataset
    expected = (tiny_run / "index.html").read_text()
    assert "PSNR, satellite image to map" in expected
    assert page.replace(dataset, "demo_maps") == expected
    there = {name.split(".")[0] for name in tf.io.gfile.listdir(remote_run)}
    assert there == {
        "checkpoints", "config", "events", "export", "gallery", "index", "log", "metrics", "samples", "training_images",
    }
    assert not os.path.exists("ram:"), "no local folder of that name"


def test_remote_run_and_savedmodel_translate_like_local_ones(remote_run, tiny_run, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)
    expected = cyclegan_tf.load(tiny_run, "b2a").translate(image)
    assert expected.std() > 1
    for model in (
        cyclegan_tf.load(remote_run, "b2a"), loading.load(f"{remote_run}/export/b2a"),
        cyclegan_tf.load(f"{remote_run}/checkpoints/step-00000004.npz", "b2a"),
    ):
        np.testing.assert_array_equal(model.translate(image), expected)
    assert set(loading.load_directions(f"{remote_run}/export/a2b/")) == {"a2b"}
    for source in (remote_run, f"{remote_run}/export/b2a/"):
        fresh = CycleGAN(Config.preset("tiny", seed=1))
        warm_start.initialize(fresh, source)
        kernel = checkpoints.read(f"{tiny_run}/checkpoints/step-00000004.npz")["network/gen_ba/stem_conv/kernel"]
        np.testing.assert_array_equal(fresh.networks["gen_ba"].get_layer("stem_conv").get_weights()[0], kernel)


def test_remote_run_can_be_evaluated(remote_run, tiny_run, run_command):
    arguments = [f"--model={remote_run}", "--metrics=psnr", "--direction=a2b", f"--output={remote_run}/measures.jsonl"]
    child = run_command("cyclegan_tf.evaluate", *arguments)
    assert child.returncode == 0, child.stderr
    (record,) = map(json.loads, read(f"{remote_run}/measures.jsonl").splitlines())
    expected = next(r for r in read_records(tiny_run) if r["kind"] == "test")["psnr_ab"]
    np.testing.assert_allclose(record["value"], expected, rtol=1e-5)
    tf.io.gfile.remove(f"{remote_run}/measures.jsonl")


def test_other_options_in_a_used_remote_run_directory_are_refused(remote_run):
    config = Config.load(remote_run)
    with pytest.raises(UserError, match=r"holds a run with other options \(seed: 0 -> 7\)"):
        trainer.train(Config.preset("tiny", dataset=config.dataset, seed=7), remote_run)


def test_damaged_remote_checkpoints_are_skipped_and_partial_ones_removed(remote_run, tmp_path, caplog):
    folder = f"ram://{tmp_path.name}"
    whole = read(f"{remote_run}/checkpoints/step-00000004.npz")
    middle = len(whole) // 2
    for step, data in ((1, whole), (2, whole[:middle]), (3, whole[:middle] + b"?" + whole[middle + 1 :]), (4, b"")):
        store(f"{folder}/step-{step:08d}.npz", data)
    store(f"{folder}/step-00000005.npz.tmp", b"half")
    assert checkpoints.read_newest(folder)[0] == f"{folder}/step-00000001.npz"
    assert [line.split()[1] for line in caplog.messages] == [f"{folder}/step-0000000{step}.npz" for step in (4, 3, 2)]
    checkpoints.Writer(folder, keep=9).close()
    assert not tf.io.gfile.exists(f"{folder}/step-00000005.npz.tmp")
    with pytest.raises(UserError, match=f"there is no checkpoint {folder}/none.npz"):
        checkpoints.read_user_file(f"{folder}/none.npz")


def test_remote_datasets_equal_local_ones(tmp_path, make_images):
    local = tmp_path / "set"
    for split in ("trainA", "trainB"):
        make_images(local / split, 3)
    make_images(local / "trainA" / "inner folder", 1, suffix=".JPeG")
    (local / "trainA" / "000.png").rename(local / "trainA" / "no suffix")
    (local / "trainB" / "001.png").write_bytes(b"no image")
    for foreign in (".DS_Store", "notes.txt", ".hidden.png", "Thumbs"):
        (local / "trainA" / foreign).write_bytes(b"x")
    remote = upload(local, f"ram://{tmp_path.name}/set")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted(local.rglob("*.*")):
            archive.write(path, path.relative_to(local))
        archive.write(local / "trainA" / "no suffix", "trainA/no suffix")
    tf.io.gfile.copy(str(tmp_path / "set.zip"), f"{remote}.zip")
    expected = sources.open_dataset(Config(dataset=str(local)))
    assert expected.train_a.names == ["001.png", "002.png", "inner folder/000.JPeG", "no suffix"]
    for dataset in (sources.open_dataset(Config(dataset=place)) for place in (remote, f"{remote}/", f"{remote}.zip")):
        for found, wanted in ((dataset.train_a, expected.train_a), (dataset.train_b, expected.train_b)):
            assert list(found.names) == wanted.names
            assert [found.read(i) for i in range(len(found))] == [wanted.read(i) for i in range(len(wanted))]
            assert found.where.startswith("ram://")
        dataset.bad.record_to(f"{remote}/bad_images.txt")
        assert dataset.train_b.load(1) is None
    lines = read(f"{remote}/bad_images.txt").decode().splitlines()
    assert lines == [
        f"{place}/trainB/001.png\tcannot identify image file" for place in (remote, f"{remote}.zip")
    ]


@pytest.mark.parametrize(("name", "message"), [
    ("ram://nowhere/at/all", r"--dataset=ram://nowhere/at/all: no such folder or \.zip"),
    ("nfs://host/set", r"cannot access nfs://host/set: File system scheme 'nfs' not implemented"),
])
def test_missing_remote_dataset_is_a_one_line_error(name, message):
    with pytest.raises(UserError, match=message):
        sources.open_dataset(Config(dataset=name))


def test_run_directory_of_unknown_scheme_is_a_one_line_error():
    opened = run_directory.open_run(Config(), "nfs://host/run")
    with pytest.raises(UserError, match=r"nfs://host/run.*File system scheme 'nfs' not implemented"), opened:
        pytest.fail("the run directory was opened")
    assert not os.path.exists("nfs:")


def test_data_dir_must_be_local():
    with pytest.raises(UserError, match=r"--data_dir=ram://sets: expected a path on the local disk"):
        sources.open_dataset(Config(dataset="horse2zebra", data_dir="ram://sets"))


def test_a_remote_folder_leaves_its_videos_out_with_a_warning(tmp_path, caplog):
    remote = f"ram://{tmp_path.name}"
    for name in ("a.png", "in/clip.MP4", "out/clip.mp4"):
        store(f"{remote}/{name}", b"")
    assert jobs.find(remote, f"{remote}/out") == [(f"{remote}/a.png", "a.png")]
    assert caplog.messages == [
        f"--input={remote}: left out 1 video; to translate videos, copy them to the local disk"
    ]


def test_translates_from_and_to_a_remote_folder(tmp_path):
    remote = f"ram://{tmp_path.name}"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    for name in ("a.png", "in/b.tif", "out/c.png"):
        image_files.write(f"{remote}/{name}", pixels, image_files.Extras())
    model = make_translator(3, function=lambda batch: -batch)
    found = jobs.find(remote, f"{remote}/out/")
    assert found == [(f"{remote}/a.png", "a.png"), (f"{remote}/in/b.tif", "in/b.tif")]
    planned = jobs.plan(found, f"{remote}/out", 3)
    assert batch_lib.run(model, planned) == {}
    for name in ("a.png", "in/b.tif"):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(read(f"{remote}/out/{name}")))), 255 - pixels)
    with pytest.raises(UserError, match=r"out/a\.png exists already \(and 1 more\)"):
        jobs.plan(found, f"{remote}/out", 3)
    with pytest.raises(UserError, match="is the folder of the input"):
        jobs.find(f"{remote}/", remote)
    with pytest.raises(UserError, match="patterns work only on the local disk"):
        jobs.find(f"{remote}/*.png", str(tmp_path))
    with pytest.raises(UserError, match=r"clip\.mp4: videos and their translations must be on the local disk; copy"):
        jobs.plan([(f"{remote}/clip.mp4", "clip.mp4")], str(tmp_path), 3)
