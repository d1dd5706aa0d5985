"""Images: decoding, turning, resizing and encoding them."""

import io
import warnings

import numpy as np
import tensorflow as tf
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".npy")

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_MOST_PIXELS = 2 * 89_478_485  # Pillow's own limit, twice its MAX_IMAGE_PIXELS.
# TIFF and EXIF tags.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION, _EXTRA_SAMPLES = 258, 262, 274, 338

# Pillow refuses images of more than 179 million pixels, as a file of a few bytes may claim to hold them. From half of
# that on it warns, which the user of a large image can do nothing about.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def decode(data, channels=3, target_size=None):
    """The first frame of an encoded image, upright (EXIF orientation applied), as an array (H, W, channels).

    Transparency is put on white. A gray image is repeated for 3 channels; of a color image 1 channel takes the
    luminance (ITU-R 601, as Pillow's mode L). 16 bits stay 16 bits, but those of CMYK files become 8.

    Args:
      data: bytes of a BMP, GIF, JPEG, PNG, TIFF or WebP file, whatever its name, or of a .npy file: (H, W) or
        (H, W, channels), of uint8, uint16, or floats in [-1, 1] (NaN passes).
      channels: 1 or 3; any other number is read from .npy files only.
      target_size: function of (height, width) to the (height, width) that the image is to have; see `resize`.

    Returns:
      uint8; uint16 for 16-bit PNG, TIFF and .npy files; float32 for floats.

    Raises:
      ValueError: the bytes are no whole image, or of another number of channels; the message gives the reason.
    """
    try:
        if data[:6] == b"\x93NUMPY":
            pixels = _decode_array(np.load(io.BytesIO(data), allow_pickle=False), channels)
        elif channels not in (1, 3):
            raise ValueError(f"images of {channels} channels are read from .npy files only")
        else:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                pixels = _decode_pillow(image, data, channels, target_size)
        return resize(pixels, *target_size(*pixels.shape[:2])) if target_size else pixels
    # Pillow's decoders raise many kinds (OSError, SyntaxError, struct.error, DecompressionBombError ...).
    except Exception as error:
        # Pillow names the BytesIO's address, which tells the user nothing.
        reason = str(error).split(" <_io.BytesIO")[0] or type(error).__name__
        raise ValueError(" ".join(reason.split())) from error


def _decode_array(array, channels):
    shape, array = array.shape, array[..., np.newaxis] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[-1] != channels or not array.size:
        raise ValueError(f"array of shape {shape} in place of (height, width, {channels})")
    return array if array.dtype in (np.uint8, np.uint16) else _checked_float(array)


def _checked_float(array):
    if array.dtype.kind != "f":
        raise ValueError(f"values of type {array.dtype} in place of uint8, uint16 or floats in [-1, 1]")
    if (np.abs(array) > 1).any():
        raise ValueError(f"values from {np.nanmin(array):g} to {np.nanmax(array):g}; floats must be in [-1, 1]")
    return array.astype(np.float32)


def _decode_pillow(image, data, channels, target_size):
    colors = image.mode in ("RGB", "RGBA")
    if image.format == "TIFF" and colors and 16 in image.tag_v2.get(_BITS_PER_SAMPLE, ()):
        return apply_orientation(_with_channels(_read_tiff(image, data), channels), image.tag_v2.get(_ORIENTATION))
    image.load()
    # A PNG may have it behind its pixels. What Pillow reads of a TIFF file it has turned already.
    orientation = image.getexif().get(_ORIENTATION)
    if image.format == "PNG" and colors and data[24] == 16:  # The depth; Pillow keeps 8 bits.
        pixels = _with_channels(tf.io.decode_png(data, channels=4, dtype=tf.uint16).numpy(), channels)
    elif image.mode.startswith(("I", "F")):
        pixels = _with_channels(_high_depth(image), channels)
    else:
        image = _on_white(image)
        if channels == 3 or image.mode != "L":
            image = image if image.mode == "RGB" else image.convert("RGB")
            image = image if channels == 3 else image.convert("L")
        if target_size and orientation in (None, 1):
            # Here it costs no copies to NumPy and back.
            image = _resize_pillow(image, *target_size(image.height, image.width))
        pixels = np.asarray(image).reshape(image.height, image.width, channels)
    return apply_orientation(pixels, orientation)


def _read_tiff(image, data):
    """16-bit colors, (H, W, 3), or with alpha (H, W, 4), of which Pillow keeps 8 bits."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        pixels = file.pages[0].asarray()
        if file.pages[0].planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            pixels = np.moveaxis(pixels, 0, -1)
    if image.mode == "RGB":
        return pixels[..., :3]
    if image.tag_v2.get(_EXTRA_SAMPLES) == (1,):  # Colors multiplied by alpha.
        return pixels[..., :3] + (65535 - pixels[..., 3:])
    return pixels


def _high_depth(image):
    """(H, W, 1) uint16 or float32 of an image of one of Pillow's modes I;16, I and F."""
    pixels = np.asarray(image)[..., np.newaxis]
    if image.mode == "F":
        return _checked_float(pixels)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"values from {pixels.min()} to {pixels.max()}; integers must be in 0 .. 65535")
    pixels = pixels.astype(np.uint16)
    # WhiteIsZero, which Pillow minds at 8 bits only.
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:
        pixels = 65535 - pixels
    transparent = image.info.get("transparency")
    return pixels if transparent is None else np.where(pixels == transparent, np.uint16(65535), pixels)


def _on_white(image):
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image


def _with_channels(pixels, channels):
    """uint16 or float32 of 1, 3 or, with alpha, 4 channels -> 1 or 3 channels."""
    if pixels.shape[-1] == 4:
        alpha = pixels[..., 3:].astype(np.uint64)
        pixels = ((pixels[..., :3] * alpha + 65535 * (65535 - alpha) + 32767) // 65535).astype(np.uint16)
    if channels == 3:
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    if pixels.shape[-1] == 1:
        return pixels
    red, green, blue = np.moveaxis(pixels.astype(np.uint32), -1, 0)
    # Pillow's integers; they sum to 2^16.
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint16)[..., np.newaxis]


def apply_orientation(pixels, orientation):
    """Undoes the EXIF orientation: 1 to 8; anything else, as 1, is upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def resize(image, height, width):
    """Any kind of image (H, W, C) -> (height, width, C), bicubic and antialiased: Pillow's filter, as the authors'.

    Raises:
      ValueError: the result would be larger than the largest image that can be decoded.
    """
    if image.shape[:2] == (height, width):
        return image
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return np.asarray(_resize_pillow(Image.fromarray(image), height, width))
    mode = np.uint8 if image.dtype == np.uint8 else np.float32
    # One by one: Pillow takes 2 and 4 channels for colors and alpha.
    resized = np.stack([
        np.asarray(_resize_pillow(Image.fromarray(channel.astype(mode)), height, width))
        for channel in np.moveaxis(image, -1, 0)
    ], axis=-1)
    if image.dtype == np.uint16:
        return np.rint(np.clip(resized, 0, 65535)).astype(np.uint16)
    return resized if image.dtype == np.uint8 else np.clip(resized, -1, 1)


def _resize_pillow(image, height, width):
    if (image.height, image.width) == (height, width):
        return image
    if height * width > _MOST_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels would have to become {width} x {height}")
    return image.resize((width, height), Image.Resampling.BICUBIC)


def encode_png(image):
    """uint8 (H, W, 3) -> the bytes of a PNG file."""
    buffer = io.BytesIO()
    write(image, buffer, format="PNG")
    return buffer.getvalue()


def write(image, file, **options):
    """Writes uint8 (H, W, 3) to a file object with the options of Pillow's `save`: format, quality ..."""
    Image.fromarray(np.asarray(image)).save(file, **options)
