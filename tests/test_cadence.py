"""The tasks that are due after each step, computed by hand."""

import pytest

from cyclegan_tf.config import Config
from cyclegan_tf.training.cadence import Cadence, plan_run


def due_steps(images_per_epoch, every, epochs):
    """Lists the steps after which a task is due, in a run of 12 steps of 4 images."""
    cadence = Cadence(Config(), images_per_step=4, images_per_epoch=images_per_epoch, n_steps=12)
    return [step for step in range(1, 13) if cadence.is_due(step, every, epochs)]


# Epochs of 10 images end within steps 3, 5 (with its last image), 8 and 10, which have 4 images each.
@pytest.mark.parametrize(("every", "epochs", "expected"), [
    (0, 0, [12]),
    (4, 0, [4, 8, 12]),
    (5, 0, [5, 10, 12]),
    (0, 1, [3, 5, 8, 10, 12]),
    (0, 2, [5, 10, 12]),
    (0, 3, [8, 12]),
    (4, 2, [4, 5, 8, 10, 12]),
])
def test_steps_and_epochs_are_due(every, epochs, expected):
    assert due_steps(10, every, epochs) == expected


def test_a_step_that_ends_several_epochs_is_due_once():
    # Epochs of 3 images: the first 12 images end epochs 1 to 4 in steps 1, 2 and 3.
    assert due_steps(3, 0, 4) == [3, 6, 9, 12]


def test_each_task_follows_its_own_option():
    config = Config(
        log_every=2, sample_every=3, sample_epochs=4, checkpoint_every=5, checkpoint_epochs=0, eval_every=7,
    )
    cadence = Cadence(config, images_per_step=1, images_per_epoch=2, n_steps=11)
    due = {step: cadence.list_due(step) for step in range(1, 12)}
    assert [step for step in due if due[step].log] == [2, 4, 6, 8, 10, 11]
    assert [step for step in due if due[step].sample] == [3, 6, 8, 9, 11]
    assert [step for step in due if due[step].checkpoint] == [5, 10, 11]
    assert [step for step in due if due[step].evaluate] == [7, 11]
    assert [step for step in due if due[step].end_epoch] == [2, 4, 6, 8, 10]
    # Logs and epoch means need losses only.
    assert [step for step in due if due[step].need_weights] == [3, 5, 6, 7, 8, 9, 10, 11]


def test_checkpoint_epochs_are_due():
    config = Config(log_every=0, sample_every=0, checkpoint_every=0, checkpoint_epochs=2)
    cadence = Cadence(config, images_per_step=1, images_per_epoch=2, n_steps=9)
    assert [step for step in range(1, 10) if cadence.list_due(step).checkpoint] == [4, 8, 9]


def test_measurements_are_never_due_without_eval_every():
    cadence = Cadence(Config(eval_every=0), images_per_step=1, images_per_epoch=2, n_steps=3)
    assert not any(cadence.list_due(step).evaluate for step in (1, 2, 3))


@pytest.mark.parametrize(("options", "n_replicas", "images_per_step", "n_steps"), [
    ({"n_epochs": 1, "n_epochs_decay": 2}, 1, 1, 30),
    # 30 images in batches of 4 are 7.5 steps.
    ({"n_epochs": 1, "n_epochs_decay": 2, "batch_size": 2}, 2, 4, 8),
    ({"n_epochs": 1, "n_epochs_decay": 2, "max_steps": 7}, 1, 1, 7),
], ids=["epochs", "replicas", "max_steps"])
def test_runs_have_the_length_that_options_give(options, n_replicas, images_per_step, n_steps):
    cadence = plan_run(Config(**options), images_per_epoch=10, n_replicas=n_replicas)
    assert (cadence.images_per_step, cadence.n_steps) == (images_per_step, n_steps)


def test_epochs_are_counted_when_they_are_whole():
    cadence = Cadence(Config(), images_per_step=4, images_per_epoch=10, n_steps=12)
    assert [cadence.count_epochs(steps) for steps in (0, 2, 3, 4, 5, 7, 8)] == [0, 0, 1, 1, 2, 2, 3]
