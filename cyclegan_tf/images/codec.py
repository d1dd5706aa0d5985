"""Decodes, rotates, resizes and encodes images."""

import functools
import io
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import tensorflow as tf
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from cyclegan_tf.errors import describe_error
from cyclegan_tf.images import headers, jpeg2000, ranges, tiff
from cyclegan_tf.images.damage import explain_damage
from cyclegan_tf.storage import array_files

MAX_PIXELS = 178_956_970  # Pillow refuses to decode larger images: twice its MAX_IMAGE_PIXELS.

# Pillow's modes without color, and with alpha. In La and RGBa, colors are multiplied with alpha.
GRAY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B")
_ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")

# Maps an image's (height, width) to the (height, width) that it is resized to.
TargetSize = Callable[[int, int], tuple[int, int]]


def decode(data: bytes, channels: int = 3, target_size: TargetSize | None = None) -> np.ndarray:
    """Decodes the first frame of an image, applies its EXIF orientation, and returns (H, W, channels).

    Transparent pixels are composited on white. For 3 channels, a gray image is repeated; for 1 channel, a color image
    becomes its luminance (ITU-R 601, as in Pillow's mode L). 16-bit images stay 16-bit, except CMYK files, which become
    8-bit.

    Args:
      data: bytes of an AVIF, BMP, GIF, HEIF, JPEG, JPEG 2000, Netpbm, PNG, TGA, TIFF or WebP file, whatever its name,
        or of a .npy file: (H, W) or (H, W, channels), of uint8, uint16, or floats in [-1, 1].
      channels: 1 or 3, or any number for .npy and TIFF files.
      target_size: maps (height, width) of the decoded image to the (height, width) to return; see `resize`.

    Returns:
      uint8; uint16 for 16-bit PNG, TIFF and .npy files, and for JPEG 2000 and gray Netpbm files of more than 8 bits,
      whose levels are scaled to 0 .. 65535; float32 in [-1, 1] for floats.

    Raises:
      ValueError: the bytes are not a complete image of a supported format, or have another number of channels; the
        message gives the reason.
      MemoryError: memory is exhausted; the image may be intact.
    """
    with explain_damage(functools.partial(_explain, data)):
        if data.startswith(array_files.SIGNATURE):
            pixels = _decode_array(array_files.parse(data), channels)
        elif channels not in (1, 3) and not data.startswith(tiff.SIGNATURES):
            raise ValueError(f"images with {channels} channels must be .npy or TIFF files")
        elif channels not in (1, 3) or tiff.needs_tifffile(data):
            pixels = decode_page(tiff.read(data, MAX_PIXELS, channels), channels)
        else:
            with headers.open_with_pillow(data) as image:
                return decode_pillow(image, data, channels, target_size)
        if not pixels.size:
            raise ValueError("the image has no pixels")
        return resize(pixels, *target_size(*pixels.shape[:2])) if target_size else pixels


def decode_values(data: bytes, channels: int) -> np.ndarray:
    """Decodes a file to values in their own unit.

    Returns the array of a .npy file, of any integers or floats, and the stored levels of JPEG 2000 and Netpbm files.
    For other files, returns the same as `decode`.

    Raises:
      ValueError, MemoryError: as in `decode`.
    """
    if not data.startswith(array_files.SIGNATURE):
        pixels = decode(data, channels)
        white = headers.read_white(data)
        # `decode` multiplies levels by a factor of at least 1, so division and rounding restore the stored levels.
        return pixels if white is None else np.rint(pixels * (white / np.iinfo(pixels.dtype).max)).astype(pixels.dtype)
    with explain_damage():
        return _reshape_array(array_files.parse(data), channels)


def has_alpha(image: Image.Image) -> bool:
    """True if an opened image has an alpha channel or a transparent color."""
    return image.mode in _ALPHA_MODES or "transparency" in image.info


def read_alpha(image: Image.Image) -> np.ndarray:
    """Returns the alpha channel (H, W), uint8, of an image for which `has_alpha` is True."""
    return np.asarray(_convert_to_rgba(image).getchannel("A"))


def _convert_to_rgba(image: Image.Image) -> Image.Image:
    # Pillow converts La only to LA.
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def _explain(data: bytes, error: Exception) -> str:
    """Describes the error that decoding `data` raised, such as SyntaxError, struct.error or DecompressionBombError."""
    text = describe_error(error)
    if data.startswith(tiff.SIGNATURES) and not isinstance(error, ValueError | OSError):
        return f"the TIFF file is damaged: {text}; copy the file again"
    return text


def _decode_array(array: np.ndarray, channels: int) -> np.ndarray:
    array = _reshape_array(array, channels)
    return array if array.dtype in (np.uint8, np.uint16) else check_floats(array)


def _reshape_array(array: np.ndarray, channels: int) -> np.ndarray:
    shape, array = array.shape, array[..., np.newaxis] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[-1] != channels or not array.size:
        raise ValueError(f"the array has the shape {shape}; expected (height, width, {channels})")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"the values have the type {array.dtype}; expected integers or floats")
    return array


def check_floats(array: np.ndarray) -> np.ndarray:
    """Returns floats in [-1, 1] as float32; raises ValueError for other types and values."""
    if array.dtype.kind != "f":
        raise ValueError(f"the values have the type {array.dtype}; expected uint8, uint16 or floats in [-1, 1]; for "
                         "other values train with --range_a or --range_b")
    ranges.require_range(array)
    return array.astype(np.float32)


def decode_pillow(image: Image.Image, data: bytes, channels: int, target_size: TargetSize | None) -> np.ndarray:
    """Decodes an opened image.

    Args:
      data: bytes of the file, if it may be a JPEG 2000, Netpbm or PNG file.
      target_size: as in `decode`.
    """
    if image.format == "PPM":
        _require_supported_netpbm(image, data)
    image.load()
    # Read the orientation after loading, because EXIF data of a PNG file may follow the pixels. Pillow has already
    # rotated a TIFF image and removed the tag.
    orientation = headers.read_orientation(image)
    # Pillow would keep 8 bits.
    if image.format == "PNG" and image.mode in ("RGB", "RGBA") and headers.read_png_header(data)[0] == 16:
        samples = tf.io.decode_png(data, channels=4, dtype=tf.uint16).numpy()
        pixels = convert_channels(_composite(samples[..., :3], samples[..., 3]), channels)
    elif image.format == "JPEG2000" and (bit_depth := jpeg2000.read_bit_depth(data)) not in (0, 8):
        samples = jpeg2000.decode(data, bit_depth)
        if has_alpha(image):
            samples = _composite(samples[..., :-1], samples[..., -1])
        pixels = convert_channels(samples, channels)
    elif image.mode.startswith(("I", "F")):
        pixels = convert_channels(_decode_deep_gray(image), channels)
    else:
        image = _composite_on_white(image)
        if channels == 3 or image.mode != "L":
            image = image if image.mode == "RGB" else image.convert("RGB")
            image = image if channels == 3 else image.convert("L")
        if target_size and orientation in (None, 1):
            # Without a copy to NumPy and back.
            image, target_size = _resize_pillow(image, *target_size(image.height, image.width)), None
        pixels = np.asarray(image).reshape(image.height, image.width, channels)
    pixels = apply_orientation(pixels, orientation)
    return resize(pixels, *target_size(*pixels.shape[:2])) if target_size else pixels


def _require_supported_netpbm(image: Image.Image, data: bytes) -> None:
    if image.mode == "F":
        raise ValueError("PFM files cannot be read; convert the file to TIFF")
    if image.mode == "RGB" and (headers.read_white(data) or 0) > 255:  # Pillow would keep 8 bits.
        raise ValueError("Netpbm files of more than 8 bits per color cannot be read; convert the file to PNG or TIFF")


def decode_page(page: tiff.Page, channels: int) -> np.ndarray:
    """Converts a page of a TIFF file to (H, W, channels) as `decode` does: composited on white, and upright."""
    pixels = page.pixels
    if pixels.dtype in (np.uint8, np.uint16):
        if page.alpha is not None:
            pixels = _composite(pixels, page.alpha, page.is_premultiplied)
    elif pixels.dtype.kind in "iu" and pixels.dtype.itemsize > 1 and pixels.shape[-1] == 1 and page.alpha is None:
        pixels = _to_uint16(pixels)
    else:
        pixels = check_floats(pixels)
        if page.alpha is not None:
            raise ValueError("the image has floats and an alpha channel; remove the alpha channel")
    return apply_orientation(convert_channels(pixels, channels), page.orientation)


def _decode_deep_gray(image: Image.Image) -> np.ndarray:
    """Decodes an image in one of Pillow's modes I;16, I and F to uint16 or float32 (H, W, 1)."""
    pixels = np.asarray(image)[..., np.newaxis]
    # Pillow handles WhiteIsZero for 8 bits only.
    is_inverted = isinstance(image, TiffImageFile) and image.tag_v2.get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO
    if image.mode == "F":
        return -check_floats(pixels) if is_inverted else check_floats(pixels)
    pixels = _to_uint16(pixels)
    if is_inverted:
        pixels = 65535 - pixels
    transparent = image.info.get("transparency")
    return pixels if transparent is None else np.where(pixels == transparent, np.uint16(65535), pixels)


def _to_uint16(pixels: np.ndarray) -> np.ndarray:
    """Converts integers to uint16; raises a ValueError for values that uint16 does not hold."""
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"the values are {pixels.min()} to {pixels.max()}; integers must be in 0 .. 65535; "
                         "for other values train with --range_a or --range_b")
    return pixels.astype(np.uint16)


def _composite_on_white(image: Image.Image) -> Image.Image:
    if has_alpha(image):
        image = _convert_to_rgba(image)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def _composite(pixels: np.ndarray, alpha: np.ndarray, is_premultiplied: bool = False) -> np.ndarray:
    """Composites (H, W, C) on white with alpha (H, W), both uint8 or both uint16."""
    # uint32 suffices: the sum below is at most white * white + white / 2, which is 2^32 - 98304 for 16 bits.
    white = np.uint32(np.iinfo(pixels.dtype).max)
    alpha, wide = alpha[..., np.newaxis].astype(np.uint32), pixels.astype(np.uint32)
    if is_premultiplied:
        return np.minimum(wide + (white - alpha), white).astype(pixels.dtype)
    return ((wide * alpha + white * (white - alpha) + white // np.uint32(2)) // white).astype(pixels.dtype)


def convert_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Converts an image of 1 or 3 channels to 1 or 3 channels: repeats gray, or computes the luminance of colors.

    Raises:
      ValueError: the numbers of channels differ, and they are not 1 and 3.
    """
    found = pixels.shape[-1]
    if found == channels:
        return pixels
    if {found, channels} != {1, 3}:
        raise ValueError(f"the image has {found} channels instead of {channels}; for such images train with "
                         f"--input_channels={found} or --output_channels={found}")
    if channels == 3:
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    # Pillow's integer weights, which sum to 2^16.
    weights = 19595, 38470, 7471
    if pixels.dtype.kind == "f":
        return (pixels @ np.array(weights, np.float32) / np.float32(65536))[..., np.newaxis]
    # uint32 holds the sum for 16 bits, and takes half of the memory of int64.
    wide = np.uint32 if pixels.dtype in (np.uint8, np.uint16) else np.int64
    total = pixels.astype(wide) @ np.array(weights, wide)
    return ((total + 32768) >> 16).astype(pixels.dtype)[..., np.newaxis]


def apply_orientation(pixels: np.ndarray, orientation: int | None) -> np.ndarray:
    """Rotates and flips (H, W, ...) to upright by its EXIF orientation, 1 to 8; 1 and other values change nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes (H, W, C) of any supported dtype to (height, width, C) with Pillow's antialiased bicubic filter.

    The authors' code uses the same filter.

    Raises:
      ValueError: the result would have more than MAX_PIXELS pixels.
    """
    if image.shape[:2] == (height, width):
        return image
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return np.asarray(_resize_pillow(Image.fromarray(image), height, width))
    mode = np.uint8 if image.dtype == np.uint8 else np.float32
    # Resize one channel at a time, because Pillow would treat the last of 2 or 4 channels as alpha.
    resized = np.stack([
        np.asarray(_resize_pillow(Image.fromarray(channel.astype(mode)), height, width))
        for channel in np.moveaxis(image, -1, 0)
    ], axis=-1)
    if image.dtype == np.uint16:
        return np.rint(np.clip(resized, 0, 65535)).astype(np.uint16)
    return resized if image.dtype == np.uint8 else np.clip(resized, -1, 1)


def fit_into(side: int, height: int, width: int) -> tuple[int, int]:
    """Returns (height, width), scaled down if the longer side has more than `side` pixels; both are at least 1."""
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resize_pillow(image: Image.Image, height: int, width: int) -> Image.Image:
    if (image.height, image.width) == (height, width):
        return image
    if height * width > MAX_PIXELS:
        raise ValueError(f"resizing {image.width} x {image.height} pixels to {width} x {height} exceeds the limit of "
                         f"{MAX_PIXELS} pixels")
    return image.resize((width, height), Image.Resampling.BICUBIC)


def encode_png(image: np.ndarray) -> bytes:
    """Encodes uint8 (H, W, 3) as a PNG file."""
    buffer = io.BytesIO()
    write(image, buffer, format="PNG")
    return buffer.getvalue()


def write(image: np.ndarray, file: IO[bytes], **options: Any) -> None:
    """Writes uint8 (H, W, 3) to a file object, with the options of Pillow's `save`: format, quality ..."""
    Image.fromarray(np.asarray(image)).save(file, **options)
