"""Reads image files for translation, and writes the results in the same format with the same metadata.

A result keeps the depth (16 bits, floats), gray, the alpha channel, the ICC color profile, and EXIF data. A result does
not keep the EXIF orientation, which is applied, or the EXIF thumbnail, which shows the original. TIFF files keep the
main EXIF directory only, or only its text and resolution if Pillow cannot decode the file in full depth. Damaged EXIF
data is left out with a warning. Transparent pixels are composited on white for the translation; the alpha channel
itself is copied.
"""

import dataclasses
import logging
import os
import struct
import warnings
import zlib
from collections.abc import MutableMapping, Sequence
from typing import IO, Any

import numpy as np
import tensorflow as tf
from PIL import Image

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.errors import describe_error
from cyclegan_tf.images import codec, headers, jpeg2000, ranges, suffixes, tiff
from cyclegan_tf.images.damage import explain_damage
from cyclegan_tf.storage import array_files, atomic, filesystem

log = logging.getLogger("cyclegan_tf")

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
_EXIF_SIZE = (0xA002, 0xA003)  # Width and height of the image in EXIF.
_SIZE_TAGS = (256, 257, *_EXIF_SIZE)  # The same in TIFF and in EXIF.
_CAMERA = 0x8769  # The subdirectory of EXIF with the camera's settings.
_SUBDIRECTORIES = (_CAMERA, 0x8825)  # The second has GPS data.
_ALIASES = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}


@dataclasses.dataclass(frozen=True)
class Extras:
    """Everything in an image file besides its colors.

    Attributes:
      gray: True if the file holds a gray image, which was repeated for three channels.
      alpha: the alpha channel, (H, W) uint8 or uint16, or None.
      icc: the ICC color profile, or None.
      exif: the EXIF data without orientation and thumbnail, or None.
      is_flat: True if the file is an array (H, W), without an axis for its one channel.
    """

    gray: bool = False
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    is_flat: bool = False


def read(path: filesystem.PathLike, channels: int, in_units: bool = False) -> tuple[np.ndarray, Extras]:
    """Reads an image, (H, W, channels) as from `codec.decode` or, `in_units`, `codec.decode_values`, and its `Extras`.

    Logs a warning if the file has other pages or frames besides the first, or damaged EXIF data.

    Raises:
      ValueError: the file cannot be decoded; the message gives the reason.
      OSError: the file cannot be read.
      MemoryError: memory is exhausted.
    """
    data = filesystem.read_regular_file(path)
    pixels = codec.decode_values(data, channels) if in_units else codec.decode(data, channels)
    if data.startswith(array_files.SIGNATURE):
        return pixels, Extras(is_flat=array_files.parse(data).ndim == 2)
    n_pages = headers.count_pages(data)
    if n_pages > 1:
        log.warning("%s: only page 1 of %d is used", path, n_pages)
    with explain_damage():
        if tiff.needs_tifffile(data):
            extras = _read_page_extras(tiff.read(data, codec.MAX_PIXELS, channels))
        else:
            extras = _read_pillow_extras(data, pixels.dtype, path)
    # In the image description, stacks store the number of pages (OME-TIFF, ImageJ), and tifffile stores the shape.
    if n_pages > 1 or _read_text(extras.exif, tiff.DESCRIPTION).startswith('{"shape"'):
        extras = dataclasses.replace(extras, exif=_remove_tags(extras.exif, [tiff.DESCRIPTION]))
    return pixels, extras if channels == 3 else dataclasses.replace(extras, gray=False)


def shrink(pixels: np.ndarray, extras: Extras, max_side: int) -> tuple[np.ndarray, Extras]:
    """Shrinks an image from `read` until its longer side has at most `max_side` pixels; not for images in units."""
    size = codec.fit_into(max_side, *pixels.shape[:2])
    if size == pixels.shape[:2]:
        return pixels, extras
    extras = dataclasses.replace(extras, exif=_remove_tags(extras.exif, _SIZE_TAGS))
    if extras.alpha is not None:
        extras = dataclasses.replace(extras, alpha=codec.resize(extras.alpha[..., np.newaxis], *size)[..., 0])
    return codec.resize(pixels, *size), extras


def _read_page_extras(page: tiff.Page) -> Extras:
    exif = Image.Exif()
    # Keep bytes, because Pillow writes only the ASCII characters of a str.
    exif.update({
        tag: value.encode() if isinstance(value, str) else value
        for tag, value in page.tags.items() if tag not in _LAYOUT_TAGS
    })
    if page.orientation >= 5:
        _swap(exif, tiff.RESOLUTION)
    alpha = None if page.alpha is None else codec.apply_orientation(page.alpha, page.orientation)
    return Extras(page.pixels.shape[-1] == 1, alpha, page.icc, exif.tobytes() if exif else None)


def _read_pillow_extras(data: bytes, dtype: np.dtype, path: filesystem.PathLike) -> Extras:
    damage = exif = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        with headers.open_with_pillow(data) as image:
            is_rotated = (headers.read_orientation(image) or 1) >= 5  # Loading the pixels may remove the orientation.
            # Pillow reports mode RGBA for 16-bit gray with alpha.
            is_gray_png = image.format == "PNG" and headers.read_png_header(data)[1] == headers.PNG_GRAY_ALPHA
            gray = image.mode in codec.GRAY_MODES or is_gray_png
            alpha = _read_alpha(image, data, dtype)
            try:
                exif = _read_exif(image, is_rotated)
            except Exception as error:  # Pillow raises many types.
                damage = describe_error(error)
    for warning in caught:
        damage = damage or describe_error(warning.message)
    if damage:
        log.warning("%s: damaged metadata is left out: %s", path, damage)
    return Extras(gray, alpha, image.info.get("icc_profile"), exif)


def _read_exif(image: Image.Image, is_rotated: bool) -> bytes | None:
    exif = image.getexif()
    if not exif:
        # Pillow hides damage in EXIF data when it opens a file; this raises an exception for such data.
        Image.Exif().load(image.info.get("exif", b""))
        return None
    for tag in (tiff.ORIENTATION, *(_LAYOUT_TAGS if image.format == "TIFF" else ())):
        exif.pop(tag, None)
    if is_rotated:
        _swap(exif, tiff.RESOLUTION)
        if _CAMERA in exif:
            _swap(exif.get_ifd(_CAMERA), _EXIF_SIZE)
    if isinstance(exif.get(tiff.XMP), bytes):
        exif[tiff.XMP] = tiff.reset_xmp_orientation(exif[tiff.XMP])
    exif.bigtiff = False  # Pillow cannot read EXIF data in the format of a BigTIFF file.
    for directory in (exif, *(exif.get_ifd(tag) for tag in _SUBDIRECTORIES if tag in exif)):
        _encode_texts(directory)
    # Pillow leaves the thumbnail out.
    return exif.tobytes() if exif else None


def _swap(directory: MutableMapping[int, Any], tags: tuple[int, int]) -> None:
    """Swaps a horizontal and a vertical value of an image whose columns become rows."""
    values = [directory.pop(tag, None) for tag in tags]
    for tag, value in zip(tags, values[::-1], strict=True):
        if value is not None:
            directory[tag] = value


def _encode_texts(directory: MutableMapping[int, Any]) -> None:
    """Encodes texts that Pillow decoded as Latin-1 to bytes, because Pillow writes only ASCII characters of a str."""
    for tag, value in list(directory.items()):
        if isinstance(value, str) and not value.isascii():
            directory[tag] = value.encode("latin-1")


def _read_text(exif: bytes | None, tag: int) -> str:
    exif_data = Image.Exif()
    exif_data.load(exif or b"")
    return str(exif_data.get(tag, ""))


def _remove_tags(exif: bytes | None, tags: Sequence[int]) -> bytes | None:
    exif_data = Image.Exif()
    exif_data.load(exif or b"")
    for directory in (exif_data, *(exif_data.get_ifd(tag) for tag in _SUBDIRECTORIES if tag in exif_data)):
        for tag in tags:
            directory.pop(tag, None)
        _encode_texts(directory)
    return exif_data.tobytes() if exif_data else None


def _read_alpha(image: Image.Image, data: bytes, dtype: np.dtype) -> np.ndarray | None:
    if not codec.has_alpha(image):
        return None
    image.load()  # Pillow rotates a TIFF image when it loads the pixels, and removes the tag.
    orientation = headers.read_orientation(image)
    if image.format == "PNG" and dtype == np.uint16:
        alpha = tf.io.decode_png(data, channels=4, dtype=tf.uint16).numpy()[..., 3]
    elif image.format == "JPEG2000" and dtype == np.uint16:
        alpha = jpeg2000.decode(data, jpeg2000.read_bit_depth(data))[..., -1]
    else:
        alpha = codec.read_alpha(image)
    return codec.apply_orientation(alpha, orientation)


def get_output_name(name: str, channels: int, value_range: ValueRange | None = None) -> str:
    """Returns the file name for the translation of file `name` to an image with `channels` channels.

    Keeps the suffix of formats that `write` supports and replaces others with .png; .npy unless `channels` is 1 or 3.
    Files of slices keep their suffix.

    Args:
      value_range: range of the translation if its values have a unit. The file is a .png file, or a .tif file if some
        values are negative or not integers.
    """
    stem, suffix = os.path.splitext(name)
    lower = suffix.lower()
    if lower == ".npy" or suffixes.match(name, suffixes.STACKS):
        return name
    if channels not in (1, 3):
        return f"{stem}.npy"
    if value_range is not None:
        fits = value_range.is_whole and value_range.low >= 0 and value_range.high <= 65535
        return (name if lower == ".png" else f"{stem}.png") if fits else f"{stem}.tif"
    return name if _ALIASES.get(lower, lower) in _OPTIONS else f"{stem}.png"


def write(path: str, pixels: np.ndarray, extras: Extras) -> None:
    """Writes (H, W, C) of any supported dtype with its `extras` atomically, in the format of the path's suffix.

    If `extras.gray`, three channels become their luminance. JPEG, WebP and BMP files have 8 bits per channel. Metadata
    that the file cannot hold, such as EXIF data above 64 kB in a JPEG file, is left out with a warning. In a TIFF file
    of floats or of integers other than uint8 and uint16, the alpha channel is left out with a warning.

    Raises:
      ValueError: the format cannot hold the image; the message gives the reason.
      OSError: the file cannot be written.
    """
    suffix = os.path.splitext(path)[1].lower()
    suffix = _ALIASES.get(suffix, suffix)
    filesystem.makedirs(os.path.dirname(path) or ".")
    with atomic.open_for_writing(path, "w+b") as file:
        if suffix == ".npy":
            np.save(file, pixels[..., 0] if extras.is_flat and pixels.shape[-1] == 1 else pixels)
            return
        if extras.alpha is not None and suffix == ".tif" and _needs_wide_tiff(pixels):
            log.warning("%s: the alpha channel cannot be written beside values of type %s", path, pixels.dtype)
        _save_with_metadata(file, path, suffix, pixels, extras)


def _save_with_metadata(file: IO[bytes], path: str, suffix: str, pixels: np.ndarray, extras: Extras) -> None:
    try:
        _save(file, suffix, pixels, extras)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many types for metadata that it cannot write.
        if isinstance(error, OSError) and error.errno is not None:  # Such as a full disk.
            raise
        if extras.exif:
            left_out, fewer = "the EXIF data", dataclasses.replace(extras, exif=None)
        elif extras.icc:
            left_out, fewer = "the color profile", dataclasses.replace(extras, icc=None)
        else:
            raise ValueError(describe_error(error)) from error
        file.seek(0)
        file.truncate()
        _save_with_metadata(file, path, suffix, pixels, fewer)
        log.warning("%s: %s cannot be written: %s", path, left_out, describe_error(error))


def _save(file: IO[bytes], suffix: str, pixels: np.ndarray, extras: Extras) -> None:
    if pixels.shape[-1] == 3 and extras.gray:
        pixels = codec.convert_channels(pixels, 1)
    icc = tiff.select_profile(extras.icc, pixels.shape[-1])
    if suffix == ".tif" and _needs_wide_tiff(pixels):
        _save_deep_tiff(file, pixels, icc, extras.exif)
        return
    is_deep = pixels.dtype == np.uint16 and suffix in (".png", ".tif")
    if not is_deep:
        pixels = _reduce_depth(pixels)
    if is_deep and (pixels.shape[-1] == 3 or extras.alpha is not None):
        # Pillow cannot write 16-bit colors.
        if extras.alpha is not None:
            alpha = extras.alpha if extras.alpha.dtype == np.uint16 else extras.alpha.astype(np.uint16) * np.uint16(257)
            pixels = np.concatenate([pixels, alpha[..., np.newaxis]], axis=-1)
        save = {".png": _save_deep_png, ".tif": _save_deep_tiff}[suffix]
        save(file, pixels, icc, extras.exif)
        return
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if extras.alpha is not None and suffix != ".jpg":
        image.putalpha(Image.fromarray(_reduce_depth(extras.alpha)))
    if image.mode == "LA" and suffix == ".bmp":  # Pillow writes alpha to a BMP file beside colors only.
        image = image.convert("RGBA")
    metadata: dict[str, Any] = {"icc_profile": icc, "exif": extras.exif}
    if extras.exif and suffix == ".tif":
        metadata["exif"] = Image.Exif()
        metadata["exif"].load(extras.exif)
        for tag in _SUBDIRECTORIES:  # libtiff, which compresses the file, cannot write subdirectories.
            metadata["exif"].pop(tag, None)
        _encode_texts(metadata["exif"])
    image.save(file, **_OPTIONS[suffix], **{key: value for key, value in metadata.items() if value})


def _needs_wide_tiff(pixels: np.ndarray) -> bool:
    """True if a TIFF file keeps `pixels` as floats or as integers other than uint8 and uint16."""
    return pixels.dtype not in (np.uint8, np.uint16)


def _reduce_depth(levels: np.ndarray) -> np.ndarray:
    """Converts an array of any supported dtype to uint8."""
    return levels if levels.dtype == np.uint8 else ranges.from_float(ranges.to_float(levels), np.uint8)


def _save_deep_png(file: IO[bytes], pixels: np.ndarray, icc: bytes | None, exif: bytes | None) -> None:
    data = tf.io.encode_png(pixels).numpy()
    header_end = 33  # Length of the signature and the IHDR chunk; the profile must come before the pixels.
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

    photometric, alpha = ("rgb" if pixels.shape[-1] > 2 else "minisblack"), pixels.shape[-1] in (2, 4)
    # Only the resolution and text tags, such as camera and copyright; most other EXIF data is in subdirectories.
    directory = Image.Exif()
    directory.load(exif or b"")
    tags = [(tag, "s", 0, text.encode("latin-1"), True) for tag, text in directory.items() if isinstance(text, str)]
    resolution = tiff.find_resolution(directory.get)
    scale = tiff.describe_resolution(resolution) if resolution else {}
    tifffile.imwrite(
        file, pixels[..., 0] if pixels.shape[-1] == 1 else pixels, photometric=photometric, compression="zlib",
        iccprofile=icc, metadata=None, software=False, extrasamples=("unassalpha",) if alpha else (), extratags=tags,
        **scale,
    )
