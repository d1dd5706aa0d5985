"""Translated GeoTIFF files keep their georeference and their pixels without data, as GDAL reads the files."""

import logging
import shutil

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import tifffile
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.transform import Affine, from_origin
from translations import make_translator, run, translate

from cyclegan_tf.config import Config
from cyclegan_tf.config.value_ranges import NO_UNITS, Units, ValueRange
from cyclegan_tf.data import percentiles, sources
from cyclegan_tf.images import stack_files
from cyclegan_tf.images.stacks import StackOptions

RNG = np.random.default_rng(8)
SIZE = (40, 56)
TRANSFORM = from_origin(399960.0, 5800020.0, 10.0, 10.0)
REFLECTANCE = ValueRange(0, 10000)


def write(path, bands, has_alpha=False, **options):
    """Writes a GeoTIFF file of bands (C, H, W) in UTM zone 33 with GDAL; the last band may be alpha."""
    profile = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2],
               "dtype": bands.dtype, "crs": "EPSG:32633", "transform": TRANSFORM}
    with rasterio.open(path, "w", **profile | options) as file:
        if has_alpha:
            file.colorinterp = [*file.colorinterp[:-1], ColorInterp.alpha]
        file.write(bands)
        file.update_tags(AREA_OR_POINT="Area", ACQUIRED="2026-11-26")
        file.update_tags(1, STATISTICS_MAXIMUM="9999")


def assert_same_place(path, other):
    """Asserts that GDAL reads equal georeferences and metadata from two files."""
    with rasterio.open(path) as one, rasterio.open(other) as two:
        assert one.crs == two.crs
        assert one.transform == two.transform
        assert one.nodatavals == two.nodatavals or np.isnan([*one.nodatavals, *two.nodatavals]).all()
        assert (one.shape, one.count) == (two.shape, two.count)
        assert one.tags()["ACQUIRED"] == "2026-11-26"
        assert one.tags()["AREA_OR_POINT"] == "Area"
        # Statistics of the source would be wrong.
        assert "STATISTICS_MAXIMUM" not in one.tags(1)


@pytest.mark.parametrize("options", [
    {}, {"compress": "lzw", "predictor": 2}, {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 32},
    {"compress": "zstd", "interleave": "band"}, {"interleave": "pixel"}, {"BIGTIFF": "YES"},
    {"transform": Affine(10, 2, 399960, -2, -10, 5800020)}, {"crs": "EPSG:4326"}, {"ENDIANNESS": "BIG"},
], ids=lambda options: " ".join(map(str, options)) or "plain")
@pytest.mark.parametrize(("dtype", "count"), [(np.uint8, 3), (np.uint16, 1), (np.uint16, 13), (np.float32, 4)])
def test_place_is_kept(tmp_path, options, dtype, count):
    bands = (RNG.random((count, *SIZE)) * (1 if dtype == np.float32 else 250)).astype(dtype)
    if dtype == np.float32 and "predictor" in options:
        options = {**options, "predictor": 3}
    write(tmp_path / "a.tif", bands, **options)
    result = translate(tmp_path / "a.tif", make_translator(count))
    assert_same_place(result, tmp_path / "a.tif")
    with rasterio.open(result) as file, rasterio.open(tmp_path / "a.tif") as source:
        assert (file.read() == bands).all()
        assert file.profile.get("compress") == source.profile.get("compress")
        assert file.profile["interleave"] == source.profile["interleave"] or count == 1
        assert file.profile["tiled"] == source.profile["tiled"]


@pytest.mark.parametrize("count", [3, 4])
def test_sensor_model_of_a_scene_is_kept(tmp_path, count):
    bands = RNG.integers(0, 65536, (count, *SIZE)).astype(np.uint16)
    one, other = (list(map(float, RNG.normal(size=20).round(3))) for _ in range(2))
    rpcs = RPC(height_off=100.0, height_scale=500.0, lat_off=52.1, lat_scale=0.1, line_off=20.0, line_scale=20.0,
               line_num_coeff=one, line_den_coeff=other, long_off=13.4, long_scale=0.1, samp_off=28.0, samp_scale=28.0,
               samp_num_coeff=other, samp_den_coeff=one, err_bias=0.5, err_rand=0.25)
    # The only georeference of the file, as in level-1 scenes.
    tifffile.imwrite(tmp_path / "a.tif", bands, photometric="rgb" if count == 3 else "minisblack", metadata=None,
                     planarconfig="separate", extratags=[(50844, "d", 92, to_tag(rpcs), True)])
    with rasterio.open(translate(tmp_path / "a.tif", make_translator(count))) as file:
        assert file.rpcs == rpcs
        assert (file.read() == bands).all()


def to_tag(rpcs):
    """Returns the 92 numbers of RPCCoefficientTag."""
    names = ("err_bias", "err_rand", "line_off", "samp_off", "lat_off", "long_off", "height_off", "line_scale",
             "samp_scale", "lat_scale", "long_scale", "height_scale")
    return [*(getattr(rpcs, name) for name in names), *rpcs.line_num_coeff, *rpcs.line_den_coeff,
            *rpcs.samp_num_coeff, *rpcs.samp_den_coeff]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_georeference_of_a_file_that_is_not_upright_is_an_error(tmp_path, orientation):
    write(tmp_path / "upright.tif", RNG.integers(0, 65536, (1, *SIZE)).astype(np.uint16))
    with tifffile.TiffFile(tmp_path / "upright.tif") as file:
        page = file.pages[0]
        place = [(tag.code, tag.dtype, tag.count, tag.value, True) for tag in page.tags if tag.code > 33000]
        tifffile.imwrite(tmp_path / "a.tif", page.asarray(), photometric="minisblack", metadata=None,
                         extratags=[*place, (274, "H", 1, orientation, True)])
    assert run(tmp_path / "a.tif", make_translator()) == {
        str(tmp_path / "a.tif"): f"the file has a georeference and the orientation {orientation}, which GIS programs "
        "ignore, so the place of an upright result is not known; remove the orientation, for example with "
        "gdal_translate IN OUT"
    }
    assert list((tmp_path / "out").iterdir()) == []
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "b.tif", driver="GTiff")  # As gdal_translate does.
    result = translate(tmp_path / "b.tif", make_translator())
    assert_same_place(result, tmp_path / "upright.tif")
    assert (tifffile.imread(result) == tifffile.imread(tmp_path / "upright.tif")).all()


@pytest.mark.parametrize(("dtype", "no_data"), [
    (np.uint16, 0), (np.uint16, 65535), (np.int16, -9999), (np.float32, -9999.0), (np.float32, np.nan),
    (np.float32, np.finfo(np.float32).min),
])
@pytest.mark.parametrize("count", [1, 4])
def test_pixels_without_data_are_written_back(tmp_path, dtype, no_data, count):
    bands = RNG.integers(-50, 10000, (count, *SIZE)).astype(dtype) if dtype != np.uint16 else (
        RNG.integers(1, 10000, (count, *SIZE)).astype(dtype))
    missing = np.zeros(SIZE, bool)
    missing[:7, 10:] = True
    bands[:, missing] = no_data
    write(tmp_path / "a.tif", bands, nodata=no_data)
    units = Units(REFLECTANCE, REFLECTANCE)
    # A network that gives -1 everywhere: the value 0, which is also the mark of the first file.
    for function, expected in ((lambda images: images, np.clip(bands, 0, 10000)),
                               (lambda images: np.full_like(images, -1), np.zeros_like(bands))):
        result = translate(tmp_path / "a.tif", make_translator(len(bands), units, function))
        assert_same_place(result, tmp_path / "a.tif")
        with rasterio.open(result) as file:
            mask = file.read_masks().astype(bool)
            assert (mask == ~missing).all()
            found = file.read()
        # A valid pixel never gets the mark; its value is the next one.
        nearest = np.where(expected == no_data, 1 if no_data == 0 else expected, expected)
        np.testing.assert_allclose(found[mask], nearest[mask], atol=1e-3)
        (tmp_path / "out" / "a.tif").unlink()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_valid_pixels_of_a_file_without_gaps_never_get_the_mark(tmp_path, dtype):
    write(tmp_path / "a.tif", RNG.integers(1, 250, (3, *SIZE)).astype(dtype), nodata=0)
    black = make_translator(3, function=lambda images: np.full_like(images, -1))
    with rasterio.open(translate(tmp_path / "a.tif", black)) as file:
        assert file.read_masks().all()
        assert (file.read() == 1).all()


def test_mark_that_the_result_cannot_hold_is_an_error(tmp_path):
    write(tmp_path / "a.tif", np.full((1, *SIZE), -9999, np.int16), nodata=-9999)
    (reason,) = run(tmp_path / "a.tif", make_translator(units=Units(REFLECTANCE))).values()
    assert reason.startswith("uint16 does not hold -9999, the value of pixels without data; train with a range")


def test_mark_of_float64_in_a_result_of_float32_is_an_error(tmp_path, recwarn):
    lowest = float(np.finfo(np.float64).min)
    bands = RNG.uniform(0, 10000, (1, *SIZE))
    bands[:, :7] = lowest
    write(tmp_path / "a.tif", bands, nodata=lowest)
    (reason,) = run(tmp_path / "a.tif", make_translator(units=Units(REFLECTANCE))).values()
    assert reason.startswith("float32 does not hold -1.79769e+308, the value of pixels without data; train with a")
    assert list((tmp_path / "out").iterdir()) == []
    result = translate(tmp_path / "a.tif", make_translator(units=Units(REFLECTANCE, REFLECTANCE)))
    with rasterio.open(result) as file:
        assert (file.dtypes, file.nodata) == (("float64",), lowest)
        np.testing.assert_allclose(file.read(), bands, atol=1e-2)
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


@pytest.mark.parametrize(("no_data", "holds"), [
    ("-3.4028235e+38", True), ("-inf", True), ("-1.7976931348623157e+308", False),
], ids=["rounded lowest float", "infinity", "lowest double"])
def test_float32_pixels_are_marked_if_their_type_holds_the_mark(tmp_path, no_data, holds, recwarn):
    pixels = RNG.uniform(-1, 1, SIZE).astype(np.float32)
    if holds:
        pixels[:7] = np.float32(no_data)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", metadata=None,
                     extratags=[(42113, "s", 0, no_data, True)])
    with tifffile.TiffFile(translate(tmp_path / "a.tif", make_translator())) as file:
        assert file.pages[0].tags.valueof(42113) == (no_data if holds else None)
        assert (file.asarray() == pixels).all()
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


def test_mark_that_the_source_cannot_hold_marks_nothing(tmp_path):
    bands = RNG.integers(0, 65536, (2, *SIZE)).astype(np.uint16)
    # GDAL refuses to write such a tag, other programs do not.
    tifffile.imwrite(tmp_path / "a.tif", bands, photometric="minisblack", planarconfig="separate", metadata=None,
                     extratags=[(42113, "s", 0, "-9999", True)])
    for units in (NO_UNITS, Units(ValueRange(0, 65535), ValueRange(0, 65535))):
        with tifffile.TiffFile(translate(tmp_path / "a.tif", make_translator(2, units))) as file:
            assert 42113 not in file.pages[0].tags
            assert file.pages[0].dtype == np.uint16
            assert (file.asarray() == bands).all()
        (tmp_path / "out" / "a.tif").unlink()


def test_one_bit_pixels_without_data_are_marked(tmp_path):
    bits = RNG.random((1, *SIZE)) > 0.5
    write(tmp_path / "a.tif", bits.astype(np.uint8), nbits=1, nodata=0)
    translator = make_translator(units=Units(ValueRange(0, 1), ValueRange(0, 300)))
    with rasterio.open(translate(tmp_path / "a.tif", translator)) as file:
        assert (file.read() == np.where(bits, 300, 0)).all()


def test_overviews_of_a_cloud_optimized_file_are_left_out(tmp_path, caplog):
    bands = RNG.integers(1, 255, (3, 600, 700)).astype(np.uint8)
    write(tmp_path / "a.tif", bands, driver="COG", compress="deflate", blocksize=128)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) > 1
    result = translate(tmp_path / "a.tif", make_translator(3))
    assert_same_place(result, tmp_path / "a.tif")
    with rasterio.open(result) as file:
        assert (file.read() == bands).all()
        assert file.overviews(1) == []
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/a.tif: the result leaves out smaller copies of pages"
    ]


def test_the_log_says_that_masks_are_left_out(tmp_path, caplog):
    bands = RNG.integers(1, 255, (3, *SIZE)).astype(np.uint8)
    for domain in "AB":
        (tmp_path / f"train{domain}").mkdir()
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            write(tmp_path / f"train{domain}" / "a.tif", bands)
            with rasterio.open(tmp_path / f"train{domain}" / "a.tif", "r+") as file:
                file.write_mask(bands[0] > 99)
    assert (sources.open_dataset(Config(dataset=str(tmp_path))).train_a.decode(0) == np.moveaxis(bands, 0, -1)).all()
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{tmp_path}/trainA/a.tif: its mask is not used, nor are masks of other")
    caplog.clear()
    translate(tmp_path / "trainA" / "a.tif", make_translator(3))
    (record,) = caplog.records
    assert record.getMessage() == f"{tmp_path}/trainA/a.tif: the result leaves out masks"


def test_pixels_without_data_are_no_training_values(tmp_path, caplog):
    bands = RNG.integers(100, 9000, (1, *SIZE)).astype(np.int16)
    bands[:, :20] = -9999
    for domain in "AB":
        (tmp_path / f"train{domain}").mkdir()
        write(tmp_path / f"train{domain}" / "a.tif", bands, nodata=-9999)
    config = Config(dataset=str(tmp_path), input_channels=1, output_channels=1, range_a="percentile:0,100",
                    range_b="0,9000")
    measured, dataset = percentiles.measure_ranges(config, sources.open_dataset(config))
    assert measured.get_range("a") == ValueRange(bands[:, 20:].min(), bands[:, 20:].max())
    image = dataset.train_a.decode(0)
    assert (image[:20] == -1).all()
    assert image[20:].max() == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert dataset.bad.clipped == {}


@pytest.mark.parametrize("no_data", [None, 7])
@pytest.mark.parametrize("n_bands", [1, 3, 4])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NodataShadowWarning")
def test_transparent_pixels_have_no_data_in_units(tmp_path, n_bands, no_data):
    bands = RNG.integers(100, 9000, (n_bands + 1, *SIZE)).astype(np.uint16)
    bands[:, :20] = 0  # Alpha, too.
    bands[:-1, 30:] = 7
    for domain in "AB":
        for part in ("train", "test"):
            (tmp_path / f"{part}{domain}").mkdir()
            write(tmp_path / f"{part}{domain}" / "a.tif", bands, has_alpha=True, nodata=no_data)
    with rasterio.open(tmp_path / "trainA" / "a.tif") as file:
        # GDAL derives the mask of a band from the no-data value, or from alpha if the file has no such value.
        has_data = (file.read_masks(1) > 0) & (file.read(n_bands + 1) > 0)
        assert [*has_data[:, 0]] == [20 <= row < (30 if no_data else 40) for row in range(40)]
    config = Config(dataset=str(tmp_path), input_channels=n_bands, output_channels=n_bands, range_a="percentile:0,100",
                    range_b="0,9000")
    measured, dataset = percentiles.measure_ranges(config, sources.open_dataset(config))
    assert measured.get_range("a") == ValueRange(bands[:-1, has_data].min(), bands[:-1, has_data].max())
    assert (dataset.test_a.read_valid(0) == has_data).all()
    image = dataset.train_a.decode(0)
    assert (image[~has_data] == -1).all()
    result = translate(tmp_path / "testA" / "a.tif", make_translator(n_bands, Units(REFLECTANCE, REFLECTANCE)),
                       tmp_path / "out")
    with rasterio.open(result) as file:
        assert file.colorinterp[-1] == ColorInterp.alpha
        assert (file.read(n_bands + 1) == bands[-1]).all()
        if no_data:
            # Transparent pixels get the mark, too.
            assert (file.read_masks(1).astype(bool) == has_data).all()
        assert (file.read()[:-1, has_data] == bands[:-1, has_data]).all()


def test_nan_is_allowed_in_transparent_pixels(tmp_path):
    bands = RNG.uniform(1, 100, (2, *SIZE)).astype(np.float32)
    bands[0, :7], bands[1, :7] = np.nan, 0
    write(tmp_path / "a.tif", bands, has_alpha=True)
    piece = stack_files.open_file(str(tmp_path / "a.tif"), StackOptions(1, in_units=True)).read(0)
    assert (piece.values[:, 0] == bands[0, 7:].ravel()).all()


@pytest.mark.parametrize("no_data", ["nan", "-9999"])
@pytest.mark.parametrize("n_pages", [1, 2])
def test_pixels_without_data_are_minus_one_without_a_range(tmp_path, n_pages, no_data):
    pages = RNG.uniform(-1, 1, (n_pages, 6, 9)).astype(np.float32)
    has_data = RNG.integers(0, 2, pages.shape).astype(bool)
    (tmp_path / "trainA").mkdir()
    with tifffile.TiffWriter(tmp_path / "trainA" / "a.tif") as file:
        for page, mask in zip(pages, has_data, strict=True):
            file.write(np.where(mask, page, np.float32(no_data)), photometric="minisblack", metadata=None,
                       extratags=[(42113, "s", 0, no_data, True)])
    shutil.copytree(tmp_path / "trainA", tmp_path / "trainB")
    found = sources.open_dataset(Config(dataset=str(tmp_path), input_channels=1, output_channels=1)).train_a
    assert len(found) == n_pages
    for index, (page, mask) in enumerate(zip(pages, has_data, strict=True)):
        assert (found.load(index)[..., 0] == np.where(mask, page, -1)).all()
    result = translate(tmp_path / "trainA" / "a.tif", make_translator(), tmp_path / "out")
    np.testing.assert_array_equal(tifffile.imread(result), tifffile.imread(tmp_path / "trainA" / "a.tif"))


@pytest.mark.parametrize(("bands", "no_data", "reason"), [
    (1, -9999, "5 pixels are NaN without being marked as pixels without data (GDAL_NODATA); mark them, for example "
     "with gdal_edit.py -a_nodata nan, or replace them"),
    (2, np.nan, "5 pixels are NaN in some channels, but not in all; a pixel has no data (GDAL_NODATA) only if all its "
     "channels are NaN: set all channels to NaN, or none"),
], ids=["not marked", "one of two bands"])
def test_nan_in_a_pixel_with_data_is_named(tmp_path, bands, no_data, reason):
    values = np.zeros((bands, *SIZE), np.float32)
    values[0, 3, :5] = np.nan
    for domain in "AB":
        (tmp_path / f"train{domain}").mkdir()
        write(tmp_path / f"train{domain}" / "a.tif", values, nodata=no_data)
    config = Config(dataset=str(tmp_path), input_channels=bands, output_channels=bands, range_a="0,1", range_b="0,1")
    train = sources.open_dataset(config).train_a
    assert train.load(0) is None
    assert list(train.bad.reasons.values()) == [reason]
