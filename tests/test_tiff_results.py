"""Translations of TIFF files keep the pages, channels and units of their source."""

import re

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps
from translations import make_translator, run, translate

from cyclegan_tf.config.value_ranges import NO_UNITS, Units, ValueRange
from cyclegan_tf.images import stack_files
from cyclegan_tf.images.stacks import StackOptions

RNG = np.random.default_rng(23)
PAGES = RNG.integers(0, 65536, (4, 6, 9)).astype(np.uint16)


@pytest.mark.parametrize("options", [
    {}, {"bigtiff": True}, {"byteorder": ">"}, {"compression": "lzw", "predictor": True},
    {"compression": "zstd", "tile": (16, 32)}, {"compression": "packbits"}, {"compression": "lzma"},
    {"resolution": (300, 200), "resolutionunit": "inch"},
    {"description": "a stack", "metadata": None, "software": "microscope 1.0", "datetime": "2026:11:26 18:00:00"},
], ids=lambda options: " ".join(map(str, options)) or "plain")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_stack_comes_back(tmp_path, options, dtype):
    pages = (PAGES / 65535).astype(dtype) if dtype == np.float32 else PAGES.astype(dtype)
    is_described = "description" in options
    if dtype == np.float32 and options.get("predictor"):
        options = {**options, "compression": "zlib"}
    tifffile.imwrite(tmp_path / "s.tif", pages, photometric="minisblack", **options)
    result = translate(tmp_path / "s.tif", make_translator(), batch_size=3)
    with tifffile.TiffFile(tmp_path / "s.tif") as source, tifffile.TiffFile(result) as file:
        assert (file.asarray() == pages).all()
        assert file.pages[0].dtype == dtype
        assert len(file.pages) == 4
        assert (file.is_bigtiff, file.byteorder) == (source.is_bigtiff, source.byteorder)
        for own, other in zip(file.pages, source.pages, strict=True):
            for name in ("compression", "predictor", "tile", "photometric", *(["description"] if is_described else [])):
                assert getattr(own, name) == getattr(other, name), name
            for code in (305, 306) if is_described else ():
                assert own.tags.valueof(code) == other.tags.valueof(code)
            assert own.get_resolution() == other.get_resolution()


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("axes", ["ZCYX", "CZYX", "TZCYX"])
def test_ome_metadata_is_kept(tmp_path, axes, channels):
    shape = {"T": 2, "Z": 3, "C": 5, "Y": 6, "X": 9}
    pixels = RNG.integers(0, 65536, [shape[axis] for axis in axes]).astype(np.uint16)
    metadata = {"axes": axes, "PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm", "Channel": {"Name": [*"abcde"]}}
    tifffile.imwrite(tmp_path / "s.ome.tif", pixels, ome=True, metadata=metadata)
    result = translate(tmp_path / "s.ome.tif", make_translator(channels), batch_size=2)
    with tifffile.TiffFile(result) as file:
        series, = file.series
        assert series.kind == "ome"
        # tifffile finds every plane at its place, whatever the order of the pages.
        order = [series.axes.index(axis) for axis in axes]
        assert (series.asarray().transpose(order) == pixels).all()
        assert re.findall('Channel ID="[^"]*"[^>]* Name="(.)"', file.ome_metadata) == [*"abcde"]
        assert 'PhysicalSizeX="0.1"' in file.ome_metadata
        assert "µm" in file.ome_metadata


@pytest.mark.parametrize("channels", [1, 2], ids=["a slice per page", "a slice per pair of pages"])
@pytest.mark.parametrize("places", [
    [(0, 0), (0, 1), (1, 0), (1, 1)], [(0, 0), (1, 0), (0, 1), (1, 1)], [(1, 1), (1, 0), (0, 1), (0, 0)],
], ids=["in order", "channels first", "backwards"])
def test_planes_keep_their_places_whatever_the_order_of_the_pages(tmp_path, places, channels):
    planes = PAGES.reshape(2, 2, 6, 9)  # C, Z, Y, X.
    data = "".join(
        f'<TiffData IFD="{number}" FirstC="{c}" FirstZ="{z}" PlaneCount="1"/>' for number, (c, z) in enumerate(places)
    )
    description = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYZCT" Type="uint16" SizeX="9" SizeY="6" SizeC="2" SizeZ="2" SizeT="1">'
        f'<Channel ID="Channel:0:0"/><Channel ID="Channel:0:1"/>{data}</Pixels></Image></OME>'
    )
    with tifffile.TiffWriter(tmp_path / "s.ome.tif") as file:
        for number, place in enumerate(places):
            file.write(planes[place], metadata=None, description=description if number == 0 else None)
    for path in (tmp_path / "s.ome.tif", translate(tmp_path / "s.ome.tif", make_translator(channels))):
        with tifffile.TiffFile(path) as file:
            series, = file.series
            assert (series.asarray().transpose([series.axes.index(axis) for axis in "CZYX"]) == planes).all()


@pytest.mark.parametrize(("channels", "out"), [(5, 2), (1, 1)])
def test_ome_metadata_of_other_channels_and_types(tmp_path, channels, out):
    pixels = RNG.integers(0, 1000, (3, 5, 6, 9)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "s.ome.tif", pixels, ome=True, metadata={"axes": "ZCYX"})
    units = Units(ValueRange(0, 1000), ValueRange(0, 1))
    translator = make_translator(channels, units, lambda images: images[..., :out], out)
    result = translate(tmp_path / "s.ome.tif", translator, batch_size=1)
    with tifffile.TiffFile(result) as file:
        series, = file.series
        assert (series.axes, series.shape) == ("ZCYX", (3, 2 if channels == 5 else 5, 6, 9))
        np.testing.assert_allclose(series.asarray()[:, 0], pixels[:, 0] / 1000, atol=1e-6)
        assert series.dtype == np.float32


@pytest.mark.parametrize(("out", "n_planes"), [(1, 0), (2, 6), (3, 0)])
def test_metadata_of_ome_planes_is_kept_if_the_result_has_as_many_channels(tmp_path, out, n_planes):
    pixels = RNG.integers(0, 65536, (3, 2, 6, 9)).astype(np.uint16)
    metadata = {"axes": "ZCYX", "Plane": {"PositionZ": [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]}}
    tifffile.imwrite(tmp_path / "s.ome.tif", pixels, ome=True, metadata=metadata)
    translator = make_translator(2, function=lambda images: np.repeat(images[..., :1], out, axis=-1), out=out)
    with tifffile.TiffFile(translate(tmp_path / "s.ome.tif", translator)) as file:
        places = [tuple(map(int, place)) for place in re.findall(
            '<Plane [^>]*TheC="(.)" TheZ="(.)"', file.ome_metadata)]
        assert len(re.findall("<Plane", file.ome_metadata)) == len(places) == n_planes
        assert set(places) == ({(c, z) for c in range(2) for z in range(3)} if n_planes else set())
        assert file.series[0].shape == ((3, out, 6, 9) if out > 1 else (3, 6, 9))


def test_all_images_of_ome_metadata_are_kept(tmp_path):
    groups = PAGES[:2], PAGES[1:]
    with tifffile.TiffWriter(tmp_path / "s.ome.tif", ome=True) as file:
        for group in groups:
            file.write(group, photometric="minisblack", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(translate(tmp_path / "s.ome.tif", make_translator())) as file:
        assert len(file.series) == 2
        for series, group in zip(file.series, groups, strict=True):
            assert (series.asarray() == group).all()


@pytest.mark.parametrize(("old", "new", "reason"), [
    (b'SizeZ="4"', b'SizeZ="7"', "the OME metadata describes 7 images, but the file has 4: some may be missing"),
    (b"</Pixels>", b"<<<<<<<<<", "not well-formed"),
], ids=["missing planes", "damaged"])
def test_ome_metadata_that_does_not_fit_is_named(tmp_path, old, new, reason):
    path = tmp_path / "s.ome.tif"
    tifffile.imwrite(path, PAGES, ome=True, metadata={"axes": "ZYX"})
    path.write_bytes(path.read_bytes().replace(old, new))
    (found,) = run(path, make_translator()).values()
    assert reason in found
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_imagej_image_keeps_the_size_of_its_pixels(tmp_path, dtype):
    pixels = (PAGES[0] / 65535).astype(dtype) if dtype == np.float32 else PAGES[0].astype(dtype)
    tifffile.imwrite(tmp_path / "s.tif", pixels, imagej=True, resolution=(4, 5), metadata={"unit": "um"})
    with tifffile.TiffFile(translate(tmp_path / "s.tif", make_translator())) as file:
        assert (file.asarray() == pixels).all()
        assert file.imagej_metadata["unit"] == "um"
        assert file.pages[0].get_resolution() == (4, 5)


def test_imagej_stack_stays_one(tmp_path):
    pixels = RNG.integers(0, 65536, (3, 5, 6, 9)).astype(np.uint16)
    metadata = {"axes": "ZCYX", "unit": "um", "spacing": 2.5, "min": 7.0, "max": 9.0}
    tifffile.imwrite(tmp_path / "s.tif", pixels, imagej=True, resolution=(4, 4), metadata=metadata)
    for channels in (1, 5):
        result = translate(tmp_path / "s.tif", make_translator(channels))
        with tifffile.TiffFile(result) as file:
            assert file.is_imagej
            assert file.series[0].axes == "ZCYX"
            assert (file.asarray() == pixels).all()
            assert file.imagej_metadata["unit"] == "um"
            assert file.imagej_metadata["spacing"] == 2.5
            assert "min" not in file.imagej_metadata
            assert file.pages[0].get_resolution() == (4.0, 4.0)
        (tmp_path / "out" / "s.tif").unlink()


@pytest.mark.parametrize(("channels", "out", "kept"), [
    (1, 1, ["frame 1", "", "frame 3 µs", "frame 4"]), (4, 4, ["frame 1", "", "frame 3 µs", "frame 4"]),
    (4, 2, ["frame 1", ""]),
], ids=["a slice per page", "a page per channel", "other channels"])
def test_each_page_keeps_its_own_description(tmp_path, channels, out, kept):
    # ScanImage writes a text on each page. tifffile writes texts like the second.
    texts = ["frame 1", '{"shape": [6, 9]}', "frame 3 µs", "frame 4"]
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for page, text in zip(PAGES, texts, strict=True):
            file.write(page, photometric="minisblack", metadata=None, description=text.encode())
    translator = make_translator(channels, function=lambda images: images[..., :out], out=out)
    with tifffile.TiffFile(translate(tmp_path / "s.tif", translator, batch_size=3)) as file:
        assert [page.aspage().description for page in file.pages] == kept
        assert (np.stack([page.asarray() for page in file.pages]) == PAGES[:len(kept)]).all()


@pytest.mark.parametrize("layout", ["contig", "separate"])
def test_bands_come_back(tmp_path, layout):
    pixels = RNG.integers(0, 65536, (6, 9, 13)).astype(np.uint16)
    array = pixels if layout == "contig" else np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(tmp_path / "b.tif", array, planarconfig=layout, photometric="minisblack")
    result = translate(tmp_path / "b.tif", make_translator(13))
    with tifffile.TiffFile(result) as file:
        assert len(file.pages) == 1
        assert file.pages[0].planarconfig.name.lower() == layout
        assert (file.asarray() == array).all()
    (tmp_path / "out" / "b.tif").unlink()
    result = translate(tmp_path / "b.tif", make_translator(13, function=lambda images: images[..., :3], out=3))
    assert (np.moveaxis(tifffile.imread(result), -1 if layout == "contig" else 0, -1).shape) == (6, 9, 3)


@pytest.mark.parametrize("place", [[], [(42113, "s", 0, "-9999", True)]], ids=["stack", "one page of a GeoTIFF"])
def test_palettes_become_colors(tmp_path, place):
    indices = RNG.integers(0, 256, (1 if place else 3, 6, 9)).astype(np.uint8)
    palette = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "p.tif", indices, colormap=palette * 257, photometric="palette", metadata=None,
                     extratags=place)
    result = tifffile.imread(translate(tmp_path / "p.tif", make_translator(3)))
    assert (result.reshape(-1, 6, 9, 3) == np.moveaxis(palette[:, indices], 0, -1)).all()


def test_pixels_without_data_of_rotated_palettes_are_rotated(tmp_path):
    indices = RNG.integers(0, 4, (6, 9)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "s.tif", indices, photometric="palette", colormap=np.zeros((3, 256), np.uint16), metadata=None,
        extratags=[(274, "H", 1, 6, True), (42113, "s", 0, "3", True)],
    )
    stack = stack_files.open_file(str(tmp_path / "s.tif"), StackOptions())
    assert (stack.read(0).valid == np.rot90(indices != 3, -1)).all()


def test_alpha_and_gray_of_stacks(tmp_path):
    colors = RNG.integers(0, 256, (3, 6, 9, 4)).astype(np.uint8)
    colors[..., 3] |= 254  # Almost opaque.
    tifffile.imwrite(tmp_path / "s.tif", colors, photometric="rgb", extrasamples=("unassalpha",))
    result = tifffile.imread(translate(tmp_path / "s.tif", make_translator(3)))
    assert (result[..., 3] == colors[..., 3]).all()
    np.testing.assert_allclose(result[..., :3].astype(int), colors[..., :3], atol=1)
    tifffile.imwrite(tmp_path / "g.tif", colors[..., 0], photometric="minisblack")
    assert (tifffile.imread(translate(tmp_path / "g.tif", make_translator(3))) == colors[..., 0]).all()


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_gray_with_transparency_stays_gray(tmp_path, kind):
    pages = RNG.integers(0, 256, (2, 6, 9, 2)).astype(np.uint8)
    pages[..., 1] = 255
    tifffile.imwrite(tmp_path / "s.tif", pages, photometric="minisblack", planarconfig="contig", extrasamples=(kind,))
    assert (tifffile.imread(translate(tmp_path / "s.tif", make_translator(3))) == pages).all()


def test_pages_of_different_orientations(tmp_path):
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for page, orientation in zip(PAGES, (1, 6, 6, 1), strict=True):
            file.write(page, photometric="minisblack", metadata=None, extratags=[(274, "H", 1, orientation, True)])
    with tifffile.TiffFile(translate(tmp_path / "s.tif", make_translator(), batch_size=4)) as file:
        for page, source, turns in zip(file.pages, PAGES, (0, -1, -1, 0), strict=True):
            assert (page.asarray() == np.rot90(source, turns)).all()
    with pytest.raises(ValueError, match="the pages have different orientations, so they do not fit one array; write"):
        stack_files.read(str(tmp_path / "s.tif"), StackOptions(1), NO_UNITS)


@pytest.mark.parametrize(("units", "photometric"), [
    (Units(None, ValueRange(0, 255)), "minisblack"), (Units(ValueRange(0, 255), ValueRange(0, 255)), "miniswhite"),
], ids=["inverted by the reader", "in units"])
def test_levels_that_the_reader_inverts_are_not_inverted_again(tmp_path, units, photometric):
    pages = PAGES.astype(np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", pages, photometric="miniswhite")
    with tifffile.TiffFile(translate(tmp_path / "s.tif", make_translator(1, units))) as file:
        assert file.pages[0].photometric.name.lower() == photometric
        np.testing.assert_allclose(file.asarray(), pages if photometric == "miniswhite" else 255 - pages, atol=1e-3)


def test_transparency_that_a_result_cannot_hold_is_a_warning(tmp_path, caplog):
    colors = RNG.integers(0, 65536, (3, 6, 9, 4)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "s.tif", colors, photometric="rgb", extrasamples=("unassalpha",))
    result = tifffile.imread(translate(tmp_path / "s.tif", make_translator(3, Units(None, ValueRange(0, 0.5)))))
    assert (result.dtype, result.shape) == (np.float32, (3, 6, 9, 3))
    message = (f"{tmp_path}/out/s.tif: the transparency is left out, because the pixels are float32 and the alpha "
               "channel is uint16")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [message]


@pytest.mark.parametrize("xmp", [b'<a tiff:Orientation="6" b="6"/>', b"<tiff:Orientation>6</tiff:Orientation>"])
@pytest.mark.parametrize("n_pages", [1, 2])
def test_rotated_files_are_upright_for_readers_of_xmp(tmp_path, n_pages, xmp):
    pixels = RNG.integers(0, 256, (6, 9, 3)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for _ in range(n_pages):
            file.write(pixels, photometric="rgb", metadata=None,
                       extratags=[(274, "H", 1, 6, True), (700, "B", len(xmp), xmp, True)])
    result = translate(tmp_path / "s.tif", make_translator(3))
    # Pillow reads the orientation of XMP data if there is no tag.
    for path in (tmp_path / "s.tif", result):
        with Image.open(path) as image:
            assert (np.asarray(ImageOps.exif_transpose(image)) == np.rot90(pixels, -1)).all()
    with tifffile.TiffFile(result) as file:
        assert file.pages[-1].tags.valueof(700) == xmp.replace(b"6", b"1", 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_resolution_fits_the_upright_image(tmp_path, orientation):
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for page in PAGES:
            file.write(page, resolution=(300, 150), metadata=None, extratags=[(274, "H", 1, orientation, True)])
    with tifffile.TiffFile(translate(tmp_path / "s.tif", make_translator())) as file:
        for page in file.pages:
            is_rotated = page.shape == (9, 6)
            assert is_rotated == (orientation >= 5)
            assert page.get_resolution() == ((150, 300) if is_rotated else (300, 150))


def test_each_page_keeps_its_own_resolution(tmp_path):
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for page, density, unit, orientation in zip(PAGES, (300, 72, 600, 90), (2, 3, 2, 2), (1, 1, 1, 6), strict=True):
            file.write(page, resolution=(density, 10), resolutionunit=unit, metadata=None,
                       extratags=[(274, "H", 1, orientation, True)])
    with tifffile.TiffFile(tmp_path / "s.tif", mode="r+b") as file:
        file.pages[2].tags[296].overwrite(0)  # No unit has the number 0.
    with tifffile.TiffFile(translate(tmp_path / "s.tif", make_translator(), batch_size=4)) as file:
        # Without a resolution, tifffile writes 1 pixel per unit, and no unit.
        assert [(page.get_resolution(), int(page.resolutionunit)) for page in file.pages] == [
            ((300, 10), 2), ((72, 10), 3), ((1, 1), 1), ((10, 90), 2)
        ]


@pytest.mark.parametrize(("colors", "space", "out", "is_kept"), [
    (3, b"RGB ", 3, True), (1, b"GRAY", 1, True), (4, b"CMYK", 3, False), (3, b"RGB ", 1, False),
], ids=["RGB", "gray", "CMYK to RGB", "RGB to gray"])
@pytest.mark.parametrize("n_pages", [1, 2])
def test_color_profiles_are_kept_if_they_fit(tmp_path, n_pages, colors, space, out, is_kept):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile[:16] + space + profile[20:]
    kind = {1: "minisblack", 3: "rgb", 4: "separated"}[colors]
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for _ in range(n_pages):
            pixels = RNG.integers(0, 256, (6, 9, colors)).astype(np.uint8)
            file.write(pixels.squeeze(), photometric=kind, iccprofile=profile, metadata=None)
    translator = make_translator(min(colors, 3), function=lambda images: images[..., :out], out=out)
    with tifffile.TiffFile(translate(tmp_path / "s.tif", translator)) as file:
        assert len(file.pages) == n_pages
        assert [page.iccprofile for page in file.pages] == n_pages * [profile if is_kept else None]


def test_translated_jpeg_pages_are_not_compressed_again(tmp_path):
    ramp = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "j.tif", np.stack([ramp, ramp[::-1]]), photometric="minisblack", compression="jpeg")
    result = tifffile.imread(translate(tmp_path / "j.tif", make_translator()))
    assert (result == tifffile.imread(tmp_path / "j.tif")).all()
    np.testing.assert_allclose(result[1].astype(int), ramp[::-1], atol=3)


def test_damaged_stack_leaves_nothing(tmp_path):
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for page in (PAGES[0], PAGES[1, :5]):
            file.write(page, metadata=None)
    bad = run(tmp_path / "s.tif", make_translator())
    assert re.match("page 2 has 9 x 5 pixels", bad[str(tmp_path / "s.tif")])
    assert list((tmp_path / "out").iterdir()) == []


def test_stack_as_another_kind_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", PAGES, photometric="minisblack")
    assert run(tmp_path / "s.tif", make_translator(), tmp_path / "o.png") == {
        str(tmp_path / "s.tif"): "the translation of a TIFF stack needs a name that ends in .tif or .tiff"
    }


@pytest.mark.parametrize(("name", "result"), [("s", "s.tif"), ("s.lsm", "s.tif"), ("s.ome.btf", "s.ome.tif")])
def test_stacks_without_the_suffix_get_one(tmp_path, name, result):
    tifffile.imwrite(tmp_path / name, PAGES, photometric="minisblack", bigtiff=name == "s.ome.btf")
    assert run(tmp_path, make_translator(), tmp_path / "out") == {}
    assert (tifffile.imread(tmp_path / "out" / result) == PAGES).all()


def test_progress_of_a_stack_counts_slices(tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", PAGES, photometric="minisblack")
    amounts = []
    translate(tmp_path / "s.tif", make_translator(), batch_size=3, update=amounts.append)
    assert amounts == [3, 1, 0]


def test_loaded_translator_reads_a_stack(tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", PAGES, photometric="minisblack")
    assert (make_translator().translate(tmp_path / "s.tif")[..., 0] == PAGES).all()
