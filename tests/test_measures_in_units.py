"""Errors in the unit of a domain, such as Hounsfield units, over the pixels that count."""

import dataclasses
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import commands, sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import baselines, evaluation, measures
from cyclegan_tf.metrics.setting import Setting
from cyclegan_tf.metrics.task import Task

RNG = np.random.default_rng(4)


def make_config(folder, **options):
    """A data set of gray images with the ranges of CT (A) and MR (B), whole and without pools."""
    return Config(**{"dataset": str(folder), "input_channels": 1, "output_channels": 1, "range_a": "-1024,3071",
                     "range_b": "0,1.5", "preprocess": "none", "pool_size": 0} | options)


@pytest.fixture
def pairs(tmp_path):
    """Held-out pairs of 3 slices of 12 x 12 (CT to MR), and the arrays."""
    source = RNG.integers(-1024, 3072, (3, 12, 12)).astype(np.int16)
    truth = RNG.uniform(0, 1.5, (3, 12, 12)).astype(np.float32)
    for name, stack in (("testA", source), ("testB", truth)):
        (tmp_path / "set" / name).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "set" / name / "s.tif", stack, photometric="minisblack")
    return tmp_path / "set", source, truth


def open_setting(folder, **options):
    """Returns the setting for measures of the held-out images in a folder."""
    config = make_config(folder, **options)
    return Setting(sources.open_dataset(config, needs_training=False), config)


def measure(folder, direction=Direction.A2B, function=np.zeros_like, **options):
    """Returns the records of mae and psnr_range for a translation to the middle of the range everywhere."""
    records, skipped = evaluation.measure({direction: function}, open_setting(folder, **options), ("mae", "psnr_range"))
    assert skipped == []
    return {record["metric"]: record for record in records}


def test_errors_are_in_the_unit_of_the_target(pairs):
    folder, source, truth = pairs
    for direction, target, middle, width in (("a2b", truth, 0.75, 1.5), ("b2a", source, 1023.5, 4095)):
        found = measure(folder, Direction(direction))
        errors = (target.astype(float) - middle).reshape(3, -1)
        assert found["mae"]["value"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
        assert found["mae"]["range"] == [middle - width / 2, middle + width / 2]
        assert found["mae"]["n"] == 3
        by_image = 10 * np.log10(width**2 / np.square(errors).mean(axis=1))
        assert found["psnr_range"]["value"] == pytest.approx(by_image.mean(), abs=1e-4)


def test_only_pixels_in_the_mask_count(pairs):
    folder, _, truth = pairs
    mask = np.zeros((3, 12, 12), np.uint8)
    mask[0, :4, 2:9], mask[1, 5:, 5:] = 255, 1  # Nothing counts in the last slice.
    (folder / "testMask").mkdir()
    tifffile.imwrite(folder / "testMask" / "s.tiff", mask, photometric="minisblack")
    found = measure(folder)
    errors = [np.abs(truth[index][mask[index] > 0] - 0.75) for index in range(2)]
    assert found["mae"]["value"] == pytest.approx(np.mean([each.mean() for each in errors]), rel=1e-5)
    assert found["mae"]["n"] == 2
    # Shards hold the masks, too; a pair without a mask counts as a whole.
    (folder / "testMask" / "s.tiff").unlink()
    Image.fromarray(mask[1]).save(folder / "testMask" / "s[1].png")
    for domain in "AB":
        shutil.copytree(folder / f"test{domain}", folder / f"train{domain}")
    commands.shard(str(folder), str(folder.parent / "shards"), "", 1, "skip")
    whole = [np.abs(truth[index] - 0.75).mean() for index in (0, 2)]
    for path in (folder, folder.parent / "shards"):
        found = measure(path)
        assert found["mae"]["value"] == pytest.approx(np.mean([*whole, errors[1].mean()]), rel=1e-5)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_pixels_that_count_are_white_in_masks_of_one_bit(pairs, photometric):
    folder, _, truth = pairs
    is_inside = RNG.integers(0, 2, (3, 12, 12)).astype(bool)
    (folder / "testMask").mkdir()
    path = folder / "testMask" / "s.tif"
    tifffile.imwrite(path, is_inside ^ (photometric == "miniswhite"), photometric=photometric)
    with Image.open(path) as image:
        assert (np.asarray(image.convert("L")) == 255 * is_inside[0]).all()
    assert measure(folder)["mae"]["value"] == pytest.approx(np.mean([
        np.abs(image - 0.75)[mask].mean() for image, mask in zip(truth, is_inside, strict=True)
    ]), rel=1e-5)


def test_pixels_without_data_in_a_mask_do_not_count(pairs):
    folder, _, truth = pairs
    mask = np.full((3, 12, 12), 255, np.uint8)
    mask[:, :4, 2:9] = 1
    (folder / "testMask").mkdir()
    tifffile.imwrite(folder / "testMask" / "s.tif", mask, photometric="minisblack",
                     extratags=[(42113, "s", 0, "255", True)])  # GDAL_NODATA.
    expected = np.mean([np.abs(image[:4, 2:9] - 0.75).mean() for image in truth])
    assert measure(folder)["mae"]["value"] == pytest.approx(expected, rel=1e-5)


def test_images_side_by_side_have_masks(tmp_path):
    both = RNG.integers(0, 1000, (12, 24)).astype(np.uint16)
    mask = RNG.integers(0, 2, (12, 12)).astype(np.uint8)
    for name, image in (("test", both), ("testMask", mask)):
        (tmp_path / name).mkdir()
        Image.fromarray(image).save(tmp_path / name / "s.png")
    expected = np.abs(both[:, 12:].astype(float) - 500)[mask > 0].mean()
    assert measure(tmp_path, range_a="0,1000", range_b="0,1000")["mae"]["value"] == pytest.approx(expected, rel=1e-5)


def test_masks_that_leave_out_everything_are_an_error(pairs):
    folder, _, _ = pairs
    (folder / "testMask").mkdir()
    tifffile.imwrite(folder / "testMask" / "s.tiff", np.zeros((3, 12, 12), np.uint8), photometric="minisblack")
    _, skipped = evaluation.measure({Direction.A2B: np.zeros_like}, open_setting(folder), ("mae", "psnr_range"))
    assert len(skipped) == 2
    assert all("none of the 3 pairs has a pixel to measure: all pixels are outside" in str(each) for each in skipped)


def test_mask_that_cannot_be_read_is_an_error(pairs):
    folder, _, _ = pairs
    (folder / "testMask").mkdir()
    for index in range(3):
        (folder / "testMask" / f"s[{index}].png").write_bytes(b"no image")
    setting = open_setting(folder)
    assert setting.dataset.pairing.endswith("3 of them have masks")
    with pytest.raises(UserError, match=r"mask .*testMask/s\[0\]\.png cannot be read: cannot identify image file; .*"):
        evaluation.measure({Direction.A2B: np.zeros_like}, setting, ("mae",), strict=True)
    (folder / "testMask" / "s[0].png").unlink()
    with pytest.raises(UserError, match=r"mask \S*testMask/s\[0\]\.png cannot be read: No such file or directory;"):
        evaluation.measure({Direction.A2B: np.zeros_like}, setting, ("mae",), strict=True)


def test_a_mask_of_another_size_is_an_error(pairs):
    folder, _, _ = pairs
    mask = np.zeros((12, 12), np.uint8)
    mask[:6] = 255
    (folder / "testMask").mkdir()
    Image.fromarray(mask).save(folder / "testMask" / "s[0].png")
    # The images are resized to 16 x 16 pixels; their masks follow.
    options = {"preprocess": "resize_and_crop", "load_size": 16, "crop_size": 16}
    for more in ({}, options):
        assert measure(folder, **more)["mae"]["n"] == 3
    Image.fromarray(mask[:, :5]).save(folder / "testMask" / "s[0].png")
    for more in ({}, options):
        with pytest.raises(UserError, match=r"s\[0\]\.png has 5 x 12 pixels, but .*s\.tif\[0\] has 12 x 12; resize"):
            evaluation.measure({Direction.A2B: np.zeros_like}, open_setting(folder, **more), ("mae",), strict=True)


@pytest.mark.parametrize(("direction", "low", "high"), [("a2b", -500, 300), ("b2a", 0, 800)])
def test_the_input_keeps_its_values_in_their_unit(tmp_path, direction, low, high):
    for name in ("testA", "testB"):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "s.tif", np.tile(np.int16([[-100, 0], [200, 800]]), (16, 16)))
    setting = open_setting(tmp_path, range_a="0,800", range_b="-500,300")
    task = Task(Direction(direction), {}, setting)
    (image,) = task.load(task.sources)
    result = baselines.fit(task)["input"](image)[:2, :2].ravel()
    # Both ranges clip: one of them ends at 0, the other at 300.
    np.testing.assert_allclose(low + (result + 1) / 2 * (high - low), [0, 0, 200, 300], atol=1e-3)


def test_baselines_do_not_need_masks_that_can_be_read(pairs, caplog):
    folder, _, _ = pairs
    (folder / "testMask").mkdir()
    for index in range(3):
        (folder / "testMask" / f"s[{index}].png").write_bytes(b"no image")
    for name in "AB":
        shutil.copytree(folder / f"test{name}", folder / f"train{name}")
    config = make_config(folder)
    setting = Setting(sources.open_dataset(config), config)
    assert set(baselines.fit(Task(Direction.A2B, {}, setting))) == {"input", "mean_color", "color_map"}
    assert "the baseline color_map_unfair is left out: mask " in caplog.text


def test_pixels_without_data_do_not_count(pairs):
    folder, _, truth = pairs
    truth[:, :6] = -1
    tifffile.imwrite(folder / "testB" / "s.tif", truth, photometric="minisblack", metadata=None,
                     extratags=[(42113, "s", 0, "-1", False)])
    assert measure(folder)["mae"]["value"] == pytest.approx(np.abs(truth[:, 6:] - 0.75).mean(), rel=1e-5)


def test_measures_share_the_region_of_a_pair(pairs):
    """Each image is read twice, for its pixels and for its region, however many measures need the region."""
    setting = open_setting(pairs[0])
    targets, reads = setting.dataset.test_b, []
    counted = dataclasses.replace(targets, read_slice=lambda index: reads.append(index) or targets.read_slice(index))
    setting = dataclasses.replace(setting, dataset=dataclasses.replace(setting.dataset, test_b=counted))
    evaluation.measure({Direction.A2B: np.zeros_like}, setting, ("mae", "psnr_range"), strict=True)
    assert sorted(reads) == [0, 0, 1, 1, 2, 2]


def test_perfect_translation_has_no_error(pairs):
    folder, _, _ = pairs
    tifffile.imwrite(folder / "testB" / "s.tif", tifffile.imread(folder / "testA" / "s.tif"), photometric="minisblack")
    found = measure(folder, function=lambda image: image, range_b="-1024,3071")
    assert (found["mae"]["value"], found["psnr_range"]["value"]) == (0, np.inf)


@pytest.mark.parametrize(("options", "reason"), [
    ({"range_b": ""}, r"mae needs the unit of domain B: train with --range_b"),
    ({"paired": "no"}, "mae needs pairs: equal file names in testA and testB"),
])
def test_measures_in_units_need_pairs_and_a_unit(pairs, options, reason):
    with pytest.raises(UserError, match=reason):
        evaluation.measure({Direction.A2B: np.zeros_like}, open_setting(pairs[0], **options), ("mae",), strict=True)


def test_measures_of_a_run_with_units():
    with_units, plain = Config(range_a="0,1"), Config()
    assert set(measures.choose_default(with_units)) - set(measures.choose_default(plain)) == {"mae", "psnr_range"}
    assert measures.is_better("psnr_range_ab", 2.0, 1.0)
    assert measures.is_better("mae_ab", 1.0, 2.0)


def measure_baselines(config):
    """Returns the mae of each trivial translation to B."""
    setting = Setting(sources.open_dataset(config), config)
    return evaluation.measure_baselines(["mae"], [Direction.A2B], setting)["mae_ab"]


def test_trivial_translations_keep_values_between_the_levels_of_8_bits(tmp_path):
    levels = RNG.integers(0, 256, (2, 12, 12)).astype(np.uint8)
    for part in ("train", "test"):
        for domain in "AB":
            (tmp_path / f"{part}{domain}").mkdir()
        for index, image in enumerate(levels):
            Image.fromarray(image).save(tmp_path / f"{part}A" / f"{index}.png")
            np.save(tmp_path / f"{part}B" / f"{index}.npy", 3.7 * image.astype(np.float32) + 100)
    found = measure_baselines(make_config(tmp_path, range_a="", range_b="-1024,3071"))
    # A level of 8 bits is 16 units wide.
    assert found["color_map"] == pytest.approx(0, abs=0.01)
    assert found["color_map_unfair"] == pytest.approx(0, abs=0.01)


def test_trivial_translations_ignore_images_without_a_pixel_that_counts(tmp_path):
    source = RNG.uniform(0, 1000, (2, 12, 12)).astype(np.float32)
    truth = 0.5 * source + 100
    for part in ("train", "test"):
        for domain, images in (("A", source), ("B", truth)):
            (tmp_path / f"{part}{domain}").mkdir()
            for index, image in enumerate(images):
                # The second training image has no data.
                pixels = np.full_like(image, -9999) if (part, index) == ("train", 1) else image
                tifffile.imwrite(tmp_path / f"{part}{domain}" / f"{index}.tif", pixels, photometric="minisblack",
                                 extratags=[(42113, "s", 0, "-9999", True)])
    (tmp_path / "testMask").mkdir()
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(tmp_path / "testMask" / "0.png")
    found = measure_baselines(make_config(tmp_path, range_a="0,1000", range_b="0,1000"))
    assert found["mean_color"] == pytest.approx(np.abs(truth[1] - truth[0].mean()).mean(), rel=1e-4)
    assert found["color_map_unfair"] == pytest.approx(0, abs=0.01)


def test_trivial_translations_are_fitted_to_the_pixels_that_count(tmp_path):
    source = RNG.uniform(0, 1000, (12, 12)).astype(np.float32)
    truth = 0.5 * source + 100
    truth[:, :5] = -9999
    for part in ("train", "test"):
        for domain, image in (("A", source), ("B", truth)):
            (tmp_path / f"{part}{domain}").mkdir()
            tifffile.imwrite(tmp_path / f"{part}{domain}" / "s.tif", image, photometric="minisblack",
                             extratags=[(42113, "s", 0, "-9999", True)])
    (tmp_path / "testMask").mkdir()
    mask = np.zeros((12, 12), np.uint8)
    mask[3:9] = 255
    Image.fromarray(mask).save(tmp_path / "testMask" / "s.png")
    found = measure_baselines(make_config(tmp_path, range_a="0,1000", range_b="0,1000"))
    assert found["mean_color"] == pytest.approx(np.abs(truth[3:9, 5:] - truth[:, 5:].mean()).mean(), rel=1e-4)
    assert found["color_map_unfair"] == pytest.approx(0, abs=0.01)
