"""Training from Python gives the same run as the command, on folders, arrays and tf.data; callbacks and interrupts."""

import contextlib
import errno
import io
import itertools
import json
import logging
import os
import signal
import sys
import time
import types

import numpy as np
import pytest
from conftest import make_toy_config, skip_outputs

import cyclegan_tf
from cyclegan_tf.data.dataset import ImageList
from cyclegan_tf.errors import Stopped, UserError
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.runs.metrics_log import read_records
from cyclegan_tf.training import fitting, trainer, workers

pytestmark = pytest.mark.usefixtures("plugins")


def read_arrays(run):
    """The arrays of the newest checkpoint."""
    path = sorted((run / "checkpoints").glob("step-*.npz"))[-1]
    with np.load(path) as file:
        return dict(file)


def assert_equal_runs(one, other):
    left, right = read_arrays(one), read_arrays(other)
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)


def test_fit_twice_in_one_process_trains_like_the_trainer(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    for model in ("toy_model", "cyclegan"):
        options = make_toy_config(model=model, max_steps=2, max_dataset_size=3)
        result = cyclegan_tf.fit(options, tmp_path / f"fit-{model}")
        assert result.workdir == str(tmp_path / f"fit-{model}")
        trainer.train(options, str(tmp_path / f"train-{model}"))
        assert_equal_runs(tmp_path / f"fit-{model}", tmp_path / f"train-{model}")


def test_result_has_the_final_measures_and_callbacks_get_the_records(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    monkeypatch.setattr("cyclegan_tf.training.evaluator.Evaluator.__call__", lambda self, translators: {"psnr_ab": 7.0})
    seen = []
    options = make_toy_config(max_steps=3, log_every=2, eval_every=2, max_dataset_size=3)
    result = cyclegan_tf.fit(options, tmp_path, callbacks=[lambda step, scalars: seen.append((step, scalars))])
    assert result.measures == {"psnr_ab": 7.0}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    # Step 2: measures and losses. Step 3, the last: measures and losses, then the final measures.
    assert [(step, "psnr_ab" in scalars) for step, scalars in seen] == [
        (2, True), (2, False), (3, True), (3, False), (3, True)
    ]
    losses = {line["step"]: line for line in lines if "loss/gen_ab" in line and "epoch" not in line}
    for step, scalars in seen:
        if "psnr_ab" not in scalars:
            assert scalars.items() <= losses[step].items()
            assert "learning_rate" in scalars and "grad_norm/gen_ab" in scalars


def test_failed_callback_is_named_in_the_error(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)

    def report(step, scalars):
        raise ConnectionError("no route to the tracker")

    with pytest.raises(UserError, match=r"^a callback failed: ConnectionError: no route to the tracker$") as raised:
        cyclegan_tf.fit(make_toy_config(max_steps=2, max_dataset_size=2), tmp_path, callbacks=[report])
    assert isinstance(raised.value.__cause__, ConnectionError)


def test_a_checkpoint_that_cannot_be_written_ends_the_run_at_once(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    steps = []

    def write(*arguments):
        raise OSError(errno.ENOSPC, "no space", "step.npz")

    monkeypatch.setattr(checkpoints, "write", write)
    options = make_toy_config(max_steps=8, max_dataset_size=2, sample_every=0, checkpoint_every=4)
    with pytest.raises(UserError, match=r"cannot write step\.npz: the disk is full"):
        cyclegan_tf.fit(options, tmp_path, callbacks=[
            lambda step, scalars: [steps.append(step), time.sleep(0.1 if step == 5 else 0)]
        ])
    assert max(steps) in (4, 5)


def test_ctrl_c_saves_the_run_and_the_same_call_resumes_it(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    options = make_toy_config(max_steps=4, checkpoint_every=0, max_dataset_size=4)
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]

    def interrupt(step, scalars):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    saved, folder = [], tmp_path / "run" / "checkpoints"
    monkeypatch.setattr(workers.Workers, "barrier", lambda _: saved.append(os.listdir(folder)))
    with pytest.raises(KeyboardInterrupt, match=r"stopped by SIGINT after step [23]; start again to resume") as raised:
        cyclegan_tf.fit(options, tmp_path / "run", callbacks=[interrupt])
    assert saved in ([["step-00000002.npz"]], [["step-00000003.npz"]]), "workers wait for the checkpoint"
    assert raised.type is KeyboardInterrupt  # For a subclass, Python would not end the script by SIGINT.
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert read_arrays(tmp_path / "run")["step"] in (2, 3)
    cyclegan_tf.fit(options, tmp_path / "run")
    cyclegan_tf.fit(options, tmp_path / "undisturbed")
    assert_equal_runs(tmp_path / "run", tmp_path / "undisturbed")
    # The epoch of four steps ends after the interruption.
    epochs, expected = (
        [record for record in read_records(tmp_path / name) if record["kind"] == "epoch"]
        for name in ("run", "undisturbed")
    )
    assert epochs == expected and len(epochs) == 1


def test_second_ctrl_c_raises_at_once(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    after = []

    def interrupt(step, scalars):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        after.append(step)  # Not reached.

    options = make_toy_config(max_steps=4, max_dataset_size=3, checkpoint_every=0)
    with pytest.raises(KeyboardInterrupt):
        cyclegan_tf.fit(options, tmp_path, callbacks=[interrupt])
    assert not after
    assert not list((tmp_path / "checkpoints").glob("*.npz"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_other_signals_raise_stopped_after_the_queued_step(name, tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    options = make_toy_config(max_steps=20, max_dataset_size=3, sample_every=0, checkpoint_every=0)
    with pytest.raises(KeyboardInterrupt, match=name) as raised:
        cyclegan_tf.fit(options, tmp_path, callbacks=[
            lambda step, scalars: os.kill(os.getpid(), getattr(signal, name)) if step == 3 else None
        ])
    assert raised.type is Stopped
    assert read_arrays(tmp_path)["step"] == 4


@pytest.mark.parametrize("error", [UserError("a mistake"), KeyError("a bug"), KeyboardInterrupt("a key")], ids=repr)
@pytest.mark.parametrize("place", ["callback", "image"])
def test_no_image_is_loaded_after_an_error(place, error, tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    loading, numbers, load = set(), itertools.count(), ImageList.load

    def load_slowly(self, *arguments):
        number = next(numbers)
        loading.add(number)
        if place == "image" and number == 10:
            raise error
        time.sleep(0.3 if number > 10 else 0)
        loading.remove(number)
        return load(self, *arguments)

    def fail_while_loading(step, scalars):
        if place == "callback" and loading:
            raise error

    monkeypatch.setattr(ImageList, "load", load_slowly)
    options = make_toy_config(max_steps=20, sample_every=0, checkpoint_every=0, cache="off")
    with pytest.raises(BaseException) as raised:  # `raised` keeps the frames of the error.
        cyclegan_tf.fit(options, tmp_path, callbacks=[fail_while_loading])
    assert str(error) in str(raised.value)
    assert loading == ({10} if place == "image" else set())


@pytest.mark.parametrize(("defining", "registering", "added", "warning"), [
    ("cyclegan_tf_extra", "cyclegan_tf_extra", ",cyclegan_tf_extra", ""),
    ("cyclegan_tf.models.builtin", "cyclegan_tf.models.builtin", "", ""),
    ("toy_package.networks", "toy_package.networks", "", ""),
    ("__main__", "__main__", "",
     "make_loss is registered in __main__, so only a process that registers it again can use the run"),
    ("numpy", "cyclegan_tf_extra", ",numpy,cyclegan_tf_extra", ""),
    ("numpy", "__main__", ",numpy", "make_loss is registered in __main__"),
    ("keras.losses", "cyclegan_tf_extra", ",cyclegan_tf_extra", ""),
    ("json", "cyclegan_tf_extra", ",cyclegan_tf_extra", ""),
    ("toy_package.networks", "cyclegan_tf.models.builtin", "", ""),
], ids=["other package", "this package", "plugin", "script", "library", "library in a script", "keras", "python",
        "helper"])
def test_modules_that_register_a_function_become_plugins(defining, registering, added, warning, monkeypatch, caplog):
    def make_loss(config):
        raise NotImplementedError

    make_loss.__module__ = defining
    monkeypatch.setitem(sys.modules, "cyclegan_tf_extra", types.ModuleType("cyclegan_tf_extra"))
    exec('register("own")(make_loss)',
         {"__name__": registering, "register": cyclegan_tf.register_loss, "make_loss": make_loss})
    named = fitting.add_plugins(make_toy_config(gan_mode="own", plugins="toy_package.objectives,toy_package.networks"))
    assert named.plugins == f"toy_package.objectives,toy_package.networks{added}"
    assert warning in caplog.text and bool(warning) == bool(caplog.messages)


@pytest.mark.parametrize("callbacks", [print, ["x"], [print, None]], ids=str)
def test_callbacks_that_are_not_functions_are_an_error(tmp_path, callbacks):
    with pytest.raises(UserError, match=r"^callbacks=.*: expected a list of functions"):
        cyclegan_tf.fit(make_toy_config(), tmp_path / "run", callbacks=callbacks)
    assert not (tmp_path / "run").exists()


def test_log_is_shown_once_and_no_handler_is_left(tmp_path, monkeypatch):
    skip_outputs(monkeypatch)
    root, log = logging.getLogger(), logging.getLogger("cyclegan_tf")
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "level", logging.ERROR)
    with contextlib.redirect_stderr(io.StringIO()) as shown:
        # logging.info adds a handler to a root logger that has none, as libraries do.
        cyclegan_tf.fit(make_toy_config(max_steps=2, log_every=1, max_dataset_size=2), tmp_path, callbacks=[
            lambda step, scalars: [logging.info("from a library"), log.info("one\ntwo.png")]
        ])
    assert "one\\ntwo.png\n" in shown.getvalue()
    assert shown.getvalue().count("step 2/2: ") == 1
    assert "from a library" not in shown.getvalue()
    assert (root.handlers, log.handlers, log.level) == ([], [], logging.ERROR)
