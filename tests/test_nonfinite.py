"""Scalars that are NaN or infinite, and the file with their batch."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from cyclegan_tf.training.nonfinite import NotFinite, require_finite
from cyclegan_tf.training.workers import Workers

BATCH = (np.full((1, 2, 2, 3), 0.5, np.float32), np.full((1, 2, 2, 3), -0.5, np.float32))


def test_finite_scalars_pass(tmp_path):
    require_finite(7, {"loss/a": 1e30, "loss/b": -1.0}, [BATCH], str(tmp_path), Workers())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_each_nonfinite_value_is_named_and_its_batch_saved(tmp_path, value):
    message = r"^step 7: values are not finite \(loss/b, loss/c\); the batch is in .*step-000007\.npz"
    with pytest.raises(NotFinite, match=message) as caught:
        require_finite(7, {"loss/a": 1.0, "loss/b": value, "loss/c": value}, [BATCH], str(tmp_path), Workers())
    assert caught.value.step == 7
    saved = np.load(tmp_path / "not-finite-step-000007.npz")
    np.testing.assert_array_equal(saved["a"], BATCH[0])
    np.testing.assert_array_equal(saved["b"], BATCH[1])


def test_the_file_has_the_batches_of_all_replicas(tmp_path):
    other = {"a": BATCH[0] + 1, "b": BATCH[1] + 1}
    workers = SimpleNamespace(is_chief=True, gather=lambda own: [*own, other])
    with pytest.raises(NotFinite):
        require_finite(1, {"loss/a": math.nan}, [BATCH], str(tmp_path), workers)
    saved = np.load(tmp_path / "not-finite-step-000001.npz")
    np.testing.assert_array_equal(saved["a"][:, 0, 0, 0], [0.5, 1.5])
    np.testing.assert_array_equal(saved["b"][:, 0, 0, 0], [-0.5, 0.5])


def test_replicas_may_have_images_of_different_sizes(tmp_path):
    """As with --preprocess=none and one image per replica."""
    other = {"a": np.ones((1, 4, 6, 3), np.float32), "b": BATCH[1] + 1}
    workers = SimpleNamespace(is_chief=True, gather=lambda own: [*own, other])
    with pytest.raises(NotFinite):
        require_finite(1, {"loss/a": math.nan}, [BATCH], str(tmp_path), workers)
    saved = np.load(tmp_path / "not-finite-step-000001.npz")
    assert {name: saved[name].shape for name in saved} == {
        "a_0": (1, 2, 2, 3), "a_1": (1, 4, 6, 3), "b": (2, 2, 2, 3)
    }
    np.testing.assert_array_equal(saved["a_1"], other["a"])


def test_only_the_chief_writes(tmp_path):
    workers = SimpleNamespace(is_chief=False, gather=lambda own: [])
    with pytest.raises(NotFinite):
        require_finite(1, {"loss/a": math.nan}, [BATCH], str(tmp_path), workers)
    assert not list(tmp_path.iterdir())
