"""TIFF files that Pillow cannot decode, or only to 8 bits: 16-bit colors, floats in color, rare compressions.

tifffile decodes these files, with the codecs of imagecodecs.
"""

import dataclasses
import io
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

ORIENTATION = 274
_BITS_PER_SAMPLE, _COMPRESSION, _SAMPLE_FORMAT = 258, 259, 339
# Little-endian and big-endian TIFF and BigTIFF.
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG = 7
_SIGNED = 2  # A sample format.
# Pillow decodes: none, three for faxes, LZW, JPEG of 8 bits, Deflate (two numbers), PackBits, LZMA, Zstandard.
_PILLOW_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32946, 32773, 34925, 50000)
# Bits of the tag NewSubfileType that mark a smaller copy of another page, and a transparency mask.
_COPY_OR_MASK = 1 | 4


@dataclasses.dataclass(frozen=True)
class Page:
    """The first page of a TIFF file.

    Attributes:
      pixels: colors or gray, (H, W, 3) or (H, W, 1), uint8, uint16 or floats, as stored, without the orientation.
      alpha: (H, W) of the same dtype, or None.
      is_premultiplied: True if the colors are multiplied with alpha.
      orientation: the orientation tag, as in EXIF.
      icc: the ICC color profile, or None.
      texts: values of the text tags, such as camera, author and copyright.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    is_premultiplied: bool
    orientation: int
    icc: bytes | None
    texts: dict[int, str]


def needs_tifffile(data: bytes) -> bool:
    """True if the file is a TIFF file that Pillow cannot decode in full depth, so that `read` must decode the file."""
    if not data.startswith(SIGNATURES):
        return False
    if data.startswith(b"MM\0+"):  # Pillow reads no BigTIFF files in big-endian order.
        return True
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            assert isinstance(image, TiffImageFile)
            tags = image.tag_v2
            bits, compression = max(tags.get(_BITS_PER_SAMPLE, (1,))), tags.get(_COMPRESSION, 1)
            if bits > 8 and (bits < 16 or compression == _JPEG or image.mode in ("RGB", "RGBA")):
                return True
            # Pillow takes signed values of 8 bits for unsigned ones.
            is_misread = bits == 8 and _SIGNED in tags.get(_SAMPLE_FORMAT, ())
            return is_misread or compression not in _PILLOW_COMPRESSIONS
    except UnidentifiedImageError:
        return True


def read(data: bytes, max_pixels: int) -> Page:
    """Decodes the first page of a TIFF file.

    Samples of 1 to 7 bits are scaled to 8 bits, those of 9 to 15 bits to 16 bits. The gray levels of a WhiteIsZero
    image are inverted.

    Args:
      max_pixels: a larger image is an error, because a file of a few bytes can claim any size.

    Raises:
      ValueError: the page is too large, or is not an image in gray or RGB.
      Exception: tifffile raises many types for damaged files.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        if page.imagewidth * page.imagelength > max_pixels:
            raise ValueError(f"{page.imagewidth} x {page.imagelength} pixels exceed the limit of {max_pixels} pixels")
        colors = _count_colors(page, tifffile)
        pixels = page.asarray()
        if page.samplesperpixel > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            pixels = np.moveaxis(pixels, 0, -1)
        pixels = pixels.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
        if pixels.dtype == np.bool_:
            pixels = pixels.astype(np.uint8)
        if pixels.dtype in (np.uint8, np.uint16) and page.bitspersample < 8 * pixels.itemsize:
            scale = np.iinfo(pixels.dtype).max / (2**page.bitspersample - 1)
            pixels = np.rint(pixels * scale).astype(pixels.dtype)
        alpha = pixels[..., colors] if page.extrasamples and page.extrasamples[0] in (1, 2) else None
        pixels = pixels[..., :colors]
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            pixels = -pixels if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max - pixels
        texts = {tag.code: tag.value for tag in page.tags if isinstance(tag.value, str)}
        orientation = page.tags.valueof(ORIENTATION, 1)
        is_premultiplied = alpha is not None and page.extrasamples[0] == 1
        return Page(pixels, alpha, is_premultiplied, orientation, page.iccprofile, texts)


def _count_colors(page: Any, tifffile: Any) -> int:
    """The number of samples of a pixel that are colors: 1 for gray, 3 for RGB.

    Raises:
      ValueError: the page has other colors, or several channels without a meaning.
    """
    kinds, samples, extra = tifffile.PHOTOMETRIC, page.samplesperpixel, page.extrasamples
    # The decoder of JPEG converts YCbCr to RGB.
    is_color = page.photometric == kinds.RGB or (page.photometric == kinds.YCBCR and page.compression == _JPEG)
    if is_color and 3 <= samples <= 6:  # Pillow ignores up to three channels without a meaning, too.
        return 3
    is_gray = page.photometric in (kinds.MINISBLACK, kinds.MINISWHITE)
    if is_gray and (samples == 1 or (samples == 2 and extra and extra[0] in (1, 2))):
        return 1
    kind = getattr(page.photometric, "name", page.photometric)
    raise ValueError(f"the TIFF file has {samples} channels of type {kind}; expected gray or RGB, with or without "
                     "alpha")


def describe(data: bytes) -> str:
    """The dtype and the number of channels of the first page, such as "uint16 x 3", without decoding its pixels."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        return f"{page.dtype} x {page.samplesperpixel}"


def count_pages(data: bytes) -> int:
    """The number of pages of a TIFF file, without smaller copies and masks; 1 if the pages cannot be counted."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            if len(file.pages) == 1:
                return 1
            pages: Any = file.pages
            return max(1, sum(not page.subfiletype & _COPY_OR_MASK for page in pages))
    except Exception:  # tifffile raises many types for damaged files.
        return 1
