"""What several test modules share: child processes, image sets made on the spot, and one tiny trained run."""

import os

# Before any test imports TensorFlow: the tests read errors, not notes on the machine.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# As training does on two cores, so that bits of both can be compared; pytest-xdist has a process on each core.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import contextlib
import fcntl
import gc
import io
import logging
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from absl import app, flags
from PIL import Image

# A full collection goes through TensorFlow and every graph that a test has traced: seconds, and by default often.
gc.set_threshold(100_000, 20, 100)

app.define_help_flags()
ABSL_FLAGS = set(flags.FLAGS)

ROOT = Path(__file__).resolve().parent.parent


def run_python(*arguments, cwd=None, timeout=240, **environment):
    """Runs this interpreter in a child process; returns its CompletedProcess with text output."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, timeout=timeout, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )


def run_train(*arguments, **options):
    """Runs `python -m cyclegan_tf.train` in a child process."""
    return run_python("-m", "cyclegan_tf.train", *arguments, **options)


def skip_outputs(patch):
    """Makes runs write no samples, measures, exports and pages, which take longer than the steps of a tiny run.

    Args:
      patch: a pytest.MonkeyPatch.
    """
    from cyclegan_tf.exporters import saved_model
    from cyclegan_tf.runs import page, page_images
    from cyclegan_tf.training import evaluator, samples

    patch.setattr(evaluator.Evaluator, "__call__", lambda self, translators: {})
    patch.setattr(samples, "draw_sample_grid", lambda *arguments: np.zeros((8, 8, 3), np.uint8))
    patch.setattr(saved_model, "export", lambda *arguments: [])
    patch.setattr(page, "write", lambda *arguments: None)
    patch.setattr(page_images, "write", lambda *arguments: None)


@pytest.fixture
def run_command(monkeypatch):
    """Function like run_python("-m", MODULE, ...), but in this process, which has imported TensorFlow already.

    For more than one test of a command line: the first is in a child process.
    """
    # Both would hold on to the stderr of now, and close it.
    monkeypatch.setattr(app, "faulthandler", None)
    monkeypatch.setattr(app.logging, "use_absl_handler", lambda: None)

    def run(module, *arguments):
        # Other tests and command lines have flags of the same names.
        others, root = {name: flags.FLAGS[name] for name in set(flags.FLAGS) - ABSL_FLAGS}, logging.getLogger()
        for name in others:
            delattr(flags.FLAGS, name)
        handlers, level = root.handlers[:], root.level
        root.handlers.clear()  # Command lines close those they find.
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.dict(os.environ):
            try:
                runpy.run_path(find_spec(module).origin, run_name="__main__")
                status = 0
            except SystemExit as stop:
                status = stop.code or 0
            finally:
                for name in set(flags.FLAGS):
                    flags.FLAGS[name].unparse()
                    if name not in ABSL_FLAGS:
                        delattr(flags.FLAGS, name)
                for name, flag in others.items():
                    flags.FLAGS[name] = flag
                root.handlers[:] = handlers
                root.setLevel(level)
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def make_images():
    """Function that writes random images: make_images(folder, count, size=(height, width), suffix)."""

    def make(folder, count, size=(24, 24), suffix=".png"):
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = np.random.default_rng([index, count, *size]).integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:03d}{suffix}")

    return make


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """Run directory of the tiny preset on the demo images, trained to its end; not to be changed.

    The processes of pytest-xdist share it: the first that asks trains it.
    """
    from cyclegan_tf.config import Config
    from cyclegan_tf.training import trainer

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    workdir = folder / "tiny"
    with open(folder / "tiny.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not workdir.exists():
            trainer.train(Config.preset("tiny"), str(folder / "training" / "tiny"))
            os.rename(folder / "training" / "tiny", workdir)
    return workdir
