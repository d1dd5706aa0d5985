"""Reads image files for translation, and writes the results in the same format with the same metadata.

A result keeps the depth (16 bits, floats), gray, the alpha channel, the ICC color profile, and EXIF data. It does not
keep the EXIF orientation, which is applied, nor the EXIF thumbnail, which shows the original. TIFF files keep the main
EXIF directory only. Transparent pixels are composited on white for the translation; the alpha channel itself is copied.
"""

import dataclasses
import io
import os
import struct
import zlib
from typing import IO, Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from cyclegan_tf.images import codec, ranges
from cyclegan_tf.storage import atomic, filesystem

# EXIF data of a TIFF file also holds the layout of its pixels, which differs in the new file, and the color profile.
_LAYOUT_TAGS = (
    *range(254, 260), 262, 266, 273, 277, 278, 279, 284, 317, *range(320, 326), 338, 339, 347, *range(529, 533), 34675
)
# Options for Pillow: lossless, or for JPEG of a quality without visible loss. Files of other formats become PNG files.
_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "lossless": True},
    ".tif": {"format": "TIFF", "compression": "tiff_deflate"},
    ".bmp": {"format": "BMP"},
}
_ALIASES = {".jpeg": ".jpg", ".tiff": ".tif"}


@dataclasses.dataclass(frozen=True)
class Extras:
    """Everything in an image file besides its colors.

    Attributes:
      gray: True if the file holds a gray image, which was repeated for three channels.
      alpha: the alpha channel, (H, W) uint8 or uint16, or None.
      icc: the ICC color profile, or None.
      exif: the EXIF data without orientation and thumbnail, or None.
    """

    gray: bool = False
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None


def read(path: filesystem.PathLike, channels: int) -> tuple[np.ndarray, Extras]:
    """Reads an image, (H, W, channels) as from `codec.decode`, and its `Extras`.

    Raises:
      ValueError: the file cannot be decoded; the message gives the reason.
      OSError: the file cannot be read.
    """
    data = filesystem.read_bytes(path)
    pixels = codec.decode(data, channels)
    if data.startswith(codec.NPY_SIGNATURE):
        return pixels, Extras()
    with Image.open(io.BytesIO(data)) as image:
        # Pillow reports mode RGBA for 16-bit gray with alpha. Byte 25 of a PNG file, the color type, is 4 then.
        gray = image.mode in ("1", "L", "LA", "I", "F", "I;16", "I;16B") or (image.format == "PNG" and data[25] == 4)
        alpha = _alpha(image, data, pixels.dtype)
        return pixels, Extras(gray and channels == 3, alpha, image.info.get("icc_profile"), _exif(image))


def _exif(image: Image.Image) -> bytes | None:
    exif = image.getexif()
    for tag in (codec.ORIENTATION, *(_LAYOUT_TAGS if image.format == "TIFF" else ())):
        exif.pop(tag, None)
    # Pillow leaves the thumbnail out.
    return exif.tobytes() if exif else None


def _alpha(image: Image.Image, data: bytes, dtype: np.dtype) -> np.ndarray | None:
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return None
    orientation = image.getexif().get(codec.ORIENTATION)
    if dtype != np.uint16:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGBA").getchannel("A"))
    if image.format == "PNG":
        alpha = tf.io.decode_png(data, channels=4, dtype=tf.uint16).numpy()[..., 3]
    else:
        alpha = _tiff_alpha(data)
    return codec.apply_orientation(alpha, orientation)


def _tiff_alpha(data: bytes) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        return page.asarray()[3 if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else (..., 3)]


def output_name(name: str, channels: int) -> str:
    """The file name for the translation of file `name` to an image with `channels` channels.

    Keeps the suffix of formats that `write` supports and replaces others with .png; .npy unless `channels` is 1 or 3.
    """
    stem, suffix = os.path.splitext(name)
    if channels not in (1, 3):
        return f"{stem}.npy"
    lower = suffix.lower()
    return name if lower == ".npy" or _ALIASES.get(lower, lower) in _OPTIONS else f"{stem}.png"


def write(path: str, pixels: np.ndarray, extras: Extras) -> None:
    """Writes (H, W, C) of any supported dtype with its `extras` atomically, in the format of the path's suffix.

    If `extras.gray`, three channels become their luminance. JPEG, WebP and BMP files have 8 bits per channel.
    """
    suffix = os.path.splitext(path)[1].lower()
    suffix = _ALIASES.get(suffix, suffix)
    filesystem.makedirs(os.path.dirname(path) or ".")
    with atomic.open_for_writing(path, "w+b") as file:
        if suffix == ".npy":
            np.save(file, pixels)
        else:
            _save(file, suffix, pixels, extras)


def _save(file: IO[bytes], suffix: str, pixels: np.ndarray, extras: Extras) -> None:
    if pixels.shape[-1] == 3 and extras.gray:
        luminance = pixels @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as in `codec.decode`.
        pixels = (luminance if pixels.dtype == np.float32 else np.rint(luminance)).astype(pixels.dtype)[..., np.newaxis]
    if pixels.dtype == np.float32 and suffix == ".tif" and pixels.shape[-1] == 1:
        Image.fromarray(pixels[..., 0]).save(file, **_OPTIONS[suffix])
        return
    is_deep = pixels.dtype == np.uint16 and suffix in (".png", ".tif")
    if not is_deep and pixels.dtype != np.uint8:
        pixels = ranges.from_float(ranges.to_float(pixels), np.uint8)
    icc = _select_profile(extras.icc, pixels.shape[-1])
    if is_deep and (pixels.shape[-1] == 3 or extras.alpha is not None):
        # Pillow cannot write 16-bit colors.
        channels = [pixels] if extras.alpha is None else [pixels, extras.alpha[..., np.newaxis]]
        save = {".png": _save_deep_png, ".tif": _save_deep_tiff}[suffix]
        save(file, np.concatenate(channels, axis=-1), icc, extras.exif)
        return
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if extras.alpha is not None and suffix != ".jpg":
        image.putalpha(Image.fromarray(extras.alpha))
    metadata: dict[str, Any] = {"icc_profile": icc, "exif": extras.exif}
    image.save(file, **_OPTIONS[suffix], **{key: value for key, value in metadata.items() if value})


def _select_profile(icc: bytes | None, channels: int) -> bytes | None:
    """The profile if its color space fits `channels`, else None; the profile of a CMYK file, for example, does not."""
    spaces = (b"RGB ",) if channels == 3 else (b"RGB ", b"GRAY")
    return icc if icc and icc[16:20] in spaces else None


def _save_deep_png(file: IO[bytes], pixels: np.ndarray, icc: bytes | None, exif: bytes | None) -> None:
    data = tf.io.encode_png(pixels).numpy()
    header_end = 33  # Of the signature and the IHDR chunk; the profile must come before the pixels.
    chunks = b""
    if icc:
        chunks += _chunk(b"iCCP", b"ICC\0\0" + zlib.compress(icc))
    if exif:
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    file.write(data[:header_end] + chunks + data[header_end:])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _save_deep_tiff(file: IO[bytes], pixels: np.ndarray, icc: bytes | None, exif: bytes | None) -> None:
    import tifffile

    photometric, alpha = ("rgb", pixels.shape[-1] == 4) if pixels.shape[-1] > 2 else ("minisblack", True)
    # Only text tags, such as camera, author and copyright; most other EXIF data is in subdirectories.
    directory = Image.Exif()
    directory.load(exif or b"")
    tags = [(tag, "s", 0, text, True) for tag, text in directory.items() if isinstance(text, str)]
    tifffile.imwrite(
        file, pixels, photometric=photometric, compression="zlib", iccprofile=icc, metadata=None, software=False,
        extrasamples=("unassalpha",) if alpha else (), extratags=tags,
    )
