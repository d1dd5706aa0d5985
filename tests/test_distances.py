"""Frechet and kernel distances against closed forms and torchmetrics (tests/data/metrics), and on degenerate sets."""

from pathlib import Path

import numpy as np
import pytest

from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import fid, kid

RECORDED = np.load(Path(__file__).parent / "data" / "metrics" / "distances.npz")
CASES = ("many", "few", "two")


@pytest.mark.parametrize("case", CASES)
def test_frechet_distance_equals_torchmetrics(case):
    found = fid.compute_distance(RECORDED[f"{case}/x"], RECORDED[f"{case}/y"])
    assert found == pytest.approx(float(RECORDED[f"{case}/frechet"]), abs=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_squared_mmd_equals_torchmetrics(case):
    x, y = (RECORDED[f"{case}/{name}"].astype(np.float64) for name in "xy")
    size = min(len(x), len(y))
    expected = float(RECORDED[f"{case}/squared_mmd"])
    assert kid.compute_squared_mmd(x[:size], y[:size]) == pytest.approx(expected, rel=1e-12)


def make_features(mean, covariance, count, seed):
    """Features (count, d) with exactly this mean and covariance (divisor count - 1)."""
    values = np.random.default_rng(seed).normal(size=(count, len(mean)))
    values -= values.mean(axis=0)
    whitened = values @ np.linalg.inv(np.linalg.cholesky(np.cov(values, rowvar=False))).T
    return mean + whitened @ np.linalg.cholesky(covariance).T


def test_frechet_distance_of_gaussians_in_closed_form():
    # The covariances commute: the distance is |m1 - m2|^2 + sum of (sqrt(a) - sqrt(b))^2 over the eigenvalues.
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    first, second = np.array([1.0, 4, 9, 0.25]), np.array([4.0, 1, 9, 6.25])
    x = make_features(np.zeros(4), turn * first @ turn.T, 30, seed=1)
    y = make_features(np.array([1.0, 2, 0, 0]), turn * second @ turn.T, 40, seed=2)
    assert fid.compute_distance(x, y) == pytest.approx(1 + 4 + 1 + 1 + 0 + 4, abs=1e-9)
    assert fid.compute_distance(y, x) == pytest.approx(11, abs=1e-9)


def test_frechet_distance_with_fewer_images_than_dimensions():
    # On perpendicular lines, the product of the covariances is zero: the variances 2 and 8 and the means remain.
    x, y = np.zeros((2, 2048), np.float32), np.zeros((2, 2048), np.float32)
    x[:, 7] = 3, 5
    y[:, 2000] = -2, 2
    assert fid.compute_distance(x, y) == pytest.approx(2 + 8 + 16, abs=1e-9)
    # On one line: (sqrt(2) - sqrt(8))^2 and the difference of the means.
    assert fid.compute_distance(np.roll(x, 1993, axis=1), y) == pytest.approx(2 + 16, abs=1e-9)


def test_distances_of_a_set_to_itself():
    x = np.random.default_rng(3).uniform(size=(20, 50))
    assert fid.compute_distance(x, x) == pytest.approx(0, abs=1e-9)
    # Copies of one image: all terms cancel.
    same = np.ones((6, 50))
    assert kid.compute_distance(same, same)[:2] == pytest.approx((0, 0), abs=1e-12)
    # Distinct images: the unbiased estimate compares an image with itself only between the sets, so it is negative.
    assert kid.compute_squared_mmd(x, x) < 0


@pytest.mark.parametrize("distance", [fid, kid])
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_images_are_an_error(distance, count):
    name = distance.__name__.rpartition(".")[2]  # The table of measures leaves out this word.
    message = f"^{name} needs at least 2 images on each side, but one side has {count}: add"
    with pytest.raises(UserError, match=message):
        distance.compute_distance(np.zeros((5, 3)), np.zeros((count, 3)))


def test_squared_mmd_by_hand():
    # k = (xy + 1)^3 in one dimension; x = 0, 1: k(0, 1) = 1; y = 1, 2: k(1, 2) = 27; between: 1, 1, 8, 27.
    x, y = np.array([[0.0], [1]]), np.array([[1.0], [2]])
    assert kid.compute_squared_mmd(x, y) == pytest.approx(1 + 27 - 2 * 37 / 4)


def test_kernel_distance_over_subsets(monkeypatch):
    random = np.random.default_rng(4)
    x, y = random.normal(size=(300, 8)), random.normal(size=(260, 8))
    mean, deviation, size = kid.compute_distance(x, y)
    assert size == 100
    # Two samples of one distribution: close to 0.
    assert abs(mean) < 2 * deviation
    assert kid.compute_distance(x, y) == (mean, deviation, size)
    shifted = kid.compute_distance(x, y + 1)
    assert shifted[0] > 2 * shifted[1] > 0
    # Subsets have at most half of the smaller set, so that they differ.
    assert kid.compute_distance(x[:9], y)[2] == 4
    assert kid.compute_distance(x[:3], y)[2] == 2
    monkeypatch.setattr(kid, "SEED", 1)
    assert kid.compute_distance(x, y)[0] != mean
