"""Decoding inside a graph gives the pixels of `codec.decode`, which other tests compare with Pillow."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_odd_files import COLOR, DEEP, DEEP_ALPHA, GOOD, RGBA, chunk, composite_on_white, saved, three

from cyclegan_tf.images import codec, graph_codec, headers

# Files without an alpha channel that Pillow and TensorFlow decode to the same pixels. GIF files are decoded without
# transparency, and BMP files without a palette.
EXACT = [name for name in GOOD if name.split()[0] in ("jpeg", "png", "bmp", "gif") and "16-bit" not in name
         and name not in ("bmp palette", "gif transparent")]
ORIENTATION = 274


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", EXACT)
def test_pixels_equal_the_packages_decoding(name, channels):
    data, _ = GOOD[name]
    np.testing.assert_array_equal(graph_codec.decode(data, channels).numpy(), codec.decode(data, channels))


HIGH, HIGH_ALPHA = ((array >> 8).astype(np.uint8) for array in (DEEP, DEEP_ALPHA))
# TensorFlow keeps the higher byte of each value.
HIGH_BYTES = {
    "png 16-bit gray": three(HIGH[..., 0]),
    "png 16-bit gray key": three(np.where(DEEP[..., 0] == DEEP[0, 0, 0], 255, HIGH[..., 0])),
    "png 16-bit rgb": HIGH,
    "png 16-bit gray and alpha": composite_on_white(three(HIGH[..., 0]), HIGH_ALPHA, 255),
    "png 16-bit rgba": composite_on_white(HIGH, HIGH_ALPHA, 255),
}


@pytest.mark.parametrize("name", [name for name in GOOD if name.startswith("png 16-bit")])
def test_16_bit_png_becomes_8_bit(name):
    data, _ = GOOD[name]
    np.testing.assert_array_equal(graph_codec.decode(data, 3).numpy(), HIGH_BYTES[name])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palette_of_few_bits_is_opaque(bits):
    data = saved(Image.fromarray(COLOR).quantize(2**bits), "PNG", bits=bits)
    assert headers.read_png_header(data) == (bits, 3)
    np.testing.assert_array_equal(graph_codec.decode(data, 3).numpy(), codec.decode(data))


def make_exif(orientation, byteorder="<", kind=3):
    """EXIF data with three tags; the second is the orientation, a 2-byte (kind 3) or 4-byte (4) number."""
    value = struct.pack(byteorder + {3: "HH", 4: "I"}[kind], orientation, *([0] * (kind == 3)))
    entries = [struct.pack(f"{byteorder}HHI", 271, 2, 2) + b"A\0\0\0",
               struct.pack(f"{byteorder}HHI", ORIENTATION, kind, 1) + value,
               struct.pack(f"{byteorder}HHI", 282, 4, 1) + bytes(4)]
    head = {"<": b"II*\0", ">": b"MM\0*"}[byteorder]
    # There is a gap of 4 bytes between the header and the directory, and no second directory.
    directory = struct.pack(f"{byteorder}H", 3) + b"".join(entries) + bytes(4)
    return head + struct.pack(f"{byteorder}I", 12) + bytes(4) + directory


def insert_in_jpeg(data, *segments):
    """Inserts segments (marker, content) behind the first segment of a JPEG file."""
    position = 4 + int.from_bytes(data[4:6], "big")
    more = b"".join(struct.pack(">HH", marker, len(content) + 2) + content for marker, content in segments)
    return data[:position] + more + data[position:]


JPEG, PNG = saved(COLOR, "JPEG"), saved(RGBA, "PNG")
BEFORE = (0xFFE2, b"ICC_PROFILE\0\1\1" + b"\xff\xe1\0\0Exif\0\0" * 9), (0xFFE1, b"http://ns.adobe.com/xap/1.0/\0")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("make", [
    pytest.param(lambda exif: insert_in_jpeg(JPEG, (0xFFE1, b"Exif\0\0" + exif)), id="JPEG"),
    pytest.param(lambda exif: insert_in_jpeg(JPEG, *BEFORE, (0xFFE1, b"Exif\0\0" + exif)), id="JPEG, other data first"),
    pytest.param(lambda exif: PNG[:33] + chunk(b"eXIf", exif) + PNG[33:], id="PNG"),
    pytest.param(lambda exif: PNG[:-12] + chunk(b"eXIf", exif) + PNG[-12:], id="PNG, behind the pixels"),
])
@pytest.mark.parametrize(("byteorder", "kind"), [("<", 3), (">", 3), (">", 4)])
def test_exif_orientation_is_applied(make, orientation, byteorder, kind):
    data = make(make_exif(orientation, byteorder, kind))
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif()[ORIENTATION] == orientation
    expected = codec.decode(data)
    assert expected.shape == ((9, 6, 3) if orientation > 4 else (6, 9, 3))
    np.testing.assert_array_equal(graph_codec.decode(data, 3).numpy(), expected)


@pytest.mark.parametrize("exif", [
    pytest.param(b"", id="empty"), pytest.param(b"II*\0\xff\xff\xff\xff", id="directory beyond the end"),
    pytest.param(make_exif(6)[:30], id="cut"), pytest.param(make_exif(99), id="unknown orientation"),
    pytest.param(b"II*\0\x08\0\0\0\xff\xff", id="65535 entries"),
])
@pytest.mark.filterwarnings("ignore::UserWarning")  # pytest makes Pillow's warnings errors.
def test_damaged_exif_changes_nothing(exif):
    for data, plain in (
        (insert_in_jpeg(JPEG, (0xFFE1, b"Exif\0\0" + exif)), JPEG),
        (PNG[:33] + chunk(b"eXIf", exif) + PNG[33:], PNG),
    ):
        np.testing.assert_array_equal(graph_codec.decode(data, 3).numpy(), codec.decode(plain))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"no image", JPEG[:40], PNG[:40],
                                  b"\xff\xd8" + b"\xff" * 99, b"\xff\xd8" + b"\xff\xe1\0\0" * 99])
def test_bytes_of_other_data_are_an_error(data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        graph_codec.decode(data, 3)
