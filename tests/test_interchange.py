"""Files that one stack wrote load on the other: a run and a SavedModel of each, made by data/stacks/make.py.

Files that version 0.1.0 wrote (data/stacks/before_rooms_*.zip, commit abed4bf) load too.
"""

import dataclasses
import json
import os
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.inference import loading, translator
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.networks import registry
from cyclegan_tf.runs import checkpoints, model_state
from cyclegan_tf.runs.metrics_log import read_records
from cyclegan_tf.training import trainer, warm_start

STACKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "stacks")


def image():
    """float32 (1, 32, 32, 3) in [-1, 1]."""
    return np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)


def unpack(name, folder):
    with zipfile.ZipFile(os.path.join(STACKS, f"{name}.zip")) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(params=["keras2", "keras3"])
def run(request, tmp_path):
    return unpack(request.param, tmp_path)


@pytest.fixture
def old_run(tmp_path):
    """Unpacks a run of the stack that runs the tests: .keras files load only on the same stack."""
    return unpack("before_rooms_keras2" if tf.__version__.startswith("2.15.") else "before_rooms_keras3", tmp_path)


def test_a_checkpoint_of_either_stack_gives_the_same_pixels(run):
    expected = np.load(run / "expected.npy")
    assert expected.std() > 1e-3, "a constant image would equal anything"
    result = translator.load_run(str(run)).translators["a2b"].translate_floats(image())["images"]
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_a_saved_model_of_either_stack_gives_the_same_pixels(run):
    loaded = tf.saved_model.load(str(run / "export" / "a2b"))
    result = loaded.signatures["serving_default"](images=tf.constant(image()))["images"]
    np.testing.assert_allclose(result, np.load(run / "expected.npy"), atol=1e-5)


def test_training_starts_from_the_networks_of_either_stack(run):
    config = Config.load(str(run))
    model = CycleGAN(config)
    warm_start.initialize(model, str(run))
    arrays = checkpoints.read_newest(str(run / "checkpoints"))[1]
    ours = model_state.collect_state(model, model_state.Progress())
    networks = [name for name in arrays if name.startswith("network/")]
    assert len(networks) == 2 * (16 + 8)
    for name in networks:
        assert np.array_equal(arrays[name], ours[name]), name


@pytest.mark.parametrize("stack", ["keras2", "keras3"])
@pytest.mark.parametrize("model", ["", "checkpoints/step-00000003.npz", "export/a2b"])
def test_files_of_version_0_1_0_give_the_same_pixels(tmp_path, stack, model):
    old_run = unpack(f"before_rooms_{stack}", tmp_path)
    result = loading.load(old_run / model if model else old_run).translate(image())
    np.testing.assert_allclose(result, np.load(old_run / "expected.npy"), atol=2e-6)


@pytest.mark.parametrize("name", ["a2b", "network"])
def test_a_keras_file_of_version_0_1_0_loads(old_run, name):
    # Keras finds the layers by their registered names, not by the modules in which they were defined.
    registry.build_generator(Config.load(str(old_run)), "gen_ab")
    network = tf.keras.models.load_model(str(old_run / "export" / f"{name}.keras"), compile=False)
    np.testing.assert_allclose(network(image()), np.load(old_run / "expected.npy"), atol=2e-6)


@pytest.mark.parametrize("stack", ["keras2", "keras3"])
def test_a_run_of_version_0_1_0_resumes_with_the_same_numbers(tmp_path, stack):
    old_run = unpack(f"before_rooms_{stack}", tmp_path)
    config = Config.load(str(old_run))
    trainer.train(dataclasses.replace(config, max_steps=5), str(old_run))
    recorded = [json.loads(line) for line in (old_run / "resumed.jsonl").read_text().splitlines()]
    # Version 0.1.0 did not measure trivial translations, nor record the number of images of a measure.
    new = {"baselines", "counts", "final_counts"}
    records = [record for record in read_records(old_run) if record["kind"] not in new]
    for expected, record in zip(recorded, records, strict=True):
        assert record.pop("kind") == expected.pop("kind")
        # The last digits depend on the processor.
        assert record == pytest.approx(expected, rel=1e-3)
