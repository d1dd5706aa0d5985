"""A run that is killed at the worst moments (experiments/chaos.py), and the comparison of its results."""

import json
import shutil

import numpy as np
import pytest
from conftest import ROOT, run_python

from cyclegan_tf.runs import checkpoints

SCRIPT = ROOT / "experiments" / "chaos.py"


@pytest.fixture
def chaos(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import chaos

    return chaos


@pytest.mark.timeout(700)
def test_a_run_killed_at_the_worst_moments_ends_with_the_same_bits():
    # Two threads per operation, because other tests of resumed runs use one.
    child = run_python(SCRIPT, "--tour", timeout=600, PYTHONPATH=str(ROOT), TF_NUM_INTRAOP_THREADS="2")
    assert child.returncode == 0, child.stdout + child.stderr
    assert "7 kills so far, all bits equal" in child.stdout


def test_equal_runs_have_no_differences(chaos, tiny_run):
    assert chaos.find_differences(tiny_run, tiny_run) == []


def test_differences_are_named(chaos, tiny_run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_run, other)
    step, path = checkpoints.list_files(str(other / "checkpoints"))[0]
    arrays = checkpoints.read(path)
    name = "pool/fake_a/random"
    arrays[name] = np.roll(arrays[name], 1)
    checkpoints.write(str(other / "checkpoints"), arrays, keep=3)
    lines = (other / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert json.loads(lines[1])["step"] == 2
    (other / "metrics.jsonl").write_text("".join([*lines[:2], lines[1], *lines[2:]]))
    (other / "samples" / "step-000002.png").unlink()
    *first, last = chaos.find_differences(tiny_run, other)
    assert first == [f"{name} in checkpoint {step}", "metrics.jsonl"]
    assert last.startswith("sample grids")
