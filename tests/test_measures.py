"""Measures of data sets of one-color images, against values computed by hand."""

import dataclasses
import shutil

import numpy as np
import pytest
from flat_images import MeanColor, make_flat_images
from PIL import Image

from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import evaluation, feature_cache, measures, report, segmentation
from cyclegan_tf.metrics.setting import Protocol, Setting
from cyclegan_tf.metrics.task import Task
from cyclegan_tf.training import evaluator

DEFAULT_PROTOCOL = Protocol()
TRANSLATE = {Direction.A2B: lambda image: image + np.uint8(51), Direction.B2A: lambda image: image - np.uint8(20)}


def make_setting(network, config, protocol=DEFAULT_PROTOCOL):
    """Returns the setting for measures of the data set of `config`; `network` replaces each measuring network."""
    setting = Setting(sources.open_dataset(config, needs_training=False), config, protocol)
    setting.networks.inception = setting.networks.judge = setting.networks.segmenter = network
    return setting


@pytest.fixture
def constant(tmp_path, monkeypatch):
    """Config of a data set of images of one gray level, without weights of measuring networks."""
    monkeypatch.setenv("CYCLEGAN_TF_WEIGHTS", str(tmp_path / "weights"))
    return make_flat_images(tmp_path)


@pytest.mark.parametrize(("reference", "distance"), [("test", 0), ("train", 100)])
def test_measures_of_constant_images_by_hand(constant, reference, distance):
    names = ["cycle", "identity", "fid", "kid"]
    protocol = Protocol(reference=reference, weights_dir=constant.dataset)
    records, _ = evaluation.measure(TRANSLATE, make_setting(MeanColor(), constant, protocol), names)
    values = report.index_values(records)
    assert values["cycle_a"] == values["cycle_b"] == pytest.approx(31 / 127.5)
    assert values["identity_b"] == pytest.approx(51 / 127.5)
    assert values["identity_a"] == pytest.approx(20 / 127.5)
    # Translations to B are 102 and 112, like B's test images; B's training images are 100 brighter. Translations to A
    # are 82 and 92.
    assert values["fid_ab"] == pytest.approx(distance**2, abs=1e-3)
    if reference == "test":
        assert values["fid_ba"] == pytest.approx(31**2, abs=1e-3)
        # Squared MMD with the kernel (xy + 1)^3: one pair inside each set, four pairs between the sets.
        kernel = lambda x, y: (x * y + 1.0) ** 3  # noqa: E731
        between = np.mean([kernel(x, y) for x in (82, 92) for y in (51, 61)])
        assert values["kid_ba"] == pytest.approx(kernel(82, 92) + kernel(51, 61) - 2 * between, rel=1e-5)


def test_psnr_of_perfect_translations_is_infinite_and_has_no_deviation(constant, tmp_path):
    for part, grays in (("testA", (51, 61)), ("testB", (102, 112))):  # B is A plus 51.
        for index, gray in enumerate(grays):
            (tmp_path / part / f"{part}{gray}.png").rename(tmp_path / part / f"{index}.png")
    translate = {Direction.A2B: TRANSLATE[Direction.A2B]}
    psnr, l1 = evaluation.measure(translate, Setting(sources.open_dataset(constant), constant), ["psnr", "l1"])[0]
    assert (psnr["value"], psnr["n"], "std" in psnr) == (np.inf, 2, False)
    assert (l1["value"], l1["n"], l1["std"]) == (0, 2, 0)


def test_identity_of_domains_with_different_channels_is_refused(constant):
    config = dataclasses.replace(constant, input_channels=1, lambda_identity=0.0)
    setting = Setting(sources.open_dataset(config), config)
    with pytest.raises(UserError, match="1 in the source domain, 3 in the target domain; leave identity out"):
        evaluation.measure(TRANSLATE, setting, ["identity"], strict=True)


def test_identity_translates_only_the_images_that_it_measures(constant, tmp_path):
    calls = []

    def translate(image):
        calls.append(int(image.max()))
        return image

    for path in (tmp_path / "testA").iterdir():
        path.unlink()
    setting = Setting(sources.open_dataset(constant), constant)
    records, _ = evaluation.measure({Direction.A2B: translate}, setting, ["identity"])
    assert calls == [102, 112]
    # The source domain has no test images, but the measured images are test images.
    assert [(each["n"], each["split"], each["size"]) for each in records] == [(2, "test", "20x16")]
    # The records of all measures begin with the same entries, in this order.
    assert list(records[0]) == ["metric", "direction", "split", "size", "preprocess", "value", "std", "n"]


def test_a_bad_image_ends_each_evaluation_on_request(constant, tmp_path):
    (tmp_path / "testB" / "x.png").write_bytes(b"")
    config = dataclasses.replace(constant, on_bad_image="error")
    setting = Setting(sources.open_dataset(config), config)
    for _ in range(2):
        with pytest.raises(UserError, match=r"x\.png: .*--on_bad_image=skip"):
            evaluation.measure({Direction.A2B: np.copy}, setting, ["identity"])


class NearestGray:
    """A judge with a class for each multiple of 51; the nearest gray has the highest score."""

    name = "nearest gray"

    def __call__(self, image):
        return -np.abs(np.arange(6) * 51 - image.mean())


def test_judge_rates_of_translations_and_real_images(constant):
    protocol = Protocol(classes={"b": [2], "a": [5]})
    records, _ = evaluation.measure(TRANSLATE, make_setting(NearestGray(), constant, protocol), ["judge"])
    found = {(r["metric"], r["direction"]): (r["value"], r["real_source"], r["real_target"]) for r in records}
    # A holds 51 and 61 (class 1), B holds 102 and 112 (class 2), translations to B have 102 and 112, to A 82 and 92.
    assert found == {
        ("judge_top1", "a2b"): (1, 0, 1), ("judge_top5", "a2b"): (1, 1, 1),
        # Class 5 is the farthest of 6 classes from all of these.
        ("judge_top1", "b2a"): (0, 0, 0), ("judge_top5", "b2a"): (0, 0, 0),
    }
    assert records[0]["n"] == 2


def test_real_images_are_measured_once(constant):
    class Counted(NearestGray):
        calls = 0

        def __call__(self, image):
            self.calls += 1
            return super().__call__(image)

    judge = Counted()
    setting = make_setting(judge, constant, Protocol(classes={"b": [2], "a": [5]}))
    for _ in range(2):
        evaluation.measure(TRANSLATE, setting, ["judge"])
    # Two translations to each domain, twice, and once the two images of each domain.
    assert judge.calls == 2 * 2 * 2 + 2 * 2


def test_judge_without_readable_images_is_skipped(constant, tmp_path):
    for path in (tmp_path / "testA").iterdir():
        path.write_bytes(b"")
    setting = make_setting(NearestGray(), constant, Protocol(classes={"b": [2]}))
    records, skipped = evaluation.measure({Direction.A2B: TRANSLATE[Direction.A2B]}, setting, ["judge"])
    assert (records, skipped) == ([], [("judge", "a2b", "no image could be read")])


def test_measures_left_out_are_one_line(constant):
    translate = {**TRANSLATE, Direction.B2A: lambda image: image}
    setting = make_setting(MeanColor(), constant, Protocol(weights_dir=constant.dataset))
    records, skipped = evaluation.measure(translate, setting)
    assert {record["metric"] for record in records} == {"fid", "kid", "cycle", "identity"}
    assert len(skipped) == 12
    assert report.format_skipped(skipped) == (
        "left out psnr, ssim, ms_ssim, l1, lpips (needs pairs: equal file names in testA and testB); judge (needs the "
        "numbers of the classes to recognize: --judge_classes_b for translations to B, --judge_classes_a for "
        "translations to A)"
    )


def test_a_measure_left_out_in_one_direction_names_the_direction():
    skipped = [report.Skipped(*each) for each in (
        ("kid", Direction.B2A, "too few"), ("fid", Direction.A2B, "too few"), ("fid", Direction.B2A, "too few")
    )]
    assert report.format_skipped(skipped) == "left out kid in direction b2a (too few); fid (too few)"


@pytest.mark.parametrize(("metric", "counts", "warned"), [
    # FID's 2048 features, and the 2 * 100 images from which KID's subsets have 100.
    ("fid", [(2047, 5000)], 2047), ("fid", [(2048, 5000)], None), ("fid", [(5000, 2047)], 2047),
    ("kid", [(199, 200)], 199), ("kid", [(200, 200)], None), ("fid", [(3000, 20), (12, 3000)], 12),
    ("cycle", [(2, 2)], None),
])
def test_few_images_cause_a_warning(metric, counts, warned):
    records = [{"metric": metric, "n": n, "n_reference": reference} for n, reference in counts]
    warnings = report.list_warnings(records)
    assert [text.split(" means little")[0] for text in warnings] == ([f"{metric} of {warned} images"] if warned else [])


def test_held_out_images_alone_are_measured(constant, tmp_path):
    for part in ("trainA", "trainB"):
        shutil.rmtree(tmp_path / part)
    setting = make_setting(MeanColor(), constant, Protocol(weights_dir=constant.dataset))
    records, skipped = evaluation.measure(TRANSLATE, setting, ["cycle", "fid"], strict=True)
    # As in test_measures_of_constant_images_by_hand.
    values = report.index_values(records)
    assert (values["cycle_a"], values["fid_ba"]) == (pytest.approx(31 / 127.5), pytest.approx(31**2, abs=1e-3))
    assert not skipped
    # The mean color and the fair color map are fitted to training images. A's 51 and 61 are B's 102 and 112 less 51.
    found = evaluation.measure_baselines(["fid"], [Direction.A2B], setting)
    assert found == {"fid_ab": {"input": pytest.approx(51**2, abs=1e-3)}}
    setting = make_setting(MeanColor(), constant, Protocol(reference="train"))
    with pytest.raises(UserError, match=r"fid needs real images in .*trainB: add some, or use --reference=test$"):
        evaluation.measure(TRANSLATE, setting, ["fid"], strict=True)


def find_roads(image):
    """Segments every pixel as road, class 0."""
    return np.zeros(image.shape[:2], np.int64)


def test_segmentation_scores_of_both_directions(constant, tmp_path):
    road, sky = segmentation.CLASSES["road"], segmentation.CLASSES["sky"]
    for path in (tmp_path / "testB").iterdir():
        path.unlink()
    for path in (tmp_path / "testA").iterdir():
        label_map = Image.new("RGB", (20, 16), road)
        label_map.paste(sky, (10, 0, 20, 16))
        label_map.save(tmp_path / "testB" / path.name)
    translate = {Direction.A2B: lambda image: np.full_like(image, road), Direction.B2A: lambda image: image}
    setting = make_setting(find_roads, constant, Protocol(labels="b", segmenter="x"))
    records, _ = evaluation.measure(translate, setting, ["segmentation"])
    # Everything is road; half of it truly is. IoU is 1/2 for road and 0 for sky.
    scores = {"segmentation_pixel_accuracy": 0.5, "segmentation_class_accuracy": 0.5, "segmentation_mean_iou": 0.25}
    for direction in ("a2b", "b2a"):
        assert {r["metric"]: r["value"] for r in records if r["direction"] == direction} == scores


def test_images_of_different_sizes_are_not_a_pair(constant, tmp_path):
    for part, grays in (("testA", (51, 61)), ("testB", (102, 112))):
        for index, gray in enumerate(grays):
            (tmp_path / part / f"{part}{gray}.png").rename(tmp_path / part / f"{index}.png")
    Image.new("RGB", (24, 16)).save(tmp_path / "testB" / "1.png")
    dataset = sources.open_dataset(constant)
    translate = {Direction.A2B: TRANSLATE[Direction.A2B]}
    (record,), _ = evaluation.measure(translate, Setting(dataset, constant), ["l1"])
    assert (record["value"], record["n"]) == (0, 1)
    assert dataset.bad.reasons == {
        str(tmp_path / "testB" / "1.png"): "not a pair: 24 x 16 pixels, 20 x 16 in the other domain"
    }


def test_images_of_unequal_pairs_count_in_measures_of_single_images(constant, tmp_path):
    for part, grays in (("testA", (51, 61)), ("testB", (102, 112))):
        for index, gray in enumerate(grays):
            (tmp_path / part / f"{part}{gray}.png").rename(tmp_path / part / f"{index}.png")
    Image.new("RGB", (24, 16), (112,) * 3).save(tmp_path / "testB" / "1.png")
    setting = make_setting(MeanColor(), constant, Protocol(weights_dir=str(tmp_path)))
    records, _ = evaluation.measure(TRANSLATE, setting, ["l1", "fid", "identity", "cycle"])
    counts = {report.format_key(each["metric"], each["direction"]): each["n"] for each in records}
    assert counts == {
        "l1_ab": 1, "fid_ab": 2, "identity_b": 2, "cycle_a": 2, "l1_ba": 1, "fid_ba": 2, "identity_a": 2, "cycle_b": 2,
    }
    fid = next(each for each in records if (each["metric"], each["direction"]) == ("fid", "a2b"))
    # Both sets have the colors 102 and 112.
    assert (fid["n_reference"], fid["value"]) == (2, pytest.approx(0, abs=1e-3))


@pytest.mark.parametrize(("paired", "values"), [
    # By hand: A to B to A adds 51 - 20 = 31 of 127.5 levels.
    ("no", {"cycle_a": 31 / 127.5, "cycle_b": 31 / 127.5}),
    ("auto", {"cycle_a": 31 / 127.5, "cycle_b": 31 / 127.5}),
    # One pair, of 51 and 112: A to B gives 102, and B to A 92.
    ("yes", {"l1_ab": 10 / 127.5, "l1_ba": 41 / 127.5}),
])
def test_held_out_images_are_measured_as_pairs_or_as_cycles(constant, tmp_path, paired, values):
    for part, gray in (("testA", 51), ("testB", 112)):
        (tmp_path / part / f"{part}{gray}.png").rename(tmp_path / part / f"0.{'png' if gray == 51 else 'PNG'}")
    config = dataclasses.replace(constant, paired=paired, eval_metrics="l1" if paired == "yes" else "")
    found = evaluator.Evaluator(config, sources.open_dataset(config))(TRANSLATE)
    assert found.keys() == values.keys() | ({"psnr_ab", "ssim_ab", "psnr_ba", "ssim_ba"} if paired == "yes" else set())
    assert {name: found[name] for name in values} == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize(("removed", "held_out", "training"), [
    ("", {"cycle_a", "cycle_b", "identity_b", "kid_ba"}, None),
    ("B", {"cycle_a"}, {"cycle_b", "identity_b", "kid_ba"}),
    ("AB", None, {"cycle_a", "cycle_b", "identity_b", "kid_ba"}),
])
def test_measures_of_training_images_are_kept_apart(constant, tmp_path, removed, held_out, training):
    for domain in removed:
        shutil.rmtree(tmp_path / f"test{domain}")
    parts = evaluator.split_by_images(
        dict.fromkeys(("cycle_a", "cycle_b", "identity_b", "kid_ba"), 1.0), sources.open_dataset(constant)
    )
    expected = {True: held_out, False: training}
    assert {key: set(part) for key, part in parts.items()} == {key: part for key, part in expected.items() if part}
    assert evaluator.split_by_images({}, sources.open_dataset(constant)) == {removed != "AB": {}}


def test_a_measure_that_needs_too_much_memory_is_skipped(constant):
    class Exhausting(MeanColor):
        def __call__(self, images):
            raise MemoryError("Unable to allocate 9.00 GiB")

    records, skipped = evaluation.measure(TRANSLATE, make_setting(Exhausting(), constant), ["kid", "cycle"])
    assert {record["metric"] for record in records} == {"cycle"}
    assert skipped[0] == (
        "kid", "a2b", "ran out of memory: measure smaller images (evaluate --size=256) or leave the measure out"
    )


def test_kid_counts_all_images_if_fid_runs_out_of_memory(constant, monkeypatch):
    calls = []

    class ExhaustedOnce(MeanColor):
        def __call__(self, images):
            calls.append(len(images))
            if len(calls) == 1:
                raise MemoryError("Unable to allocate 9.00 GiB")
            return super().__call__(images)

    monkeypatch.setattr(feature_cache, "_BATCH", 1)
    setting = make_setting(ExhaustedOnce(), constant, Protocol(weights_dir=constant.dataset))
    records, skipped = evaluation.measure({Direction.A2B: TRANSLATE[Direction.A2B]}, setting, ["fid", "kid"])
    assert [(record["metric"], record["n"]) for record in records] == [("kid", 2)]
    assert [each.name for each in skipped] == ["fid"]


def test_the_next_image_takes_the_place_of_a_bad_one(constant, tmp_path):
    (tmp_path / "testA" / "a.png").write_bytes(b"")
    task = Task(Direction.A2B, TRANSLATE, Setting(sources.open_dataset(constant), constant))
    assert [int(image.max()) for _, image, _ in task.enumerate_pairs(2)] == [51, 61]
    assert [int(image.max()) for _, image, _ in task.enumerate_pairs(1)] == [51]


def test_an_image_that_cannot_be_translated_is_a_one_line_error(constant):
    def refuse(image):
        raise ValueError("1 of 960 values are NaN")

    setting = Setting(sources.open_dataset(constant), constant)
    with pytest.raises(UserError, match=r"^an image cannot be translated in direction a2b: 1 of 960 values are NaN$"):
        evaluation.measure({**TRANSLATE, Direction.A2B: refuse}, setting, ["cycle"])


def test_is_better_knows_the_direction_of_each_measure_and_finite_values():
    assert measures.is_better("psnr_ab", 2, 1)
    assert not measures.is_better("psnr_ab", 1, 1)
    assert measures.is_better("ms_ssim_ba", 0.5, 0.4)
    assert measures.is_better("kid_ab", 1, 2)
    assert measures.is_better("lpips_vgg_ab", 1, 2)
    assert measures.is_better("cycle_a", 1, None)
    assert not measures.is_better("cycle_a", float("nan"), 1)
    assert not measures.is_better("cycle_a", float("nan"), None)
    # One pair of equal images makes the mean PSNR infinite.
    assert not measures.is_better("psnr_ab", float("inf"), 1)
    assert not measures.is_better("psnr_ab", float("inf"), None)
