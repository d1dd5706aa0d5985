"""AVIF, HEIC, JPEG 2000, Netpbm and TGA files are decoded; files in unsupported formats are bad images."""

import io
import sys

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from cyclegan_tf.data import folders, inspection
from cyclegan_tf.images import codec, files, headers, jpeg2000, signatures

RNG = np.random.default_rng(6)
COLOR = RNG.integers(0, 256, (6, 9, 3)).astype(np.uint8)
GRAY, ALPHA = COLOR[..., 0], COLOR[..., 1]
DEEP = RNG.integers(0, 65536, (6, 9, 4)).astype(np.uint16)
LEVELS = RNG.integers(0, 4096, (6, 9)).astype(np.uint16)  # 12 bits.
LEVELS[0, :2] = 0, 4095
SCENE = Image.fromarray(GRAY).resize((72, 48), Image.Resampling.BICUBIC).convert("RGB")

pillow_heif.register_heif_opener()  # Lets Pillow write HEIF files, and read the expected pixels.


def save(image, kind, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format=kind, **options)
    return buffer.getvalue()


def jp2(samples, **options):
    return imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, **{"codecformat": "jp2", **options})


def netpbm(head, samples, dtype):
    return head + samples.astype(dtype).tobytes()


def three(gray):
    return np.repeat(gray[..., np.newaxis], 3, axis=2)


def scale(levels, white):
    """Scales levels from 0 .. white to 0 .. 65535, rounded, in exact integer arithmetic."""
    return ((2 * 65535 * levels.astype(np.int64) + white) // (2 * white)).astype(np.uint16)


def blend(color, alpha, white):
    """Composites on white in exact integer arithmetic, rounded."""
    color, alpha = color.astype(np.int64), alpha[..., np.newaxis].astype(np.int64)
    blended = (2 * (color * alpha + white * (white - alpha)) + white) // (2 * white)
    return blended.astype(np.uint8 if white == 255 else np.uint16)


# Name -> (bytes, expected pixels (H, W, 3)).
GOOD = {
    "jp2": (save(COLOR, "JPEG2000"), COLOR),
    "jp2 gray": (save(GRAY, "JPEG2000"), three(GRAY)),
    "jp2 without boxes": (jp2(COLOR, codecformat="j2k"), COLOR),
    "jp2 1-bit": (jp2(GRAY >> 7, bitspersample=1), three((GRAY >> 7) * 255)),
    "jp2 4-bit": (jp2(GRAY >> 4, bitspersample=4), three((GRAY >> 4) * 17)),
    "jp2 12-bit": (jp2(LEVELS, bitspersample=12), three(scale(LEVELS, 4095))),
    "jp2 15-bit": (jp2(DEEP[..., 0] >> 1, bitspersample=15), three(scale(DEEP[..., 0] >> 1, 32767))),
    "jp2 16-bit": (jp2(DEEP[..., 0]), three(DEEP[..., 0])),
    "jp2 16-bit rgb": (jp2(DEEP[..., :3]), DEEP[..., :3]),
    "jp2 16-bit rgba": (jp2(DEEP), blend(DEEP[..., :3], DEEP[..., 3], 65535)),
    "pbm": (b"P4\n9 6\n" + np.packbits(GRAY > 127, axis=1).tobytes(), three((GRAY <= 127) * np.uint8(255))),
    "pgm": (netpbm(b"P5\n9 6\n255\n", GRAY, "u1"), three(GRAY)),
    "pgm 4-bit": (netpbm(b"P5 9 6 15\n", GRAY >> 4, "u1"), three((GRAY >> 4) * 17)),
    "pgm 12-bit": (netpbm(b"P5\n# of a scanner\n9 6\n4095\n", LEVELS, ">u2"), three(scale(LEVELS, 4095))),
    "pgm 16-bit": (netpbm(b"P5\n9 6\n65535\n", DEEP[..., 0], ">u2"), three(DEEP[..., 0])),
    "pgm in digits": (b"P2\n9 6\n4095\n" + " ".join(map(str, LEVELS.flat)).encode(), three(scale(LEVELS, 4095))),
    "ppm": (netpbm(b"P6\n9 6\n255\n", COLOR, "u1"), COLOR),
    "tga": (save(COLOR, "TGA"), COLOR),
    # The 18-byte header declares 32 bits per pixel, 0 alpha bits, and rows from top to bottom (bit 5).
    "tga without alpha": (b"\0\0\2" + bytes(9) + b"\x09\0\x06\0\x20\x20"
                          + np.dstack([COLOR[..., ::-1], np.zeros_like(GRAY)]).tobytes(), COLOR),
    "tga with alpha": (save(np.dstack([COLOR, ALPHA]), "TGA"), blend(COLOR, ALPHA, 255)),
    "tga compressed": (save(COLOR, "TGA", compression="tga_rle"), COLOR),
}


@pytest.mark.parametrize("name", GOOD)
def test_decoded_pixels(name):
    data, expected = GOOD[name]
    pixels = codec.decode(data)
    assert pixels.dtype == expected.dtype
    np.testing.assert_array_equal(pixels, expected)
    assert headers.read_size(data) == (6, 9)
    assert codec.decode(data, 1, lambda height, width: (3 * height, width)).shape == (18, 9, 1)


@pytest.mark.parametrize("name", ["jp2 12-bit", "pgm 12-bit", "pgm in digits"])
def test_a_unit_keeps_the_stored_levels(name):
    values = codec.decode_values(GOOD[name][0], 1)
    np.testing.assert_array_equal(values[..., 0], LEVELS)


def test_a_unit_keeps_the_stored_levels_of_few_bits():
    for name in ("pgm 4-bit", "jp2 4-bit"):
        np.testing.assert_array_equal(codec.decode_values(GOOD[name][0], 1)[..., 0], GRAY >> 4)
    np.testing.assert_array_equal(codec.decode_values(GOOD["jp2 15-bit"][0], 1)[..., 0], DEEP[..., 0] >> 1)


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = save(SCENE, kind, exif=exif.tobytes(), quality=100)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    # A JPEG file of the same orientation decides which way is up.
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(save(SCENE, "JPEG", exif=exif, quality=100))))
    assert np.abs(np.asarray(upright, int) - np.asarray(expected, int)).mean() < 3
    pixels = codec.decode(data)
    np.testing.assert_array_equal(pixels, np.asarray(expected))
    assert headers.read_size(data) == pixels.shape[:2]


def test_the_compatible_brands_tell_avif_from_heic():
    # Both kinds of file may have the major brand mif1.
    data = save(SCENE, "AVIF", quality=100)
    assert data[8:12] == b"avif" and b"avif" in data[16:40]
    np.testing.assert_array_equal(codec.decode(data[:8] + b"mif1" + data[12:]), codec.decode(data))


@pytest.mark.parametrize(("brands", "name"), [
    (b"mif1....mif1avif", "AVIF"), (b"mif1....mif1heic", "HEIF"), (b"mif1....avifheic", "HEIF"),
    (b"crx ....crx avif", "CR3"), (b"avis....mif1avif", "AVIF"), (b"qt  ....qt  avif", None),
])
def test_format_by_brands(brands, name):
    assert signatures.find_format(b"\0\0\0\x18ftyp" + brands + bytes(120)) == name


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_only_the_first_frame_of_a_sequence_is_used(kind):
    data = save(SCENE, kind, save_all=True, append_images=[Image.new("RGB", SCENE.size)], quality=100)
    assert headers.count_pages(data) == 2
    assert np.abs(codec.decode(data).astype(int) - np.asarray(SCENE, int)).mean() < 3


UNREADABLE = {
    "CR3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "TIFF"),
    "JPEG XL": (imagecodecs.jpegxl_encode(COLOR), "PNG"),
    "OpenEXR": (b"\x76\x2f\x31\x01\2\0\0\0channels\0", "TIFF"),
    "Photoshop": (b"8BPS\0\1" + bytes(20), "PNG"),
    "FITS": (b"SIMPLE  =                    T / Standard FITS format", "TIFF"),
    "NRRD": (b"NRRD0005\ntype: short\ndimension: 3\n", "NIfTI"),
    "MetaImage": (b"ObjectType = Image\nNDims = 3\n", "NIfTI"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_of_an_unreadable_format_is_a_bad_image(tmp_path, name):
    data, remedy = UNREADABLE[name]
    (tmp_path / "a").write_bytes(data + bytes(99))
    found = folders.list_folder(tmp_path)
    assert found.load(0) is None
    assert found.bad.reasons == {f"{tmp_path}/a": f"{name} files cannot be read; convert the file to {remedy}"}


@pytest.mark.parametrize(("data", "reason"), [
    pytest.param(jp2(LEVELS.astype(np.int16)), "signed JPEG 2000 files cannot be read; convert the file to TIFF",
                 id="signed jp2"),
    pytest.param(jp2(LEVELS.astype(np.uint32), bitspersample=20), "JPEG 2000 files of 20 bits cannot be read",
                 id="20-bit jp2"),
    pytest.param(jp2(LEVELS)[:-30], "broken data stream", id="truncated jp2"),
    pytest.param(b"P3 1 1 65535\n0 0 0\n", "of more than 8 bits per color cannot be read", id="deep ppm in digits"),
    pytest.param(b"\xff\x4f\xff\x51", "cannot identify", id="start of a jp2"),
    pytest.param(b"P6 1 1 65535\n" + bytes(6), "of more than 8 bits per color cannot be read", id="deep ppm"),
    pytest.param(b"Pf 1 1 -1.0\n" + bytes(4), "PFM files cannot be read; convert the file to TIFF", id="pfm"),
    pytest.param(b"P5 9 6 255\n" + bytes(9), "truncated", id="truncated pgm"),
    pytest.param(b"P5 99999 99999 255\n" + bytes(9), "decompression bomb", id="pgm bomb"),
    pytest.param(save(SCENE, "AVIF")[:-200], "truncated", id="truncated avif"),
    pytest.param(save(SCENE, "HEIF")[:-200], "end of file", id="truncated heic"),
])
def test_a_damaged_file_is_rejected(data, reason):
    with pytest.raises(ValueError, match=f"(?i){reason}") as caught:
        codec.decode(data)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_format_of_jpeg_xl_in_boxes():
    assert signatures.find_format(b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(120)) == "JPEG XL"


def test_bit_depth_of_a_file_that_ends_early():
    assert jpeg2000.read_bit_depth(b"\xff\x4f\xff\x51") == 0


def test_kind_of_a_tga_file_without_alpha():
    assert inspection.describe(GOOD["tga without alpha"][0]) == ("TGA RGB", 3)


def test_heic_photographs_name_the_missing_library(monkeypatch):
    headers._register_heif.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"HEIC photographs need pip install 'cyclegan_tf\[heic\]'; or convert"):
        codec.decode(save(SCENE, "HEIF"))


def test_files_are_found_by_suffix_or_signature(tmp_path):
    names = {
        "a.AVIF": "AVIF", "b.heic": "HEIF", "b.heif": "HEIF", "c.j2k": "JPEG2000", "c.jp2": "JPEG2000", "d.pbm": "PPM",
        "d.pgm": "PPM", "d.pnm": "PPM", "d.ppm": "PPM", "e.tga": "TGA", "f": "JPEG2000",
    }
    for name, kind in names.items():
        (tmp_path / name).write_bytes(save(SCENE.convert("L") if kind == "PPM" else SCENE, kind))
    found = folders.list_folder(tmp_path)
    assert found.names == list(names)
    assert all(found.load(index) is not None for index in range(len(names)))


def test_translations_become_png_files_with_depth_alpha_and_exif(tmp_path):
    (tmp_path / "a.jp2").write_bytes(GOOD["jp2 16-bit rgba"][0])
    pixels, extras = files.read(tmp_path / "a.jp2", 3)
    name = files.get_output_name("a.jp2", 3)
    assert name == "a.png"
    files.write(str(tmp_path / name), pixels, extras)
    samples = tf.io.decode_png((tmp_path / name).read_bytes(), channels=4, dtype=tf.uint16).numpy()
    np.testing.assert_array_equal(samples[..., 3], DEEP[..., 3])

    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    (tmp_path / "b.avif").write_bytes(save(SCENE, "AVIF", exif=exif))
    pixels, extras = files.read(tmp_path / "b.avif", 3)
    files.write(str(tmp_path / "b.png"), pixels, extras)
    assert dict(Image.open(tmp_path / "b.png").getexif()) == {0x010F: "Maker"}
