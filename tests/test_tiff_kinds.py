"""TIFF files of every layout, depth and codec are translated with all values; errors name damaged files."""

import itertools

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from translations import make_translator

from cyclegan_tf.config.value_ranges import Units, ValueRange
from cyclegan_tf.images.codec import decode
from cyclegan_tf.inference import batch, jobs

RNG = np.random.default_rng(31)
DTYPES = (np.uint8, np.int8, np.uint16, np.int16, np.float32)
# Shape of the array, channels of the networks, options of tifffile.
LAYOUTS = {
    "gray": ((21, 17), 1, {"photometric": "minisblack"}),
    "stack": ((3, 21, 17), 1, {"photometric": "minisblack"}),
    "stack of tiles": ((3, 40, 24), 1, {"photometric": "minisblack", "tile": (16, 16)}),
    "colors": ((21, 17, 3), 3, {"photometric": "rgb"}),
    "stack of colors": ((3, 21, 17, 3), 3, {"photometric": "rgb"}),
    "bands": ((21, 17, 5), 5, {"photometric": "minisblack", "planarconfig": "contig"}),
    "planes of bands": ((5, 21, 17), 5, {"photometric": "minisblack", "planarconfig": "separate"}),
    "BigTIFF": ((3, 21, 17), 1, {"photometric": "minisblack", "bigtiff": True, "byteorder": ">"}),
    "OME": ((2, 4, 21, 17), 4, {"photometric": "minisblack", "ome": True, "metadata": {"axes": "ZCYX"}}),
}
CODECS = {
    "none": {}, "LZW": {"compression": "lzw"}, "LZW with predictor": {"compression": "lzw", "predictor": True},
    "Deflate with predictor": {"compression": "zlib", "predictor": True}, "Zstandard": {"compression": "zstd"},
}
KINDS = [pytest.param(*kind, id=", ".join(kind)) for kind in itertools.product(LAYOUTS, CODECS)]


def write(path, layout, codec, dtype):
    """Writes a file of a kind; returns its array and the channels of a slice."""
    shape, channels, options = LAYOUTS[layout]
    if dtype == np.float32:
        array = RNG.normal(0, 100, shape).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        array = RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    tifffile.imwrite(path, array, **options, **CODECS[codec])
    return array, channels


def translate(folder, channels, dtype):
    """Translates s.tif by the identity, in units; returns (array of the result or None, errors)."""
    limits = ValueRange(-1000, 1000) if dtype == np.float32 else ValueRange(np.iinfo(dtype).min, np.iinfo(dtype).max)
    model = make_translator(channels, Units(limits, limits))
    output = folder / "out"
    bad = batch.run(model, jobs.plan(jobs.find(str(folder / "s.tif"), str(output)), str(output), channels))
    found = tifffile.imread(output / "s.tif") if (output / "s.tif").exists() else None
    if found is not None:
        (output / "s.tif").unlink()
    return found, bad


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("layout", "codec"), KINDS)
def test_values_come_back(tmp_path, layout, codec, dtype):
    array, channels = write(tmp_path / "s.tif", layout, codec, dtype)
    found, bad = translate(tmp_path, channels, dtype)
    assert bad == {}
    assert found.dtype == dtype
    np.testing.assert_allclose(found.reshape(array.shape), array, atol=1e-4 if dtype == np.float32 else 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_pictures_of_three_samples_are_decoded_in_full_depth(tmp_path, planarconfig, photometric, dtype):
    picture = RNG.integers(0, np.iinfo(dtype).max, (21, 17, 3), dtype, endpoint=True)
    stored = np.moveaxis(picture, -1, 0) if planarconfig == "separate" else picture
    tifffile.imwrite(tmp_path / "s.tif", stored, photometric=photometric, planarconfig=planarconfig)
    np.testing.assert_array_equal(decode((tmp_path / "s.tif").read_bytes()), picture)


@pytest.mark.parametrize(("layout", "codec"), KINDS)
def test_files_that_are_cut_off_are_named(tmp_path, layout, codec):
    _, channels = write(tmp_path / "s.tif", layout, codec, np.uint16)
    data = (tmp_path / "s.tif").read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        (tmp_path / "s.tif").write_bytes(data[: int(share * len(data))])
        found, bad = translate(tmp_path, channels, np.uint16)
        assert found is None
        assert list(bad) == [str(tmp_path / "s.tif")]
        assert "\n" not in bad[str(tmp_path / "s.tif")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(LAYOUTS)), st.sampled_from(sorted(CODECS)),
       st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_costs_only_the_file(tmp_path, layout, codec, damage):
    _, channels = write(tmp_path / "s.tif", layout, codec, np.uint16)
    content = bytearray((tmp_path / "s.tif").read_bytes())
    for place, value in damage:
        content[8 + int(place * (len(content) - 8))] = value
    (tmp_path / "s.tif").write_bytes(content)
    found, bad = translate(tmp_path, channels, np.uint16)
    # Some damage is invisible: the file has no checksum of its pixels.
    assert (found is None) == bool(bad)


def change_tag(path, name, value):
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[name].overwrite(value)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("layout", "needed", "listed"), [
    ("bands", 238_096, 1),  # Strips of 21 rows.
    ("stack of tiles", 625_000, 6),  # Tiles of 16 x 16 pixels, 2 beside each other.
])
def test_a_page_without_its_strips_or_tiles_is_damaged(tmp_path, codec, layout, needed, listed):
    # Read as zeros, these 5,000,000 rows would take gigabytes.
    _, channels = write(tmp_path / "s.tif", layout, codec, np.uint16)
    change_tag(tmp_path / "s.tif", "ImageLength", 5_000_000)
    found, bad = translate(tmp_path, channels, np.uint16)
    assert found is None
    assert bad == {
        str(tmp_path / "s.tif"): f"the page needs {needed} strips or tiles, but lists {listed}; copy the file again"
    }


def test_a_page_with_a_tile_of_gigabytes_is_damaged(tmp_path):
    _, channels = write(tmp_path / "s.tif", "stack of tiles", "LZW", np.uint16)
    change_tag(tmp_path / "s.tif", "TileWidth", 16_000_000)
    found, bad = translate(tmp_path, channels, np.uint16)
    assert found is None
    assert list(bad.values()) == [
        "tiles of 16000000 x 16 pixels exceed the limit of 178956970 pixels; copy the file again"
    ]


@pytest.mark.parametrize(("tag", "name"), [
    ("PhotometricInterpretation", "photometric"), ("PlanarConfiguration", "planarconfig"),
    ("Compression", "compression"), ("Predictor", "predictor"),
])
def test_a_tag_of_two_numbers_costs_only_the_file(tmp_path, tag, name):
    _, channels = write(tmp_path / "s.tif", "bands", "LZW with predictor", np.uint16)
    change_tag(tmp_path / "s.tif", tag, (1, 1))
    found, bad = translate(tmp_path, channels, np.uint16)
    assert found is None
    assert list(bad.values()) == [
        f"the TIFF file is damaged: its tag {name} is not one number; copy the file again"
    ]
