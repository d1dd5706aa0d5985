"""Reports of a run: resumed records, and the Null classes of workers that write no files."""

import contextlib
import json
import math

import numpy as np
import pytest

from cyclegan_tf.config import Config
from cyclegan_tf.images import grid
from cyclegan_tf.runs import checkpoints, model_state, reporter, sample_files


@pytest.mark.parametrize(
    ("null", "real"),
    [(reporter.NullReporter, reporter.Reporter), (checkpoints.NullWriter, checkpoints.Writer)],
    ids=["reporter", "checkpoint writer"],
)
def test_null_object_has_every_public_method(null, real):
    public = {name for name in vars(real) if not name.startswith("_")}
    assert public == {name for name in vars(null) if not name.startswith("_")}
    with pytest.raises(AttributeError):
        null().misspelled()


def test_null_objects_do_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report, writer = reporter.NullReporter(), checkpoints.NullWriter()
    report.record(1, "train", {"loss": 1.0})
    report.rewind(0)
    report.sync()
    report.close()
    writer.save(None, model_state.Progress(1), checkpoints.BEST, [])
    writer.check()
    writer.wait()
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_final_measures_are_removed_when_a_run_resumes(tmp_path):
    kinds = (
        "counts", "eval", "eval_training_images", "final_counts", "baselines", "test", "final_training_images",
    )
    lines = [json.dumps({"step": 2, "kind": kind}) for kind in kinds]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, ""]))
    reporter.Reporter(str(tmp_path), Config(), step=2).close()
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == lines[:3]


def test_records_after_the_checkpoint_and_unfinished_lines_are_removed(tmp_path):
    lines = [json.dumps({"step": step, "kind": "train"}) for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 4, "ki']))
    reporter.Reporter(str(tmp_path), Config(), step=2).close()
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == lines[:2]


def test_sample_grids_of_discarded_steps_are_removed(tmp_path):
    for step in (0, 1, 2, 999, 1_000_000):
        sample_files.write(str(tmp_path), step, grid.Picture(np.zeros((4, 4, 3), np.uint8), [], []))
    with contextlib.closing(reporter.Reporter(str(tmp_path), Config(), step=999)) as report:
        assert [sample.step for sample in sample_files.list_samples(str(tmp_path))] == [0, 1, 2, 999]
        report.rewind(1)
    assert [sample.step for sample in sample_files.list_samples(str(tmp_path))] == [0, 1]


def test_infinite_measure_is_strict_json(tmp_path):
    report = reporter.Reporter(str(tmp_path), Config(), step=0)
    report.record(1, "test", {"psnr_ab": math.inf})
    report.close()
    record = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert record == {"step": 1, "kind": "test", "psnr_ab": "Infinity"}


@pytest.mark.parametrize(("kind", "name", "tag"), [
    ("train", "loss/gen_ab", "loss/gen_ab"), ("train", "learning_rate", "training/learning_rate"),
    ("epoch", "loss/gen_ab", "per_epoch/loss/gen_ab"), ("epoch", "epoch", ""), ("eval", "psnr_ab", "measures/psnr_ab"),
    ("counts", "psnr_ab", ""), ("final_counts", "psnr_ab", ""), ("test", "psnr_ab", "measures_final/psnr_ab"),
])
def test_tags_in_tensorboard(kind, name, tag):
    assert reporter.make_tag(kind, name) == tag
