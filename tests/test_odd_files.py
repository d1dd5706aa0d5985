"""Unusual files are decoded correctly, or rejected with a reason."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from conftest import run_python
from PIL import Image, ImageOps

from cyclegan_tf.images import codec

RNG = np.random.default_rng(5)
HEIGHT, WIDTH = 6, 9
COLOR = RNG.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
ALPHA = RNG.integers(0, 256, (HEIGHT, WIDTH, 1)).astype(np.uint8)
GRAY = RNG.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
DEEP_ALPHA = RNG.integers(0, 65536, (HEIGHT, WIDTH, 1)).astype(np.uint16)
NOISE = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
FLOATS = RNG.uniform(-1, 1, (HEIGHT, WIDTH, 5)).astype(np.float32)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format=kind, **options)
    return buffer.getvalue()


def tiff(pixels, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def packed_tiff(gray, n_bits, **options):
    """A TIFF file with `n_bits` per pixel: tifffile writes bytes, and two changed tags give them another meaning."""
    bits = np.unpackbits(gray.astype(">u2").view(np.uint8), axis=1).reshape(*gray.shape, 16)
    data = bytearray(tiff(np.packbits(bits[..., -n_bits:].reshape(len(gray), -1), axis=1), **options))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for name, value in (("ImageWidth", gray.shape[1]), ("BitsPerSample", n_bits)):
            tag = file.pages[0].tags[name]
            kind = {tifffile.DATATYPE.SHORT: "H", tifffile.DATATYPE.LONG: "I"}[tag.dtype]
            struct.pack_into(file.byteorder + kind, data, tag.valueoffset, value)
    return bytes(data)


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png16(color_type, pixels, *chunks):
    """Writes a 16-bit color PNG by hand after the specification, because no installed library writes such files."""
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, color_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rgb(data):
    """The first frame as Pillow converts it to RGB."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def three(gray):
    return np.repeat(gray[..., np.newaxis], 3, axis=2)


def composite_on_white(color, alpha, white):
    """Composites `color` on white in exact integer arithmetic, rounded."""
    color, alpha = color.astype(object), alpha.astype(object)
    return ((2 * (color * alpha + white * (white - alpha)) + white) // (2 * white)).astype(color.flat[0].__class__)


PALETTE = Image.fromarray(COLOR).quantize(16)
CLEAR_PALETTE = PALETTE.copy()
CLEAR_PALETTE.info["transparency"] = 3
CLEAR_EXPECTED = np.where((np.asarray(PALETTE) == 3)[..., np.newaxis], 255, np.asarray(PALETTE.convert("RGB")))
RGBA = np.concatenate([COLOR, ALPHA], axis=2)
PREMULTIPLIED = np.rint(GRAY * (ALPHA[..., 0] / 255)).astype(np.uint8)
RGBA16 = np.concatenate([DEEP, DEEP_ALPHA], axis=2)
FRAMES = [Image.fromarray(COLOR).quantize(8), Image.new("P", (WIDTH, HEIGHT))]
JPEG = saved(COLOR, "JPEG", quality=90)
CMYK = Image.fromarray(COLOR).convert("CMYK")
ODD_HEIGHT = RNG.integers(0, 256, (3, 5000, 3)).astype(np.uint8)

# Name -> (bytes, expected pixels (H, W, 3)).
GOOD = {
    "jpeg": (JPEG, rgb(JPEG)),
    "jpeg gray": (saved(GRAY, "JPEG", quality=100), three(np.asarray(Image.open(io.BytesIO(saved(GRAY, "JPEG",
                                                                                            quality=100)))))),
    "jpeg progressive": (saved(NOISE, "JPEG", progressive=True), rgb(saved(NOISE, "JPEG", progressive=True))),
    "jpeg cmyk": (saved(CMYK, "JPEG"), rgb(saved(CMYK, "JPEG"))),
    "jpeg 1 x 1": (saved(COLOR[:1, :1], "JPEG"), rgb(saved(COLOR[:1, :1], "JPEG"))),
    "jpeg with bytes after its end": (JPEG + b"garbage" * 99, rgb(JPEG)),
    "png": (saved(COLOR, "PNG"), COLOR),
    "png 1 x 1": (saved(COLOR[:1, :1], "PNG"), COLOR[:1, :1]),
    "png 3 x 5000": (saved(ODD_HEIGHT, "PNG"), ODD_HEIGHT),
    "png gray": (saved(GRAY, "PNG"), three(GRAY)),
    "png bits": (saved(Image.fromarray(GRAY > 127), "PNG"), three(np.where(GRAY > 127, 255, 0))),
    "png palette": (saved(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB"))),
    "png palette with transparency": (saved(CLEAR_PALETTE, "PNG"), CLEAR_EXPECTED),
    "png gray and alpha": (saved(Image.fromarray(np.dstack([GRAY, ALPHA])), "PNG"),
                           composite_on_white(three(GRAY), ALPHA, 255)),
    "png rgba": (saved(RGBA, "PNG"), composite_on_white(COLOR, ALPHA, 255)),
    "png color key": (saved(COLOR, "PNG", transparency=tuple(map(int, COLOR[0, 0]))),
                      np.where((COLOR[0, 0] == COLOR).all(-1, keepdims=True), 255, COLOR)),
    "png 16-bit gray": (saved(DEEP[..., 0], "PNG"), three(DEEP[..., 0])),
    "png 16-bit gray key": (png16(0, DEEP[..., :1], chunk(b"tRNS", DEEP[0, 0, :1].astype(">u2").tobytes())),
                            three(np.where(DEEP[..., 0] == DEEP[0, 0, 0], 65535, DEEP[..., 0]))),
    "png 16-bit rgb": (png16(2, DEEP), DEEP),
    "png 16-bit gray and alpha": (png16(4, np.dstack([DEEP[..., 0], DEEP_ALPHA])),
                                  composite_on_white(three(DEEP[..., 0]), DEEP_ALPHA, 65535)),
    "png 16-bit rgba": (png16(6, RGBA16), composite_on_white(DEEP, DEEP_ALPHA, 65535)),
    "bmp": (saved(COLOR, "BMP"), COLOR),
    "bmp gray": (saved(GRAY, "BMP"), three(GRAY)),
    "bmp palette": (saved(PALETTE, "BMP"), np.asarray(PALETTE.convert("RGB"))),
    "gif": (saved(FRAMES[0], "GIF"), np.asarray(FRAMES[0].convert("RGB"))),
    "gif animated": (saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
                     np.asarray(FRAMES[0].convert("RGB"))),
    "gif transparent": (saved(CLEAR_PALETTE, "GIF", transparency=3), CLEAR_EXPECTED),
    "webp lossless": (saved(COLOR, "WEBP", lossless=True), COLOR),
    "webp": (saved(NOISE, "WEBP"), rgb(saved(NOISE, "WEBP"))),
    "webp alpha": (saved(RGBA, "WEBP", lossless=True, exact=True), composite_on_white(COLOR, ALPHA, 255)),
    "webp animated": (saved(Image.fromarray(COLOR), "WEBP", lossless=True, save_all=True,
                            append_images=[Image.new("RGB", (WIDTH, HEIGHT))]), COLOR),
    "tiff": (saved(COLOR, "TIFF"), COLOR),
    "tiff lzw": (saved(COLOR, "TIFF", compression="tiff_lzw"), COLOR),
    "tiff gray": (saved(GRAY, "TIFF"), three(GRAY)),
    "tiff bits, fax": (saved(Image.fromarray(GRAY > 127), "TIFF", compression="group4"),
                       three(np.where(GRAY > 127, 255, 0))),
    "tiff cmyk": (saved(CMYK, "TIFF"), np.asarray(CMYK.convert("RGB"))),
    "tiff white is zero": (tiff(GRAY, photometric="miniswhite"), three(255 - GRAY)),
    "tiff pages": (saved(Image.fromarray(COLOR), "TIFF", save_all=True, append_images=[Image.new("RGB", (3, 3))]),
                   COLOR),
    "tiff 16-bit gray": (tiff(DEEP[..., 0]), three(DEEP[..., 0])),
    "tiff 12-bit gray": (packed_tiff(DEEP[..., 0] >> 4, 12),
                         three(np.rint((DEEP[..., 0] >> 4) / 4095 * 65535).astype(np.uint16))),
    "tiff 16-bit gray, big-endian": (tiff(DEEP[..., 0], byteorder=">"), three(DEEP[..., 0])),
    "tiff 16-bit white is zero": (tiff(DEEP[..., 0], photometric="miniswhite"), three(65535 - DEEP[..., 0])),
    "tiff 16-bit rgb": (tiff(DEEP, photometric="rgb"), DEEP),
    "tiff 16-bit rgb, big-endian": (tiff(DEEP, photometric="rgb", byteorder=">"), DEEP),
    "tiff 16-bit rgb, planes": (tiff(np.moveaxis(DEEP, -1, 0).copy(), photometric="rgb", planarconfig="separate"),
                                DEEP),
    "tiff 16-bit, three bands": (tiff(DEEP, photometric="minisblack", planarconfig="contig"), DEEP),
    "tiff 16-bit rgb, deflated": (tiff(DEEP, photometric="rgb", compression="zlib"), DEEP),
    "tiff 16-bit rgb, lzw": (tiff(DEEP, photometric="rgb", compression="lzw"), DEEP),
    "tiff 16-bit rgb, lzw with predictor, tiles": (
        tiff(DEEP, photometric="rgb", compression="lzw", predictor=True, tile=(16, 16)), DEEP),
    "tiff 16-bit rgb, deflated with predictor": (
        tiff(DEEP, photometric="rgb", compression="zlib", predictor=True), DEEP),
    "tiff 16-bit rgb, zstd": (tiff(DEEP, photometric="rgb", compression="zstd"), DEEP),
    "tiff 16-bit rgb, lossless jpeg": (tiff(DEEP, photometric="rgb", compression="jpeg", compressionargs={
        "lossless": True, "bitspersample": 16}), DEEP),
    "tiff 12-bit rgb, lossless jpeg": (tiff(DEEP >> 4, photometric="rgb", compression="jpeg", compressionargs={
        "lossless": True, "bitspersample": 12}), np.rint((DEEP >> 4) / 4095 * 65535).astype(np.uint16)),
    "tiff 16-bit gray, lossless jpeg": (tiff(DEEP[..., 0], compression="jpeg", compressionargs={
        "lossless": True, "bitspersample": 16}), three(DEEP[..., 0])),
    "tiff 16-bit gray, jpeg xl": (tiff(DEEP[..., 0], compression="jpegxl", compressionargs={"lossless": True}),
                                  three(DEEP[..., 0])),
    "tiff webp": (tiff(COLOR, photometric="rgb", compression="webp", compressionargs={"lossless": True}), COLOR),
    "tiff jpeg 2000": (tiff(COLOR, photometric="rgb", compression="jpeg2000"), COLOR),
    "tiff jpeg 2000, rgba": (tiff(RGBA, photometric="rgb", compression="jpeg2000", extrasamples=["unassalpha"]),
                             composite_on_white(COLOR, ALPHA, 255)),
    "tiff 16-bit gray and alpha": (tiff(np.dstack([DEEP[..., 0], DEEP_ALPHA]), photometric="minisblack",
                                        extrasamples=["unassalpha"]),
                                   composite_on_white(three(DEEP[..., 0]), DEEP_ALPHA, 65535)),
    "bigtiff": (tiff(COLOR, photometric="rgb", bigtiff=True), COLOR),
    "bigtiff, big-endian": (tiff(COLOR, photometric="rgb", bigtiff=True, byteorder=">"), COLOR),
    "bigtiff, gray": (tiff(GRAY, bigtiff=True), three(GRAY)),
    "bigtiff, big-endian, bits": (tiff(GRAY > 127, bigtiff=True, byteorder=">", photometric="minisblack"),
                                  three(np.where(GRAY > 127, 255, 0))),
    "bigtiff, big-endian, bits, white is zero": (tiff(GRAY > 127, bigtiff=True, byteorder=">",
                                                      photometric="miniswhite"),
                                                 three(np.where(GRAY > 127, 0, 255))),
    "bigtiff, big-endian, 4 bits": (packed_tiff(GRAY >> 4, 4, bigtiff=True, byteorder=">"),
                                    three((GRAY >> 4) * 17)),
    "bigtiff 16-bit, lzw": (tiff(DEEP, photometric="rgb", bigtiff=True, compression="lzw"), DEEP),
    "tiff 16-bit rgba": (tiff(RGBA16, photometric="rgb", extrasamples=["unassalpha"]),
                         composite_on_white(DEEP, DEEP_ALPHA, 65535)),
    "tiff 16-bit rgba, premultiplied": (tiff(
        np.concatenate([np.rint(DEEP * (DEEP_ALPHA / 65535)).astype(np.uint16), DEEP_ALPHA], axis=2),
        photometric="rgb", extrasamples=["assocalpha"],
    ), composite_on_white(DEEP, DEEP_ALPHA, 65535)),
    "tiff rgb, infrared and alpha": (
        tiff(np.dstack([COLOR, GRAY, ALPHA]), photometric="rgb", extrasamples=["unspecified", "unassalpha"]),
        composite_on_white(COLOR, ALPHA, 255)),
    "tiff 16-bit rgb, infrared and alpha, premultiplied": (tiff(
        np.dstack([np.rint(DEEP * (DEEP_ALPHA / 65535)).astype(np.uint16), DEEP[..., 0], DEEP_ALPHA]),
        photometric="rgb", extrasamples=["unspecified", "assocalpha"],
    ), composite_on_white(DEEP, DEEP_ALPHA, 65535)),
    "tiff gray and alpha, premultiplied": (
        tiff(np.dstack([PREMULTIPLIED, ALPHA]), photometric="minisblack", extrasamples=["assocalpha"]),
        three(PREMULTIPLIED + (255 - ALPHA[..., 0]))),
    "tiff floats": (tiff(FLOATS[..., 0]), three(FLOATS[..., 0])),
    "tiff floats, white is zero": (tiff(FLOATS[..., 0], photometric="miniswhite"), three(-FLOATS[..., 0])),
    "tiff floats, white is zero, big-endian": (
        tiff(FLOATS[..., 0], photometric="miniswhite", byteorder=">", compression="zlib"), three(-FLOATS[..., 0])),
    "tiff float rgb": (tiff(FLOATS[..., :3].copy(), photometric="rgb"), FLOATS[..., :3]),
    "tiff float16 gray": (tiff(FLOATS[..., 0].astype(np.float16)), three(FLOATS[..., 0].astype(np.float16).astype(
        np.float32))),
    "tiff 32-bit integers": (tiff(DEEP[..., 0].astype(np.int32)), three(DEEP[..., 0])),
    "npy uint8": (npy(COLOR), COLOR),
    "npy uint16": (npy(DEEP), DEEP),
    "npy float64": (npy(FLOATS[..., :3].astype(np.float64)), FLOATS[..., :3]),
    "npy float16": (npy(FLOATS[..., :3].astype(np.float16)), FLOATS[..., :3].astype(np.float16).astype(np.float32)),
    "npy, Fortran order": (npy(np.asfortranarray(COLOR)), COLOR),
}


@pytest.mark.parametrize("name", GOOD)
def test_file_is_decoded_correctly(name):
    data, expected = GOOD[name]
    pixels = codec.decode(data)
    assert pixels.shape == expected.shape
    kind = {"f": np.float32}.get(expected.dtype.kind, np.uint16 if expected.max() > 255 else np.uint8)
    assert pixels.dtype == kind
    if "alpha" in name or "rgba" in name:
        # Pillow's compositing rounds by up to one level.
        np.testing.assert_allclose(pixels.astype(int), expected.astype(int), atol=1)
    else:
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "PNG16", "TIFF16"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "PNG16":
        data, upright = png16(2, DEEP, chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))), DEEP
    elif kind == "TIFF16":
        data, upright = tiff(DEEP, photometric="rgb", extratags=[(274, "H", 1, orientation, True)]), DEEP
    else:
        data = saved(COLOR, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
        upright = None
    if upright is None:
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    else:
        # Pillow rotates 8-bit images only, so rotate the high and the low bytes.
        halves = [Image.fromarray((upright >> shift & 255).astype(np.uint8)) for shift in (8, 0)]
        for half in halves:
            half.getexif()[0x0112] = orientation
        high, low = (np.asarray(ImageOps.exif_transpose(half)).astype(np.uint16) for half in halves)
        expected = high << 8 | low
    np.testing.assert_array_equal(codec.decode(data), expected)


def truncated(data, share=0.5):
    return data[: int(len(data) * share)]


def bomb():
    """A PNG file of a few kilobytes that declares 30000 x 30000 pixels."""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)) + chunk(
        b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")


def npy_bomb():
    """A .npy file of a few bytes that declares 300 TB."""
    buffer = io.BytesIO()
    head = {"descr": "|u1", "fortran_order": False, "shape": (10**7, 10**7, 3)}
    np.lib.format.write_array_header_1_0(buffer, head)
    return buffer.getvalue() + bytes(100)


def tiff_bomb():
    """A big-endian BigTIFF file of a few bytes that declares 200000 x 200000 pixels."""
    tags = (256, 4, 200_000), (257, 4, 200_000), (258, 3, 8 << 48), (259, 3, 1 << 48), (262, 3, 1 << 48)
    entries = [struct.pack(">HHQQ", tag, kind, 1, value << 32 if kind == 4 else value) for tag, kind, value in tags]
    return b"MM\0+\0\x08\0\0" + struct.pack(">QQ", 16, len(entries)) + b"".join(entries) + bytes(8)


NOISY = Image.fromarray(NOISE)
# Name -> (bytes, pattern of the reason).
BAD = {
    "no bytes": (b"", "cannot identify image file"),
    "html": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "cannot identify image file"),
    "text": (b"see the other folder\n", "cannot identify image file"),
    "svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "cannot identify image file"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "cannot identify image file"),
    "heif": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "cannot identify image file"),
    "jpeg's first bytes": (JPEG[:3], "cannot identify image file"),
    "truncated jpeg": (truncated(saved(NOISY, "JPEG")), "truncated"),
    "truncated progressive jpeg": (truncated(saved(NOISY, "JPEG", progressive=True)), "truncated"),
    "truncated png": (truncated(saved(NOISY, "PNG")), "truncated"),
    "truncated 16-bit png": (truncated(png16(2, RNG.integers(0, 65536, (64, 64, 3)))), ""),
    "truncated gif": (truncated(saved(NOISY.quantize(64), "GIF"), 0.6), "truncated"),
    "truncated bmp": (truncated(saved(NOISY, "BMP")), "truncated"),
    "truncated webp": (truncated(saved(NOISY, "WEBP")), ""),
    "truncated tiff": (truncated(saved(NOISY, "TIFF")), ""),
    "truncated 16-bit tiff": (truncated(tiff(RNG.integers(0, 65536, (64, 64, 3)).astype(np.uint16),
                                             photometric="rgb")), r"\(compression NONE\) cannot be decoded: .*; copy"),
    "tiff's first bytes": (tiff(DEEP)[:7], "the TIFF file is damaged: .*; copy the file again"),
    "tiff without pages": (b"II*\0" + bytes(4), "the TIFF file is damaged: .*; copy the file again"),
    "truncated npy": (truncated(npy(NOISE)), "does not fit"),
    "png with a broken sum": (saved(NOISY, "PNG").replace(b"IDAT", b"IDAU"), ""),
    # Xcode writes a chunk of its own before IHDR, and compressed pixels without a zlib header.
    "png of an iPhone app": (
        b"\x89PNG\r\n\x1a\n" + chunk(b"CgBI", bytes(4)) + chunk(b"IHDR", struct.pack(">II5B", 4, 1, 2, 0, 0, 0, 0))
        + chunk(b"tRNS", bytes(2)) + chunk(b"IDAT", zlib.compress(bytes(2))[2:-4]) + chunk(b"IEND", b""),
        "broken data stream"),
    "decompression bomb": (bomb(), "decompression bomb"),
    "npy bomb": (npy_bomb(), r"shape \(10000000, 10000000, 3\) of uint8 does not fit 100 bytes"),
    "npy of objects": (npy(np.array([[[{}, 1, 2]]], object), allow_pickle=True), "the type object is not supported"),
    "npy of integers": (npy(DEEP.astype(np.int64)), "the values have the type int64; expected uint8, uint16 or floats"),
    "npy of levels as floats": (npy(COLOR.astype(np.float32)), r"floats must be in \[-1, 1\]"),
    "npy with NaN": (npy(np.full((4, 4, 3), np.nan, np.float32)), r"48 of 48 values are NaN; floats must be in"),
    "npy slightly above 1": (npy(np.full((4, 4, 3), np.nextafter(np.float32(1), np.float32(2)))),
                             r"the values are 1\.00000012 to 1\.00000012; floats must be in \[-1, 1\]"),
    "npy of 5 channels": (npy(FLOATS), r"the array has the shape \(6, 9, 5\); expected \(height, width, 3\)"),
    "npy of one row": (npy(GRAY[0]), r"the array has the shape \(9,\); expected"),
    "npy of nothing": (npy(np.zeros((0, 4, 3), np.uint8)), r"the array has the shape \(0, 4, 3\)"),
    "tiff of large integers": (tiff(np.full((4, 4), 70000, np.int32)), r"integers must be in 0 \.\. 65535"),
    "tiff of negative integers": (tiff(np.full((4, 4), -5, np.int16)), r"integers must be in 0 \.\. 65535"),
    "tiff of 16-bit integers with a sign and alpha": (
        tiff(np.full((4, 4, 2), 9, np.int16), photometric="minisblack", extrasamples=["unassalpha"],
             planarconfig="contig"), "the values have the type int16; expected uint8, uint16 or floats"),
    "tiff of large float colors": (tiff(np.full((4, 4, 3), 255, np.float32), photometric="rgb"), "floats must be in"),
    "tiff of five channels": (tiff(np.zeros((4, 4, 5), np.uint8), photometric="minisblack", planarconfig="contig"),
                              "the TIFF file has 5 channels of type MINISBLACK; expected gray or RGB"),
    "tiff of 16-bit lab": (tiff(DEEP, photometric="cielab"),
                           "3 channels of type CIELAB; expected gray or RGB, with or without alpha$"),
    "tiff of gray, alpha and more": (
        tiff(DEEP, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha", "unspecified"]),
        "the TIFF file has 3 channels of type MINISBLACK; expected gray or RGB, with or without alpha$"),
    "tiff of gray, infrared and alpha": (
        tiff(DEEP, photometric="minisblack", planarconfig="contig", extrasamples=["unspecified", "unassalpha"]),
        "the TIFF file has 3 channels of type MINISBLACK; expected gray or RGB, with or without alpha$"),
    "bigtiff bomb": (tiff_bomb(), "200000 x 200000 pixels exceed the limit of 178956970 pixels"),
    "bigtiff's first bytes": (b"MM\0+\0\x08\0\0" + bytes(20), ""),
    "tiff of 8-bit integers with a sign": (tiff(np.full((4, 4), -5, np.int8)), "the values have the type int8"),
    "tiff with NaN": (tiff(np.full((4, 4), np.nan, np.float32)), "16 of 16 values are NaN"),
    "tiff of large floats": (tiff(np.full((4, 4), 255, np.float32)), r"floats must be in \[-1, 1\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_rejected_with_a_reason(name):
    data, reason = BAD[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about some files before it raises.
        with pytest.raises(ValueError, match=f"(?i){reason}") as caught:
            codec.decode(data)
    # The reason must fit one line of bad_images.txt and hold no memory address.
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert " 0x" not in str(caught.value)


def test_108_megapixels_are_decoded():
    rows = np.arange(9000) % 251
    image = Image.fromarray(np.broadcast_to(rows.astype(np.uint8)[:, np.newaxis], (9000, 12000)))
    small = codec.decode(saved(image, "PNG", compress_level=1), channels=1, target_size=lambda h, w: (h, 8))
    assert (small == rows[:, np.newaxis, np.newaxis]).all()


def test_large_image_causes_no_warning():
    # In a child process, because pytest replaces the filters of warnings. Pillow warns above MAX_IMAGE_PIXELS.
    code = f"""
from PIL import Image
from cyclegan_tf.images import codec
Image.MAX_IMAGE_PIXELS = {HEIGHT * WIDTH - 1}
codec.decode({saved(COLOR, "PNG")!r})
"""
    child = run_python("-c", code)
    assert child.returncode == 0, child.stderr
    assert "DecompressionBombWarning" not in child.stderr


@pytest.mark.parametrize("name", ["jpeg", "jpeg gray", "jpeg cmyk", "png rgba", "png palette with transparency",
                                  "png bits", "gif", "webp", "tiff gray"])
def test_one_channel_is_the_luminance_of_pillow(name):
    data, expected = GOOD[name]
    luminance = np.asarray(Image.fromarray(np.ascontiguousarray(expected.astype(np.uint8))).convert("L"))
    np.testing.assert_allclose(codec.decode(data, 1)[..., 0].astype(int), luminance, atol=1 if "rgba" in name else 0)


def test_one_channel_of_16_bit_colors():
    # ITU-R 601: 0.299 R + 0.587 G + 0.114 B.
    expected = DEEP @ np.array([0.299, 0.587, 0.114])
    for name in ("png 16-bit rgb", "tiff 16-bit rgb"):
        decoded = codec.decode(GOOD[name][0], 1)
        assert decoded.dtype == np.uint16
        np.testing.assert_allclose(decoded[..., 0], expected, atol=2)


def test_any_number_of_channels_from_npy_and_tiff_only():
    assert (codec.decode(npy(FLOATS), 5) == FLOATS).all()
    assert codec.decode(npy(GRAY), 1).shape == (HEIGHT, WIDTH, 1)
    for layout in ("contig", "separate"):
        array = FLOATS if layout == "contig" else np.moveaxis(FLOATS, -1, 0)
        assert (codec.decode(tiff(array, photometric="minisblack", planarconfig=layout), 5) == FLOATS).all()
    with pytest.raises(ValueError, match=r"images with 5 channels must be \.npy or TIFF files"):
        codec.decode(JPEG, 5)


