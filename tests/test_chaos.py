"""A run killed in the middle of everything: a short tour of experiments/chaos.py, and that it sees differences."""

import json
import runpy
import shutil

import numpy as np
import pytest
from conftest import ROOT, run_python

from cyclegan_tf.runs import checkpoints

SCRIPT = ROOT / "experiments" / "chaos.py"


@pytest.mark.timeout(700)
def test_a_run_killed_in_the_middle_of_everything_ends_with_the_same_bits():
    # With more than two cores operations have several threads; other tests of resumed runs give them one.
    child = run_python(SCRIPT, "--tour", timeout=600, PYTHONPATH=str(ROOT), TF_NUM_INTRAOP_THREADS="2")
    assert child.returncode == 0, child.stdout + child.stderr
    assert "6 kills in all, all bits equal" in child.stdout


def test_differences_are_seen(tiny_run, tmp_path):
    differences = runpy.run_path(str(SCRIPT))["differences"]
    other = tmp_path / "other"
    shutil.copytree(tiny_run, other)
    assert differences(tiny_run, other) == []
    step, path = checkpoints.list_files(str(other / "checkpoints"))[0]
    arrays = checkpoints.read(path)
    name = "pool/fake_a/random"
    arrays[name] = np.roll(arrays[name], 1)
    checkpoints.write(str(other / "checkpoints"), arrays, keep=3)
    lines = (other / "metrics.jsonl").read_text().splitlines(keepends=True)
    (other / "metrics.jsonl").write_text("".join([*lines[:2], lines[1], *lines[2:]]))
    (other / "samples" / "step-000002.png").unlink()
    found = differences(tiny_run, other)
    assert found[:2] == [f"{name} in checkpoint {step}", "metrics.jsonl"]
    assert found[2].startswith("sample grids")
    assert json.loads(lines[1])["step"] == 2
