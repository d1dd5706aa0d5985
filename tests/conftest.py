"""What several test modules share: child processes, image sets made on the spot, and one tiny trained run."""

import os

# Before any test imports TensorFlow: the tests read errors, not notes on the machine.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import fcntl
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    from cyclegan_tf import trainer
    from cyclegan_tf.config import Config

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
