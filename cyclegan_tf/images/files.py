"""Image files for translation: what a file has beside its colors, and writing the result in the kind it came in.

Kept are gray, 16 bits, floats, transparency, the color profile (ICC) and EXIF, the latter less its orientation, which
is applied, and its preview, which shows the original; TIFF files keep EXIF's main folder only. Colors are put on white
before they are translated, where they are transparent, and the transparency itself is handed on as it is.
"""

import dataclasses
import io
import os
import struct
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from cyclegan_tf.images import codec, ranges
from cyclegan_tf.storage import atomic, filesystem

_ORIENTATION = 0x0112
# Of a TIFF file, EXIF holds these, too: how its pixels are laid out, which the new file knows better, and the profile.
_LAYOUT_TAGS = (
    *range(254, 260), 262, 266, 273, 277, 278, 279, 284, 317, *range(320, 326), 338, 339, 347, *range(529, 533), 34675
)
# What Pillow writes without loss, and JPEG at a quality that shows none; anything else becomes a PNG.
_OPTIONS = {
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "lossless": True},
    ".tif": {"format": "TIFF", "compression": "tiff_deflate"},
    ".bmp": {"format": "BMP"},
}
_ALIASES = {".jpeg": ".jpg", ".tiff": ".tif"}
_NPY = b"\x93NUMPY"


@dataclasses.dataclass(frozen=True)
class Extras:
    """What a file has beside its colors.

    Attributes:
      gray: whether it is a gray image that was repeated for three channels.
      alpha: its transparency, (H, W) uint8 or uint16, or None.
      icc: its color profile, or None.
      exif: its EXIF data without orientation, or None.
    """

    gray: bool = False
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None


def read(path, channels):
    """The image in a file as `codec.decode` gives it, (H, W, channels), and its `Extras`.

    Raises:
      ValueError, OSError: it cannot be decoded or read; with the reason.
    """
    data = filesystem.read_bytes(path)
    pixels = codec.decode(data, channels)
    if data.startswith(_NPY):
        return pixels, Extras()
    with Image.open(io.BytesIO(data)) as image:
        # Pillow calls 16-bit gray with alpha RGBA; byte 25 of a PNG is its color type.
        gray = image.mode in ("1", "L", "LA", "I", "F", "I;16", "I;16B") or (image.format == "PNG" and data[25] == 4)
        alpha = _alpha(image, data, pixels.dtype)
        return pixels, Extras(gray and channels == 3, alpha, image.info.get("icc_profile"), _exif(image))


def _exif(image):
    exif = image.getexif()
    for tag in (_ORIENTATION, *(_LAYOUT_TAGS if image.format == "TIFF" else ())):
        exif.pop(tag, None)
    # This leaves out the preview, which shows the original.
    return exif.tobytes() if exif else None


def _alpha(image, data, dtype):
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return None
    orientation = image.getexif().get(_ORIENTATION)
    if dtype != np.uint16:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGBA").getchannel("A"))
    if image.format == "PNG":
        alpha = tf.io.decode_png(data, channels=4, dtype=tf.uint16).numpy()[..., 3]
    else:
        alpha = _tiff_alpha(data)
    return codec.apply_orientation(alpha, orientation)


def _tiff_alpha(data):
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        return page.asarray()[3 if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else (..., 3)]


def output_name(name, channels):
    """The name of the result for the file `name`, of a model that makes `channels` channels.

    The same where its format can be written without loss, or JPEG; .png elsewhere, .npy for other than 1 or 3 channels.
    """
    stem, suffix = os.path.splitext(name)
    if channels not in (1, 3):
        return f"{stem}.npy"
    lower = suffix.lower()
    return name if lower == ".npy" or _ALIASES.get(lower, lower) in _OPTIONS else f"{stem}.png"


def write(path, pixels, extras):
    """Writes (H, W, C) pixels of any kind with the `extras`, in the format of the path's suffix, whole or not at all.

    The three channels of a gray image become one, their luminance. JPEG, WebP and BMP files have 8 bits.
    """
    suffix = os.path.splitext(path)[1].lower()
    suffix = _ALIASES.get(suffix, suffix)
    filesystem.makedirs(os.path.dirname(path) or ".")
    with atomic.open_for_writing(path, "w+b") as file:
        if suffix == ".npy":
            np.save(file, pixels)
        else:
            _save(file, suffix, pixels, extras)


def _save(file, suffix, pixels, extras):
    if pixels.shape[-1] == 3 and extras.gray:
        luminance = pixels @ np.float32([0.299, 0.587, 0.114])  # ITU-R 601, as in `codec.decode`.
        pixels = (luminance if pixels.dtype == np.float32 else np.rint(luminance)).astype(pixels.dtype)[..., np.newaxis]
    if pixels.dtype == np.float32 and suffix == ".tif" and pixels.shape[-1] == 1:
        Image.fromarray(pixels[..., 0]).save(file, **_OPTIONS[suffix])
        return
    deep = pixels.dtype == np.uint16 and suffix in (".png", ".tif")
    if not deep and pixels.dtype != np.uint8:
        pixels = ranges.from_float(ranges.to_float(pixels), np.uint8)
    icc = _fitting_profile(extras.icc, pixels.shape[-1])
    if deep and (pixels.shape[-1] == 3 or extras.alpha is not None):
        # Pillow has no 16-bit colors.
        channels = [pixels] if extras.alpha is None else [pixels, extras.alpha[..., np.newaxis]]
        save = {".png": _save_deep_png, ".tif": _save_deep_tiff}[suffix]
        save(file, np.concatenate(channels, axis=-1), icc, extras.exif)
        return
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if extras.alpha is not None and suffix != ".jpg":
        image.putalpha(Image.fromarray(extras.alpha))
    metadata = {"icc_profile": icc, "exif": extras.exif}
    image.save(file, **_OPTIONS[suffix], **{key: value for key, value in metadata.items() if value})


def _fitting_profile(icc, channels):
    """The profile, unless it is for another number of channels than the result has, such as that of a CMYK file."""
    spaces = (b"RGB ",) if channels == 3 else (b"RGB ", b"GRAY")
    return icc if icc and icc[16:20] in spaces else None


def _save_deep_png(file, pixels, icc, exif):
    data = tf.io.encode_png(pixels).numpy()
    end = 33  # Of the signature and the header; the profile must come before the pixels.
    chunks = b""
    if icc:
        chunks += _chunk(b"iCCP", b"ICC\0\0" + zlib.compress(icc))
    if exif:
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    file.write(data[:end] + chunks + data[end:])


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _save_deep_tiff(file, pixels, icc, exif):
    import tifffile

    photometric, alpha = ("rgb", pixels.shape[-1] == 4) if pixels.shape[-1] > 2 else ("minisblack", True)
    # Text only: camera, author, copyright and the like; the rest of EXIF is in folders of their own.
    folder = Image.Exif()
    folder.load(exif or b"")
    tags = [(tag, "s", 0, text, True) for tag, text in folder.items() if isinstance(text, str)]
    tifffile.imwrite(
        file, pixels, photometric=photometric, compression="zlib", iccprofile=icc, metadata=None, software=False,
        extrasamples=("unassalpha",) if alpha else (), extratags=tags,
    )
