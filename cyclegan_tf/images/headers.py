"""Opens image files with Pillow, and reads their headers without decoding pixels."""

import functools
import io
import re
import warnings

from PIL import Image

from cyclegan_tf.images import jpeg2000, signatures, tiff
from cyclegan_tf.images.damage import explain_damage

PNG_GRAY_ALPHA = 4
# "PPM" stands for all Netpbm formats.
_FORMATS: tuple[str, ...] = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_ANIMATIONS = ("AVIF", "GIF", "HEIF", "PNG", "WEBP")  # The formats, besides TIFF, that may have several frames.
# The header of a Netpbm file of more than one bit: type, width, height and the level of white, with comments between.
_NETPBM = re.compile(rb"P[2356](?:(?:\s|#[^\n]*\n)+(\d+)){3}\s")

# Pillow refuses images above `codec.MAX_PIXELS`, because a file of a few bytes can claim any size. Pillow also warns
# about images above half of that number, but the user of a large image cannot act on the warning.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
# Pillow's warnings on damaged metadata do not name the file.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def open_with_pillow(data: bytes) -> Image.Image:
    """Opens an image of one of the supported formats, without decoding its pixels.

    Raises the exceptions of Pillow, or a ValueError if the format is known, but cannot be read.
    """
    name, formats = signatures.find_format(data), _FORMATS
    if name in signatures.UNREADABLE:
        raise ValueError(f"{name} files cannot be read; convert the file to {signatures.UNREADABLE[name]}")
    if name == "HEIF":
        _register_heif()
        formats = ("HEIF",)
    image: Image.Image = Image.open(io.BytesIO(data), formats=formats)
    # Pillow scales gray levels of 2 and 4 bits to 8 bits, but not the transparent level.
    if image.format == "PNG" and image.mode == "L" and "transparency" in image.info:
        bit_depth, _ = read_png_header(data)
        if bit_depth in (2, 4):
            image.info["transparency"] *= 255 // (2**bit_depth - 1)
    # Pillow takes the fourth byte of a pixel as alpha even if the file declares no bits of alpha.
    if image.format == "TGA" and image.mode == "RGBA" and not data[17] & 0x0F:
        image = image.convert("RGB")
        image.format = "TGA"
    return image


@functools.cache
def _register_heif() -> None:
    """Registers the reader of HEIF files with Pillow."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ValueError(
            "HEIC photographs need pip install 'cyclegan_tf[heic]'; or convert the file to JPEG"
        ) from error
    pillow_heif.register_heif_opener()


def read_png_header(data: bytes) -> tuple[int, int]:
    """Reads the (bit depth, color type) of a PNG file. `PNG_GRAY_ALPHA` is the color type of gray with alpha."""
    # The signature (8 bytes), length and name of the first chunk, IHDR (4 bytes each), width and height (4 bytes each).
    return data[24], data[25]


def read_size(data: bytes) -> tuple[int, int]:
    """Reads the (height, width) in pixels of the upright image without decoding its pixels.

    Raises:
      ValueError: Pillow cannot open the image.
      MemoryError: memory is exhausted; the image may be intact.
    """
    with explain_damage(), open_with_pillow(data) as image:
        is_rotated = (read_orientation(image) or 1) >= 5
        return (image.width, image.height) if is_rotated else (image.height, image.width)


def count_pages(data: bytes) -> int:
    """Counts the pages of a TIFF file or the frames of an animation; 1 for other images."""
    if data.startswith(tiff.SIGNATURES):
        return tiff.count_pages(data)
    if signatures.find_format(data) not in _ANIMATIONS:
        return 1
    try:
        with open_with_pillow(data) as image:
            return getattr(image, "n_frames", 1)
    except Exception:  # Pillow raises many types for damaged files.
        return 1


def read_orientation(image: Image.Image) -> int | None:
    """Reads the EXIF orientation of an opened image; None if the EXIF data is missing or damaged."""
    try:
        return image.getexif().get(tiff.ORIENTATION)
    except Exception:  # Pillow raises many types.
        return None


def read_white(data: bytes) -> int | None:
    """Reads the largest level that a JPEG 2000 or Netpbm file can store; None for files of other formats."""
    if signatures.find_format(data) == "JPEG2000":
        return 2 ** jpeg2000.read_bit_depth(data) - 1
    header = _NETPBM.match(data)
    return int(header[1]) if header else None
