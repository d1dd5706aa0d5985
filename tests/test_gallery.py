"""The page of a run: its contents, and its behavior in headless Chromium when opened from the disk."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from browser import chromium, read_console, set_view, wait_for
from conftest import run_python
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cyclegan_tf import gallery
from cyclegan_tf.config import Config
from cyclegan_tf.config.domains import DomainNames
from cyclegan_tf.data.sources import DEMO_MAPS_DIR
from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics.measures import COMPARABLE
from cyclegan_tf.metrics.report import format_key
from cyclegan_tf.runs import metrics_log, page, page_measures, sample_files
from cyclegan_tf.runs.metrics_log import read_records


def read_data(workdir):
    """The data that the page's script reads."""
    text = (workdir / "index.html").read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of the tiny run that a test may change."""
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.fixture
def bare_run(tmp_path):
    """A run directory without samples, records and results."""
    Config.preset("tiny").save(str(tmp_path))
    (tmp_path / "gallery").mkdir()
    return tmp_path


def test_training_writes_a_page_with_samples_results_and_curves(tiny_run):
    assert "/tiny/index.html" in re.search(r"page: (.*)", (tiny_run / "log.txt").read_text())[1]
    data = read_data(tiny_run)
    assert [sample["step"] for sample in data["samples"]] == [0, 2, 4]
    assert data["results"]["step"] == 4
    rows = data["results"]["rows"]
    assert [row["direction"] for row in rows] == ["a2b"] * 8 + ["b2a"] * 8
    files = [sample["path"] for sample in data["samples"]]
    files += [row[kind] for row in rows for kind in ("before", "after", "truth")]
    assert all((tiny_run / path).is_file() for path in files)
    records = read_records(tiny_run)
    losses = data["charts"][0]
    assert [line["name"] for line in losses["lines"]] == [
        "generator: satellite image to map", "generator: map to satellite image", "discriminator: satellite image",
        "discriminator: map",
    ]
    assert losses["lines"][0]["points"] == [[step, records[step - 1]["loss/gen_ab"]] for step in (1, 2, 3, 4)]
    text = (tiny_run / "index.html").read_text()
    assert f"<td>{records[-1]['psnr_ab']:.4g}</td>" in text
    assert "<td>51</td></tr>" in text  # Each measure comes from 51 images.
    layout = data["layouts"][data["samples"][0]["layout"]]
    assert [title for title, _ in layout["groups"]] == ["satellite image", "map"]
    assert [[len(row) for row in layout["tiles"]], {sample["layout"] for sample in data["samples"]}] == [[6, 6], {0}]
    assert "<th scope='row'>crop_size</th><td>32</td>" in text
    assert "https:" not in text


def test_results_equal_the_saved_models_translations(tiny_run):
    rows = read_data(tiny_run)["results"]["rows"]
    for direction in ("a2b", "b2a"):
        loaded = tf.saved_model.load(str(tiny_run / "export" / direction))
        for row in (row for row in rows if row["direction"] == direction):
            before, after = (np.asarray(Image.open(tiny_run / row[kind])) for kind in ("before", "after"))
            expected = loaded.signatures["translate"](images=tf.constant(before[None]))["images"][0].numpy()
            assert expected.std() > 1
            assert (after == expected).all()
    row = next(row for row in rows if row["direction"] == "b2a")
    # Images and truths are the held-out pairs, resized to the crop size of 32 pixels.
    for kind, part in (("before", "testB"), ("truth", "testA")):
        (path,) = DEMO_MAPS_DIR.glob(f"{part}/{row['name']}")
        original = Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
        assert (np.asarray(Image.open(tiny_run / row[kind])) == np.asarray(original)).all()


def test_names_cannot_break_the_page(run):
    config = dataclasses.replace(Config.load(str(run)), dataset="<b>&{{data}}", data_dir="</script>")
    (run / "config.json").write_text(config.to_json())
    row = {"direction": "a2b", "name": "</script>", "before": "a.webp", "after": "b.webp"}
    (run / "gallery" / "results.json").write_text(json.dumps({"step": 1, "rows": [row]}))
    page.write(str(run))
    text = (run / "index.html").read_text()
    assert "cyclegan on &lt;b&gt;&amp;{{data}}: A to B and back, 4 steps" in text
    assert read_data(run)["results"]["rows"] == [row]


ROW = {"direction": "a2b", "name": "x.png", "before": "a.webp", "after": "b.webp"}


@pytest.mark.parametrize("results", [
    b"", b"\xff\xfe", b"[" * 100_000, b"5", b"{}", b"[]", b'{"step": 1}', b'{"step": 1, "rows": 5}',
    b'{"step": 1, "rows": [5]}', b'{"step": 1, "rows": ["direction"]}', b'{"step": 1, "rows": [{}]}',
    json.dumps({"step": "</script>", "rows": [ROW]}).encode(), json.dumps({"step": 1.5, "rows": [ROW]}).encode(),
    json.dumps({"step": 1, "rows": [ROW, {**ROW, "before": 5}]}).encode(),
], ids=lambda data: data[:40].decode(errors="replace"))
def test_damaged_results_are_left_out_and_named_on_the_page(bare_run, results):
    run = bare_run
    (run / "gallery" / "results.json").write_bytes(results)
    page.write(str(run))
    assert read_data(run)["results"] == {"step": 0, "rows": []}
    note = re.search(r"<header>.*<p class='note'>(.*?)</p></header>", (run / "index.html").read_text())[1]
    assert note.startswith(f"{run}/gallery/results.json is damaged (")
    assert "cyclegan gallery" in note


def test_damaged_records_are_left_out_and_named_on_the_page(bare_run):
    run = bare_run
    good = {"step": 5, "kind": "train", "loss/gen_ab": 0.5}
    lines = b"5", b"\xff\xfe", b"{}", json.dumps({**good, "loss/gen_ba": float("nan"), "loss/disc_a": 2.0}).encode()
    (run / "metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    page.write(str(run))
    # Browsers cannot read NaN.
    (chart,) = json.loads(json.dumps(read_data(run)["charts"]), parse_constant=pytest.fail)
    assert [(line["name"], line["points"]) for line in chart["lines"]] == [
        ("generator: satellite image to map", [[5, 0.5]]), ("discriminator: satellite image", [[5, 2]]),
    ]
    text = (run / "index.html").read_text()
    assert f"<p class='note'>{run}/metrics.jsonl is damaged: ignoring line 1 and 2 more</p>" in text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=4,
)
RECORDS = st.fixed_dictionaries(
    {"step": st.integers(0) | VALUES, "kind": st.sampled_from(["train", "eval", "test", "final_counts"]) | VALUES},
    optional={"loss/gen_ab": st.floats() | VALUES, "fid_ab": st.floats() | VALUES, "fid": VALUES},
)
RESULTS = st.fixed_dictionaries({"step": st.integers(0) | VALUES, "rows": st.lists(
    st.fixed_dictionaries({key: st.text(max_size=3) | VALUES for key in ROW}, optional={"truth": VALUES}), max_size=2
) | VALUES})


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(results=st.binary(max_size=9) | (RESULTS | VALUES).map(lambda value: json.dumps(value).encode()),
       lines=st.lists(st.binary(max_size=9) | (RECORDS | VALUES).map(lambda value: json.dumps(value).encode())))
def test_any_results_and_records_make_a_page_that_browsers_read(bare_run, results, lines):
    (bare_run / "gallery" / "results.json").write_bytes(results)
    (bare_run / "metrics.jsonl").write_bytes(b"\n".join(lines))
    page.write(str(bare_run))
    data = json.loads(json.dumps(read_data(bare_run)), parse_constant=pytest.fail)
    for row in data["results"]["rows"]:
        assert all(isinstance(row[key], str) for key in ROW)
    for chart in data["charts"]:
        assert all(np.isfinite(line["points"]).all() and line["points"] for line in chart["lines"])
    # A resumed run drops lines that cannot be read.
    metrics_log.open_log(str(bare_run), lambda record: record["step"] >= 0 and record["kind"] != "test").close()
    metrics_log.read_records(bare_run, pytest.fail)


def test_measure_of_an_unknown_direction_keeps_its_name(bare_run):
    run = bare_run
    (run / "metrics.jsonl").write_text('{"step": 4, "kind": "test", "fid_x": 1, "\\ud800_ab": 2}\n')
    page.write(str(run))
    text = (run / "index.html").read_text()
    assert "<th scope='row'>fid_x</th><td>1</td>" in text
    assert "<th scope='row'>\\ud800_ab</th><td>2</td>" in text


def test_page_of_a_run_in_progress(run):
    for path in ("gallery", "export"):
        shutil.rmtree(run / path)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:2]) + '\n{"step": 3, "ki')
    page.write(str(run))
    assert read_data(run)["results"]["rows"] == []
    assert [step for step, _ in read_data(run)["charts"][0]["lines"][0]["points"]] == [1, 2]
    summary = "cyclegan on demo_maps: satellite image to map and back, 4 steps"  # From the sample of step 4.
    assert summary in (run / "index.html").read_text()
    with pytest.raises(UserError, match="is not a run directory"):
        page.write(str(run / "samples"))


def test_measures_are_described(run):
    values = {"lpips_vgg_ba": 0.5, "cycle_a": 0.25, "identity_b": 2.0, "judge_top1_ab": 0.125}
    counts = {"step": 4, "kind": "final_counts", "lpips_vgg_ba": 51, "cycle_a": 7}
    records = counts, {"step": 4, "kind": "test", **values}
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    page.write(str(run))
    text = (run / "index.html").read_text()
    unit = "mean absolute difference of values in [-1, 1], lower is better"
    for description, value, count in (
        ("LPIPS with VGG16, map to satellite image <small>lower is better</small>", "0.5", "51"),
        (f"Cycle error, satellite image to map and back <small>{unit}</small>", "0.25", "7"),
        (f"Change of images that need no translation, map <small>{unit}</small>", "2", ""),
        ("judge_top1_ab", "0.125", ""),
    ):
        assert f"<th scope='row'>{description}</th><td>{value}</td><td>{count}</td>" in text


@pytest.mark.parametrize("name", [*(name for name in COMPARABLE if name != "judge"), "cycle", "identity"])
def test_every_measure_of_training_has_a_description(name):
    title, unit, subject = page_measures.describe(format_key(name, "b2a"), DomainNames("cat", "dog"))
    assert "_" not in title
    assert unit.endswith("is better")
    # The identity measure of b2a is of images of A; the others are of translations of B.
    assert subject == {"identity": "cat", "cycle": "dog to cat and back"}.get(name, "dog to cat")


def test_measures_have_their_course_over_the_steps(run):
    records = [
        {"step": 2, "kind": "eval", "psnr_ab": 10.0, "psnr_ba": 9.0}, {"step": 4, "kind": "eval", "psnr_ab": 12.0},
        {"step": 4, "kind": "test", "psnr_ab": 12.0, "ssim_ab": 0.5},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    page.write(str(run))
    lines = [{"name": "satellite image to map", "points": [[2, 10.0], [4, 12.0]]}]
    assert read_data(run)["measures"] == [{"title": "PSNR", "hint": "dB, higher is better", "lines": lines}]


def test_a_run_in_progress_shows_its_newest_measures(run):
    records = [{"step": step, "kind": "eval", "psnr_ab": 10.0 + step} for step in (2, 3)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    page.write(str(run))
    text = (run / "index.html").read_text()
    assert "<h2>Measures on held-out images, after step 3</h2>" in text
    assert "<td>13</td></tr>" in text


def test_trivial_translations_are_shown_beside_the_models_measures(run):
    records = {"step": 4, "kind": "baselines", "psnr_ab/input": 7.5, "psnr_ab/mean_color": 20.5, "kid_ba/input": 0.5}, {
        "step": 4, "kind": "test", "psnr_ab": 21.25, "kid_ba": 0.125, "cycle_a": 0.25
    }
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    page.write(str(run))
    text = (run / "index.html").read_text()
    assert ("<tr><td></td><th scope='col'>Model</th><th scope='col'>The input itself</th>"
            "<th scope='col'>Mean color</th></tr>") in text
    assert "higher is better</small></th><td>21.25</td><td>7.5</td><td>20.5</td></tr>" in text
    assert "lower is better</small></th><td>0.125</td><td>0.5</td><td></td></tr>" in text
    assert "lower is better</small></th><td>0.25</td><td></td><td></td></tr>" in text
    assert "no more than a tint" in text


def test_measures_and_images_of_training_have_their_own_headings(run):
    records = {"step": 4, "kind": "test", "cycle_a": 0.25}, {"step": 4, "kind": "final_training_images", "cycle_b": 0.5}
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    results = json.loads((run / "gallery" / "results.json").read_text())
    assert {row["split"] for row in results["rows"]} == {"test"}
    for row in results["rows"]:
        row["split"] = "test" if row["direction"] == "a2b" else "train"
    (run / "gallery" / "results.json").write_text(json.dumps(results))
    page.write(str(run))
    text = (run / "index.html").read_text()
    assert "<h2>Held-out and training images</h2>" in text
    held_out, training = text.split("<h2>Measures on ")[1:]
    assert held_out.startswith("held-out images, after step 4</h2>") and "<td>0.25</td>" in held_out
    assert training.startswith("training images, after step 4</h2>") and "<td>0.5</td>" in training


def test_long_curves_are_thinned_out(run):
    lines = [json.dumps({"step": step, "kind": "train", "loss/gen_ab": 1.0}) for step in range(1, 2501)]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    page.write(str(run))
    points = read_data(run)["charts"][0]["lines"][0]["points"]
    assert len(points) == 834  # Every third point.
    assert points[:2] == [[1, 1.0], [4, 1.0]]


def test_command_rewrites_the_page_even_without_the_images(run, caplog):
    shutil.rmtree(run / "gallery")
    sample = run / "samples" / "step-000004.png"
    drawn = sample.read_bytes()
    Image.open(sample).save(sample)  # Without the places of its images, as version 0.1.0 does.
    assert sample.read_bytes() != drawn
    gallery.write(str(run))
    assert len(read_data(run)["results"]["rows"]) == 16
    assert sample_files.read_layout(str(sample)) is not None
    config = dataclasses.replace(Config.load(str(run)), dataset="/no/such/folder")
    (run / "config.json").write_text(config.to_json())
    gallery.write(str(run))
    assert "because the held-out images cannot be opened: --dataset=/no/such/folder" in caplog.text
    assert len(read_data(run)["results"]["rows"]) == 16
    child = run_python("-m", "cyclegan_tf.gallery")
    assert child.returncode == 2
    assert child.stderr.strip() == "error: --model is missing; give --model=RUN, the run directory"


def test_gallery_needs_no_training_images(run, tmp_path, make_images, caplog):
    for folder in ("testA", "testB"):
        make_images(tmp_path / "held_out" / folder, 2)
    config = dataclasses.replace(Config.load(str(run)), dataset=str(tmp_path / "held_out"))
    (run / "config.json").write_text(config.to_json())
    gallery.write(str(run))
    assert "the page keeps its old images" not in caplog.text
    assert len(read_data(run)["results"]["rows"]) == 2 + 2


def test_gallery_draws_another_data_set_on_request(run, tmp_path, make_images, run_command):
    for folder in ("testA", "testB"):
        make_images(tmp_path / "moved" / folder, 3)
    config = dataclasses.replace(Config.load(str(run)), dataset="/no/such/horse2zebra", paired="no")
    (run / "config.json").write_text(config.to_json())
    grids = sorted(run.glob("samples/*.png"))
    grids[-1].unlink()  # The grids of a run show its own images.
    child = run_command("cyclegan_tf.gallery", f"--model={run}", f"--dataset={tmp_path}/moved", "--paired=no")
    assert child.returncode == 0 and "keeps its old images" not in child.stderr
    results = read_data(run)["results"]
    assert len(results["rows"]) == 3 + 3
    assert not any("truth" in row for row in results["rows"])  # With --paired=auto, equal names would make pairs.
    assert sorted(run.glob("samples/*.png")) == grids[:-1]
    assert (run / "config.json").read_text() == config.to_json()
    child = run_command("cyclegan_tf.gallery", f"--model={run}", "--dataset=/no/other")
    assert child.returncode == 2
    assert child.stderr.startswith("error: --dataset=/no/other: no such folder or .zip file")
    assert len(child.stderr.splitlines()) == 1


def test_gallery_of_a_model_without_a_run_directory_says_what_to_give():
    with pytest.raises(UserError, match=r"^--model=demo is not a run directory: .*; give the folder that cyclegan "):
        gallery.write("demo")


def test_page_works_from_the_disk(tiny_run, tmp_path):
    with chromium(tmp_path) as driver:
        set_view(driver, 1000, 800, dark=True)
        driver.get(f"file://{tiny_run}/index.html")
        wait_for(driver, "document.images.length === 3 * 16")
        driver.execute_script("for (const image of document.images) image.loading = 'eager'")
        wait_for(driver, "[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        assert driver.find_element("id", "at").text == "step 4"
        driver.find_element("id", "step").send_keys("\ue012")  # Left.
        assert driver.find_element("id", "at").text == "step 2"
        tiles = driver.find_elements("css selector", ".tiles > svg")
        assert len(tiles) == 2 * 6
        path = "[...document.querySelectorAll('.tiles image')].map((image) => image.getAttribute('href'))"
        assert set(driver.execute_script(f"return {path}")) == {"samples/step-000002.png"}
        # Each loss has two curves, raw and smoothed, until its legend button hides them.
        chart = driver.find_element("css selector", ".chart")
        assert len(chart.find_elements("css selector", "path")) == 8
        chart.find_element("css selector", ".legend button").click()
        assert len(chart.find_elements("css selector", "path")) == 6
        chart.find_element("css selector", "svg").send_keys("\ue014")  # Right: values of the first step.
        tip = chart.find_element("css selector", ".tip").text
        value = read_records(tiny_run)[0]["loss/disc_b"]
        assert "step 1" in tip
        assert f"({value:.3g})" in tip
        assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(19, 21, 25)"
        set_view(driver, 390, 800, dark=False)
        assert driver.execute_script("return document.documentElement.scrollWidth") == 390
        assert read_console(driver) == []
