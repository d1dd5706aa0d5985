"""Translated files keep the profile, EXIF, texts and resolution of their source; only damaged metadata is lost."""

import io
import struct

import numpy as np
import pytest
import tifffile
from copied_images import COLORS, COPYRIGHT, DEEP, EXPOSURE_TIME, MAKE, ORIENTATION, SRGB, copy
from PIL import Image

from cyclegan_tf.images import codec
from cyclegan_tf.images import files as image_files


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("pixels", [COLORS, DEEP, DEEP[..., 0].astype(np.float32) / 65535],
                         ids=["8 bits", "16 bits", "gray floats"])
def test_tiff_keeps_the_resolution(tmp_path, pixels, orientation):
    tifffile.imwrite(tmp_path / "a.tif", pixels, resolution=(300, 150.5), resolutionunit="centimeter",
                     extratags=[(274, "H", 1, orientation, True)])
    with tifffile.TiffFile(copy(tmp_path, "a.tif", 3 if pixels.ndim == 3 else 1)) as file:
        assert file.pages[0].get_resolution() == ((300, 150.5) if orientation == 1 else (150.5, 300))
        assert file.pages[0].resolutionunit == 3


@pytest.mark.parametrize(("tag", "value"), [(282, (0, 0)), (296, 9)], ids=["resolution", "unit"])
def test_an_invalid_resolution_costs_no_other_metadata(tmp_path, tag, value):
    pixels = DEEP[..., 0].astype(np.float32) / 65535
    tifffile.imwrite(tmp_path / "a.tif", pixels, resolution=(300, 300), extratags=[(MAKE, "s", 0, "Somebody", True)])
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags[tag].overwrite(value)
    with tifffile.TiffFile(copy(tmp_path, "a.tif", 1)) as file:
        assert file.pages[0].tags.valueof(MAKE) == "Somebody"


@pytest.mark.parametrize("pixels", [COLORS, DEEP], ids=["8 bits", "16 bits"])
def test_tiff_keeps_a_description_but_not_the_shape_that_tifffile_writes(tmp_path, pixels):
    for description in (None, "cells"):
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", description=description,
                         metadata=None if description else {})
        with tifffile.TiffFile(copy(tmp_path, "a.tif")) as file:
            assert file.pages[0].description == (description or "")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "deep.png"])
def test_profile_and_exif_without_orientation_are_kept(tmp_path, name):
    exif = Image.Exif()
    exif[MAKE], exif[COPYRIGHT], exif[ORIENTATION] = "Somebody", "Me", 6
    exif.get_ifd(0x8769).update({EXPOSURE_TIME: 0.5, 0xA002: 17, 0xA003: 11})  # The last two: width and height.
    if name == "deep.png":
        # Pillow cannot write such a file, but it reads the chunks.
        del exif[ORIENTATION]
        pixels, extras = DEEP, image_files.Extras(icc=SRGB, exif=exif.tobytes())
        image_files.write(str(tmp_path / "results" / name), pixels, extras)
        result = tmp_path / "results" / name
    else:
        Image.fromarray(COLORS).save(tmp_path / name, exif=exif, icc_profile=SRGB)
        result = copy(tmp_path, name)
        assert codec.decode(result.read_bytes()).shape == (17, 11, 3), "rotated by 90 degrees"
    with Image.open(result) as image:
        image.load()
        kept = image.getexif()
        assert (kept[MAKE], kept[COPYRIGHT]) == ("Somebody", "Me")
        assert ORIENTATION not in kept or kept[ORIENTATION] == 1
        # Pillow writes no EXIF subdirectories to TIFF files.
        camera = {} if name == "a.tif" else kept.get_ifd(0x8769)
        assert name == "a.tif" or camera[EXPOSURE_TIME] == 0.5
        assert name in ("a.tif", "deep.png") or (camera[0xA002], camera[0xA003]) == (11, 17)
        assert image.info["icc_profile"] == SRGB


def test_tiff_with_directories_of_exif_and_gps_keeps_the_other_metadata(tmp_path, caplog):
    exif = Image.Exif()
    exif[MAKE], exif[COPYRIGHT] = "Somebody", "Me"
    exif.get_ifd(0x8769)[EXPOSURE_TIME] = 0.5
    exif.get_ifd(0x8825)[1] = "N"
    stored = Image.Exif()
    stored.load(exif.tobytes())  # Pillow writes directories that it has read.
    Image.fromarray(COLORS).save(tmp_path / "a.tif", exif=stored)
    for path, has_directories in ((tmp_path / "a.tif", True), (copy(tmp_path, "a.tif"), False)):
        with Image.open(path) as image:
            kept = image.getexif()
            assert (kept[MAKE], kept[COPYRIGHT]) == ("Somebody", "Me")
            assert [tag in kept for tag in (0x8769, 0x8825)] == [has_directories] * 2
    assert not caplog.records


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("pixels", [COLORS, DEEP], ids=["8 bits", "16 bits"])
def test_bigtiff_keeps_pixels_and_exif(tmp_path, pixels, byteorder):
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="rgb", bigtiff=True, byteorder=byteorder, iccprofile=SRGB,
        compression="lzw", extratags=[(MAKE, "s", 0, "Somebody", True)],
    )
    result = copy(tmp_path, "a.tif")
    assert (tifffile.imread(result) == pixels).all()
    with Image.open(result) as image:
        assert (image.getexif()[MAKE], image.info["icc_profile"]) == ("Somebody", SRGB)


def set_exif(path, exif):
    """Writes a JPEG file with the given EXIF bytes."""
    Image.fromarray(COLORS).save(path, exif=b"Exif\0\0" + exif)


@pytest.mark.parametrize(("exif", "message"), [
    pytest.param(b"II*\0", "unpack requires a buffer of 4 bytes", id="short"),
    pytest.param(b"no TIFF header", "not a TIFF file", id="no header"),
    pytest.param(b"II*\0\x08\0\0\0\x02\0\x0f\x01\x02\0\x02\0\0\0me\0\0\x69\x87", "Corrupt EXIF data", id="cut"),
    pytest.param(b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\xff\xff\0\0\0\0\0\0", "Corrupt EXIF data",
                 id="pointer beyond the end"),
])
@pytest.mark.filterwarnings("ignore::UserWarning")  # pytest makes Pillow's warnings errors.
def test_damaged_exif_costs_only_the_exif(tmp_path, caplog, exif, message):
    set_exif(tmp_path / "a.jpg", exif)
    with Image.open(copy(tmp_path, "a.jpg")) as image:
        assert image.size == (17, 11)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{tmp_path}/a.jpg: damaged metadata is left out: {message}")


def test_metadata_that_cannot_be_written_costs_only_the_metadata(tmp_path, caplog):
    exif = Image.Exif()
    exif[MAKE] = "x" * 70_000  # The EXIF data of a JPEG file ends at 64 kB.
    path = tmp_path / "a.jpg"
    image_files.write(str(path), COLORS, image_files.Extras(icc=SRGB, exif=exif.tobytes()))
    with Image.open(path) as image:
        assert (image.size, len(image.getexif()), image.info["icc_profile"]) == ((17, 11), 0, SRGB)
    (record,) = caplog.records
    assert record.getMessage() == f"{path}: the EXIF data cannot be written: EXIF data is too long"


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "deep.tif", "big.tif"])
def test_texts_keep_their_bytes(tmp_path, name):
    owner, lens = "© Zoë Müller 日本\0".encode(), "Läns\0".encode("latin-1")
    # The main directory holds the copyright and the offset of the camera's directory, which holds the lens.
    entries = struct.pack("<HHII", COPYRIGHT, 2, len(owner), 100) + struct.pack("<HHII", 0x8769, 4, 1, 50)
    camera = struct.pack("<HHHII", 1, 0xA434, 2, len(lens), 80) + bytes(4)
    exif = (b"II*\0\x08\0\0\0\x02\0" + entries + bytes(4)).ljust(50, b"\0") + camera
    exif = exif.ljust(80, b"\0") + lens.ljust(20, b"\0") + owner
    if name in ("deep.tif", "big.tif"):
        tifffile.imwrite(tmp_path / name, DEEP if name == "deep.tif" else COLORS, photometric="rgb",
                         bigtiff=name == "big.tif", extratags=[(COPYRIGHT, "s", 0, owner, True)])
    elif name == "a.tif":
        tifffile.imwrite(tmp_path / name, COLORS, photometric="rgb", extratags=[(COPYRIGHT, "s", 0, owner, True)])
    else:
        Image.fromarray(COLORS).save(tmp_path / name, exif=b"Exif\0\0" + exif)
    data = copy(tmp_path, name).read_bytes()
    assert owner in data
    assert name.endswith("tif") or lens in data


def test_thumbnail_of_the_source_is_dropped(tmp_path):
    """A thumbnail in EXIF would show the source in file browsers."""
    exif = Image.Exif()
    exif[MAKE] = "Somebody"
    small = io.BytesIO()
    Image.fromarray(COLORS).save(small, "JPEG")
    thumbnail = small.getvalue()
    exif.get_ifd(1).update({0x0201: 200, 0x0202: len(thumbnail)})
    Image.fromarray(COLORS).save(tmp_path / "a.jpg", exif=exif.tobytes() + thumbnail)
    assert thumbnail in (tmp_path / "a.jpg").read_bytes()
    assert thumbnail not in copy(tmp_path, "a.jpg").read_bytes()


def test_profile_of_another_color_space_is_dropped(tmp_path):
    profile = bytearray(SRGB)
    profile[16:20] = b"CMYK"
    Image.fromarray(COLORS).convert("CMYK").save(tmp_path / "a.jpg", icc_profile=bytes(profile))
    with Image.open(copy(tmp_path, "a.jpg")) as image:
        assert "icc_profile" not in image.info


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_gray_results_have_no_profile_of_colors(tmp_path, suffix, dtype):
    """The PNG specification forbids RGB profiles in gray images, for example."""
    path = tmp_path / f"a{suffix}"
    image_files.write(str(path), np.zeros((11, 17, 1), dtype), image_files.Extras(icc=SRGB))
    with Image.open(path) as image:
        assert "icc_profile" not in image.info
