"""Translated files keep the format and metadata of their source, as Pillow and tifffile read them."""

import io

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image, ImageCms, JpegImagePlugin

from cyclegan_tf.images import codec
from cyclegan_tf.images import files as image_files

RANDOM = np.random.default_rng(0)
COLORS = RANDOM.integers(0, 256, (11, 17, 3), np.uint8)
DEEP = RANDOM.integers(0, 65536, (11, 17, 3), np.uint16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MAKE, COPYRIGHT, ORIENTATION, EXPOSURE_TIME = 0x010F, 0x8298, 0x0112, 0x829A


def copy(tmp_path, name, channels=3):
    """Reads tmp_path/name and writes it to tmp_path/results; returns the path of the result."""
    pixels, extras = image_files.read(tmp_path / name, channels)
    result = tmp_path / "results" / image_files.output_name(name, pixels.shape[-1])
    image_files.write(str(result), pixels, extras)
    assert [path.name for path in result.parent.iterdir()] == [result.name], "no temporary file is left"
    return result


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".webp", ".tif", ".TIFF", ".bmp"])
def test_lossless_formats_keep_every_bit(tmp_path, suffix):
    Image.fromarray(COLORS).save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    result = copy(tmp_path, f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as original, Image.open(result) as image:
        assert (result.suffix, image.format, image.mode) == (suffix, original.format, "RGB")
        assert (np.asarray(image) == COLORS).all()


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
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
    assert (data[24], result.shape) == (16, pixels.shape)
    opaque = alpha[..., 0] == 65535
    assert (result[opaque] == pixels[opaque]).all()
    if channels != 3:
        assert (result[..., -1] == alpha[..., 0]).all()


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


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "deep.png"])
def test_profile_and_exif_without_orientation_are_kept(tmp_path, name):
    exif = Image.Exif()
    exif[MAKE], exif[COPYRIGHT], exif[ORIENTATION] = "Somebody", "Me", 6
    exif.get_ifd(0x8769)[EXPOSURE_TIME] = 0.5
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
        assert name == "a.tif" or kept.get_ifd(0x8769)[EXPOSURE_TIME] == 0.5
        assert image.info["icc_profile"] == SRGB


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


def test_alpha_is_rotated_with_its_image(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = Image.fromarray(COLORS)
    image.putalpha(Image.fromarray(COLORS[..., 1]))
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(copy(tmp_path, "a.png")) as written:
        # Orientation 6: the first row of the file is the right edge of the image.
        assert (np.asarray(written)[..., 3] == np.rot90(COLORS[..., 1], -1)).all()


def test_arrays_and_unusual_channel_counts_are_written_as_npy(tmp_path):
    values = RANDOM.uniform(-1, 1, (5, 6, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    assert (np.load(copy(tmp_path, "a.npy")) == values).all()
    assert image_files.output_name("x/a.png", 5) == "x/a.npy"


def test_tiff_keeps_float_gray(tmp_path):
    values = RANDOM.uniform(-1, 1, (5, 6)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_allclose(tifffile.imread(copy(tmp_path, "a.tif")), values, atol=1e-6)


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"old")

    def broken(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        image_files.write(str(tmp_path / "a.png"), COLORS, image_files.Extras())
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"
