"""The learning rate against the authors' schedule."""

import golden
import pytest

from cyclegan_tf.training.schedules import linear_decay

CASES = golden.read_json("schedule/linear_lr.json")


def test_the_golden_set_is_there():
    assert [(case["n_epochs"], case["n_epochs_decay"], case["epoch_count"]) for case in CASES] == [
        (3, 4, 1), (100, 100, 1), (3, 4, 4),
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['n_epochs']}_{case['epoch_count']}")
def test_learning_rate_of_each_epoch_is_the_authors(case):
    # Epoch 4 of a run that goes on from there (epoch_count 4) has three epochs behind it, as in a run from the start.
    rates = [case["lr"] * linear_decay(epoch - 1, case["n_epochs"], case["n_epochs_decay"]) for epoch in case["epochs"]]
    assert rates == pytest.approx(case["lr_in_epoch_update_at_end"], rel=0, abs=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if case["epoch_count"] == 1], ids=lambda c: c["n_epochs"])
def test_factors_are_the_authors(case):
    expected = case["multiplier_after_k_scheduler_steps"]
    factors = [linear_decay(done, case["n_epochs"], case["n_epochs_decay"]) for done in range(len(expected))]
    assert factors == pytest.approx(expected, rel=0, abs=1e-12)


def test_factors_by_hand():
    assert [linear_decay(done, 2, 3) for done in range(5)] == [1.0, 1.0, 0.75, 0.5, 0.25]
    assert [linear_decay(done, 0, 1) for done in range(1)] == [0.5]
    assert [linear_decay(done, 2, 0) for done in range(2)] == [1.0, 1.0]
