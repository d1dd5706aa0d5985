"""experiments/compare.py: its rows, its tables from results written by hand, and the weights of the PyTorch twin."""

import argparse
import json
import math
import sys

import pytest
from conftest import ROOT, run_python

ARGUMENTS = {
    "dataset": "demo", "sides": {"paper": [], "twin": [], "best": ["--flagfile=best.flags"]}, "steps": 100,
    "minutes": 10.0, "size": 128, "blocks": 6, "filters": 32, "seeds": [0, 1],
}


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import compare

    yield compare
    del sys.modules["compare"]


@pytest.fixture
def comparison(compare, tmp_path, monkeypatch):
    """A comparison whose sides train 1, 2 and 4 seconds a step; `trained` lists (options, folder) of each training."""
    comparison = compare.Comparison(argparse.Namespace(**ARGUMENTS, workdir=str(tmp_path)))
    comparison.trained = []

    def train(options, folder, seconds_per_step):
        comparison.trained.append((options, folder))
        (tmp_path / folder).mkdir(parents=True)
        steps = next(int(option.split("=")[1]) for option in options if option.startswith("--max_steps"))
        return steps * seconds_per_step, 100.0

    monkeypatch.setattr(
        compare, "train", lambda options, run: train(options, run, 1 if "--ngf=32" in options else 4)
    )
    monkeypatch.setattr(compare, "train_twin", lambda options, folder, run: train(options, run, 2))
    monkeypatch.setattr(comparison, "_measure", lambda run, row: {"measures": {}, "baselines": {}})
    return comparison


def test_equal_time_follows_from_the_time_of_equal_steps(compare, comparison):
    results = {row: comparison.run_row(row) for row in comparison.rows}
    steps = {(row.side, row.budget): result["steps"] for row, result in results.items()}
    assert steps == {
        ("paper", "steps"): 100, ("twin", "steps"): 100, ("best", "steps"): 100,
        ("paper", "time"): 600, ("twin", "time"): 300, ("best", "time"): 150,
    }
    assert len(comparison.trained) == len(results) == 12
    paper, twin, *_ = (options for options, folder in comparison.trained if "steps-0" in folder)
    assert paper == twin
    assert "--load_size=143" in paper
    assert next(options for options, folder in comparison.trained if "best-time-1" in folder)[:4] == [
        "--flagfile=best.flags", "--dataset=demo", "--seed=1", "--max_steps=150"
    ]


def test_finished_rows_are_kept_and_interrupted_rows_start_over(compare, comparison, tmp_path):
    row = compare.Row("paper", "steps", 0)
    (tmp_path / row.name / "run").mkdir(parents=True)
    (tmp_path / row.name / "run" / "config.json").write_text("{}")
    first = comparison.run_row(row)
    assert not (tmp_path / row.name / "run" / "config.json").exists()
    assert comparison.run_row(row) == first == json.loads((tmp_path / row.name / "result.json").read_text())
    assert len(comparison.trained) == 1
    comparison._args.steps = 200
    with pytest.raises(SystemExit, match="paper-steps-0 has a result of other options"):
        comparison.run_row(row)


def test_without_minutes_there_are_rows_at_equal_steps_only(compare):
    assert compare.list_rows(["paper", "cut"], [3], 0) == [("paper", "steps", 3), ("cut", "steps", 3)]


def test_sides_are_paper_twin_flagfiles_or_options(compare):
    texts = "paper", "twin", "cut=a b/c.flags", "no_pool=--preset=demo --pool_size=0"
    assert [compare.parse_side(text) for text in texts] == [
        ("paper", []), ("twin", []), ("cut", ["--flagfile=a b/c.flags"]),
        ("no_pool", ["--preset=demo", "--pool_size=0"]),
    ]
    for text in ("cut", "paper=a.flags", "a/b=c.flags", "cut="):
        with pytest.raises(ValueError, match=f"^{text}: expected paper, twin, NAME=FLAGFILE or NAME=OPTIONS"):
            compare.parse_side(text)


def test_memory_and_output_of_a_child_are_measured(compare):
    output, mebibytes = compare.run_child("-c", "print(len(b'x' * (300 << 20)))")
    assert output == "314572800\n"
    assert mebibytes > 300
    with pytest.raises(SystemExit, match="failed"):
        compare.run_child("-c", "raise SystemExit(3)")


def test_table_has_the_spread_over_seeds_below_trivial_translations(compare):
    def result(seconds, steps, kid, baselines):
        measures = {"a2b": {"kid": kid, "l1": 1.0}}
        return {"steps": steps, "seconds": seconds, "mebibytes": 10.0 * steps, "measures": measures,
                "baselines": baselines}

    results = [
        (compare.Row("paper", "steps", 0), result(60, 5, 0.1, {"input": {"a2b": {"kid": 0.5, "l1": 3.0}}})),
        (compare.Row("paper", "steps", 1), result(120, 5, 0.3, {})),
        (compare.Row("twin", "time", 0), result(90, 7, 0.25, {})),
        (compare.Row("twin", "time", 1), result(90, 9, 0.25, {})),
    ]
    assert list(compare.format_table(results, "a2b")) == [
        "| A to B | seeds | steps | minutes | s/step | MiB | kid |", "|---|---|---|---|---|---|---|",
        "| the input itself | | | | | | 0.500 |",
        "| this package, the paper's settings, equal steps | 2 | 5 | 1.5 | 18.000 | 50 | 0.200 ± 0.141 |",
        "| PyTorch, the paper's settings, equal time | 2 | 7 to 9 | 1.5 | 11.429 | 90 | 0.250 ± 0.000 |",
    ]


@pytest.mark.parametrize(("values", "text"), [
    ([], "-"), ([0.25], "0.250"), ([18.0, 19.0, 20.0], "19.00 ± 1.00"), ([0.4, 0.5, 0.6], "0.500 ± 0.100"),
])
def test_values_are_a_mean_and_a_sample_deviation(compare, values, text):
    assert compare.format_spread(values) == text


def test_records_of_evaluate_are_sorted_by_direction(compare):
    found = compare.collect_measures([
        {"metric": "kid", "direction": "a2b", "value": 0.25, "baselines": {"input": 0.5}},
        {"metric": "cycle", "direction": "b2a", "value": 0.125},
        {"metric": "psnr", "direction": "b2a", "value": "Infinity", "baselines": {"input": "Infinity"}},
    ])
    assert found == {
        "measures": {"a2b": {"kid": 0.25}, "b2a": {"cycle": 0.125, "psnr": math.inf}},
        "baselines": {"input": {"a2b": {"kid": 0.5}, "b2a": {"psnr": math.inf}}},
    }


def test_the_time_of_the_steps_is_read_from_the_log(compare):
    log = [
        "2026-11-26 10:00:00,500 INFO something", "2026-11-26 10:00:01,500 INFO training steps 1 to 50, 300 images",
        "2026-11-26 10:00:09,000 INFO step 25/50: gen_ab 1", "2026-11-26 10:01:02,250 INFO step 50/50: gen_ab 1",
    ]
    assert compare.read_seconds(log) == 60.75
    with pytest.raises(SystemExit, match="tells 1 times"):
        compare.read_seconds(log[:-1])


TWIN = """
import sys
sys.path.append("experiments/benchmarks")
import train_twin, torch_twin, torch
import numpy as np
import cyclegan_tf
from cyclegan_tf.config import Config
config = Config(dataset="demo_pairs", load_size=36, crop_size=32, ngf=2, ndf=2, n_blocks=1, max_steps=2)
train_twin.require_supported(config)
for options in ({"generator": "unet"}, {"ndf": 32}, {"ema_decay": 0.9}):
    try:
        train_twin.require_supported(Config(**options))
    except SystemExit as error:
        assert str(error).startswith(("the PyTorch twin does not support --", "--ndf=32: ")), error
    else:
        raise AssertionError(options)
assert train_twin.train(config, sys.argv[1]) > 0
for name in ("G_A", "G_B"):
    weights = torch.load(f"{sys.argv[1]}/latest_net_{name}.pth")
    twin = torch_twin.generator(2, 1)
    twin.load_state_dict({key[6:].replace(".conv_block.", ".layers."): value for key, value in weights.items()})
    image = np.random.default_rng(0).uniform(-1, 1, (32, 32, 3)).astype(np.float32)
    ours = cyclegan_tf.load(f"{sys.argv[1]}/latest_net_{name}.pth").translate(image)
    theirs = twin(torch.from_numpy(image).permute(2, 0, 1)[None]).detach()[0].permute(1, 2, 0).numpy()
    assert theirs.std() > 1e-3
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
"""


def test_the_twin_trains_and_its_networks_translate_alike_in_this_package(tmp_path):
    pytest.importorskip("torch")
    # In a child process, because PyTorch must be imported before TensorFlow.
    child = run_python("-c", TWIN, tmp_path, cwd=ROOT, OMP_NUM_THREADS="1")
    assert child.returncode == 0, child.stderr
