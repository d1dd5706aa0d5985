"""Decodes TIFF files that Pillow cannot decode in full depth: 16-bit colors, floats in color, rare compressions.

tifffile decodes these files, with the codecs of imagecodecs.
"""

import dataclasses
import io
import logging
import math
import os
import re
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from numbers import Rational
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from cyclegan_tf.errors import describe_error
from cyclegan_tf.images.damage import explain_damage

# Tags of TIFF and EXIF.
PHOTOMETRIC, DESCRIPTION, ORIENTATION, XMP, ICC_PROFILE = 262, 270, 274, 700, 34675
RESOLUTION, RESOLUTION_UNIT = (282, 283), 296  # Horizontal and vertical resolution.
_SUBFILE_TYPE, _BITS_PER_SAMPLE, _COMPRESSION, _SAMPLES_PER_PIXEL, _SAMPLE_FORMAT = 254, 258, 259, 277, 339
_SHORT = 3  # A type of 2-byte values in tags.
# Little-endian and big-endian TIFF and BigTIFF.
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG = 7
WHITE_IS_ZERO = 0  # A photometric interpretation.
_UNSIGNED, _SIGNED = 1, 2  # Sample formats.
_ALPHA_KINDS = (1, 2)  # Kinds of extra samples: premultiplied and plain alpha.
# Pillow decodes: none, three for faxes, LZW, JPEG of 8 bits, Deflate (two numbers), PackBits, LZMA, Zstandard.
_PILLOW_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32946, 32773, 34925, 50000)
# Bits of the tag NewSubfileType that mark a smaller copy of another page, and a transparency mask.
_COPY, _MASK = 1, 4
_COPY_OR_MASK = _COPY | _MASK


_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[0-9]")

# The messages of tifffile on damaged files do not name the file.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of a TIFF file.

    Attributes:
      pixels: colors, gray or other channels, (H, W, C), uint8, uint16 or floats, as stored, without the orientation.
      alpha: (H, W) of the same dtype, or None.
      is_premultiplied: True if the colors are multiplied with alpha.
      orientation: the orientation tag, as in EXIF.
      icc: the ICC color profile, or None.
      tags: values of the text tags, such as camera, author and copyright, and of the resolution.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    is_premultiplied: bool
    orientation: int
    icc: bytes | None
    tags: dict[int, str | int | Fraction]


class Resolution(NamedTuple):
    """The resolution of an image.

    Attributes:
      values: horizontal and vertical pixels per unit.
      unit: 1 for no unit, 2 for an inch, 3 for a centimeter, as in the tag ResolutionUnit.
    """

    values: tuple[Fraction, Fraction]
    unit: int


def find_resolution(get_value: Callable[[int], Any]) -> Resolution | None:
    """Finds the resolution in the tags of a TIFF page or of EXIF data; None if there is none, or it is invalid.

    Args:
      get_value: returns the value of a tag, or None. A fraction may be a pair of whole numbers.
    """
    unit = get_value(RESOLUTION_UNIT)
    values = [_make_fraction(get_value(tag)) for tag in RESOLUTION]
    if min(values) <= 0 or unit not in (None, 1, 2, 3):
        return None
    return Resolution((values[0], values[1]), 2 if unit is None else int(unit))


def describe_resolution(resolution: Resolution) -> dict[str, Any]:
    """Returns a resolution as arguments of tifffile's `write`."""
    return {"resolution": [value.as_integer_ratio() for value in resolution.values], "resolutionunit": resolution.unit}


def _make_fraction(value: Any) -> Fraction:
    """Converts a value of a tag to a fraction; 0 if the value is not a fraction."""
    parts = value if isinstance(value, tuple) else (getattr(value, "numerator", 0), getattr(value, "denominator", 0))
    is_fraction = len(parts) == 2 and all(isinstance(part, Rational) for part in parts) and parts[1]
    return Fraction(*parts) if is_fraction else Fraction(0)


def select_profile(icc: bytes | None, channels: int) -> bytes | None:
    """Returns an ICC profile if its color space fits an image of `channels` colors, 3 for RGB or 1 for gray, else None.

    Profiles of CMYK images, for example, fit no result, and a profile of RGB does not fit a gray image.
    """
    return icc if icc and icc[16:20] == {1: b"GRAY", 3: b"RGB "}.get(channels) else None


def reset_xmp_orientation(xmp: bytes) -> bytes:
    """Sets the orientation in XMP data to upright, for results, which are upright. The length remains the same."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def needs_tifffile(data: bytes) -> bool:
    """True if the file is a TIFF file that Pillow cannot decode in full depth, so that `read` must decode the file."""
    if not data.startswith(SIGNATURES):
        return False
    if data.startswith(b"MM\0+"):  # Pillow cannot read BigTIFF files in big-endian order.
        return True
    return try_pillow(io.BytesIO(data)) is None


def try_pillow(file: IO[bytes], number: int = 0) -> TiffImageFile | None:
    """Opens a TIFF file with Pillow, at page `number`; None if Pillow cannot decode this page in full depth."""
    try:
        image = Image.open(file, formats=("TIFF",))
    except UnidentifiedImageError:
        return None
    assert isinstance(image, TiffImageFile)
    image.seek(number)
    tags = image.tag_v2
    bits, compression = max(tags.get(_BITS_PER_SAMPLE, (1,))), tags.get(_COMPRESSION, 1)
    is_deep = bits > 8 and (bits < 16 or compression == _JPEG or tags.get(_SAMPLES_PER_PIXEL, 1) > 1)
    formats = tags.get(_SAMPLE_FORMAT, ())
    # Pillow reads signed 8-bit values as unsigned, and swaps the bytes of compressed signed integers and floats.
    is_swapped = tags.prefix == b"MM" and compression != 1 and bits > 8 and any(kind != _UNSIGNED for kind in formats)
    is_misread = is_swapped or (bits == 8 and _SIGNED in formats)
    return None if is_deep or is_misread or compression not in _PILLOW_COMPRESSIONS else image


def read(data: bytes, max_pixels: int, channels: int = 3) -> Page:
    """Decodes the first page of a TIFF file; see `read_samples` and `interpret`."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        return interpret(page, read_samples(page, max_pixels), channels)


def interpret(page: Any, pixels: np.ndarray, channels: int) -> Page:
    """Separates colors and alpha of a page.

    Samples of 1 to 7 bits are scaled to 8 bits, and samples of 9 to 15 bits to 16 bits. The gray levels of a
    WhiteIsZero image are inverted. Extra samples without a meaning beside RGB, such as near infrared, are left out.

    Args:
      page: a page of tifffile.
      pixels: its samples, (H, W, samples).
      channels: the number of channels that the networks expect. A page with this number of channels need not be gray or
        RGB.

    Raises:
      ValueError: the page has other channels.
    """
    import tifffile

    colors = _count_colors(page, channels, tifffile)
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    if pixels.dtype in (np.uint8, np.uint16) and page.bitspersample < 8 * pixels.itemsize:
        scale = np.iinfo(pixels.dtype).max / (2**page.bitspersample - 1)
        pixels = np.rint(pixels * scale).astype(pixels.dtype)
    place = find_alpha(page)
    if place is not None and colors + place >= pixels.shape[-1]:  # The networks take alpha as a channel.
        place = None
    alpha = None if place is None else pixels[..., colors + place]
    pixels = pixels[..., :colors]
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = -pixels if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max - pixels
    tags: dict[int, str | int | Fraction] = {tag.code: tag.value for tag in page.tags if isinstance(tag.value, str)}
    if found := find_resolution(page.tags.valueof):
        tags |= dict(zip((*RESOLUTION, RESOLUTION_UNIT), (*found.values, found.unit), strict=True))
    orientation = page.tags.valueof(ORIENTATION, 1)
    is_premultiplied = place is not None and page.extrasamples[place] == 1
    return Page(pixels, alpha, is_premultiplied, orientation, page.iccprofile, tags)


def find_alpha(page: Any) -> int | None:
    """Returns the place of the alpha channel among the extra samples of a page; None if the page has no alpha."""
    return next((place for place, kind in enumerate(page.extrasamples) if kind in _ALPHA_KINDS), None)


def read_samples(page: Any, max_pixels: int) -> np.ndarray:
    """Decodes a page of tifffile to (H, W, samples) as stored.

    Args:
      max_pixels: a larger image is an error, because a file of a few bytes can claim any size.

    Raises:
      ValueError: the page is too large, has no pixels, or has planes.
      Exception: tifffile raises many types for damaged files.
    """
    import tifffile

    if page.imagewidth * page.imagelength > max_pixels:
        raise ValueError(f"{page.imagewidth} x {page.imagelength} pixels exceed the limit of {max_pixels} pixels")
    if page.tilewidth * page.tilelength > max_pixels:
        raise ValueError(f"tiles of {page.tilewidth} x {page.tilelength} pixels exceed the limit of {max_pixels} "
                         "pixels; copy the file again")
    if not page.imagewidth * page.imagelength * page.samplesperpixel:
        raise ValueError("the image has no pixels")
    if page.imagedepth > 1:
        raise ValueError("the page has a third dimension (the tag ImageDepth); write each plane as a separate page")
    # tifffile fills missing strips and tiles with zeros, which takes gigabytes if the size of the page is damaged.
    n_needed, n_found = math.prod(page.chunked), len(page.dataoffsets)
    if n_found < n_needed:
        raise ValueError(f"the page needs {n_needed} strips or tiles, but lists {n_found}; copy the file again")
    codec = getattr(page.compression, "name", page.compression)
    with explain_damage(lambda error: f"the pixels (compression {codec}) cannot be decoded: {describe_error(error)}; "
                                      "copy the file again, or save it with another compression"):
        pixels = page.asarray(maxworkers=1)
    if page.samplesperpixel > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        pixels = np.moveaxis(pixels, 0, -1)
    return pixels.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)


def _count_colors(page: Any, channels: int, tifffile: Any) -> int:
    """Counts the color samples of a pixel: 1 for gray, 3 for RGB, or all if the networks expect as many channels.

    Raises:
      ValueError: the page has other colors, or several channels without a meaning.
    """
    kinds, samples = tifffile.PHOTOMETRIC, page.samplesperpixel
    is_gray = page.photometric in (kinds.MINISBLACK, kinds.MINISWHITE)
    has_alpha = find_alpha(page) is not None
    # Scientific programs write three bands as gray with two extra samples. Three samples of other colors, such as Lab,
    # are an error.
    if samples == channels and (channels not in (1, 3) or (is_gray and not has_alpha)):
        return samples
    # The decoder of JPEG converts YCbCr to RGB.
    is_color = page.photometric == kinds.RGB or (page.photometric == kinds.YCBCR and page.compression == _JPEG)
    if is_color and 3 <= samples <= 6:  # Pillow ignores up to three channels without a meaning, too.
        return 3
    if is_gray and (samples == 1 or (samples == 2 and has_alpha)):
        return 1
    kind = getattr(page.photometric, "name", page.photometric)
    by_option = "" if samples == channels else f", or {samples} channels by --input_channels or --output_channels"
    raise ValueError(f"the TIFF file has {samples} channels of type {kind}; expected gray or RGB, with or without "
                     f"alpha{by_option}")


def describe(data: bytes) -> str:
    """Describes dtype and channels of the first page, such as "uint16 x 3", without decoding its pixels."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        return f"{page.dtype} x {page.samplesperpixel}"


def count_pages(data: bytes) -> int:
    """Counts the pages of a TIFF file, without smaller copies and masks; 1 if the pages cannot be counted."""
    return len(list_pages(io.BytesIO(data)).numbers)


class PageList(NamedTuple):
    """The pages of a TIFF file.

    Attributes:
      kinds: the bits of the tag NewSubfileType of each page that was found, which mark smaller copies and masks.
      is_complete: False if the file refers to a page that it does not have; pages behind that page are not found.
    """

    kinds: tuple[int, ...]
    is_complete: bool

    @property
    def numbers(self) -> list[int]:
        """The numbers of the pages except smaller copies and masks; the first page if no page is left."""
        return [number for number, kind in enumerate(self.kinds) if not kind & _COPY_OR_MASK] or [0]

    @property
    def has_copies(self) -> bool:
        """True if there are smaller copies of pages."""
        return any(kind & _COPY for kind in self.kinds)

    @property
    def has_masks(self) -> bool:
        """True if there are masks of pages."""
        return any(kind & _COPY_OR_MASK == _MASK for kind in self.kinds)


def list_pages(file: IO[bytes]) -> PageList:
    """Lists the pages of a TIFF file; a file of another format has no pages.

    Reads a few bytes of each page, which takes a small part of tifffile's time.
    """
    kinds: list[int] = []
    try:
        for kind in _scan_pages(file):
            kinds.append(kind)
    except (struct.error, KeyError):  # The file ends, or is not a TIFF file.
        return PageList(tuple(kinds), is_complete=False)
    return PageList(tuple(kinds), is_complete=True)


def _scan_pages(file: IO[bytes]) -> Iterator[int]:
    """Yields the tag NewSubfileType of each page; 0 if a page has none."""
    file.seek(0)
    head = file.read(4)
    order = {b"I": "<", b"M": ">"}[head[:1]]
    big = head in SIGNATURES[2:]
    count, offset, entry = (f"{order}Q", f"{order}Q", f"{order}HHQQ") if big else (f"{order}H", f"{order}I",
                                                                                  f"{order}HHII")

    def read(pattern: str) -> tuple[int, ...]:
        return struct.unpack(pattern, file.read(struct.calcsize(pattern)))

    def seek(position: int) -> None:
        # Beyond the largest possible position, seek raises other errors in each type of file.
        file.seek(min(position, size))

    size = file.seek(0, os.SEEK_END)
    seek(8 if big else 4)
    seen: set[int] = set()
    position, = read(offset)
    while position and position not in seen:
        seen.add(position)
        seek(position)
        n_tags, = read(count)
        start, kind = file.tell(), 0
        # Tags are sorted, and NewSubfileType has the smallest number.
        tag, data_type, _, value = read(entry)
        if tag == _SUBFILE_TYPE:
            # A value that is shorter than its field fills the left end of the field.
            padding = (8 if big else 4) - (2 if data_type == _SHORT else 4)
            kind = value >> (8 * padding if order == ">" else 0)
        seek(start + n_tags * struct.calcsize(entry))
        position, = read(offset)
        yield kind
