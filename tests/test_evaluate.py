"""The evaluate command on the tiny run, and the measures of a run during its training."""

import errno
import json

import numpy as np
import pytest
from conftest import run_python
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.data import loaders, sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import saved_model
from cyclegan_tf.images import grid
from cyclegan_tf.inference import loading, measuring, translator
from cyclegan_tf.metrics import baselines, evaluation, report
from cyclegan_tf.metrics.setting import Protocol, Setting
from cyclegan_tf.runs import checkpoints, metrics_log, page_images
from cyclegan_tf.training import evaluator, samples, trainer


@pytest.fixture(scope="module")
def measured(tiny_run):
    """(records, skipped) of the tiny run from the measures that need no weights."""
    config = Config.load(str(tiny_run))
    models = loading.load_directions(str(tiny_run))
    translate = {direction: model.translate for direction, model in models.items()}
    nowhere = Protocol(weights_dir=str(tiny_run / "no weights"))
    return evaluation.measure(translate, Setting(sources.open_dataset(config), config, nowhere))


def test_command_and_training_measure_the_same_values(measured, tiny_run):
    records, skipped = measured
    by_name = report.index_values(records)
    test = metrics_log.read_records(tiny_run)[-1]
    for name in ("psnr_ab", "ssim_ab", "psnr_ba", "ssim_ba"):
        assert by_name[name] == pytest.approx(test[name], rel=1e-4)
    assert set(by_name) == {f"{name}_{way}" for name in ("psnr", "ssim", "l1") for way in ("ab", "ba")} | {
        "cycle_a", "cycle_b", "identity_a", "identity_b"
    }
    for record in records:
        assert (record["n"], record["split"], record["size"]) == (51, "test", "32x32")
    reasons = {(name, direction): reason for name, direction, reason in skipped}
    assert {name for name, _ in reasons} == {"ms_ssim", "lpips", "fid", "kid", "judge"}
    assert reasons["ms_ssim", "a2b"].startswith("needs images of at least 161 x 161 pixels")
    for name in ("lpips", "fid", "kid"):
        assert reasons[name, "b2a"].startswith("no weights of ")
    assert reasons["judge", "a2b"].startswith(
        "needs the numbers of the classes to recognize: --judge_classes_b for translations to B"
    )


def test_saved_model_is_measured_in_the_direction_of_its_name(tiny_run, run_command, tmp_path, measured):
    model = tiny_run / "export" / "b2a"
    child = run_command("cyclegan_tf.evaluate", f"--model={model}", "--dataset=demo_maps", "--metrics=l1", "--size=32")
    assert child.returncode == 0, child.stderr
    record = json.loads(child.stdout)
    assert (record["direction"], record["size"]) == ("b2a", "32x32")
    assert list(record["baselines"]) == list(baselines.NAMES)
    assert "color_map_unfair" in child.stderr
    (tmp_path / "model").symlink_to(model)
    child = run_command("cyclegan_tf.evaluate", f"--model={tmp_path}/model", "--dataset=demo_maps")
    assert "error: " in child.stderr
    assert "does not show its direction" in child.stderr


def test_a_folder_of_held_out_images_is_measured(tiny_run, run_command, tmp_path, make_images):
    for folder in ("testA", "testB"):
        make_images(tmp_path / folder, 2)
    child = run_command(
        "cyclegan_tf.evaluate", f"--model={tiny_run}/export/a2b", f"--dataset={tmp_path}", "--paired=no",
        f"--weights_dir={tmp_path}",
    )
    assert child.returncode == 0, child.stderr
    assert [json.loads(line)["metric"] for line in child.stdout.splitlines()] == ["identity"]
    (line,) = (line for line in child.stderr.splitlines() if "left out" in line)
    assert "psnr, ssim, ms_ssim, l1, lpips in direction a2b (needs pairs" in line


@pytest.mark.parametrize("choice", ["skip", "error"])
def test_evaluate_skips_bad_images_or_stops(tiny_run, run_command, tmp_path, make_images, choice):
    for folder in ("testA", "testB"):
        make_images(tmp_path / folder, 2)
    (tmp_path / "testB" / "000.png").write_bytes(b"")
    child = run_command("cyclegan_tf.evaluate", f"--model={tiny_run}/export/a2b", f"--dataset={tmp_path}",
                        "--metrics=identity", "--nobaselines", f"--on_bad_image={choice}")
    if choice == "error":
        assert child.returncode == 2
        assert "testB/000.png: cannot identify image file; repair or remove the file" in child.stderr
    else:
        assert json.loads(child.stdout)["n"] == 1


def test_infinite_psnr_is_strict_json(tiny_run, run_command, tmp_path, make_images):
    for folder in ("testA", "testB"):  # Equal images.
        make_images(tmp_path / folder, 1)
    child = run_command("cyclegan_tf.evaluate", f"--model={tiny_run}/export/a2b", f"--dataset={tmp_path}",
                        "--metrics=psnr")
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout, parse_constant=pytest.fail)["baselines"]["input"] == "Infinity"


@pytest.mark.parametrize("is_run", [False, True])
def test_images_of_native_size(tmp_path, tiny_run, is_run):
    pixels = np.random.default_rng(2).integers(0, 256, (37, 41, 3), np.uint8)
    for domain in "AB":
        (tmp_path / f"test{domain}").mkdir()
        Image.fromarray(pixels).save(tmp_path / f"test{domain}" / "0.png")
    if is_run:
        config = measuring.choose_data_config(str(tiny_run), dataset=str(tmp_path), size="native")
    else:
        config = measuring.choose_data_config("a2b.tflite", dataset=str(tmp_path))
    dataset = sources.open_dataset(config, needs_training=False)
    assert (loaders.load_test_image(dataset.test_a, config, 0) == pixels).all()
    resized = measuring.choose_data_config("a2b.tflite", dataset=str(tmp_path), size=16)
    assert loaders.load_test_image(dataset.test_a, resized, 0).shape == (16, 16, 3)


def test_the_command_measures_images_of_native_size(tiny_run, tmp_path, make_images, run_command):
    for folder in ("testA", "testB"):
        make_images(tmp_path / folder, 1, size=(20, 30))
    child = run_command("cyclegan_tf.evaluate", f"--model={tiny_run}", f"--dataset={tmp_path}", "--direction=a2b",
                        "--metrics=l1", "--nobaselines", "--size=native")
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout)["size"] == "30x20"


@pytest.mark.parametrize(("text", "size"), [("native", "native"), ("4", 4), ("65536", 65536)])
def test_size(text, size):
    assert measuring.parse_size(text) == size


@pytest.mark.parametrize("text", ["3", "65537", "-5", "256x256", "whole", "4.0"])
def test_invalid_size(text):
    with pytest.raises(UserError, match=f"--size={text}: expected native or a number of pixels, 4 to 65536"):
        measuring.parse_size(text)


def test_an_empty_data_set_is_none(tiny_run):
    assert measuring.choose_data_config(str(tiny_run), dataset="").dataset == Config.load(str(tiny_run)).dataset
    with pytest.raises(UserError, match="so its data set is unknown; give a run directory or --dataset"):
        measuring.choose_data_config(f"{tiny_run}/export/a2b", dataset="")


def test_command_writes_json_lines_and_a_table(tiny_run, tmp_path, run_command):
    child = run_command("cyclegan_tf.evaluate", f"--model={tiny_run}", "--direction=b2a", "--metrics=psnr,cycle")
    # "cycle" translates back with the other direction.
    assert child.returncode == 2
    assert "cycle needs both directions: give the run directory of a CycleGAN, without --direction" in child.stderr
    options = f"--model={tiny_run}", "--metrics=psnr,l1", "--nobaselines", f"--output={tmp_path}/x"
    child = run_python("-m", "cyclegan_tf.evaluate", *options)
    assert child.returncode == 0, child.stderr
    lines = [json.loads(line) for line in (tmp_path / "x").read_text().splitlines()]
    assert [(line["metric"], line["direction"]) for line in lines] == [
        ("psnr", "a2b"), ("l1", "a2b"), ("psnr", "b2a"), ("l1", "b2a")
    ]
    assert not any("baselines" in line for line in lines)
    assert "metric  direction  value" in child.stderr
    assert "color_map" not in child.stderr


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "--model is missing"),
    (["--model=RUN", "--size=3"], "--size=3: expected native or a number of pixels, 4 to 65536"),
    (["--model=/no/such"], "/no/such does not exist: expected a run directory, a checkpoint in one, a SavedModel"),
    (["--model=RUN/export/a2b"], "/export/a2b is not a run directory, so its data set is unknown; give a run"),
    (["--model=RUN", "--metrics=psnr,,fid"], "--metrics=psnr,,fid: a name is empty; remove the comma beside it"),
    (["--model=RUN", "--metrics=psnr,beauty"], "unknown beauty; expected any of psnr, ssim"),
    (["--model=RUN", "--output=RUN"], "is a folder; give the path of a file"),
    (["--model=/no/such", "--output=/proc/x"], "--output=/proc/x: cannot write into folder /proc ("),
    (["--model=RUN", "--judge_classes_a=-1"], "--judge_classes_a=-1: expected numbers of classes, as in 948,950"),
    (["--model=RUN", "--metrics=psnr", "--judge_classes_b=950"], "--judge_classes_b is for judge; leave"),
    (["--model=RUN", "--labels=a"], "--labels is for segmentation; leave --labels out, or add segmentation to --metri"),
    (["--fetch_weights", "--model=RUN"], "--model has no effect on --fetch_weights, which only downloads; leave"),
    (["--model=RUN", "--metrics=fid", "--weights_dir=/no/such"], "no weights of inception in /no/such: download"),
])
def test_user_error_is_one_line_and_status_2(tiny_run, run_command, arguments, message):
    child = run_command("cyclegan_tf.evaluate", *(text.replace("RUN", str(tiny_run)) for text in arguments))
    assert child.returncode == 2
    last = child.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert child.stdout == ""


def train(workdir, **options):
    small = {"discriminator": "pixel", "lambda_identity": 0.0}
    config = Config.preset("tiny", max_dataset_size=4, sample_every=0, **small, **options)
    trainer.train(config, str(workdir))
    return [record for record in metrics_log.read_records(workdir) if record["kind"] == "eval"]


@pytest.fixture
def no_results(monkeypatch):
    # Results take longer than the training.
    monkeypatch.setattr(saved_model, "export", lambda *arguments: [])
    monkeypatch.setattr(evaluator.Evaluator, "measure_baselines", lambda self: {})
    monkeypatch.setattr(page_images, "write", lambda *arguments: None)
    picture = grid.Picture(np.zeros((8, 8, 3), np.uint8), [], [])
    monkeypatch.setattr(samples, "draw_sample_grid", lambda *arguments: picture)


def test_interrupted_run_keeps_its_best_checkpoint_and_patience(tmp_path, monkeypatch, no_results, caplog):
    values = iter([5.0, 9.0, 8.0])
    monkeypatch.setattr(evaluator.Evaluator, "__call__", lambda self, translators: {"psnr_ab": next(values)})
    run, options = tmp_path / "run", {"eval_every": 1, "keep_best": "psnr_ab", "patience": 3}
    train(run, max_steps=3, **options)
    found = checkpoints.read_newest(str(run / "checkpoints"))[1]
    assert (found["best"], found["stale"]) == (9.0, 1)
    # A second 9 is not an improvement.
    values = iter([8.5, 9.0])
    assert [record["step"] for record in train(run, max_steps=9, **options)] == [1, 2, 3, 4, 5]
    assert metrics_log.read_records(run)[-1] == {"step": 5, "kind": "test", "psnr_ab": 9.0}
    assert checkpoints.read_newest(str(run / "checkpoints"))[1]["stale"] == 3
    best = str(run / "checkpoints" / "best.npz")
    assert checkpoints.read(best)["step"] == 2
    # Started once more, the run only measures. best.npz can be translated with.
    values = iter([9.0])
    ended = "the run ended after step 5, because psnr_ab did not improve in 3 evaluations"
    assert len(train(run, max_steps=5, **options)) == 5
    assert ended not in caplog.text  # The run has done all its steps.
    assert "the run has already reached step 5 of 5, so nothing is trained; raise --max_steps to con" in caplog.text
    values = iter([9.0])
    assert len(train(run, max_steps=2, **options)) == 5
    assert "the run has already reached step 5 of 2, so nothing is trained; raise --max_steps to con" in caplog.text
    assert caplog.text.count("already reached") == 2
    values = iter([9.0])
    assert len(train(run, max_steps=9, **options)) == 5
    assert ended in caplog.text
    assert translator.load_run(best).step == 2
    assert set(loading.load_directions(best)) == {"a2b", "b2a"}
    assert loading.load(best, "b2a").translate(np.zeros((8, 8, 3), np.uint8)).shape == (8, 8, 3)


def test_patience_begins_with_the_first_value(tmp_path, monkeypatch, no_results):
    values = iter([np.nan, np.nan, 5.0, 4.0])
    monkeypatch.setattr(evaluator.Evaluator, "__call__", lambda self, translators: {"psnr_ab": next(values)})
    records = train(tmp_path / "run", max_steps=9, eval_every=1, keep_best="psnr_ab", patience=1)
    assert [record["step"] for record in records] == [1, 2, 3, 4]


def test_training_evaluates_and_keeps_the_best_checkpoint(tmp_path, no_results):
    records = train(tmp_path / "run", eval_every=2, eval_metrics="l1", keep_best="l1_ab")
    assert [record["step"] for record in records] == [2, 4]
    names = {"psnr_ab", "ssim_ab", "psnr_ba", "ssim_ba", "l1_ab", "l1_ba"}
    assert set(records[0]) == names | {"step", "kind"}
    best = min(records, key=lambda record: record["l1_ab"])["step"]
    assert checkpoints.read(tmp_path / "run" / "checkpoints" / "best.npz")["step"] == best


@pytest.mark.parametrize(("options", "message"), [
    ({"keep_best": "psnr_ab"}, "--keep_best=psnr_ab needs --eval_every"),
    ({"patience": 2}, "--patience=2 needs --keep_best"),
    ({"eval_metrics": "beauty"}, "--eval_metrics=beauty: unknown beauty; expected any of ms_ssim"),
    ({"eval_every": 1, "keep_best": "kid_ab"}, "--keep_best=kid_ab: this run measures only psnr_ab, "),
    ({"eval_every": 1, "eval_metrics": "kid"}, "no weights of inception in "),
])
def test_impossible_options_are_an_error_before_anything_is_written(tmp_path, monkeypatch, options, message):
    monkeypatch.setenv("CYCLEGAN_TF_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(UserError, match=message):
        train(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_full_disk_does_not_cost_the_measures(monkeypatch, capsys):
    record = {"metric": "l1", "direction": "a2b", "value": 0.5, "n": 3}

    def fail(path):
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(report.atomic, "open_for_writing", fail)
    with pytest.raises(OSError, match="No space left"):
        report.write([record], "measures.jsonl")
    printed = capsys.readouterr()
    assert json.loads(printed.out) == record
    assert "l1" in printed.err
