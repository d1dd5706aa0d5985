"""The table at the start of a run, and --dry_run."""

import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.data import sources
from cyclegan_tf.images import headers
from cyclegan_tf.models.registry import build_model
from cyclegan_tf.ops import hardware
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.training import overview, trainer
from cyclegan_tf.training.run import Run


def make_run(config, workdir="run", n_replicas=1):
    replicas = SimpleNamespace(count=n_replicas)
    return Run(config, workdir, sources.open_dataset(config), replicas, build_model(config))


def describe(config, workdir="run", step=0, n_replicas=1):
    """The table as one text, in which each row is a line."""
    lines = overview.describe_run(make_run(config, workdir, n_replicas), step)
    assert max(map(len, lines)) <= 100
    return "\n".join(lines).replace("\n" + " " * 10, " ")


def test_table_of_a_run(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "describe_gpus", lambda: "")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    text = describe(Config.preset("tiny"), str(tmp_path / "new" / "run"), step=2)
    *rows, disk = text.splitlines()
    assert rows == [
        "data      A (satellite image): 186 images, 128 x 128 px; B (map): 208 images, 128 x 128 px",
        "held out  A: 51; B: 51; 51 of each are pairs",
        "inputs    resize, crop; load size 40 px; random crops of 32 px; half of them mirrored",
        # 592 + 296 + 1168 + 2 x 2320 + 1160 + 292 + 591 and 196 + 520 + 2064 + 257.
        "networks  gen_ab, gen_ba (resnet): 8,739 parameters each; disc_a, disc_b (patch): 3,037 parameters each",
        "device    CPU with 2 cores",
        "length    4 steps of 1 image of each domain, 0.019 epochs; 2 are done",
        # The steps 3 and 4 of the linear decay have the factors 2/3 and 1/3.
        "rate      0.0002 in the first step, 6.67e-05 in the last (--lr_policy=linear)",
    ]
    assert re.fullmatch(rf"disk      3 checkpoints of 0\.4 MB in {tmp_path}/new/run; [\d,.]+ GB are free", disk)


def test_table_of_replicas_in_half_precision(monkeypatch):
    monkeypatch.setattr(hardware, "describe_gpus", lambda: "training on two GPUs")
    config = Config.preset(
        "tiny", model="pix2pix", dataset="demo_pairs", batch_size=3, max_steps=1000, mixed_precision="bfloat16",
        max_dataset_size=30, flip=False, preprocess="crop", name_a="photo", eval_every=500, eval_metrics="l1",
        keep_best="l1_ab",
    )
    text = describe(config, "gs://bucket/run", n_replicas=2)
    assert text.splitlines() == [
        "data      A (photo): 30 images, 128 x 128 px; B (map): 30 images, 128 x 128 px; trains on pairs",
        "held out  A: 11; B: 11; 11 of each are pairs",
        "left out  all but the first 30 images of each part",
        "inputs    crop; random crops of 32 px",
        # The discriminator sees 6 channels: 388 instead of 196 in its first layer.
        "networks  gen_ab (resnet): 8,739 parameters; disc_b (patch): 3,229 parameters",
        "device    training on two GPUs; bfloat16 inside the networks; 2 replicas",
        "length    1,000 steps of 6 images of each domain, 200 epochs",
        "rate      0.0002 in the first step, 3.99e-07 in the last (--lr_policy=linear)",  # 2e-4 / 501
        "disk      4 checkpoints of 0.1 MB",  # One is best.npz.
    ]


def test_a_limit_above_the_number_of_images_leaves_out_none():
    assert "left out" not in describe(Config.preset("tiny", dataset="demo_pairs", max_dataset_size=41))


def test_sizes_are_of_upright_images_and_bad_ones_are_left_out(tmp_path, make_images):
    for domain in "AB":
        make_images(tmp_path / f"train{domain}", 3, size=(24, 30))
    rotated = Image.Exif()
    rotated[0x0112] = 6
    Image.new("RGB", (50, 40)).save(tmp_path / "trainA" / "000.png", exif=rotated)
    (tmp_path / "trainA" / "001.png").write_bytes(b"no image")
    config = Config.preset("tiny", dataset=str(tmp_path))
    data, held_out, *_ = describe(config).splitlines()
    # 000.png is 50 pixels high after the rotation.
    assert data == "data      A: 3 images, such as 30 x 24 and 40 x 50 px; B: 3 images, 30 x 24 px"
    assert held_out == "held out  A: 0; B: 0; no pairs"


def test_three_sizes_are_listed(tmp_path, make_images):
    for domain in "AB":
        make_images(tmp_path / f"train{domain}", 3, size=(24, 30))
    for number, size in ((0, (60, 50)), (2, (20, 10))):
        Image.new("RGB", size).save(tmp_path / "trainA" / f"00{number}.png")
    data, *_ = describe(Config.preset("tiny", dataset=str(tmp_path))).splitlines()
    assert data == "data      A: 3 images, such as 20 x 10, 30 x 24 and 60 x 50 px; B: 3 images, 30 x 24 px"


def test_ranges_and_sizes_of_slices(tmp_path):
    for domain, shape, kind in (("A", (3, 40, 50), np.int16), ("B", (2, 44, 48), np.uint8)):
        (tmp_path / f"train{domain}").mkdir()
        tifffile.imwrite(tmp_path / f"train{domain}" / "s.tif", np.zeros(shape, kind), photometric="minisblack")
    options = {"dataset": str(tmp_path), "input_channels": 1, "output_channels": 1, "range_a": "-1024,3071"}
    data, _, _, ranges, *_ = describe(Config.preset("tiny", **options, window="40,400")).splitlines()
    assert data == "data      A: 3 images, 50 x 40 px; B: 2 images, 48 x 44 px"
    assert ranges == "ranges    A: -1024,3071, pictures show -160,240; B: given by the type of its files"
    measured = Config.preset("tiny", **options, range_b="percentile:1,99=3,7.5")
    assert describe(measured).splitlines()[3] == "ranges    A: -1024,3071; B: 3,7.5 (percentile:1,99)"


def test_size_of_a_bad_image_is_an_error():
    with pytest.raises(ValueError, match="cannot identify image file"):
        headers.read_size(b"no image")


def test_size_of_a_checkpoint_is_exact_but_for_the_small_parts(tiny_run):
    _, arrays = checkpoints.read_newest(str(tiny_run / "checkpoints"))
    kinds = ("network/", "average/", "optimizer/", "scaling/")
    expected = sum(
        array.nbytes for path, array in arrays.items() if path.startswith(kinds) or path.endswith("/images")
    )
    config = Config.preset("tiny")  # After 4 steps, its pools of 4 images are full.
    assert overview._estimate_checkpoint(make_run(config)) == expected
    per_replica = sum(array.nbytes for path, array in arrays.items() if path.endswith("/images"))
    assert overview._estimate_checkpoint(make_run(config, n_replicas=3)) == expected + 2 * per_replica


@pytest.mark.parametrize(("count", "text"), [
    (40_000, "0.0 MB"), (330_000, "0.3 MB"), (12_400_000, "12 MB"), (999_000_000, "999 MB"), (3_440_000_000, "3.4 GB"),
])
def test_format_bytes(count, text):
    assert overview.format_bytes(count) == text


def test_dry_run_measures_a_step_and_writes_nothing(run_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_command("cyclegan_tf.train", "--preset=tiny", "--dry_run")
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert re.fullmatch(r"one step: \d+\.\d\d s, [\d.]+ [MG]B of (GPU )?memory", lines[-2])
    assert re.fullmatch(r"the remaining 4 steps take about \d+ (seconds?|minutes)", lines[-1])
    assert any(line.startswith("networks  gen_ab, gen_ba") for line in lines)
    assert any("are taken as pairs" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("preprocess", "durations", "shown"), [
    ("resize_and_crop", [9, 4], "one step: 4.00 s"), ("none", [9, 8, 5, 6], "one step: 5.00 s"),
])
def test_dry_run_shows_the_time_of_a_step_that_is_not_traced(
    make_images, tmp_path, monkeypatch, caplog, preprocess, durations, shown
):
    for folder in ("trainA", "trainB"):
        make_images(tmp_path / folder, 2)
    times = [time for duration in durations for time in (0, duration)]
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: times.pop(0)))
    config = Config.preset("tiny", dataset=str(tmp_path), preprocess=preprocess, pool_size=0)
    with caplog.at_level("INFO", "cyclegan_tf"):
        trainer.rehearse(config, str(tmp_path / "run"))
    assert caplog.messages[-2].startswith(shown)
    assert times == []


def test_dry_run_of_an_old_run(run_command, tiny_run):
    before = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")}
    result = run_command("cyclegan_tf.train", "--preset=tiny", "--max_steps=9", "--dry_run", f"--workdir={tiny_run}")
    assert "length    9 steps of 1 image of each domain, 0.043 epochs; 4 are done" in result.stderr
    assert "the remaining 5 steps take about" in result.stderr
    other = run_command("cyclegan_tf.train", "--preset=tiny", "--ngf=5", "--dry_run", f"--workdir={tiny_run}")
    assert other.returncode == 2
    assert f"{tiny_run} holds a run with other options (ngf: 4 -> 5)" in other.stderr
    assert {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")} == before


def test_dry_run_of_a_run_that_is_out_of_patience(tiny_run, tmp_path, caplog):
    _, arrays = checkpoints.read_newest(str(tiny_run / "checkpoints"))
    (tmp_path / "checkpoints").mkdir()
    checkpoints.write(str(tmp_path / "checkpoints"), {**arrays, "best": np.array(9.0), "stale": np.array(2)}, 1)
    config = Config.preset("tiny", max_steps=9, eval_every=1, keep_best="psnr_ab", patience=2)
    with caplog.at_level("INFO", "cyclegan_tf"):
        trainer.rehearse(config, str(tmp_path))
    assert "the remaining 0 steps take about 0 seconds" in caplog.messages


def test_dry_run_names_weights_that_do_not_fit(run_command, tiny_run, tmp_path):
    options = "--preset=tiny", "--dry_run", f"--workdir={tmp_path}/new"
    empty = run_command("cyclegan_tf.train", *options, f"--init_from={tmp_path}")
    assert empty.returncode == 2
    assert f"--init_from={tmp_path} holds no networks" in empty.stderr
    other = run_command("cyclegan_tf.train", *options, "--ngf=5", f"--init_from={tiny_run}")
    assert other.returncode == 2
    assert f"give the options that {tiny_run} was trained with: --ngf=4" in other.stderr
    assert list(tmp_path.iterdir()) == []


def test_peak_memory_is_that_of_the_kernel():
    kind, peak = hardware.measure_peak_memory()
    if kind == "memory":
        kilobytes, = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        # The kernel updates its counters in batches.
        assert peak == pytest.approx(int(kilobytes) * 1024, rel=0.02)
