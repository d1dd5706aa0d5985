"""What one stack wrote the other reads: a run and a SavedModel of each, made by data/stacks/make.py."""

import os
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.inference import translator
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.training import warm_start

STACKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "stacks")


def image():
    """float32 (1, 32, 32, 3) in [-1, 1]."""
    return np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)


@pytest.fixture(params=["keras2", "keras3"])
def run(request, tmp_path):
    with zipfile.ZipFile(os.path.join(STACKS, f"{request.param}.zip")) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def test_a_checkpoint_of_either_stack_translates_alike(run):
    expected = np.load(run / "expected.npy")
    assert expected.std() > 1e-3, "a constant image would equal anything"
    result = translator.load_run(str(run)).float_images(image())["images"]
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_a_saved_model_of_either_stack_translates_alike(run):
    loaded = tf.saved_model.load(str(run / "export" / "a2b"))
    result = loaded.signatures["serving_default"](images=tf.constant(image()))["images"]
    np.testing.assert_allclose(result, np.load(run / "expected.npy"), atol=1e-5)


def test_training_starts_from_the_networks_of_either_stack(run):
    config = Config.load(str(run))
    model = CycleGAN(config)
    warm_start.initialize(model, str(run))
    arrays = checkpoints.newest(str(run / "checkpoints"))[1]
    ours = checkpoints.state(model, checkpoints.Progress())
    networks = [name for name in arrays if name.startswith("network/")]
    assert len(networks) == 2 * (16 + 8)
    for name in networks:
        assert np.array_equal(arrays[name], ours[name]), name
