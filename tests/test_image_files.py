"""Translated files keep the format, pixels and alpha of their source, as Pillow and tifffile read them."""

import errno
import io

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from copied_images import COLORS, DEEP, MAKE, ORIENTATION, SRGB, copy
from PIL import Image, ImageOps, JpegImagePlugin

from cyclegan_tf.images import files as image_files
from cyclegan_tf.images import headers

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".webp", ".tif", ".TIFF", ".bmp"])
def test_lossless_formats_keep_every_bit(tmp_path, suffix):
    Image.fromarray(COLORS).save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    result = copy(tmp_path, f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as original, Image.open(result) as image:
        assert (result.suffix, image.format, image.mode) == (suffix, original.format, "RGB")
        assert (np.asarray(image) == COLORS).all()


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".jpe", ".jfif"])
def test_jpeg_keeps_colors_nearly(tmp_path, suffix):
    smooth = np.asarray(Image.fromarray(COLORS).resize((96, 64), Image.Resampling.BICUBIC))
    Image.fromarray(smooth).save(tmp_path / f"a{suffix}", quality=95)
    result = copy(tmp_path, f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as original, Image.open(result) as image:
        assert image.format == "JPEG"
        assert JpegImagePlugin.get_sampling(image) == 0, "colors are not subsampled"
        assert np.abs(np.asarray(image).astype(int) - np.asarray(original)).mean() < 2


@pytest.mark.parametrize(("mode", "name", "expected"), [
    ("L", "a.png", "L"), ("1", "a.png", "L"), ("LA", "a.png", "LA"), ("L", "a.jpg", "L"), ("L", "a.tif", "L"),
    ("RGBA", "a.png", "RGBA"), ("RGBA", "a.webp", "RGBA"), ("RGBA", "a.tif", "RGBA"), ("P", "a.png", "RGB"),
    ("CMYK", "a.jpg", "RGB"), ("P", "a.gif", "RGB"),
])
def test_gray_and_alpha_are_kept(tmp_path, mode, name, expected):
    image = Image.fromarray(COLORS).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(COLORS[..., 1]))
    image.save(tmp_path / name, **({"lossless": True, "exact": True} if name.endswith("webp") else {}))
    result = copy(tmp_path, name)
    with Image.open(result) as written:
        assert written.mode == expected
        if expected in ("LA", "RGBA"):
            assert (np.asarray(written)[..., -1] == COLORS[..., 1]).all()
        if mode == "L" and not name.endswith("jpg"):
            assert (np.asarray(written) == np.asarray(image)).all()
    assert result.suffix == (".png" if name == "a.gif" else name[1:])


@pytest.mark.parametrize("suffix", [".webp", ".bmp"])
@pytest.mark.parametrize(("gray", "depth"), [(False, np.uint16), (True, np.uint16), (True, np.uint8)],
                         ids=["16-bit colors", "16-bit gray", "gray"])
def test_alpha_fits_formats_of_8_bit_colors(tmp_path, suffix, gray, depth):
    scale = depth(257 if depth == np.uint16 else 1)
    levels = np.random.default_rng(0).integers(0, 256, (5, 4, 2)).astype(depth) * scale
    color, alpha = np.repeat(levels[..., :1], 3, axis=2), levels[..., 1]
    image_files.write(str(tmp_path / f"x{suffix}"), color, image_files.Extras(gray=gray, alpha=alpha))
    if suffix == ".bmp":  # Pillow reads no alpha from such a file, whose pixels are BGRA, the lowest row first.
        found = np.frombuffer((tmp_path / "x.bmp").read_bytes()[-5 * 4 * 4 :], np.uint8).reshape(5, 4, 4)[::-1]
    else:
        found = np.asarray(Image.open(tmp_path / "x.webp").convert("RGBA"))
    expected = np.concatenate([color, alpha[..., np.newaxis]], axis=2) // scale
    np.testing.assert_array_equal(found[..., 3], expected[..., 3])
    visible = expected[..., 3] > 0  # WebP does not keep colors that nobody sees.
    np.testing.assert_array_equal(found[visible], expected[visible])


def test_a_tiff_file_of_many_channels_is_read_whatever_its_suffix(tmp_path):
    pixels = np.concatenate([DEEP, DEEP[..., :2]], axis=-1)
    tifffile.imwrite(tmp_path / "five.png", pixels, photometric="minisblack", planarconfig="contig")
    found, extras = image_files.read(tmp_path / "five.png", 5)
    np.testing.assert_array_equal(found, pixels)
    assert extras.alpha is None


def test_a_gray_file_gets_pillows_luminance(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    image_files.write(str(tmp_path / "gray.png"), pixels, image_files.Extras(gray=True))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "gray.png")), np.asarray(
        Image.fromarray(pixels).convert("L")
    ))


def test_gray_translated_to_three_channels_has_colors(tmp_path):
    Image.fromarray(COLORS[..., 0]).save(tmp_path / "a.png")
    pixels, extras = image_files.read(tmp_path / "a.png", 1)
    assert pixels.shape == (11, 17, 1)
    image_files.write(str(tmp_path / "b.png"), COLORS, extras)
    assert (np.asarray(Image.open(tmp_path / "b.png")) == COLORS).all()


def test_16_bit_gray_is_kept(tmp_path):
    for name in ("a.png", "a.tif"):
        Image.fromarray(DEEP[..., 0]).save(tmp_path / name)
        with Image.open(copy(tmp_path, name)) as image:
            assert image.mode == "I;16"
            assert (np.asarray(image) == DEEP[..., 0]).all()
        (tmp_path / "results" / name).unlink()


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_png_keeps_16_bit_colors_and_alpha(tmp_path, channels):
    alpha = np.where(DEEP[..., :1] % 3 == 0, 65535, DEEP[..., :1])
    pixels = {2: np.concatenate([DEEP[..., 1:2], alpha], -1), 3: DEEP, 4: np.concatenate([DEEP, alpha], -1)}[channels]
    (tmp_path / "a.png").write_bytes(tf.io.encode_png(pixels).numpy())
    data = copy(tmp_path, "a.png").read_bytes()
    result = tf.io.decode_png(data, dtype=tf.uint16).numpy()
    assert (headers.read_png_header(data)[0], result.shape) == (16, pixels.shape)
    opaque = alpha[..., 0] == 65535
    assert (result[opaque] == pixels[opaque]).all()
    if channels != 3:
        assert (result[..., -1] == alpha[..., 0]).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_8_bit_alpha_fits_16_bit_colors(tmp_path, suffix, channels):
    path, alpha = tmp_path / f"a{suffix}", COLORS[..., 1]
    image_files.write(str(path), DEEP[..., :channels], image_files.Extras(alpha=alpha))
    is_png = suffix == ".png"
    found = tf.io.decode_png(path.read_bytes(), dtype=tf.uint16).numpy() if is_png else tifffile.imread(path)
    np.testing.assert_array_equal(found[..., :-1], DEEP[..., :channels])
    np.testing.assert_array_equal(found[..., -1], alpha * 257.0)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_alpha_beside_wide_values_is_left_out_with_a_warning(tmp_path, caplog, dtype):
    values, alpha = (COLORS / 128).astype(dtype), COLORS[..., 0]
    image_files.write(str(tmp_path / "a.tif"), values, image_files.Extras(alpha=alpha))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), values)
    assert caplog.messages == [
        f"{tmp_path}/a.tif: the alpha channel cannot be written beside values of type {np.dtype(dtype)}"
    ]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_alpha_is_rotated_with_its_image(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = Image.fromarray(COLORS)
    image.putalpha(Image.fromarray(COLORS[..., 1]))
    image.save(tmp_path / f"a{suffix}", exif=exif)
    # From memory: Pillow 13 does not rotate an uncompressed TIFF file that it maps into memory.
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO((tmp_path / f"a{suffix}").read_bytes())))
    with Image.open(copy(tmp_path, f"a{suffix}")) as written:
        assert (np.asarray(written)[..., 3] == np.asarray(upright)[..., 3]).all()
    # Pillow does not decode a TIFF file of 16-bit colors.
    deep = np.asarray(image).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb", extrasamples=["unassalpha"],
                     extratags=[(ORIENTATION, "H", 1, orientation, True)])
    (tmp_path / "results" / f"a{suffix}").unlink()
    written = tifffile.imread(copy(tmp_path, "deep.tif"))
    assert (written[..., 3] == np.asarray(upright)[..., 3].astype(np.uint16) * 257).all()


@pytest.mark.parametrize("channels", [3, 4])
def test_tiff_keeps_16_bit_colors(tmp_path, channels):
    alpha = np.full((11, 17, 1), 65535, np.uint16)
    pixels = DEEP if channels == 3 else np.concatenate([DEEP, alpha], -1)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="rgb", iccprofile=SRGB, extratags=[(MAKE, "s", 0, "Somebody", True)],
        extrasamples=("unassalpha",) if channels == 4 else (),
    )
    result = copy(tmp_path, "a.tif")
    assert (tifffile.imread(result) == pixels).all()
    with Image.open(result) as image:
        assert (image.getexif()[MAKE], image.info["icc_profile"]) == ("Somebody", SRGB)


def test_tiff_keeps_float_colors(tmp_path):
    values = RANDOM.uniform(-1, 1, (5, 6, 3)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    assert (tifffile.imread(copy(tmp_path, "a.tif")) == values).all()


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_keeps_16_bit_gray_and_alpha(tmp_path, byteorder):
    tifffile.imwrite(
        tmp_path / "a.tif", np.dstack([DEEP[..., 0], np.full_like(DEEP[..., 0], 65535)]), photometric="minisblack",
        extrasamples=["unassalpha"], byteorder=byteorder,
    )
    assert (tifffile.imread(copy(tmp_path, "a.tif")) == np.dstack([DEEP[..., 0], np.full((11, 17), 65535)])).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_premultiplied_gray_keeps_gray_and_alpha(tmp_path, dtype):
    white = np.iinfo(dtype).max
    alpha = np.full((11, 17), white // 5, dtype)
    gray = DEEP[..., 0] % (white // 5)
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([gray.astype(dtype), alpha]), photometric="minisblack",
                     extrasamples=["assocalpha"])
    found = tifffile.imread(copy(tmp_path, "a.tif"))
    assert (found[..., 1] == alpha).all()
    # Without a network, the result is the picture on white.
    np.testing.assert_allclose(found[..., 0].astype(int), gray + (white - white // 5), atol=1)


def test_an_image_that_the_format_cannot_hold_is_an_error_about_its_size(tmp_path, caplog):
    exif = Image.Exif()
    exif[MAKE] = "Somebody"
    with pytest.raises(ValueError, match="exceeds WebP limit of 16383 pixels"):
        image_files.write(str(tmp_path / "a.webp"), np.zeros((1, 16384, 3), np.uint8),
                          image_files.Extras(exif=exif.tobytes()))
    assert caplog.text == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "count"), [
    pytest.param("a.tif", 3, id="TIFF"), pytest.param("b.ome.tif", 3, id="OME-TIFF"),
    pytest.param("c.gif", 2, id="GIF"), pytest.param("d.webp", 2, id="WebP"), pytest.param("e.png", 2, id="APNG"),
    pytest.param("pyramid.tif", 0, id="smaller copies"), pytest.param("f.tif", 0, id="one page"),
    pytest.param("g.jpg", 0, id="JPEG"),
])
def test_a_file_of_several_pages_is_named(tmp_path, caplog, name, count):
    path = tmp_path / name
    stack = np.stack([COLORS[..., 0], COLORS[..., 1], COLORS[..., 2]])
    first = stack[0]
    if name == "a.tif":
        tifffile.imwrite(path, stack, photometric="minisblack")
    elif name == "b.ome.tif":
        tifffile.imwrite(path, stack, photometric="minisblack", ome=True, metadata={"axes": "ZYX"})
    elif name == "pyramid.tif":
        with tifffile.TiffWriter(path) as file:
            file.write(stack[0], subifds=0)
            file.write(stack[0, ::2, ::2], subfiletype=1)
    else:
        more = {"save_all": True, "append_images": [Image.fromarray(stack[1])]} if count else {}
        Image.fromarray(stack[0]).save(path, **more, **({"lossless": True} if name == "d.webp" else {}))
        first = np.asarray(Image.open(path).convert("L"))
    result = copy(tmp_path, name)
    expected = [f"{path}: only page 1 of {count} is used"] if count else []
    assert [record.getMessage() for record in caplog.records] == expected
    with Image.open(result) as image:
        assert getattr(image, "n_frames", 1) == 1
        assert (np.asarray(image.convert("L")) == first).all() or name == "g.jpg"
    if name.endswith("tif"):
        # The description of a stack would declare pages that the result does not have.
        assert (tifffile.imread(result) == first).all()


def test_arrays_and_unusual_channel_counts_are_written_as_npy(tmp_path):
    values = RANDOM.uniform(-1, 1, (5, 6, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    assert (np.load(copy(tmp_path, "a.npy")) == values).all()
    assert image_files.get_output_name("x/a.png", 5) == "x/a.npy"


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1)])
def test_arrays_keep_their_axes(tmp_path, shape):
    values = RANDOM.integers(0, 256, shape, np.uint8)
    np.save(tmp_path / "a.npy", values)
    pixels, extras = image_files.read(tmp_path / "a.npy", 1)
    image_files.write(str(tmp_path / "b.npy"), pixels, extras)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), values, strict=True)
    image_files.write(str(tmp_path / "c.npy"), np.repeat(pixels, 2, axis=-1), extras)
    assert np.load(tmp_path / "c.npy").shape == (5, 6, 2)


def test_tiff_keeps_float_gray(tmp_path):
    values = RANDOM.uniform(-1, 1, (5, 6)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_allclose(tifffile.imread(copy(tmp_path, "a.tif")), values, atol=1e-6)


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"old")

    def broken(*_, **__):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        image_files.write(str(tmp_path / "a.png"), COLORS, image_files.Extras())
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"
