"""Values in units, such as Hounsfield units, reach the networks in [-1, 1], and translations have values in units."""

import contextlib
import dataclasses
import json
import re
import struct

import nibabel
import numpy as np
import pytest
import tensorflow as tf
import tifffile
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from translations import make_translator, translate

import cyclegan_tf
from cyclegan_tf.config import Config
from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.config.value_ranges import Units, ValueRange
from cyclegan_tf.data import given_images, loaders, percentiles, pipeline, sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges, units
from cyclegan_tf.images.stacks import Slice
from cyclegan_tf.inference import measuring, translator
from cyclegan_tf.metrics.setting import Protocol
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.training import trainer

RNG = np.random.default_rng(4)
CT, MR = ValueRange(-1024, 3071), ValueRange(0, 1.5)


@pytest.mark.parametrize(("low", "high", "dtype"), [
    (-1024, 3071, np.int16), (0, 65535, np.uint16), (0, 255, np.uint8), (-32768, 32767, np.int16),
    (-5, 4_000_000, np.int32),
])
def test_every_integer_comes_back(low, high, dtype):
    limits = ValueRange(low, high)
    values = np.arange(low, high + 1).astype(dtype)
    floats = units.from_unit(values, limits)
    assert floats.dtype == np.float32
    assert (floats[0], floats[-1]) == (-1, 1)
    assert (units.to_unit(floats, limits, dtype) == values).all()


@pytest.mark.parametrize("kind", ["i1", "<u2", ">u2", "<i2", ">i2", "i4", "f4"])
def test_every_dtype_and_byte_order_is_mapped_alike(kind):
    values = RNG.integers(-128, 128, (5, 6, 2)) if "i" in kind or "f" in kind else RNG.integers(0, 256, (5, 6, 2))
    expected = np.clip((values - 10) / 50, -1, 1)
    limits = ValueRange(-40, 60)
    array = values.astype(kind)
    for change in (lambda each: each, lambda each: each[::2, ::-1], lambda each: each.transpose(1, 0, 2)):
        np.testing.assert_allclose(units.from_unit(change(array), limits), change(expected), atol=1e-7)
    assert units.count_outside(array, limits) == np.count_nonzero(np.abs(values - 10) > 50)


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.lists(st.floats(-2e6, 2e6), min_size=1, max_size=20))
def test_values_are_mapped_linearly_and_clipped(low, width, values):
    limits = ValueRange(low, low + width)
    array = np.array(values)
    inside = np.clip(array, limits.low, limits.high)
    expected = 2 * (inside - limits.low) / (limits.high - limits.low) - 1
    floats = units.from_unit(array, limits)
    np.testing.assert_allclose(floats, expected, atol=1e-6)
    assert np.abs(floats).max() <= 1
    np.testing.assert_allclose(units.to_unit(floats, limits, np.float64), inside, atol=1e-6 * width)
    assert units.count_outside(array, limits) == sum(not limits.low <= value <= limits.high for value in values)


@pytest.mark.parametrize(("limits", "source", "no_data", "expected"), [
    (CT, np.int16, None, np.int16), (CT, np.uint16, None, np.int16), (CT, np.uint8, None, np.int16),
    (ValueRange(0, 4095), np.int16, None, np.int16), (ValueRange(0, 4095), np.uint8, None, np.uint16),
    (ValueRange(0, 255), np.uint16, None, np.uint16), (ValueRange(0, 70000), np.uint16, None, np.int32),
    (MR, np.int16, None, np.float32), (ValueRange(0, 1), np.uint8, None, np.float32),
    (ValueRange(0.5, 4000), np.uint16, None, np.float32), (CT, np.float32, None, np.float32),
    (CT, np.float64, None, np.float64), (None, np.uint8, None, np.uint8), (None, np.uint16, None, np.uint16),
    (None, np.int16, None, np.uint16), (None, np.float64, None, np.float32),
    (ValueRange(0, 4095), np.uint16, -9999.0, np.int16), (ValueRange(0, 4095), np.uint16, float("nan"), np.float32),
])
def test_dtype_of_a_translated_file(limits, source, no_data, expected):
    assert units.choose_dtype(limits, np.dtype(source), no_data) == expected


def test_floats_without_data_are_black_without_a_range():
    piece = Slice(np.float32([[[0.5], [np.nan], [-9999]]]), np.array([[True, False, False]]))
    assert units.get_plain_pixels(piece).tolist() == [[[0.5], [-1], [-1]]]


def test_pixels_without_data_are_black_and_do_not_count_as_clipped():
    pixels = np.array([[[-9999.0], [0.0]], [[3.0], [1.5]]])
    image, clipped = units.normalize(Slice(pixels, pixels[..., 0] > -9999), MR)
    assert image[..., 0].tolist() == [[-1, -1], [1, 1]]
    assert clipped == 1


@pytest.fixture
def scans(tmp_path):
    """A data set of two stacks of int16 (CT, 4 pages) and float32 (MR, 3 pages), and the pages of the first one."""
    ct = RNG.integers(-1100, 3200, (4, 20, 24)).astype(np.int16)
    mr = RNG.uniform(0, 2, (3, 20, 24)).astype(np.float32)
    for domain, stack in (("A", ct), ("B", mr)):
        (tmp_path / "scans" / f"train{domain}").mkdir(parents=True)
        tifffile.imwrite(tmp_path / "scans" / f"train{domain}" / "s.tif", stack, photometric="minisblack")
    return tmp_path / "scans", ct, mr


def make_config(folder, **options):
    return Config(**{
        "dataset": str(folder), "input_channels": 1, "output_channels": 1, "range_a": "-1024,3071", "range_b": "0,1.5",
    } | options)


def test_training_images_are_in_their_range(scans, caplog):
    folder, ct, mr = scans
    dataset = sources.open_dataset(make_config(folder))
    for image_list, stack, limits in ((dataset.train_a, ct, CT), (dataset.train_b, mr, MR)):
        image = image_list.decode(1)
        middle, half = (limits.low + limits.high) / 2, (limits.high - limits.low) / 2
        np.testing.assert_allclose(image[..., 0], np.clip((stack[1] - middle) / half, -1, 1), atol=1e-6)
    outside = np.count_nonzero((ct[1] < -1024) | (ct[1] > 3071))
    path = f"{folder}/trainA/s.tif[1]"
    assert dataset.bad.clipped[path] == (outside, ct[1].size)
    assert re.fullmatch(rf"{re.escape(path)}: .* % of the values are outside of the range -1024,3071 and are clipped",
                        caplog.records[0].getMessage())
    # Only the first image is named.
    assert len(caplog.records) == 1
    both = outside + np.count_nonzero(mr[1] > 1.5)
    assert dataset.bad.describe_clipped() == (
        f"values outside of the range were clipped in 2 images, {both / 960:.2%} of their values"
    )


def test_each_value_counts_in_the_share_of_clipped_values(tmp_path):
    for domain in "AB":
        (tmp_path / f"train{domain}").mkdir()
        np.save(tmp_path / f"train{domain}" / "large.npy", np.eye(10))
        np.save(tmp_path / f"train{domain}" / "small.npy", np.full((1, 1), 9.0))
    dataset = sources.open_dataset(make_config(tmp_path, range_a="0,0.5"))
    for index in range(2):
        dataset.train_a.decode(index)
    assert dataset.bad.describe_clipped() == (
        "values outside of the range were clipped in 2 images, 10.89% of their values"  # 11 of 101.
    )


def test_direction_swaps_the_files_and_not_the_ranges(scans):
    folder, ct, _ = scans
    dataset = sources.open_dataset(make_config(folder, direction="b2a", range_a="0,1.5", range_b="-1024,3071"))
    values = units.to_unit(dataset.train_b.decode(0), CT, np.int16)
    assert (values[..., 0] == np.clip(ct[0], -1024, 3071)).all()


def test_images_of_8_and_16_bits_have_units_too(tmp_path):
    for domain in "AB":
        (tmp_path / f"train{domain}").mkdir()
        Image.fromarray(np.array([[0, 100, 200]], np.uint8)).save(tmp_path / f"train{domain}" / "a.png")
        Image.fromarray(np.array([[0, 1000, 4095]], np.uint16)).save(tmp_path / f"train{domain}" / "b.png")
        np.save(tmp_path / f"train{domain}" / "c.npy", np.array([[-50, 0, 50]], np.int8))
    found = sources.open_dataset(make_config(tmp_path, range_a="0,200")).train_a
    assert [found.decode(index)[0, :, 0].tolist() for index in range(3)] == [[-1, 0, 1], [-1, 1, 1], [-1, -1, -0.5]]


@pytest.mark.parametrize(("array", "reason"), [
    (np.array([[0, np.nan]]), "1 of 2 pixels are NaN"),
    (np.zeros((2, 2), complex), "the type complex128 is not supported"),
    (np.zeros((2, 2), bool), "the values have the type bool; expected integers or floats"),
    (np.zeros((2, 2, 7)), r"the array has the shape \(2, 2, 7\); .*"),
])
def test_bad_values_are_named(tmp_path, array, reason):
    for domain in "AB":
        (tmp_path / f"train{domain}").mkdir()
        np.save(tmp_path / f"train{domain}" / "c.npy", array)
    found = sources.open_dataset(make_config(tmp_path)).train_a
    assert found.load(0) is None
    assert re.fullmatch(reason, next(iter(found.bad.reasons.values())))


def test_integers_without_a_range_are_named():
    with pytest.raises(ValueError, match=r"^the values are integers in a unit of the file; train with --range_a or"):
        units.prepare(Slice(np.zeros((4, 4, 1), np.int32)), None, 1)


def test_percentiles_are_those_of_all_training_values(scans):
    folder, ct, mr = scans
    config = make_config(folder, range_a="percentile:5,90", range_b="percentile:0,100")
    measured, dataset = percentiles.measure_ranges(config, sources.open_dataset(config))
    low, high = np.percentile(ct, (5, 90), method="nearest")
    assert measured.range_a == f"percentile:5,90={low},{high}"
    assert dataset.train_a.value_range == dataset.test_a.value_range == ValueRange(low, high)
    assert dataset.train_b.value_range == ValueRange(mr.min(), mr.max())
    assert dataset.train_a.decode(0).min() == -1


def test_percentiles_leave_out_pixels_without_data(tmp_path):
    pixels = np.arange(100, dtype=np.float32).reshape(1, 10, 10)
    pixels[:, :5] = -9999
    for domain in "AB":
        (tmp_path / f"train{domain}").mkdir()
        tifffile.imwrite(tmp_path / f"train{domain}" / "s.tif", pixels, photometric="minisblack",
                         extratags=[(42113, "s", 0, "-9999", True)])
    config = make_config(tmp_path, range_a="percentile:0,100")
    assert percentiles.measure_ranges(config, sources.open_dataset(config))[0].range_a == "percentile:0,100=50,99"


def test_percentiles_leave_out_infinite_values(tmp_path):
    for domain in "AB":
        (tmp_path / f"train{domain}").mkdir()
        np.save(tmp_path / f"train{domain}" / "a.npy", np.array([[3, np.inf], [-np.inf, 7]], np.float32))
    config = make_config(tmp_path, range_a="percentile:0,100")
    assert percentiles.measure_ranges(config, sources.open_dataset(config))[0].range_a == "percentile:0,100=3,7"


def test_percentiles_that_mean_nothing_are_an_error(tmp_path):
    for domain in "AB":
        (tmp_path / f"train{domain}").mkdir()
        Image.new("L", (3, 3), 7).save(tmp_path / f"train{domain}" / "a.png")
    config = make_config(tmp_path, range_a="percentile:1,99")
    with pytest.raises(UserError, match=r"--range_a=percentile:1,99: both percentiles of the images in .* are 7; give"):
        percentiles.measure_ranges(config, sources.open_dataset(config))
    (tmp_path / "trainA" / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 1 images in .*trainA can be read"):
        percentiles.measure_ranges(config, sources.open_dataset(config))


def test_arrays_given_to_fit_have_units(caplog):
    ct = RNG.integers(-2000, 4000, (3, 8, 8, 1)).astype(np.int16)
    config = make_config("given")
    dataset = given_images.open_given((ct, [np.full((8, 8, 1), 0.75)]), config)
    assert (units.to_unit(dataset.train_a.decode(2), CT, np.int16) == np.clip(ct[2], -1024, 3071)).all()
    assert (dataset.train_b.decode(0) == 0).all()
    stream = tf.data.Dataset.from_tensors((ct[0], np.full((8, 8, 1), 0.75)))
    crops = dataclasses.replace(config, preprocess="crop", load_size=8, crop_size=8)
    loader = loaders.StreamLoader(crops, dataset.bad)
    caplog.clear()
    for _ in range(2):
        a, b = loader(*next(stream.as_numpy_iterator()))
    assert caplog.messages == ["given_to_fit: values of A outside of the range -1024,3071 are clipped"]
    assert (a == dataset.train_a.decode(0)).all()
    assert (b == 0).all()
    with pytest.raises(UserError, match="dataset: an image of B cannot be used: 64 of 64 pixels are NaN"):
        loader(ct[0], np.full((8, 8, 1), np.nan))


def test_pictures_show_a_window():
    config = Config(range_a="-1024,3071", range_b="0,1", window="40,400/")
    values = np.array([[[-1024], [-161], [-160], [40], [240], [241]]])
    shown = units.to_rgb(units.from_unit(values, CT), config, "a")
    assert shown[0, :, 0].tolist() == [0, 0, 0, 128, 255, 255]
    # Without a window, the whole range.
    assert units.to_rgb(np.full((1, 1, 1), -0.5, np.float32), config, "b")[0, 0].tolist() == [64, 64, 64]
    plain = units.to_rgb(units.from_unit(values, CT), Config(range_a="-1024,3071"), "a")
    assert (plain == ranges.to_rgb(units.from_unit(values, CT))).all()


def test_translation_counts_clipped_values(scans, tmp_path, caplog):
    folder, ct, _ = scans
    result = translate(folder / "trainA" / "s.tif", make_translator(units=Units(CT, CT)))
    found = tifffile.imread(result)
    assert found.dtype == np.int16
    assert (found == np.clip(ct, -1024, 3071)).all()
    outside = np.count_nonzero((ct < -1024) | (ct > 3071))
    assert f"s.tif: {outside} of {ct.size} values" in caplog.text


def test_the_share_of_clipped_values_ignores_pixels_without_data(tmp_path, caplog):
    pages = np.full((1, 10, 20), 9000, np.int16)
    pages[0, :5], pages[0, 5:7] = 100, -9999
    tifffile.imwrite(tmp_path / "s.tif", pages, photometric="minisblack", extratags=[(42113, "s", 0, "-9999", True)])
    translate(tmp_path / "s.tif", make_translator(3, Units(CT, CT)))
    assert "s.tif: 60 of 160 values (37.5 %) are outside of the range -1024,3071" in caplog.text


def test_python_returns_the_values_that_the_command_writes(tmp_path):
    stored = RNG.integers(0, 4096, (7, 6, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), tmp_path / "v.nii")
    with open(tmp_path / "v.nii", "r+b") as file:
        file.seek(112)  # The fields scl_slope and scl_inter.
        file.write(struct.pack("<ff", 1, -1024))
    model = make_translator(units=Units(CT, ValueRange(0, 300)))
    written = nibabel.load(translate(tmp_path / "v.nii", model))
    found = model.translate(tmp_path / "v.nii")
    assert found.dtype == written.get_data_dtype() == np.int16
    assert np.array_equal(np.sort(found, axis=None), np.sort(written.get_fdata(), axis=None))


@pytest.mark.parametrize(("name", "array", "target", "result", "dtype"), [
    ("a.png", np.array([[0, 2000, 4095]], np.uint16), ValueRange(0, 4095), "a.png", np.uint16),
    ("a.png", np.array([[0, 200, 255]], np.uint8), ValueRange(0, 255), "a.png", np.uint8),
    ("a.png", np.array([[0, 2000, 4095]], np.uint16), CT, "a.tif", np.int16),
    ("a.png", np.array([[0, 2000, 4095]], np.uint16), MR, "a.tif", np.float32),
    ("a.bmp", np.array([[0, 200, 255]], np.uint8), ValueRange(0, 255), "a.png", np.uint8),
    ("a.npy", np.array([[0, 2000, 4095]], np.int32), CT, "a.npy", np.int32),
    ("a.npy", np.array([[0, 2000, 4095]], np.int64), MR, "a.npy", np.float32),
])
def test_translated_pictures_are_in_units(tmp_path, name, array, target, result, dtype):
    np.save(tmp_path / name, array) if name.endswith(".npy") else Image.fromarray(array).save(tmp_path / name)
    source = ValueRange(0, 255 if array.dtype == np.uint8 else 4095)
    path = translate(tmp_path / name, make_translator(units=Units(source, target)))
    assert path == str(tmp_path / "out" / result)
    read = np.load if path.endswith(".npy") else tifffile.imread if path.endswith(".tif") else (
        lambda file: np.asarray(Image.open(file)))
    found = read(path).reshape(array.shape)
    expected = target.low + array.astype(float) / source.high * (target.high - target.low)
    np.testing.assert_allclose(found, expected if dtype == np.float32 else np.rint(expected), atol=1e-4)
    assert found.dtype == dtype


def test_gray_pictures_have_values_of_any_size_from_networks_of_three_channels(tmp_path):
    Image.fromarray(np.array([[0, 51, 255]], np.uint8)).save(tmp_path / "a.png")
    units = Units(ValueRange(0, 255), ValueRange(-100000, 100000))
    found = tifffile.imread(translate(tmp_path / "a.png", make_translator(3, units)))
    assert found.tolist() == [[-100000, -60000, 100000]]


def test_arrays_are_translated_in_units():
    model = make_translator(units=Units(CT, MR))
    values = np.array([[[-1024], [1023.5], [3071], [9999]]])
    np.testing.assert_allclose(model.translate(values)[0, :, 0], [0, 0.75, 1.5, 1.5], atol=1e-6)
    assert (model.translate_pixels(np.zeros((2, 2, 1), np.float32)) == 0).all()
    with pytest.raises(ValueError, match="1 of 4 pixels are NaN"):
        model.translate(np.where(values == 9999, np.nan, values))


LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)
# By hand: half of a level in [-1, 1], in Hounsfield units. Rounding to 8 bits first would change it by up to 8 units.
HALVED = np.rint((LEVELS / 127.5 - 1) / 2 * 2047.5 + 1023.5)


@pytest.fixture
def halving():
    """A translator from images of 8 bits to Hounsfield units that halves its images."""
    return make_translator(units=Units(None, CT), function=lambda images: images / 2)


def test_values_from_8_bit_files_are_not_rounded_to_8_bits(halving, tmp_path):
    Image.fromarray(LEVELS).save(tmp_path / "picture.png")
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([LEVELS, LEVELS]), photometric="minisblack")
    for name in ("picture.png", "stack.tif"):
        for page in tifffile.imread(translate(tmp_path / name, halving)).reshape(-1, 16, 16):
            np.testing.assert_array_equal(page, HALVED)


def test_values_from_8_bit_arrays_are_not_rounded_to_8_bits(halving):
    images = LEVELS[..., np.newaxis]
    np.testing.assert_array_equal(halving.translate(images)[..., 0], HALVED)
    inputs = tf.keras.Input((None, None, 1))
    network = tf.keras.Model(inputs, tf.keras.layers.Rescaling(0.5, name="halve")(inputs))
    own = translator.Translator(network, 1, 1, Units(None, CT))
    for measured in (halving, own):
        floats = measured.translate_pixels(images)
        np.testing.assert_allclose(floats, (images / 127.5 - 1) / 2, atol=1e-6)
    np.testing.assert_allclose(own.translate_pixels(images, tile=8), floats, atol=1e-6)


TINY = {
    "generator": "resnet", "n_blocks": 1, "ngf": 4, "ndf": 4, "n_layers": 1, "load_size": 16, "crop_size": 16,
    "max_steps": 1, "pool_size": 0, "lambda_identity": 0.0,
}


def test_a_run_keeps_its_ranges(scans, tmp_path):
    """Percentiles are measured once; translate and the gallery need no flags."""
    folder, ct, mr = scans
    config = make_config(folder, range_a="percentile:1,99", range_b="0,2", window="40,400/1,2", **TINY)
    for domain, stack in (("A", ct), ("B", mr)):
        (folder / f"test{domain}").mkdir()
        tifffile.imwrite(folder / f"test{domain}" / "s.tif", stack[:2], photometric="minisblack")
    workdir = str(tmp_path / "run")
    final = trainer.train(config, workdir)
    names = ("psnr", "ssim", "mae", "psnr_range")
    assert set(final) == {f"{name}_{direction}" for name in names for direction in ("ab", "ba")}
    # The range of A is some 4000 wide, that of B is 2.
    assert final["mae_ab"] < 2
    assert final["mae_ba"] > 100
    # A run and a SavedModel know their units; a SavedModel does not know how the run resizes images.
    for model, options in ((workdir, {}), (f"{workdir}/export/a2b", {"dataset": str(folder), "size": 16})):
        records = measuring.measure_model(model, None, measuring.choose_data_config(model, **options),
                                          Protocol(), ("mae",), with_baselines=False)
        value = next(record["value"] for record in records if record["direction"] == "a2b")
        assert value == pytest.approx(final["mae_ab"], rel=1e-4)
    stored = Config.load(workdir)
    low, high = np.percentile(ct, (1, 99), method="nearest")
    assert stored.range_a == f"percentile:1,99={low},{high}"
    # The same options resume the run with the ranges that it has measured; other percentiles do not.
    assert run_directory.adopt_ranges(config, workdir) == stored
    other = run_directory.adopt_ranges(dataclasses.replace(config, range_a="percentile:2,99"), workdir)
    with pytest.raises(UserError, match=r"range_a: percentile:1,99=.* -> percentile:2,99"):
        run_directory.require_same_options(other, workdir)
    model = cyclegan_tf.load(workdir)
    assert model.units == Units(ValueRange(low, high), ValueRange(0, 2))
    # Computes the mean absolute error at the size of the files.
    (record,) = measuring.measure_model(workdir, Direction("a2b"), measuring.choose_data_config(workdir, size="native"),
                                        Protocol(), ("mae",), with_baselines=False)
    errors = [np.abs(model.translate(ct[i, ..., np.newaxis])[..., 0] - np.clip(mr[i], 0, 2)).mean() for i in range(2)]
    assert record["value"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert record["size"] == f"{ct.shape[2]}x{ct.shape[1]}"
    back = cyclegan_tf.load(workdir, "b2a")
    assert back.units == Units(ValueRange(0, 2), ValueRange(low, high))
    result = tifffile.imread(translate(folder / "trainA" / "s.tif", model))
    assert result.dtype == np.float32
    assert 0 <= result.min() < result.max() <= 2
    results = json.loads((tmp_path / "run" / "gallery" / "results.json").read_text())
    first = next(row for row in results["rows"] if row["direction"] == "a2b")
    # The window 0 .. 2 of domain B is its whole range; that of A is much narrower.
    shown = np.asarray(Image.open(tmp_path / "run" / first["before"]))
    assert {0, 255} <= set(np.unique(shown))


@pytest.mark.parametrize(("page", "names"), [
    ("satellites", ["0.tif", "1.tif", "2.tif", "3.tif", "4.tif", "5.tif"]),
    ("microscopy", [f"{file}.ome.tif[{index}]" for file in range(4) for index in range(5)]),
])
def test_example_of_a_page_trains(tmp_path, monkeypatch, page, names):
    """Runs the page's code for its data set, and reads a batch with the options of its last training command."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    command = re.findall(r"cyclegan train (.*?)(?<!\\)\n", text, re.DOTALL)[-1].replace("\\\n", " ")
    arguments = [each for each in command.split() if not each.startswith("--workdir")]
    config = config_flags.from_arguments(arguments)
    config, dataset = percentiles.measure_ranges(config, sources.open_dataset(config))
    assert list(dataset.train_a.names) == names
    stream, loaders = pipeline.make_batches(dataset, config, 0, 1)
    with contextlib.closing(pipeline.read_batches(stream, loaders)) as batches:
        a, b = next(batches)
    assert (a.shape, b.shape) == ((1, 32, 32, config.input_channels), (1, 32, 32, config.output_channels))
    assert not dataset.bad
