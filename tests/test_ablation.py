"""experiments/ablation.py: its table of hand-written measures, and which runs it trains."""

import json

import pytest
from conftest import ROOT


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import ablation

    return ablation


def write_records(run, *records):
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def runs(tmp_path):
    """Run directories of three seeds, with PSNR 18, 19 and 20 dB at step 9."""
    for seed, psnr in enumerate((18.0, 19.0, 20.0)):
        write_records(
            tmp_path / f"base-{seed}", {"step": 5, "kind": "train", "loss/gen_ab": 9.0},
            {"step": 5, "kind": "eval", "psnr_ab": 1.0}, {"step": 9, "kind": "test", "psnr_ab": psnr, "ssim_ab": 0.5},
        )
    return tmp_path


def test_table_has_mean_and_sample_deviation_over_seeds(ablation, runs):
    assert list(ablation.format_table(["x/base.flags"], (0, 1, 2), runs, 0)) == [
        "| | steps | psnr_ab | ssim_ab |", "|---|---|---|---|", "| `base` | 9 | 19.00 ± 1.00 | 0.500 ± 0.000 |",
    ]


def test_table_at_a_step(ablation, runs):
    assert list(ablation.format_table(["x/base.flags"], (0,), runs, 5))[-1] == "| `base` | 5 | 1.000 |"


def test_a_step_without_measures_is_an_error(ablation, runs):
    with pytest.raises(SystemExit, match=r"base-0 has no measures after 6 steps, only after \[5, 9\]"):
        list(ablation.format_table(["x/base.flags"], (0,), runs, 6))


def test_a_finished_run_is_not_trained_again(ablation, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(ablation.subprocess, "run", lambda command, check: commands.append(command[2:]))
    write_records(tmp_path / "finished", {"step": 9, "kind": "test"})
    write_records(tmp_path / "interrupted", {"step": 5, "kind": "eval"})
    for name in ("finished", "interrupted", "new"):
        ablation.train("x/base.flags", 3, str(tmp_path / name))
    expected = ["cyclegan_tf.train", "--flagfile=x/base.flags", "--seed=3"]
    assert commands == [[*expected, f"--workdir={tmp_path / name}"] for name in ("interrupted", "new")]
