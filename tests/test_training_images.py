"""Training images that changed before a resume: the detected changes, the error, and --allow_changed_data."""

import dataclasses
import hashlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import skip_outputs

from cyclegan_tf.config import Config
from cyclegan_tf.data import given_images, shards, sources
from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.errors import UserError
from cyclegan_tf.runs import checkpoints, training_images
from cyclegan_tf.runs.model_state import Fingerprint
from cyclegan_tf.training import loop, trainer, workers
from cyclegan_tf.training.nonfinite import NotFinite

# Relative to the current folder, so that a copy of a run finds the copy of its images.
CONFIG = Config.preset("tiny", dataset="set", max_steps=2, discriminator="pixel", lambda_identity=0.0, sample_every=0)


def dataset_of(a, b=("x.png",)):
    return ImageDataset(
        ImageList("set/trainA", a, lambda index: b""), ImageList("set/trainB", b, lambda index: b""),
        ImageList.empty("set/testA"), ImageList.empty("set/testB"),
    )


def list_changes(recorded, dataset, workdir):
    current = training_images.compute_fingerprints(dataset)
    return training_images.list_changes(recorded, current, dataset, str(workdir))


def newest(workdir):
    return checkpoints.read(checkpoints.list_files(str(workdir / "checkpoints"))[0][1])


def test_a_fingerprint_is_the_count_and_the_sha256_of_the_names():
    found = training_images.compute_fingerprints(dataset_of(["0.png", "\udcff.png"]))
    # The lone surrogate stands for a byte that is not UTF-8; its three bytes encode the code point U+DCFF.
    assert found["a"] == Fingerprint(2, hashlib.sha256(b"0.png\0\xed\xb3\xbf.png\0").digest())
    assert found["b"] == Fingerprint(1, hashlib.sha256(b"x.png\0").digest())


@pytest.mark.parametrize(
    ("names", "change"),
    [
        (["0", "1", "2"], []),
        (["0", "1", "2", "3"], ["set/trainA had 3 images and now has 4, added 3"]),
        (["1"], ["set/trainA had 3 images and now has 1, removed 0, 2"]),
        (["0", "1", "new"], ["set/trainA had 3 images and now has 3, added new, removed 2"]),
        (["0", "1", "2", *"abcde"], ["set/trainA had 3 images and now has 8, added a, b, c and 2 more"]),
        (["1", "0", "2"], ["set/trainA had 3 images and now has 3, in another order"]),
    ],
    ids=["equal", "added", "removed", "renamed", "many", "order"],
)
def test_a_change_names_counts_and_images(tmp_path, names, change):
    former = dataset_of(["0", "1", "2"])
    training_images.write_names(str(tmp_path), former)
    recorded = training_images.compute_fingerprints(former)
    assert list_changes(recorded, dataset_of(names), tmp_path) == change


@pytest.mark.parametrize(
    "content", [None, b"", b"[1]", b'{"a": 5, "b": []}', b'{"a": ["other"], "b": []}', b"[" * 9999],
    ids=["missing", "empty", "list", "type", "other", "nested"],
)
def test_without_the_former_names_a_change_names_counts(tmp_path, content):
    if content is not None:
        (tmp_path / "training_images.json").write_bytes(content)
    recorded = training_images.compute_fingerprints(dataset_of(["0", "1"], ["0"]))
    assert list_changes(recorded, dataset_of(["0", "2"], ["0", "1"]), tmp_path) == [
        "set/trainA had 2 images and now has 2, with other names",
        "set/trainB had 1 images and now has 2, with other names",
    ]


def test_a_checkpoint_without_fingerprint_differs_from_nothing(tmp_path):
    assert list_changes({}, dataset_of(["0"]), tmp_path) == []


def test_shards_of_a_folder_with_a_bad_image_have_its_fingerprint(tmp_path, make_images):
    for domain in ("trainA", "trainB"):
        make_images(tmp_path / "set" / domain, 2)
    (tmp_path / "set" / "trainA" / "bad.png").symlink_to("missing")
    folder = sources.find_dataset(str(tmp_path / "set"))
    shards.write(folder.folders, str(tmp_path / "packed"), 2**20)
    packed = sources.find_dataset(str(tmp_path / "packed"))
    found = training_images.compute_fingerprints(packed)
    assert found == training_images.compute_fingerprints(folder)
    assert found["a"].count == 3


def test_images_beyond_max_dataset_size_may_change(tmp_path, make_images):
    config = Config(dataset=str(tmp_path), max_dataset_size=2)
    for domain in ("trainA", "trainB"):
        make_images(tmp_path / domain, 2)
    recorded = training_images.compute_fingerprints(sources.open_dataset(config))
    make_images(tmp_path / "trainA", 3)
    assert list_changes(recorded, sources.open_dataset(config), tmp_path) == []


def test_the_pixels_identify_arrays(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)

    def find_changes(given, recorded=None, limit=0):
        config = Config(max_dataset_size=limit)
        recorded = recorded or training_images.compute_fingerprints(given_images.open_given((images, images), config))
        return list_changes(recorded, given_images.open_given((given, images), config), tmp_path)

    assert find_changes(list(images)) == []
    assert find_changes(255 - images) == ["given_to_fit A had 3 images and now has 3, with other pixels"]
    assert find_changes(images[::-1]) == ["given_to_fit A had 3 images and now has 3, with other pixels"]
    assert find_changes(images[:2]) == ["given_to_fit A had 3 images and now has 2"]
    assert find_changes(images[:2], limit=2) == []
    # Checkpoints of older versions hold the digest of the names.
    old = Fingerprint(3, hashlib.sha256(b"000000\x00000001\x00000002\x00").digest())
    assert find_changes(255 - images, {"a": old, "b": old}) == []


def test_the_pixels_of_a_stream_may_change(tmp_path):
    def open_stream(value):
        image = np.full((8, 8, 3), value, np.uint8)
        return given_images.open_given(tf.data.Dataset.from_tensors((image, image)), Config())

    recorded = training_images.compute_fingerprints(open_stream(0))
    assert list_changes(recorded, open_stream(1), tmp_path) == []


@pytest.mark.parametrize(("n_pairs", "changes"), [
    (20, []), (21, [f"given_to_fit {domain} had 20 images and now has 21" for domain in "AB"]),
])
def test_the_samples_of_a_stream_may_become_more(n_pairs, changes, tmp_path):
    images = np.zeros((21, 8, 8, 3), np.uint8)

    def open_stream(count, n_samples):
        pairs = tf.data.Dataset.from_tensor_slices((images[:count], images[:count]))
        return given_images.open_given(pairs, Config(n_samples=n_samples))

    recorded = training_images.compute_fingerprints(open_stream(20, n_samples=4))
    found = list_changes(recorded, open_stream(n_pairs, n_samples=12), tmp_path)
    assert [change.split(",")[0] for change in found] == changes


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_images):
    """Folder of a run with one step, and of its data set with two images of each domain."""
    folder = tmp_path_factory.mktemp("trained")
    for domain in ("trainA", "trainB"):
        make_images(folder / "set" / domain, 2, size=(32, 32))
    with pytest.MonkeyPatch.context() as patch:
        skip_outputs(patch)
        patch.chdir(folder)
        trainer.train(dataclasses.replace(CONFIG, max_steps=1), "run")
    return folder


@pytest.fixture
def resume(trained, tmp_path, monkeypatch):
    """Function that resumes the copy of the run in tmp_path, the current folder, to step 2."""
    skip_outputs(monkeypatch)
    monkeypatch.chdir(shutil.copytree(trained, tmp_path, dirs_exist_ok=True))
    return lambda **options: trainer.train(dataclasses.replace(CONFIG, **options), "run")


def test_a_run_resumes_with_changed_images_only_if_allowed(tmp_path, resume, make_images, monkeypatch):
    compared = {}
    monkeypatch.setattr(workers.Workers, "require_equal", lambda self, values: compared.update(values))
    digest = hashlib.sha256(b"000.png\x00001.png\x00").digest()
    assert bytes(newest(tmp_path / "run")["images/a/digest"]) == digest
    make_images(tmp_path / "set" / "trainA", 3, size=(32, 32))
    (tmp_path / "set" / "trainB" / "001.png").unlink()
    with pytest.raises(UserError) as caught:
        resume()
    assert str(caught.value) == (
        "the training images have changed since step 1: set/trainA had 2 images and now has 3, added 002.png; "
        "set/trainB had 2 images and now has 1, removed 001.png; restore the images, or continue with the new ones "
        "with --allow_changed_data"
    )
    # What several workers compare.
    for domain, names in (("A", b"000.png\x00001.png\x00002.png\x00"), ("B", b"000.png\x00")):
        digest = hashlib.sha256(names).digest()
        assert compared[f"the training images of {domain}"] == np.frombuffer(digest[:4], ">u4")[0]
    assert newest(tmp_path / "run")["step"] == 1
    resume(allow_changed_data=True)
    assert "continuing with changed training images: " in (tmp_path / "run" / "log.txt").read_text()
    last = newest(tmp_path / "run")
    assert (last["step"], last["images/a/count"], last["images/b/count"]) == (2, 3, 1)
    assert training_images.read_names(str(tmp_path / "run"))["a"] == ["000.png", "001.png", "002.png"]


def test_a_rollback_keeps_the_fingerprint_of_changed_images(tmp_path, resume, make_images, monkeypatch):
    make_images(tmp_path / "set" / "trainA", 3, size=(32, 32))
    require_finite, steps = loop.require_finite, []

    def fail_first(step, *arguments):
        steps.append(step)
        if steps == [2]:
            raise NotFinite(step, ["loss"], "batch.npz")
        require_finite(step, *arguments)

    monkeypatch.setattr(loop, "require_finite", fail_first)
    resume(allow_changed_data=True, on_nonfinite="rollback")
    assert steps == [2, 2]
    assert newest(tmp_path / "run")["images/a/count"] == 3


def test_a_checkpoint_of_an_older_version_resumes_and_records_the_images(tmp_path, resume):
    arrays = newest(tmp_path / "run")
    old = {name: array for name, array in arrays.items() if not name.startswith("images/")}
    assert len(arrays) - len(old) == 4
    checkpoints.write(str(tmp_path / "run" / "checkpoints"), old, keep=1)
    (tmp_path / "run" / "training_images.json").unlink()
    resume()
    assert newest(tmp_path / "run")["images/b/count"] == 2
    assert training_images.read_names(str(tmp_path / "run"))["b"] == ["000.png", "001.png"]
