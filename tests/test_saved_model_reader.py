"""Opening SavedModels that other programs wrote."""

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.networks.saved_model import open_saved_model


def save(path, function, *names, signature="serving_default"):
    """Saves a module whose signature computes `function` of float32 (N, 2) tensors called `names`."""
    module = tf.Module()
    module.factor = tf.Variable(3.0, name="factor")
    specs = [tf.TensorSpec((None, 2), tf.float32, name=name) for name in names]
    module.run = tf.function(lambda *tensors: function(module.factor, *tensors), input_signature=specs)
    tf.saved_model.save(module, str(path), signatures={signature: module.run})
    return str(path)


@pytest.mark.parametrize("signature", ["serving_default", "default"])
def test_a_saved_model_is_a_function_of_a_tensor(tmp_path, signature):
    path = save(tmp_path / "net", lambda factor, x: {"y": factor * x}, "x", signature=signature)
    network = open_saved_model(path)
    np.testing.assert_array_equal(network(np.array([[1, 2]], np.float32)), [[3, 6]])
    assert (network.input_spec.shape.as_list(), network.input_spec.dtype) == ([None, 2], tf.float32)
    assert network.output_spec.shape.as_list() == [None, 2]
    assert [variable.numpy() for variable in network.variables] == [3]


def test_one_of_several_outputs_is_chosen_by_name(tmp_path):
    path = save(tmp_path / "net", lambda factor, x: {"y": x, "z": factor * x}, "x")
    np.testing.assert_array_equal(open_saved_model(path, output="z")(np.ones((1, 2), np.float32)), [[3, 3]])
    with pytest.raises(UserError, match=r"and one output \(the outputs are y, z\)"):
        open_saved_model(path)
    with pytest.raises(UserError, match=r"^--net=x is not .* and an output logits \(the outputs are y, z\)"):
        open_saved_model(path, name="--net=x", output="logits")


def test_exhausted_memory_is_not_called_a_bad_saved_model(tmp_path, monkeypatch):
    def load(path):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(tf.saved_model, "load", load)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        open_saved_model(str(tmp_path))


def test_two_inputs_are_refused(tmp_path):
    path = save(tmp_path / "net", lambda factor, x, y: {"z": factor * x + y}, "x", "y")
    with pytest.raises(UserError, match=r"\(the inputs are x, y\)"):
        open_saved_model(path)


@pytest.mark.parametrize("content", [None, b"", b"no protocol buffer"])
def test_a_folder_without_a_saved_model_is_an_error(tmp_path, content):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(UserError, match="is not a SavedModel"):
        open_saved_model(str(tmp_path))


def test_a_saved_model_without_a_usual_signature_is_an_error(tmp_path):
    path = save(tmp_path / "net", lambda factor, x: {"y": x}, "x", signature="other")
    with pytest.raises(UserError, match="it has no serving_default signature"):
        open_saved_model(path)
