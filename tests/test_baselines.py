"""Trivial translations against hand computation and closed forms, also on a set that a color map translates exactly."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import sources
from cyclegan_tf.metrics import baselines, evaluation, report
from cyclegan_tf.metrics.setting import Protocol, Setting
from cyclegan_tf.runs import metrics_log


def make_colors(mean, covariance):
    """Returns `Colors` with exactly this mean and covariance."""
    mean, root = np.asarray(mean), np.linalg.cholesky(covariance)
    # The pixels +-sqrt(n) e_i have mean 0 and covariance 1.
    white = np.concatenate([np.eye(len(mean)), -np.eye(len(mean))]) * np.sqrt(len(mean))
    colors = baselines.Colors(len(mean))
    for pixels in np.split(white @ root.T + mean, 2):
        colors.add(pixels[np.newaxis].astype(np.float32))
    return colors


def test_colors_have_the_mean_and_covariance_of_all_pixels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 4, 5, 3), np.uint8)
    colors = baselines.Colors(3)
    for image in images:
        colors.add(image)
    pixels = images.reshape(-1, 3) / 127.5 - 1
    np.testing.assert_allclose(colors.mean, pixels.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(colors.covariance, np.cov(pixels.T, bias=True), atol=1e-6)


def test_colors_of_a_large_image_are_evenly_spaced(monkeypatch):
    monkeypatch.setattr(baselines, "_PIXEL_LIMIT", 4)
    colors = baselines.Colors(1)
    colors.add(np.linspace(-1, 1, 9, dtype=np.float32).reshape(3, 3, 1))
    # Of 9 pixels, every third is read: -1, -0.25 and 0.5.
    assert (colors.count, colors.mean[0]) == (3, -0.25)
    np.testing.assert_allclose(colors.covariance, [[0.375]], atol=1e-9)


def test_pixels_with_nan_are_left_out():
    """A float image may hold NaN, for which NumPy's solvers raise an error."""
    rng = np.random.default_rng(3)
    image = rng.uniform(-0.5, 0.5, (6, 2, 2)).astype(np.float32)
    truth = image * [0.5, -1] + 0.25
    holey, holey_truth = image.copy(), truth.astype(np.float32)
    holey[0, 0, 0] = holey_truth[1, 1, 1] = np.nan
    color_map = baselines.fit_least_squares([(holey, holey_truth, None)], 2, 2)
    np.testing.assert_allclose(color_map.matrix, np.diag([0.5, -1]), atol=1e-5)
    np.testing.assert_allclose(color_map.offset, [0.25, 0.25], atol=1e-6)
    colors = baselines.Colors(2)
    colors.add(holey)
    kept = image.reshape(-1, 2)[1:]
    np.testing.assert_allclose(colors.mean, kept.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(colors.covariance, np.cov(kept.T, bias=True), atol=1e-6)


@pytest.mark.parametrize(("source", "target", "matrix"), [
    # Standard deviations scale if the axes agree.
    (np.diag([0.04, 0.01]), np.diag([0.01, 0.09]), np.diag([0.5, 3])),
    # From a white source the matrix is the square root: [[2, 1], [1, 2]]^2 = [[5, 4], [4, 5]].
    (np.eye(2) * 0.01, np.array([[5, 4], [4, 5]]) * 0.01, [[2, 1], [1, 2]]),
    # To a white target it is the inverse square root.
    (np.array([[5, 4], [4, 5]]) * 0.01, np.eye(2) * 0.01, np.array([[2, -1], [-1, 2]]) / 3),
], ids=["diagonal", "from white", "to white"])
def test_transport_between_normal_distributions_by_hand(source, target, matrix):
    color_map = baselines.fit_transport(make_colors([0.1, -0.2], source), make_colors([0.3, 0], target))
    np.testing.assert_allclose(color_map.matrix, matrix, atol=1e-5)
    np.testing.assert_allclose([0.1, -0.2] @ color_map.matrix + color_map.offset, [0.3, 0], atol=1e-6)


def test_transport_gives_the_source_the_targets_covariance():
    rng = np.random.default_rng(1)
    source, target = (factor @ factor.T * 0.01 for factor in rng.normal(size=(2, 3, 3)))
    matrix = baselines.fit_transport(make_colors([0, 0, 0], source), make_colors([0, 0, 0], target)).matrix
    np.testing.assert_allclose(matrix @ source @ matrix, target, rtol=1e-3, atol=1e-6)
    # Many matrices do this; optimal transport gives the symmetric positive definite matrix.
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-10)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_gray_images_have_a_transport_too():
    gray, color = baselines.Colors(3), baselines.Colors(3)
    rng = np.random.default_rng(2)
    gray.add(np.repeat(rng.integers(0, 256, (9, 9, 1), np.uint8), 3, axis=-1))
    color.add(rng.integers(0, 256, (9, 9, 3), np.uint8))
    black = baselines.Colors(3)
    black.add(np.zeros((2, 2, 3), np.uint8))
    for source, target in ((gray, color), (color, gray), (black, color), (color, black)):
        color_map = baselines.fit_transport(source, target)
        np.testing.assert_allclose(source.mean @ color_map.matrix + color_map.offset, target.mean, atol=1e-9)
        # Along the gray axis, the standard deviation scales; other directions map to zero.
        axis = np.full(3, 3**-0.5)
        variances = [axis @ colors.covariance @ axis for colors in (source, target)]
        scale = 0 if black in (source, target) else np.sqrt(variances[1] / variances[0])
        np.testing.assert_allclose(color_map.matrix, scale * np.outer(axis, axis), atol=1e-6)


def test_least_squares_finds_an_affine_map_between_other_numbers_of_channels():
    rng = np.random.default_rng(3)
    matrix, offset = rng.uniform(-0.3, 0.3, (3, 2)), np.array([0.1, -0.05])
    images = rng.uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32)
    pairs = [(image, (image @ matrix + offset).astype(np.float32), None) for image in images]
    color_map = baselines.fit_least_squares(pairs, 3, 2)
    np.testing.assert_allclose(color_map.matrix, matrix, atol=1e-5)
    np.testing.assert_allclose(color_map.offset, offset, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_color_maps_keep_the_kind_of_an_image_and_clip(dtype):
    white = np.iinfo(dtype).max if dtype != np.float32 else 1
    image = np.array([[[0, white, white]]], dtype)
    assert np.array_equal(baselines.ColorMap(np.eye(3), np.zeros(3))(image), image)
    twice = baselines.ColorMap(2 * np.eye(3), np.zeros(3))(image)
    assert twice.dtype == dtype
    assert twice.max() == white


@pytest.fixture
def tinted(tmp_path):
    """Config of a data set in which B is A with half of the contrast, 51 levels brighter. testA and testB are pairs."""
    rng = np.random.default_rng(4)
    for part, count in (("train", 3), ("test", 2)):
        for index in range(count):
            image = 2 * rng.integers(0, 100, (32, 32, 3)).astype(np.uint8)
            for domain, pixels in (("A", image), ("B", image // 2 + np.uint8(51))):
                (tmp_path / f"{part}{domain}").mkdir(exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / f"{part}{domain}" / f"{index}.png")
    return Config(dataset=str(tmp_path), preprocess="none", pool_size=0)


def measure(config, names, directions=(Direction.A2B,)):
    setting = Setting(sources.open_dataset(config), config, Protocol(weights_dir=config.dataset))
    return evaluation.measure_baselines(names, directions, setting)


def test_color_maps_explain_a_tint_and_the_others_do_not(tinted):
    values = measure(tinted, ("psnr", "l1", "cycle", "fid"))
    assert set(values) == {"psnr_ab", "l1_ab"}  # Cycle errors are not compared, and FID has no weights here.
    assert list(values["l1_ab"]) == list(baselines.NAMES)
    train, test = (
        [np.asarray(Image.open(f"{tinted.dataset}/{part}/{index}.png"), float) for index in range(count)]
        for part, count in (("trainB", 3), ("testB", 2))
    )
    inputs = [np.asarray(Image.open(f"{tinted.dataset}/testA/{index}.png"), float) for index in range(2)]
    expected = {
        "input": np.mean(np.abs(np.subtract(inputs, test))) / 127.5,
        "mean_color": np.mean(np.abs(np.rint(np.mean(train, axis=(0, 1, 2))) - test)) / 127.5,
        "color_map": 0, "color_map_unfair": 0,
    }
    assert values["l1_ab"] == pytest.approx(expected, abs=1e-5)
    assert values["psnr_ab"]["color_map"] == np.inf > values["psnr_ab"]["input"]


def test_without_pairs_only_the_input_and_the_color_map_are_compared(tinted):
    class Brightness:
        name = "mean"

        def __call__(self, images):
            return images.mean(axis=(1, 2)).astype(np.float32)[:, :1]

    config = dataclasses.replace(tinted, paired="no")
    setting = Setting(sources.open_dataset(config), config, Protocol(weights_dir=config.dataset))
    setting.networks.inception = Brightness()
    values = evaluation.measure_baselines(("psnr", "fid"), (Direction.A2B,), setting)
    assert {key: list(found) for key, found in values.items()} == {"fid_ab": ["input", "color_map"]}
    assert values["fid_ab"]["color_map"] == pytest.approx(0, abs=1e-3)
    assert values["fid_ab"]["input"] > 1


def test_without_readable_training_images_only_the_others_are_compared(tinted, tmp_path):
    for path in tmp_path.glob("trainA/*"):
        path.write_bytes(b"")
    assert list(measure(tinted, ("l1",))["l1_ab"]) == ["input", "mean_color", "color_map_unfair"]


def test_channels_that_differ_leave_the_input_and_the_transport_out(tinted):
    values = measure(dataclasses.replace(tinted, output_channels=1, lambda_identity=0.0), ("l1",))
    assert list(values["l1_ab"]) == ["mean_color", "color_map_unfair"]


def test_the_table_has_a_column_for_each_trivial_translation(tinted):
    records = [
        {"metric": "l1", "direction": "a2b", "value": 0.5, "std": 0.25, "n": 2, "baselines": {"input": 0.125}},
        {"metric": "cycle", "direction": "a2b", "value": 0.75, "std": 0.25, "n": 2},
    ]
    assert report.format_table(records).splitlines() == [
        "metric  direction  value  std   n  input  against",
        "l1      a2b        0.5    0.25  2  0.125",
        "cycle   a2b        0.75   0.25  2",
    ]
    assert "input" not in report.format_table(records[1:])


def test_training_measures_trivial_translations_at_its_end(tiny_run):
    recorded, final = metrics_log.read_records(tiny_run)[-2:]
    assert (recorded["kind"], final["kind"]) == ("baselines", "test")
    expected = measure(Config.load(str(tiny_run)), ("psnr",))["psnr_ab"]
    assert {name: recorded[f"psnr_ab/{name}"] for name in baselines.NAMES} == pytest.approx(expected, rel=1e-4)
    # The page has a column for the model, for each trivial translation and for the number of images.
    assert (tiny_run / "index.html").read_text().count("<th scope='col'>") == 1 + len(baselines.NAMES) + 1
