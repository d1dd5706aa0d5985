import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image

from cyclegan_tf.images import codec, headers, ranges
from cyclegan_tf.images import grid as grid_lib
from cyclegan_tf.storage import array_files

LEVELS = np.arange(256, dtype=np.uint8)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("channels", "color_type"), [(1, 0), (2, headers.PNG_GRAY_ALPHA), (3, 2), (4, 6)])
def test_the_header_of_a_png_file_has_depth_and_color_type(dtype, channels, color_type):
    # Color types of the PNG specification, section 11.2.1.
    data = tf.io.encode_png(np.zeros((5, 7, channels), dtype)).numpy()
    assert headers.read_png_header(data) == (8 * np.dtype(dtype).itemsize, color_type)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_header_of_a_png_palette_has_its_few_bits(bits):
    data = encoded(Image.linear_gradient("L").quantize(2**bits), bits=bits)
    assert headers.read_png_header(data) == (bits, 3)


def test_uint8_and_float_ranges():
    floats = ranges.to_float(LEVELS)
    assert (floats[0], floats[255]) == (-1.0, 1.0)
    np.testing.assert_allclose(floats, LEVELS / 127.5 - 1, atol=1e-7)
    assert (ranges.from_float(floats, np.uint8) == LEVELS).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_integer_level_survives_the_round_trip(dtype):
    white = np.iinfo(dtype).max
    levels = np.arange(white + 1).astype(dtype)
    for given in (levels, tf.constant(levels)):
        floats = ranges.to_float(given)
        assert floats.dtype == np.float32
        np.testing.assert_allclose(floats, 2 * (levels / white) - 1, atol=1.3e-7)
        assert (np.asarray(ranges.from_float(floats, dtype)) == levels).all()
    assert ranges.from_float(np.float32([-9, 9]), dtype).tolist() == [0, white]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_graphs_convert_to_the_same_bits(dtype):
    levels = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    np.testing.assert_array_equal(tf.function(ranges.to_float)(tf.constant(levels)), ranges.to_float(levels))


def test_images_of_other_channels_name_the_options_of_training():
    message = "the image has 2 channels instead of 3; for such images train with --input_channels=2 or --output_cha"
    with pytest.raises(ValueError, match=message):
        codec.convert_channels(np.zeros((4, 5, 2), np.uint8), 3)


def test_floats_are_not_changed():
    values = np.float32([-1, 0.25, 1, np.nan])
    assert ranges.to_float(values) is values
    np.testing.assert_array_equal(ranges.from_float(values, np.float32), values)


@pytest.mark.parametrize("make", [np.array, tf.constant], ids=["array", "tensor"])
def test_levels_are_rounded_and_clipped(make):
    # 0.0 becomes 127.5, which is rounded to even: 128.
    values = make([-3.0, -1.0, 0.0, 0.999, 7.0], np.float32)
    assert np.asarray(ranges.from_float(values, np.uint8)).tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(("pixel", "expected"), [
    pytest.param(np.uint8([7]), [7, 7, 7], id="gray"),
    pytest.param(np.uint8([0, 100]), [50, 50, 50], id="mean of two"),
    pytest.param(np.uint8([1, 2, 3, 4, 5]), [1, 2, 3], id="first three of five"),
    pytest.param(np.uint16([0, 257, 65535]), [0, 1, 255], id="16-bit"),
    pytest.param(np.float32([-1, 1, np.nan]), [0, 255, 128], id="float"),
])
def test_any_image_becomes_rgb(pixel, expected):
    assert ranges.to_rgb(pixel[np.newaxis, np.newaxis]).tolist() == [[expected]]


def test_decode_converts_gray_and_palette_to_rgb():
    gray = Image.fromarray(LEVELS.reshape(16, 16))
    expected = np.repeat(LEVELS.reshape(16, 16, 1), 3, axis=2)
    assert (codec.decode(encoded(gray)) == expected).all()
    assert (codec.decode(encoded(gray.convert("P"))) == expected).all()


def test_decode_composites_transparency_on_white():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    decoded = codec.decode(encoded(Image.fromarray(pixels)))
    assert decoded[0, 0].tolist() == [10, 20, 30]
    assert (decoded[1] == 255).all()


def make_png(bits, transparent):
    """A PNG file whose one row has all gray levels of 1 to 8 bits; level `transparent` is transparent."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = "".join(f"{level:0{bits}b}" for level in range(2**bits)).ljust(8, "0")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">II5B", 2**bits, 1, bits, 0, 0, 0, 0))
        + chunk(b"tRNS", struct.pack(">H", transparent))
        + chunk(b"IDAT", zlib.compress(b"\0" + int(row, 2).to_bytes(len(row) // 8, "big"))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_decode_composites_a_transparent_gray_level_on_white(bits):
    count = 2**bits
    for transparent in (0, count // 2):
        expected = [level * 255 // (count - 1) for level in range(count)]
        expected[transparent] = 255
        assert codec.decode(make_png(bits, transparent), 1)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.uint32, np.float32])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_decode_reads_both_byte_orders_of_tiff(dtype, compression):
    levels = np.arange(101).reshape(1, 101, 1)
    array = (levels / 101).astype(dtype) if dtype == np.float32 else levels.astype(dtype)
    for order in "<>":
        file = io.BytesIO()
        tifffile.imwrite(file, array[..., 0], byteorder=order, compression=compression, photometric="minisblack")
        np.testing.assert_array_equal(codec.decode(file.getvalue(), 1), array)


@pytest.mark.parametrize("dtype", [">u2", ">f4", ">f8"])
def test_decode_reads_big_endian_arrays(dtype):
    array = np.linspace(0, 1, 12).reshape(3, 4, 1).astype(dtype)
    found = codec.decode(array_files.encode(array), 1)
    np.testing.assert_array_equal(found, array.astype(found.dtype))
    assert found.dtype == (np.uint16 if dtype == ">u2" else np.float32)
    np.testing.assert_array_equal(ranges.check_given_image(array, "a", 1), found)


def test_decode_keeps_16_bits():
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    decoded = codec.decode(encoded(Image.fromarray(values)))
    assert (decoded.dtype, decoded.shape) == (np.uint16, (1, 5, 3))
    assert (decoded == values[..., None]).all()


def test_decode_applies_the_exif_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6  # Rotate by 90 degrees clockwise for viewing.
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    decoded = codec.decode(encoded(image, exif=exif))
    assert decoded[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]


@pytest.mark.parametrize("orientation", [None, 1, 3])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_decode_resizes_once(kind, orientation):
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (8, 12, 3), np.uint8))
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif)
    decoded = codec.decode(data, target_size=lambda height, width: (height // 2, width // 2))
    assert decoded.shape == (4, 6, 3)
    assert (decoded == codec.resize(codec.decode(data), 4, 6)).all()


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n"])
def test_decode_names_the_reason_for_bad_bytes(data):
    with pytest.raises(ValueError, match="cannot identify image file"):
        codec.decode(data)


def test_exhausted_memory_is_not_taken_for_a_bad_image():
    def exhaust(height, width):
        raise MemoryError("Unable to allocate 9.00 GiB")

    with pytest.raises(MemoryError):
        codec.decode(encoded(Image.new("RGB", (4, 4))), target_size=exhaust)


def test_decode_rejects_a_truncated_image():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match="truncated"):
        codec.decode(encoded(Image.fromarray(noise), "JPEG")[:2000])


def test_resize_is_pillows_bicubic():
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((13, 7), Image.Resampling.BICUBIC))
    assert (codec.resize(image, 7, 13) == expected).all()


@pytest.mark.parametrize(("dtype", "low", "high"), [(np.uint16, 0, 65535), (np.float32, -1, 1)])
def test_resize_clips_and_rounds_deep_images(dtype, low, high):
    # Bicubic interpolation of a checkerboard overshoots its range.
    image = np.where(np.indices((8, 8)).sum(0) % 2, high, low).astype(dtype)[..., np.newaxis]
    exact = np.asarray(Image.fromarray(image[..., 0].astype(np.float32)).resize((13, 21), Image.Resampling.BICUBIC))
    assert exact.min() < low and exact.max() > high
    expected = np.clip(exact, low, high)
    resized = codec.resize(image, 21, 13)
    assert resized.dtype == dtype
    np.testing.assert_array_equal(resized[..., 0], np.rint(expected) if dtype == np.uint16 else expected)


def test_resize_stops_where_pillow_stops_decoding(monkeypatch):
    assert codec.MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS
    pixel = np.full((1, 1, 1), 7, np.uint8)
    with pytest.raises(ValueError, match="1 x 1 pixels to 178956971 x 1 exceeds the limit of 178956970 pixels"):
        codec.resize(pixel, 1, 178_956_971)
    monkeypatch.setattr(codec, "MAX_PIXELS", 12)  # An image of the real limit would take 179 MB.
    assert codec.resize(pixel, 3, 4).shape == (3, 4, 1)


def test_png_round_trip():
    image = np.random.default_rng(2).integers(0, 256, (5, 4, 3), np.uint8)
    assert (codec.decode(codec.encode_png(image)) == image).all()


def test_grid_shows_every_pixel_under_its_title():
    rng = np.random.default_rng(3)
    rows = [[rng.integers(0, 256, (8, 12, 3), np.uint8) for _ in range(2)] for _ in range(3)]
    grid = grid_lib.draw(rows, ["left", "right"], scale=2)
    assert grid.shape == (22 + 3 * (16 + 4), 2 * (24 + 4), 3)
    for line, row in enumerate(rows):
        for column, image in enumerate(row):
            top, left = 22 + line * 20, 2 + column * 28
            assert (grid[top : top + 16, left : left + 24] == np.kron(image, np.ones((2, 2, 1), np.uint8))).all()


def test_a_picture_has_titles_and_knows_the_places_of_its_images():
    rows = [[np.full((8, 12 - column, 3), 10 * line + column, np.uint8) for column in range(3)] for line in range(2)]
    groups = [grid_lib.Group("a title that is far too wide for its group", ["$x", "y"]), grid_lib.Group("", ["\u6f22"])]
    picture = grid_lib.draw_groups(rows, groups, "run, step 3", scale=10)
    # Heights in pixels: 26 for the heading, 20 for group titles, 22 for column titles, 20 for the gap between groups.
    assert picture.pixels.shape == (26 + 20 + 22 + 2 * 84, 3 * 124 + 20, 3)
    for line, row in enumerate(rows):
        for image, place in zip(row, picture.tiles[line], strict=True):
            shown = picture.pixels[place.y : place.y + place.height, place.x : place.x + place.width]
            assert (shown == np.kron(image, np.ones((10, 10, 1), np.uint8))).all()
    title_rows = picture.pixels[: 26 + 20].min(axis=(0, 2))
    assert title_rows[:248].min() < 100
    assert (title_rows[246:] == 255).all()
