"""Runs, images and models on a file system of TensorFlow's: ram://, which lives as long as this process."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import cyclegan_tf
from cyclegan_tf.config import Config
from cyclegan_tf.data import sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import files as image_files
from cyclegan_tf.inference import batch as batch_lib
from cyclegan_tf.inference import loading
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.runs.metrics_log import read_records
from cyclegan_tf.storage import atomic, filesystem
from cyclegan_tf.training import trainer, warm_start


def upload(folder, remote):
    """Copies a folder to a remote one; returns its path."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            tf.io.gfile.makedirs(f"{remote}/{path.parent.relative_to(folder)}".removesuffix("/."))
            tf.io.gfile.copy(str(path), f"{remote}/{path.relative_to(folder)}")
    return remote


def content(path):
    with tf.io.gfile.GFile(str(path), "rb") as file:
        return file.read()


def store(path, data):
    """Writes a file; ram:// lists only folders that were made."""
    tf.io.gfile.makedirs(os.path.dirname(path))
    filesystem.put(path, io.BytesIO(data))


class Killed(BaseException):
    """No error that training would handle."""


@pytest.fixture(scope="module")
def remote_run(tmp_path_factory):
    """The run of `tiny_run` on ram://, its images too; it ended in step 3 and went on from its checkpoint of step 2."""
    name = f"ram://{tmp_path_factory.mktemp('remote').name}"
    config = Config.preset("tiny", dataset=upload(sources.DEMO_DIR, f"{name}/demo"))
    with pytest.MonkeyPatch.context() as patch:
        log = trainer._Run.log

        def log_and_die(self, step, *arguments, **options):
            log(self, step, *arguments, **options)
            if step == 3:
                raise Killed

        patch.setattr(trainer._Run, "log", log_and_die)
        with pytest.raises(Killed):
            trainer.train(config, f"{name}/run")
    assert [step for step, _ in checkpoints.list_files(f"{name}/run/checkpoints")] == [2]
    trainer.train(config, f"{name}/run")
    return f"{name}/run"


def test_a_run_on_a_remote_file_system_is_the_local_one(remote_run, tiny_run):
    assert f"going on from {remote_run}/checkpoints/step-00000002.npz" in content(f"{remote_run}/log.txt").decode()
    assert sorted(step for step, _ in checkpoints.list_files(f"{remote_run}/checkpoints")) == [2, 4]
    ours, theirs = (checkpoints.read(f"{run}/checkpoints/step-00000004.npz") for run in (remote_run, tiny_run))
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    assert content(f"{remote_run}/metrics.jsonl") == (tiny_run / "metrics.jsonl").read_bytes()
    for step in (0, 2, 4):
        name = f"samples/step-{step:06d}.png"
        assert content(f"{remote_run}/{name}") == (tiny_run / name).read_bytes()
    shown = sorted(path.name for path in (tiny_run / "gallery").iterdir())
    assert sorted(tf.io.gfile.listdir(f"{remote_run}/gallery")) == shown
    # But for the names of the run and of its data the pages are one.
    page, dataset = content(f"{remote_run}/index.html").decode(), Config.load(remote_run).dataset
    expected = (tiny_run / "index.html").read_text()
    assert "PSNR A to B against the true image" in expected
    assert page.replace(dataset, "demo").replace(">run<", ">tiny<") == expected
    there = {name.split(".")[0] for name in tf.io.gfile.listdir(remote_run)}
    assert there == {"checkpoints", "config", "events", "export", "gallery", "index", "log", "metrics", "samples"}
    assert not os.path.exists("ram:"), "a local folder of that name"


def test_a_remote_run_and_its_savedmodel_translate_as_the_local_one(remote_run, tiny_run, tmp_path):
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


def test_a_remote_run_is_measured(remote_run, tiny_run, run_command):
    arguments = [f"--model={remote_run}", "--metrics=psnr", "--direction=a2b", f"--output={remote_run}/measures.jsonl"]
    child = run_command("cyclegan_tf.evaluate", *arguments)
    assert child.returncode == 0, child.stderr
    (record,) = map(json.loads, content(f"{remote_run}/measures.jsonl").splitlines())
    expected = next(r for r in read_records(tiny_run) if r["kind"] == "test")["psnr_ab"]
    np.testing.assert_allclose(record["value"], expected, rtol=1e-5)
    tf.io.gfile.remove(f"{remote_run}/measures.jsonl")


def test_other_options_in_a_used_run_directory_are_an_error(remote_run):
    config = Config.load(remote_run)
    with pytest.raises(UserError, match=r"holds a run with other options \(seed: 0 -> 7\)"):
        trainer.train(Config.preset("tiny", dataset=config.dataset, seed=7), remote_run)


def test_a_damaged_remote_checkpoint_is_passed_over_and_a_half_written_one_removed(remote_run, tmp_path):
    folder = f"ram://{tmp_path.name}"
    whole = content(f"{remote_run}/checkpoints/step-00000004.npz")
    middle = len(whole) // 2
    for step, data in ((1, whole), (2, whole[:middle]), (3, whole[:middle] + b"?" + whole[middle + 1 :]), (4, b"")):
        store(f"{folder}/step-{step:08d}.npz", data)
    store(f"{folder}/step-00000005.npz.tmp", b"half")
    lines = []
    assert checkpoints.read_newest(folder, report=lines.append)[0] == f"{folder}/step-00000001.npz"
    assert [line.split()[1] for line in lines] == [f"{folder}/step-0000000{step}.npz" for step in (4, 3, 2)]
    checkpoints.Writer(folder, keep=9).close()
    assert not tf.io.gfile.exists(f"{folder}/step-00000005.npz.tmp")
    with pytest.raises(UserError, match=f"there is no checkpoint {folder}/none.npz"):
        checkpoints.read_user_file(f"{folder}/none.npz")


def test_remote_folders_and_archives_list_what_local_ones_do(tmp_path, make_images):
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
    lines = content(f"{remote}/bad_images.txt").decode().splitlines()
    assert lines == [
        f"{place}/trainB/001.png\tcannot identify image file" for place in (remote, f"{remote}.zip")
    ]


@pytest.mark.parametrize(("name", "message"), [
    ("ram://nowhere/at/all", r"--dataset=ram://nowhere/at/all: no such folder or \.zip"),
    ("nfs://host/set", r"cannot look for nfs://host/set: File system scheme 'nfs' not implemented"),
])
def test_a_remote_set_that_is_not_there_is_one_line(name, message):
    with pytest.raises(UserError, match=message):
        sources.open_dataset(Config(dataset=name))


def test_a_run_directory_on_an_unknown_system_is_one_line():
    opened = run_directory.open_run(Config(), "nfs://host/run")
    with pytest.raises(UserError, match=r"nfs://host/run.*File system scheme 'nfs' not implemented"), opened:
        pytest.fail("it was opened")
    assert not os.path.exists("nfs:")


def test_what_needs_the_local_disk_says_so():
    with pytest.raises(UserError, match=r"--data_dir=ram://sets: this must be on the local disk"):
        sources.open_dataset(Config(dataset="horse2zebra", data_dir="ram://sets"))


def test_translations_are_read_from_and_written_to_a_remote_folder(tmp_path):
    remote = f"ram://{tmp_path.name}"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    for name in ("a.png", "in/b.tif", "out/c.png"):
        image_files.write(f"{remote}/{name}", pixels, image_files.Extras())
    model = loading.Model(lambda batch: -batch, 3, 3)
    found = batch_lib.find(remote, f"{remote}/out/")
    assert found == [(f"{remote}/a.png", "a.png"), (f"{remote}/in/b.tif", "in/b.tif")]
    jobs = batch_lib.plan(found, f"{remote}/out", 3)
    assert batch_lib.run(model, jobs) == {}
    for name in ("a.png", "in/b.tif"):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content(f"{remote}/out/{name}")))), 255 - pixels)
    with pytest.raises(UserError, match=r"out/a\.png exists already \(and 1 more\)"):
        batch_lib.plan(found, f"{remote}/out", 3)
    with pytest.raises(UserError, match="is the folder of the input"):
        batch_lib.find(f"{remote}/", remote)
    with pytest.raises(UserError, match="patterns are for the local disk"):
        batch_lib.find(f"{remote}/*.png", str(tmp_path))
    with pytest.raises(UserError, match=r"clip\.mp4: videos are read and written on the local disk only"):
        batch_lib.plan([(f"{remote}/clip.mp4", "clip.mp4")], str(tmp_path), 3)


def test_a_remote_file_is_written_whole_or_not_at_all(tmp_path):
    path = f"ram://{tmp_path.name}/file"
    with atomic.open_for_writing(path) as file:
        file.write("é\n")
    with pytest.raises(Killed), atomic.open_for_writing(path) as file:
        file.write("half")
        raise Killed
    assert content(path) == "é\n".encode()

    class Failing(io.BytesIO):
        def read(self, *arguments):
            if self.tell():
                raise Killed
            return super().read(1)

    with pytest.raises(Killed):
        filesystem.put(path, Failing(b"other"))
    assert content(path) == "é\n".encode()
    assert tf.io.gfile.listdir(f"ram://{tmp_path.name}") == ["file"]


def test_a_remote_folder_takes_the_place_of_another(tmp_path):
    path = f"ram://{tmp_path.name}/model"
    for name in ("model/old", "model.tmp/top", "model.tmp/inner/deep/file"):
        store(f"ram://{tmp_path.name}/{name}", name.encode())
    atomic.replace_folder(path, f"{path}.tmp")
    assert content(f"{path}/inner/deep/file") == b"model.tmp/inner/deep/file"
    assert sorted(tf.io.gfile.listdir(path)) == ["inner", "top"]
    assert tf.io.gfile.listdir(f"ram://{tmp_path.name}") == ["model"]


def test_folders_without_files_and_empty_files(tmp_path):
    # Where there are objects only, a folder that was made may not be there, nor can an empty object be renamed.
    assert filesystem.listdir(f"ram://{tmp_path.name}/none") == []
    with atomic.open_for_writing(f"ram://{tmp_path.name}/empty"):
        pass
    assert content(f"ram://{tmp_path.name}/empty") == b""


def test_a_growing_file_keeps_what_it_had_and_is_written_now_and_then(tmp_path, monkeypatch):
    path = f"ram://{tmp_path.name}/log.txt"
    with filesystem.open_for_appending(path) as file:
        file.write("one\n")
    with filesystem.open_for_appending(path) as file:
        file.write("two\n")
        file.flush()
        assert content(path) == b"one\n", "half a minute has not passed"
        filesystem.sync(file)
        assert content(path) == b"one\ntwo\n"
        monkeypatch.setattr(filesystem, "_SECONDS", 0)
        file.write("three \udce9\n")
        file.flush()
        assert content(path) == b"one\ntwo\nthree \\udce9\n"


def test_a_remote_file_is_read_as_a_local_one(tmp_path):
    data = np.random.default_rng(0).bytes(300_000)
    path = f"ram://{tmp_path.name}/data"
    store(path, data)
    with filesystem.open_for_reading(path, "rb") as file:
        for offset, whence, expected in ((250_000, 0, 250_000), (-10, 1, 249_997), (-5, 2, 299_995), (7, 0, 7)):
            assert file.seek(offset, whence) == expected
            assert file.read(7) == data[expected : expected + 7]
        assert file.seek(0) == 0
        assert file.read() == data
    assert filesystem.read_bytes(path, 299_000, 500) == data[299_000:299_500]
    assert filesystem.read_bytes(path, 299_999, 500) == data[299_999:]
    for read in (lambda: filesystem.open_for_reading(f"{path}.none"), lambda: filesystem.read_bytes(f"{path}.none")):
        with pytest.raises(FileNotFoundError) as caught:
            read()
        assert caught.value.filename == f"{path}.none"
