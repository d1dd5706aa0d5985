"""Shared test helpers: child processes, commands in this process, random images, and one small trained run."""

import os

# Set before any test imports TensorFlow, because tests compare stderr with expected errors.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The same as training on two cores, so that tests can compare bits with it; pytest-xdist runs a process on each core.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import contextlib
import fcntl
import gc
import io
import logging
import runpy
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from absl import app, flags
from PIL import Image

# A full garbage collection visits every traced graph and takes seconds, so run it less often than by default.
gc.set_threshold(100_000, 20, 100)

# nohup and background jobs of scripts ignore these signals, and commands then keep ignoring them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

app.define_help_flags()
ABSL_FLAGS = set(flags.FLAGS)

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = ROOT / "tests" / "plugins"
PLUGIN_MODULES = "toy_package.networks,toy_package.objectives"


def make_toy_config(**options):
    """A Config of the tiny networks and the loss in tests/plugins, which the fixture `plugins` makes importable."""
    from cyclegan_tf.config import Config

    toy = {"plugins": PLUGIN_MODULES, "generator": "toy", "discriminator": "toy", "gan_mode": "toy_loss"}
    return Config.preset("tiny", **{**toy, "load_size": 18, "crop_size": 16, **options})


def run_python(*arguments, cwd=None, timeout=240, **environment) -> subprocess.CompletedProcess:
    """Runs this interpreter in a child process; returns its CompletedProcess with text output."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, timeout=timeout, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )


def run_train(*arguments, **options) -> subprocess.CompletedProcess:
    """Runs `python -m cyclegan_tf.train` in a child process."""
    return run_python("-m", "cyclegan_tf.train", *arguments, **options)


def wait_for_step(workdir, step, seconds=200):
    """Waits until a run in another process has recorded `step`."""
    log, deadline = Path(workdir) / "metrics.jsonl", time.monotonic() + seconds
    while not (log.exists() and f'"step": {step},' in log.read_text()):
        assert time.monotonic() < deadline, f"no step {step} in {log}"
        time.sleep(0.02)


def save_checkpoint(folder, model, progress, keep=1):
    """Writes a checkpoint of `model` into `folder`, which is created if necessary; returns its path."""
    from cyclegan_tf.runs import checkpoints, model_state

    os.makedirs(folder, exist_ok=True)
    return checkpoints.write(folder, model_state.collect_state(model, progress), keep)


def write_run(workdir, model):
    """Makes the folder `workdir` a run directory with a checkpoint of `model` after step 7."""
    from cyclegan_tf.runs import model_state

    save_checkpoint(str(workdir / "checkpoints"), model, model_state.Progress(7))
    (workdir / "config.json").write_text(model.config.to_json())


def skip_outputs(patch):
    """Makes runs write no samples, measures, exports and pages, which take longer than the steps of a tiny run.

    Args:
      patch: a pytest.MonkeyPatch.
    """
    from cyclegan_tf.exporters import saved_model
    from cyclegan_tf.images import grid
    from cyclegan_tf.runs import page, page_images
    from cyclegan_tf.training import evaluator, samples

    patch.setattr(evaluator.Evaluator, "__call__", lambda self, translators: {})
    patch.setattr(evaluator.Evaluator, "measure_baselines", lambda self: {})
    patch.setattr(samples, "draw_sample_grid", lambda *arguments: grid.Picture(np.zeros((8, 8, 3), np.uint8), [], []))
    patch.setattr(saved_model, "export", lambda *arguments: [])
    patch.setattr(page, "write", lambda *arguments: None)
    patch.setattr(page_images, "write", lambda *arguments: None)


@pytest.fixture
def run_command(monkeypatch):
    """A function run(MODULE, *ARGUMENTS) like run_python("-m", MODULE, ...), but fast: it runs in this process.

    The first test of each command should still use a child process.
    """
    # faulthandler and absl's log handler would keep a reference to the redirected stderr, and close it.
    monkeypatch.setattr(app, "faulthandler", None)
    monkeypatch.setattr(app.logging, "use_absl_handler", lambda: None)

    def run(module, *arguments):
        # Remove flags that other tests and commands have defined, because their names may be the same.
        others, root = {name: flags.FLAGS[name] for name in set(flags.FLAGS) - ABSL_FLAGS}, logging.getLogger()
        for name in others:
            delattr(flags.FLAGS, name)
        handlers, level = root.handlers[:], root.level
        root.handlers.clear()  # Commands close the handlers that they find.
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
def plugins(monkeypatch):
    """Makes the packages in tests/plugins importable; forgets them and everything that the test registers."""
    from cyclegan_tf.config import registries

    before = set(sys.modules)
    monkeypatch.syspath_prepend(PLUGINS)
    with contextlib.ExitStack() as stack:
        for registry in (registries.GENERATORS, registries.DISCRIMINATORS, registries.LOSSES, registries.MODELS):
            stack.enter_context(mock.patch.dict(registry))
        yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("toy_package", "stranger"):
            del sys.modules[name]


@pytest.fixture
def cpu_kernels():
    """Skips a test of the optimized CPU kernels, which are off with a GPU. For `pytest.mark.usefixtures`."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("CPU kernels are off with a GPU")


@pytest.fixture(scope="session")
def torch():
    """The module torch; skips the test if it is not installed."""
    return pytest.importorskip("torch", reason="PyTorch reads and writes .pth files")


@pytest.fixture(scope="session")
def make_images():
    """A function make_images(folder, count, size=(height, width), suffix) that writes random images."""

    def make(folder, count, size=(24, 24), suffix=".png"):
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = np.random.default_rng([index, count, *size]).integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:03d}{suffix}")

    return make


@pytest.fixture
def photos(tmp_path, make_images):
    """Folder with nested images of two sizes, and files that are not images."""
    make_images(tmp_path / "photos", 3)
    make_images(tmp_path / "photos" / "deep" / "er", 2, suffix=".jpg")
    make_images(tmp_path / "photos" / "deep", 2, size=(20, 30), suffix=".bmp")
    Image.new("P", (5, 6)).save(tmp_path / "photos" / "old.GIF")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """Run directory of a finished run of the tiny preset on the demo images. Tests must not change it.

    The processes of pytest-xdist share one run; the first process that needs it trains it.
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
