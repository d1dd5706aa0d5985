"""The table of runs over seeds, of written numbers."""

import json

import pytest
from conftest import ROOT


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import ablation

    return ablation


def write(folder, *records):
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_mean_and_sample_deviation_over_seeds(ablation, tmp_path):
    for seed, psnr in enumerate((18.0, 19.0, 20.0)):
        write(tmp_path / f"base-{seed}", {"step": 5, "kind": "train", "loss/gen_ab": 9.0},
              {"step": 5, "kind": "eval", "psnr_ab": 1.0}, {"step": 9, "kind": "test", "psnr_ab": psnr, "ssim_ab": 0.5})
    rows = list(ablation.table(["x/base.flags"], (0, 1, 2), tmp_path, 0))
    assert rows == [
        "| | steps | psnr_ab | ssim_ab |", "|---|---|---|---|", "| `base` | 9 | 19.00 ± 1.00 | 0.500 ± 0.000 |",
    ]
    assert list(ablation.table(["x/base.flags"], (0,), tmp_path, 5))[-1] == "| `base` | 5 | 1.000 |"
    with pytest.raises(SystemExit, match=r"base-0 was not measured after 6 steps, but after \[5, 9\]"):
        list(ablation.table(["x/base.flags"], (0,), tmp_path, 6))


def test_a_run_that_has_ended_is_not_trained_again(ablation, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(ablation.subprocess, "run", lambda command, check: commands.append(command[2:]))
    write(tmp_path / "ended", {"step": 9, "kind": "test"})
    write(tmp_path / "interrupted", {"step": 5, "kind": "eval"})
    for name in ("ended", "interrupted", "new"):
        ablation.train("x/base.flags", 3, str(tmp_path / name))
    expected = ["cyclegan_tf.train", "--flagfile=x/base.flags", "--seed=3"]
    assert commands == [[*expected, f"--workdir={tmp_path / name}"] for name in ("interrupted", "new")]
