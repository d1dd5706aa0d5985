"""TIFF files of several pages, channels or units become images for training."""

import dataclasses
import errno
import io
import os
import re
import struct

import numpy as np
import pytest
import remote_files
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from translations import make_translator, run, translate

from cyclegan_tf.config import Config
from cyclegan_tf.config.value_ranges import Units, ValueRange
from cyclegan_tf.data import folders, slices, sources
from cyclegan_tf.images import codec, stack_files, tiff
from cyclegan_tf.images.stacks import StackOptions

RNG = np.random.default_rng(23)
PAGES = RNG.integers(0, 65536, (4, 6, 9)).astype(np.uint16)
NO_DATA = 42113


def listed(folder, **options):
    """The slices of the files in a folder."""
    return slices.expand(dataclasses.replace(folders.list_folder(folder), channels=options.get("channels", 3)),
                         StackOptions(**options))


def open_list(folder, channels=1, **options):
    """The training images of domain A of a data set whose domain B is a copy of A."""
    for name in ("trainA", "trainB"):
        (folder / name).mkdir(exist_ok=True)
    config = Config(dataset=str(folder), input_channels=channels, output_channels=channels, **options)
    return sources.open_dataset(config).train_a


@pytest.fixture
def train_a(tmp_path):
    """The folder of the images of domain A; domain B has one image."""
    for name in ("trainA", "trainB"):
        (tmp_path / name).mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "trainB" / "b.png")
    return tmp_path / "trainA"


@pytest.mark.parametrize("options", [
    {}, {"bigtiff": True}, {"byteorder": ">"}, {"compression": "lzw"}, {"compression": "zlib", "predictor": True},
    {"compression": "zstd"}, {"tile": (16, 16)}, {"ome": True, "metadata": {"axes": "ZYX"}},
    {"imagej": True, "metadata": {"axes": "ZYX"}},
], ids=lambda options: " ".join(map(str, options)) or "plain")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_each_page_is_an_image(train_a, options, dtype):
    pages = (PAGES / 65535).astype(dtype) if dtype == np.float32 else PAGES.astype(dtype)
    tifffile.imwrite(train_a / "s.tif", pages, photometric="minisblack", **options)
    found = open_list(train_a.parent)
    assert list(found.names) == [f"s.tif[{index}]" for index in range(4)]
    for index in range(4):
        image = found.decode(index)
        assert image.dtype == dtype
        assert (image[..., 0] == pages[index]).all()


def test_first_page_is_decoded_as_a_file_of_its_own(tmp_path):
    """A run that was trained on the first pages of files sees the same bits."""
    pixels = RNG.integers(0, 256, (6, 9, 4)).astype(np.uint8)
    color, gray = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels[..., 0])
    kinds = {
        "rgba": Image.fromarray(pixels), "cmyk": color.convert("CMYK"), "gray": gray, "palette": color.convert("P"),
        "bits": gray.convert("1"),
    }
    for name, image in kinds.items():
        image.save(tmp_path / f"{name}.tif", save_all=True, append_images=[image.transpose(Image.Transpose.ROTATE_180)])
    tifffile.imwrite(tmp_path / "deep.tif", np.stack([pixels, pixels[::-1, ::-1]]).astype(np.uint16) * 257,
                     photometric="rgb", extrasamples=("unassalpha",))
    for channels in (1, 3):
        found = listed(tmp_path, channels=channels)
        assert len(found) == 2 * (len(kinds) + 1)
        for index, name in enumerate(found.names):
            expected = codec.decode((tmp_path / name.split("[")[0]).read_bytes(), channels)
            assert (found.decode(index) == (expected if name.endswith("[0]") else expected[::-1, ::-1])).all()


def test_plain_images_keep_their_list(tmp_path):
    for name in ("a.png", "b.jpg", "c.tif"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    found = listed(tmp_path)
    assert found.read_slice(0) is None
    assert list(found.names) == ["a.png", "b.jpg", "c.tif"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_thumbnail_before_the_image_is_not_the_image(tmp_path, dtype):
    image = RNG.integers(0, 256, (16, 24, 3)).astype(dtype) * (257 if dtype == np.uint16 else 1)
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        file.write(np.zeros((4, 6, 3), np.uint8), subfiletype=1, photometric="rgb", metadata=None)
        file.write(image, photometric="rgb", metadata=None)
    found = listed(tmp_path)
    assert list(found.names) == ["s.tif"]
    assert (found.decode(0) == image).all()
    assert (tifffile.imread(translate(tmp_path / "s.tif", make_translator(3))) == image).all()


def test_smaller_copies_are_no_images(tmp_path, caplog):
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as file:
        for page in PAGES:
            file.write(page, subifds=1)
            file.write(page[::2, ::2], subfiletype=1)
    with tifffile.TiffWriter(tmp_path / "thumbnails.tif", byteorder=">") as file:
        for page in PAGES:
            file.write(page, metadata=None)
            file.write(page[::2, ::2], subfiletype=1, metadata=None)
    found = listed(tmp_path, channels=1)
    assert len(found) == 8
    assert (found.decode(1)[..., 0] == PAGES[1]).all()
    assert (found.decode(7)[..., 0] == PAGES[3]).all()
    assert not caplog.records, "training loses nothing"
    for name in ("pyramid.tif", "thumbnails.tif"):
        assert (tifffile.imread(translate(tmp_path / name, make_translator())) == PAGES).all()
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/{name}.tif: the result leaves out smaller copies of pages" for name in ("pyramid", "thumbnails")
    ]


# ImageJ's order is always TZCYX.
@pytest.mark.parametrize(("kind", "axes"), [
    *(("ome", axes) for axes in ("ZCYX", "CZYX", "TCYX", "TZCYX")),
    *(("imagej", axes) for axes in ("ZCYX", "TCYX", "TZCYX")),
])
def test_channels_of_one_plane_each_are_channels(tmp_path, kind, axes):
    shape = {"T": 2, "Z": 2, "C": 5, "Y": 6, "X": 9}
    pixels = RNG.integers(0, 65536, [shape[axis] for axis in axes]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "c.tif", pixels, **{kind: True}, metadata={"axes": axes})
    found = listed(tmp_path, channels=5)
    expected = np.moveaxis(pixels, axes.index("C"), -1).reshape(-1, 6, 9, 5)
    assert len(found) == len(expected)
    for index, image in enumerate(expected):
        assert (found.decode(index) == image).all()
    # With another number of channels, each plane is an image.
    assert len(listed(tmp_path, channels=1)) == pixels.size // 54


@pytest.mark.parametrize("depths", [(1, 1), (2, 1, 2)], ids=["alike", "of different depths"])
def test_channels_of_each_image_of_an_ome_file_are_channels(tmp_path, depths):
    images = [RNG.integers(0, 65536, (depth, 3, 6, 9)).astype(np.uint16) for depth in depths]
    with tifffile.TiffWriter(tmp_path / "c.ome.tif", ome=True) as file:
        for pixels in images:
            file.write(pixels, photometric="minisblack", metadata={"axes": "ZCYX"})
    found = listed(tmp_path)
    planes = np.concatenate(images)
    assert len(found) == len(planes)
    for index, plane in enumerate(planes):
        assert (found.decode(index) == np.moveaxis(plane, 0, -1)).all()
    # The networks take two channels, which no image has.
    assert len(listed(tmp_path, channels=2)) == 3 * len(planes)
    with tifffile.TiffFile(translate(tmp_path / "c.ome.tif", make_translator(3))) as file:
        for series, pixels in zip(file.series, images, strict=True):
            assert series.axes.endswith("CYX")
            assert (series.asarray().reshape(pixels.shape) == pixels).all()


def test_pages_are_images_if_only_some_images_of_an_ome_file_have_as_many_channels(tmp_path):
    with tifffile.TiffWriter(tmp_path / "c.ome.tif", ome=True) as file:
        for n_channels in (3, 2):
            file.write(PAGES[:n_channels], photometric="minisblack", metadata={"axes": "CYX"})
    assert len(listed(tmp_path)) == 5


def test_pages_of_a_file_without_axes_are_channels_if_their_number_is_right(tmp_path):
    tifffile.imwrite(tmp_path / "bands.tif", np.concatenate([PAGES, PAGES, PAGES, PAGES[:1]]), photometric="minisblack")
    found = listed(tmp_path, channels=13)
    assert list(found.names) == ["bands.tif"]
    assert (found.decode(0) == np.moveaxis(np.concatenate([PAGES, PAGES, PAGES, PAGES[:1]]), 0, -1)).all()


@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_files_of_many_bands_are_decoded(tmp_path, layout, dtype):
    pixels = (RNG.random((6, 9, 13)) * (1 if dtype == np.float32 else 255)).astype(dtype)
    array = pixels if layout == "contig" else np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(tmp_path / "b.tif", array, planarconfig=layout, photometric="minisblack", compression="zstd")
    image = listed(tmp_path, channels=13).decode(0)
    assert image.dtype == dtype
    assert (image == pixels).all()


@pytest.mark.parametrize("kinds", [["unspecified", "unassalpha"], ["unassalpha", "unspecified"]],
                         ids=["alpha last", "alpha first"])
def test_alpha_is_found_beside_other_bands(tmp_path, kinds):
    pixels = RNG.integers(1, 65536, (6, 9, 5)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "s.tif", pixels, photometric="rgb", extrasamples=kinds)
    place = 3 + kinds.index("unassalpha")
    piece = stack_files.open_file(str(tmp_path / "s.tif"), StackOptions(4, in_units=True)).read(0)
    assert (piece.alpha == pixels[..., place]).all()
    assert (piece.pixels == pixels[..., [0, 1, 2, 7 - place]]).all()
    # Networks that take all samples get alpha as a channel.
    piece = stack_files.open_file(str(tmp_path / "s.tif"), StackOptions(5, in_units=True)).read(0)
    assert piece.alpha is None
    assert (piece.pixels == pixels).all()
    # The fourth band has a value, so that three channels are an error.
    limits = Units(ValueRange(0, 65535), ValueRange(0, 65535))
    (reason,) = run(tmp_path / "s.tif", make_translator(3, limits)).values()
    assert reason.startswith("the image has 4 channels instead of 3;")
    result = tifffile.imread(translate(tmp_path / "s.tif", make_translator(4, limits)))
    assert (result == np.dstack([pixels[..., [0, 1, 2, 7 - place]], pixels[..., place]])).all()


@pytest.mark.parametrize("in_units", [False, True], ids=["pictures", "units"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_not_compared_with_the_no_data_value(tmp_path, dtype, in_units):
    pixels = RNG.integers(1, 256, (6, 9, 4)).astype(dtype)
    pixels[:2, :, :3] = 0
    tifffile.imwrite(tmp_path / "s.tif", pixels, photometric="rgb", extrasamples=["unassalpha"],
                     extratags=[(NO_DATA, "s", 0, "0", True)])
    stack = stack_files.open_file(str(tmp_path / "s.tif"), StackOptions(3, in_units))
    assert (stack.read(0).valid == (np.arange(6) >= 2)[:, np.newaxis].repeat(9, axis=1)).all()


def write_pages(*pages, **options):
    """A function that writes pages to a TiffWriter, each as a separate series."""
    return lambda file: [file.write(page, metadata=None, **options) for page in pages]


@pytest.mark.parametrize(("write", "reason"), [
    pytest.param(write_pages(PAGES[0], PAGES[1, :5]),
                 "page 2 has 9 x 5 pixels of uint16 x 1, the first page 9 x 6 pixels of uint16 x 1; .*", id="shape"),
    pytest.param(write_pages(PAGES[0], PAGES[1].astype(np.uint8)),
                 "page 2 has 9 x 6 pixels of uint8 x 1, .*", id="dtype"),
    pytest.param(write_pages(PAGES[0].astype(np.float32), PAGES[1].astype(np.float32)),
                 r"the values are \d+ to \d+; floats must be in \[-1, 1\], .*; for other values train .*", id="floats"),
    pytest.param(write_pages(*PAGES[:2].astype(np.int16)),
                 r"the values are -\d+ to \d+; integers must be in 0 .. 65535; for other values train .*", id="int16"),
    pytest.param(write_pages(*np.zeros((2, 6, 9, 5), np.uint8), photometric="minisblack", planarconfig="contig"),
                 "the TIFF file has 5 channels of type MINISBLACK; .* by --input_channels .*", id="channels"),
    pytest.param(lambda file: file.write(PAGES[:2], photometric="minisblack", truncate=True),
                 "the planes are not separate pages; .*", id="truncated series"),
])
def test_page_that_does_not_fit_is_named(train_a, write, reason):
    with tifffile.TiffWriter(train_a / "s.tif") as file:
        write(file)
    found = open_list(train_a.parent)
    images = [found.load(index) for index in range(len(found))]
    assert images[-1] is None
    assert re.fullmatch(reason, next(iter(found.bad.reasons.values())))


def test_values_without_a_meaning_are_named(tmp_path):
    color = Image.fromarray(RNG.integers(0, 256, (6, 9, 3)).astype(np.uint8))
    color.convert("P").save(tmp_path / "palette.tif")
    tifffile.imwrite(tmp_path / "radar.tif", np.ones((6, 9), np.complex64))
    found = listed(tmp_path, channels=1, in_units=True)
    for index, reason in enumerate(["the page has a palette, .*", "the values have the type complex64; expected .*"]):
        with pytest.raises(ValueError, match=reason):
            found.read_values(index)


def test_inverted_gray_and_bits_keep_their_values(tmp_path):
    tifffile.imwrite(tmp_path / "w.tif", PAGES, photometric="miniswhite")
    limits = Units(ValueRange(0, 65535), ValueRange(0, 65535))
    with tifffile.TiffFile(translate(tmp_path / "w.tif", make_translator(units=limits))) as file:
        assert (file.asarray() == PAGES).all()
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE
    # Without a range, 0 is white as in all readers of pictures.
    assert (listed(tmp_path, channels=1).decode(1)[..., 0] == 65535 - PAGES[1]).all()


def test_stacks_on_a_remote_file_system(tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", PAGES, photometric="minisblack")
    remote = f"ram://{tmp_path.name}"
    remote_files.store(f"{remote}/in/s.tif", (tmp_path / "s.tif").read_bytes())
    found = listed(f"{remote}/in", channels=1)
    assert (found.decode(2)[..., 0] == PAGES[2]).all()
    assert run(f"{remote}/in", make_translator(), f"{remote}/out") == {}
    assert (tifffile.imread(io.BytesIO(remote_files.read(f"{remote}/out/s.tif"))) == PAGES).all()


def test_damaged_file_is_named(train_a):
    tifffile.imwrite(train_a / "s.tif", PAGES, photometric="minisblack", compression="zlib")
    data = (train_a / "s.tif").read_bytes()
    for length in (10, len(data) // 2, len(data) - 20):
        (train_a / "s.tif").write_bytes(data[:length])
        found = open_list(train_a.parent)
        images = [found.load(index) for index in range(len(found))]
        assert any(image is None for image in images)
        # The pages that can be read are right.
        for index, image in enumerate(images):
            assert image is None or (image[..., 0] == PAGES[index]).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_list_of_pages_agrees_with_tifffile(data):
    count = data.draw(st.integers(1, 5))
    kinds = data.draw(st.lists(st.sampled_from([0, 1, 2, 4, 3]), min_size=count, max_size=count))
    buffer = io.BytesIO()
    options = {"bigtiff": data.draw(st.booleans()), "byteorder": data.draw(st.sampled_from("<>"))}
    with tifffile.TiffWriter(buffer, **options) as file:
        for kind in kinds:
            file.write(np.zeros((2, 3), bool if kind & 4 else np.uint8), subfiletype=kind, metadata=None,
                       **({"photometric": "mask"} if kind & 4 else {}))
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as file:
        kinds = [int(page.subfiletype) for page in file.pages]
    pages = tiff.list_pages(buffer)
    assert pages.is_complete
    assert pages.numbers == ([number for number, kind in enumerate(kinds) if not kind & 5] or [0])
    assert pages.has_copies == any(kind & 1 for kind in kinds)
    assert pages.has_masks == any(kind & 5 == 4 for kind in kinds)


def test_pages_of_a_circular_chain_end():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, PAGES, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        offsets = [page.offset for page in file.pages]
    data = buffer.getvalue().replace(offsets[2].to_bytes(4, "little"), offsets[0].to_bytes(4, "little"))
    assert tiff.list_pages(io.BytesIO(data)).numbers == [0, 1]


class FailingFile(io.BytesIO):
    """A file whose first reads succeed; then the disk or the network fails."""

    def __init__(self, data, n_reads):
        super().__init__(data)
        self.n_reads = n_reads

    def read(self, *arguments):
        self.n_reads -= 1
        if self.n_reads < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(*arguments)

    def readinto(self, buffer):
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


@pytest.mark.parametrize("options", [{}, {"ome": True, "metadata": {"axes": "ZYX"}}], ids=["plain", "ome"])
def test_an_outage_while_a_file_is_opened_is_not_damage(options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, PAGES, photometric="minisblack", **options)
    for n_reads in range(1000):
        try:
            stack = stack_files.open_stack(lambda n=n_reads: FailingFile(buffer.getvalue(), n), "a.tif", StackOptions())
        except OSError as error:
            assert error.errno == errno.EIO
        else:
            break
    assert n_reads > 10
    assert len(stack) == 4


@pytest.mark.parametrize("position", [1000, 2**40, 2**62, 2**64 - 1])
def test_a_page_behind_the_end_of_the_file_is_missing(tmp_path, position):
    tifffile.imwrite(tmp_path / "a.tif", PAGES, bigtiff=True, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offsets = [page.offset for page in file.pages]
    data = (tmp_path / "a.tif").read_bytes().replace(struct.pack("<Q", offsets[2]), struct.pack("<Q", position))
    (tmp_path / "a.tif").write_bytes(data)
    with open(tmp_path / "a.tif", "rb") as file:
        assert tiff.list_pages(file) == tiff.list_pages(io.BytesIO(data)) == tiff.PageList((0, 0), is_complete=False)
    with pytest.raises(ValueError, match="the file is cut off after page 2: copy it again"):
        stack_files.open_file(str(tmp_path / "a.tif"), StackOptions())


def test_archives_and_shards_hold_stacks(tmp_path, train_a):
    import shutil

    from cyclegan_tf.data import commands

    tifffile.imwrite(train_a / "s.tif", PAGES, photometric="minisblack")
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "trainA")
    with __import__("zipfile").ZipFile(tmp_path / "packed.zip", "a") as archive:
        archive.write(tmp_path / "trainB" / "b.png", "trainB/b.png")
    commands.shard(str(tmp_path), str(tmp_path / "shards"), "", 1, "skip")
    for where in ("packed.zip", "shards"):
        found = sources.open_dataset(Config(dataset=str(tmp_path / where), input_channels=1, output_channels=1)).train_a
        assert len(found) == 4
        assert (found.decode(2)[..., 0] == PAGES[2]).all()


def test_open_stack_reads_no_plain_image(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")

    def refuse():
        raise AssertionError("a suffix of a plain image decides")

    assert stack_files.open_stack(refuse, "a.png", StackOptions()) is None


def test_training_tells_of_ome_files_without_all_planes(tmp_path, caplog):
    for domain in "AB":
        folder = tmp_path / f"train{domain}"
        folder.mkdir()
        for name in ("a", "b"):
            tifffile.imwrite(folder / f"{name}.ome.tif", PAGES, ome=True, metadata={"axes": "ZYX"})
    for name in ("a", "b"):
        path = tmp_path / "trainA" / f"{name}.ome.tif"
        path.write_bytes(path.read_bytes().replace(b'SizeZ="4"', b'SizeZ="7"'))
    dataset = sources.open_dataset(Config(dataset=str(tmp_path), input_channels=1, output_channels=1))
    assert (len(dataset.train_a), len(dataset.train_b)) == (8, 8)
    (record,) = caplog.records
    # Threads open the files, so that either may be the first.
    path, notice = record.getMessage().split(": ", 1)
    assert path in {f"{tmp_path}/trainA/{name}.ome.tif" for name in ("a", "b")}
    assert notice.startswith("its OME metadata describes pages that are")


def test_imagej_stack_without_all_pages_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", PAGES, imagej=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(tmp_path / "s.tif") as file:
        order, last = file.byteorder, file.pages[1]
    data = bytearray((tmp_path / "s.tif").read_bytes())
    struct.pack_into(f"{order}I", data, last.offset + 2 + 12 * len(last.tags), 0)  # No page follows.
    (tmp_path / "s.tif").write_bytes(data)
    with pytest.raises(ValueError, match=r"its pages do not fit their description: .*; copy the file again"):
        stack_files.open_file(str(tmp_path / "s.tif"), StackOptions(channels=1))
