import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import run_train
from PIL import Image

from cyclegan_tf import checkpoints, trainer
from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.summaries import read_records


def newest(workdir):
    return checkpoints.read(checkpoints.found(str(workdir / "checkpoints"))[0][1])


def test_a_run_leaves_everything_it_promises(tiny_run):
    assert Config.load(str(tiny_run)) == Config.preset("tiny")
    assert [path.name for path in sorted((tiny_run / "samples").iterdir())] == [
        "step-000000.png", "step-000002.png", "step-000004.png",
    ]
    assert [step for step, _ in checkpoints.found(str(tiny_run / "checkpoints"))] == [4, 2]
    assert (tiny_run / "export" / "a2b" / "saved_model.pb").exists()
    assert (tiny_run / "export" / "b2a" / "saved_model.pb").exists()
    assert "held-out images: psnr_ab" in (tiny_run / "log.txt").read_text()
    # 2 rows; A and B, each real, translated, cycled and the truth: 8 columns of 32 px shown four times as large.
    assert Image.open(tiny_run / "samples" / "step-000004.png").size == (8 * 132, 22 + 2 * 132)


def test_metrics_hold_every_loss_of_every_step_and_the_held_out_measures(tiny_run):
    *steps, last = read_records(tiny_run / "metrics.jsonl")
    assert [(record["step"], record["kind"]) for record in steps] == [(step, "train") for step in (1, 2, 3, 4)]
    losses = {"gen_ab", "gen_ba", "cycle_a", "cycle_b", "identity_a", "identity_b", "generators", "disc_a", "disc_b"}
    assert {name.removeprefix("loss/") for name in steps[0] if name.startswith("loss/")} == losses
    assert {"grad_norm/gen_ab", "score/real_a", "learning_rate"} <= steps[0].keys()
    # max_steps=4 in the default proportion 100:100 is 2 steps at the full rate, then 1 - 1/3 and 1 - 2/3 of it.
    rates = [record["learning_rate"] for record in steps]
    np.testing.assert_allclose(rates, [2e-4, 2e-4, 2e-4 * 2 / 3, 2e-4 / 3])
    assert last["kind"] == "test"
    assert {"psnr_ab", "ssim_ab", "psnr_ba", "ssim_ba"} <= last.keys()


def test_epochs_are_summarized_and_set_the_learning_rate(tmp_path, make_images):
    make_images(tmp_path / "set" / "trainA", 2, size=(32, 32))
    make_images(tmp_path / "set" / "trainB", 3, size=(32, 32))
    config = Config.preset("tiny", dataset=str(tmp_path / "set"), max_steps=0, n_epochs=1, n_epochs_decay=2)
    measures = trainer.train(config, str(tmp_path / "run"))
    assert set(measures) == {"cycle_a", "cycle_b"}
    records = read_records(tmp_path / "run" / "metrics.jsonl")
    steps = [record for record in records if record["kind"] == "train"]
    # An epoch is the larger domain: 3 steps. Factors 1, 1 - 1/3, 1 - 2/3 by hand.
    np.testing.assert_allclose([r["learning_rate"] / 2e-4 for r in steps], [1] * 3 + [2 / 3] * 3 + [1 / 3] * 3)
    epochs = [record for record in records if record["kind"] == "epoch"]
    assert [(record["step"], record["epoch"]) for record in epochs] == [(3, 1), (6, 2), (9, 3)]
    for epoch, record in enumerate(epochs):
        of_epoch = steps[3 * epoch : 3 * epoch + 3]
        np.testing.assert_allclose(record["grad_norm/disc_b"], np.mean([r["grad_norm/disc_b"] for r in of_epoch]))


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(tmp_path):
    options = ["--preset=tiny", "--max_steps=24", "--checkpoint_every=5", "--ema_decay=0.9", "--sample_every=0"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_train(*options, f"--workdir={whole}").returncode == 0
    child = subprocess.Popen(
        [sys.executable, "-m", "cyclegan_tf.train", *options, f"--workdir={killed}"], stderr=subprocess.PIPE, text=True
    )
    for line in child.stderr:
        if line.startswith("step 13/"):
            child.send_signal(signal.SIGKILL)
            break
    child.wait()
    child.stderr.close()
    assert newest(killed)["step"] < 24
    rerun = run_train(*options, f"--workdir={killed}")
    assert rerun.returncode == 0, rerun.stderr
    assert "going on from" in rerun.stderr
    one, other = newest(whole), newest(killed)
    assert one.keys() == other.keys()
    for name in one:
        assert np.array_equal(one[name], other[name]), name
    assert (whole / "metrics.jsonl").read_text() == (killed / "metrics.jsonl").read_text()


def test_sigterm_saves_and_ends_with_its_status(tmp_path):
    arguments = ["--preset=tiny", "--max_steps=100000", "--checkpoint_every=0", f"--workdir={tmp_path}"]
    child = subprocess.Popen(
        [sys.executable, "-m", "cyclegan_tf.train", *arguments], stderr=subprocess.PIPE, text=True
    )
    for line in child.stderr:
        if line.startswith("step 3/"):
            child.send_signal(signal.SIGTERM)
            break
    rest = child.stderr.read()
    child.stderr.close()
    assert child.wait() == 143
    step = int(newest(tmp_path)["step"])
    assert f"stopped by SIGTERM after step {step}; start again to go on" in rest
    assert read_records(tmp_path / "metrics.jsonl")[-1]["step"] == step


def test_other_options_in_a_used_run_directory_are_an_error(tiny_run):
    before = (tiny_run / "config.json").read_text()
    with pytest.raises(UserError, match=r"run with other options \(ngf: 4 -> 5\)"):
        trainer.train(Config.preset("tiny", ngf=5), str(tiny_run))
    assert (tiny_run / "config.json").read_text() == before


def test_a_run_directory_in_use_is_refused(tmp_path):
    with trainer._locked(str(tmp_path)), pytest.raises(UserError, match="another process trains in"):
        trainer.train(Config.preset("tiny"), str(tmp_path))


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_batch(tmp_path):
    config = Config.preset("tiny", learning_rate=1e30, max_steps=50, checkpoint_every=1)
    with pytest.raises(UserError, match=r"step \d+: .*loss/generators.* not finite; the batch is in") as caught:
        trainer.train(config, str(tmp_path))
    step = int(str(caught.value).split(":")[0].removeprefix("step "))
    batch = np.load(tmp_path / f"not-finite-step-{step:06d}.npz")
    assert batch["a"].shape == batch["b"].shape == (1, 32, 32, 3)
    assert newest(tmp_path)["step"] == step - 1


def test_records_after_the_checkpoint_and_half_lines_are_dropped(tmp_path):
    from cyclegan_tf.summaries import Reporter

    lines = [json.dumps({"step": step, "kind": "train"}) for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 4, "ki']))
    Reporter(str(tmp_path), Config(), step=2).close()
    assert [record["step"] for record in read_records(tmp_path / "metrics.jsonl")] == [1, 2]
