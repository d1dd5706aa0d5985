"""What several test modules share: child processes, image sets made on the spot, and one tiny trained run."""

import os

# Before any test imports TensorFlow: the tests read errors, not notes on the machine.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

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
    """Run directory of the tiny preset on the demo images, trained to its end in this process."""
    from cyclegan_tf import trainer
    from cyclegan_tf.config import Config

    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    trainer.train(Config.preset("tiny"), str(workdir))
    return workdir
