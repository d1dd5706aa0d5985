"""The learning rate of each step: the authors' recorded schedule, closed forms and hand computations."""

import math

import golden
import pytest

from cyclegan_tf.config import Config
from cyclegan_tf.training import schedules

CASES = golden.read_json("schedule/linear_lr.json")


def test_the_golden_set_is_complete():
    assert [(case["n_epochs"], case["n_epochs_decay"], case["epoch_count"]) for case in CASES] == [
        (3, 4, 1), (100, 100, 1), (3, 4, 4),
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['n_epochs']}_{case['epoch_count']}")
def test_learning_rate_of_each_epoch_is_the_authors(case):
    # Epoch 4 of a run that resumes there (epoch_count 4) has three epochs behind it, as in a run from the start.
    lengths = case["n_epochs"], case["n_epochs_decay"]
    rates = [case["lr"] * schedules.compute_linear_decay(epoch - 1, *lengths) for epoch in case["epochs"]]
    assert rates == pytest.approx(case["lr_in_epoch_update_at_end"], rel=0, abs=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if case["epoch_count"] == 1], ids=lambda c: c["n_epochs"])
def test_factors_are_the_authors(case):
    expected = case["multiplier_after_k_scheduler_steps"]
    lengths = case["n_epochs"], case["n_epochs_decay"]
    factors = [schedules.compute_linear_decay(done, *lengths) for done in range(len(expected))]
    assert factors == pytest.approx(expected, rel=0, abs=1e-12)


def test_linear_decay_by_hand():
    assert [schedules.compute_linear_decay(done, 2, 3) for done in range(5)] == [1.0, 1.0, 0.75, 0.5, 0.25]
    assert [schedules.compute_linear_decay(done, 0, 1) for done in range(1)] == [0.5]
    assert [schedules.compute_linear_decay(done, 2, 0) for done in range(2)] == [1.0, 1.0]


def test_step_decay_by_hand():
    factors = [schedules.compute_step_decay(done, 3) for done in range(8)]
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01], rel=1e-12)


def test_cosine_decay_by_hand():
    # cos(0), cos(45), cos(60), cos(90), cos(120) and cos(135) degrees.
    root = math.sqrt(2) / 2
    expected = [1, (1 + root) / 2, 0.75, 0.5, 0.25, (1 - root) / 2]
    factors = [schedules.compute_cosine_decay(done, 12) for done in (0, 3, 4, 6, 8, 9)]
    assert factors == pytest.approx(expected, rel=1e-12)
    # The last of 12 units: cos(165 degrees) = -(sqrt(6) + sqrt(2)) / 4.
    last = (1 - (math.sqrt(6) + math.sqrt(2)) / 4) / 2
    assert schedules.compute_cosine_decay(11, 12) == pytest.approx(last, rel=1e-12)


POLICIES = {
    # Four epochs: two constant, then 1 - 1/3 and 1 - 2/3.
    "linear": [1, 1, 2 / 3, 1 / 3],
    # A tenth after every third.
    "step": [1, 1, 1, 0.1],
    # cos(0), cos(45), cos(90), cos(135) degrees.
    "cosine": [1, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4],
    "constant": [1, 1, 1, 1],
}


@pytest.mark.parametrize("policy", POLICIES)
def test_schedules_count_epochs(policy):
    config = Config(learning_rate=8.0, lr_policy=policy, n_epochs=2, n_epochs_decay=2, lr_decay_every=3)
    # Steps do not matter.
    rates = [schedules.compute_learning_rate(config, 50 * epoch + 7, epoch) for epoch in range(4)]
    assert rates == pytest.approx([8 * factor for factor in POLICIES[policy]], rel=1e-12)


@pytest.mark.parametrize("policy", POLICIES)
def test_schedules_count_steps_with_max_steps(policy):
    # The epochs set shares only: the constant part is 50 of 100, a drop comes after 75 of 100.
    config = Config(learning_rate=8.0, lr_policy=policy, n_epochs=50, n_epochs_decay=50, lr_decay_every=75, max_steps=4)
    rates = [schedules.compute_learning_rate(config, step, 90 + step) for step in range(4)]
    assert rates == pytest.approx([8 * factor for factor in POLICIES[policy]], rel=1e-12)


def test_drops_keep_their_share_of_the_steps():
    # By default, a drop after 50 of 200 epochs, here after each quarter of 8 steps.
    config = Config(learning_rate=1.0, lr_policy="step", max_steps=8)
    rates = [schedules.compute_learning_rate(config, step, 0) for step in range(8)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rel=1e-12)
    # A share below one step becomes one step.
    short = [schedules.compute_learning_rate(Config(lr_policy="step", learning_rate=1.0, max_steps=1), 0, 0)]
    assert short == [1.0]
    # Without epochs to scale, a number of steps.
    config = Config(learning_rate=1.0, lr_policy="step", n_epochs=0, n_epochs_decay=0, lr_decay_every=2, max_steps=5)
    rates = [schedules.compute_learning_rate(config, step, 0) for step in range(5)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01], rel=1e-12)


def test_the_constant_part_keeps_its_share_of_the_steps():
    # 10 steps in the proportion 30:20 are 6 constant steps, then 1 - 1/5 ... 1 - 4/5.
    config = Config(learning_rate=1.0, n_epochs=30, n_epochs_decay=20, max_steps=10)
    rates = [schedules.compute_learning_rate(config, step, 0) for step in range(10)]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2], rel=1e-12)


def test_steps_without_epochs_only_decay():
    # No constant part: 1 - 1/5 ... 1 - 4/5.
    config = Config(learning_rate=1.0, n_epochs=0, n_epochs_decay=0, max_steps=4)
    rates = [schedules.compute_learning_rate(config, step, 0) for step in range(4)]
    assert rates == pytest.approx([0.8, 0.6, 0.4, 0.2], rel=1e-12)


@pytest.mark.parametrize(("rule", "factor"), [("none", 1), ("linear", 4), ("sqrt", 2)])
def test_the_rate_is_scaled_with_the_replicas_only_if_asked(rule, factor):
    assert schedules.compute_replica_factor(rule, 4) == factor
    config = Config(learning_rate=0.5, scale_learning_rate=rule)
    assert schedules.compute_learning_rate(config, 0, 0, n_replicas=4) == 0.5 * factor
