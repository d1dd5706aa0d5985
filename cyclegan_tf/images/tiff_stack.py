"""TIFF files as stacks: their pages, and the channels of OME-TIFF and ImageJ files."""

import contextlib
import itertools
import math
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.errors import describe_error
from cyclegan_tf.images import codec, tiff, tiff_no_data, tiff_results
from cyclegan_tf.images.damage import explain_damage, find_outage
from cyclegan_tf.images.stacks import Slice, Stack, StackOptions, StackWriter

_PALETTE = 3  # A photometric interpretation.


def open_tiff(file: IO[bytes], options: StackOptions) -> "TiffStack | None":
    """Opens a TIFF file; None if tifffile cannot open the file, so that Pillow reads the file or reports the damage.

    Args:
      file: the opened file, which the stack closes.

    Raises:
      ValueError: as in `TiffStack`.
      OSError: the file cannot be read.
    """
    import tifffile

    pages = tiff.list_pages(file)
    file.seek(0)
    try:
        opened = tifffile.TiffFile(file)
        opened.pages.get(pages.numbers[0])
    except Exception as error:  # tifffile raises many types for damaged files.
        if outage := find_outage(error):
            raise outage from None
        return None
    return TiffStack(file, opened, pages, options)


class TiffStack(Stack):
    """A TIFF file of one or more pages. Smaller copies of pages and masks are left out.

    Args:
      raw: the opened file, which the stack closes.
      file: the same file as tifffile opened it.
      pages: the pages of the file.

    Raises:
      ValueError: a part of the file is missing or damaged.
    """

    def __init__(self, raw: IO[bytes], file: Any, pages: tiff.PageList, options: StackOptions) -> None:
        if not pages.is_complete:
            raise ValueError(f"the file is cut off after page {len(pages.kinds)}: copy it again")
        self._raw, self._file, self._options = raw, file, options
        numbers = pages.numbers
        first: Any = file.pages.get(numbers[0])
        for name in ("photometric", "planarconfig", "compression", "predictor"):
            if not isinstance(getattr(first, name), int):
                raise ValueError(f"the TIFF file is damaged: its tag {name} is not one number; copy the file again")
        with explain_damage(lambda error: f"its pages do not fit their description: {describe_error(error)}; copy the "
                                          "file again", passes=(ValueError,)):
            self._groups = _group_pages(file, first, numbers, options.channels)
            self.lacks_pages = file.is_ome and any(page is None for series in file.series for page in series.pages)
        self._splits_channels = len(self._groups[0]) > 1
        self._first, self._keyframe = first, _describe_page(first)
        self.dtype = np.dtype(first.dtype)
        # A value that the type does not hold marks no pixel.
        self.no_data = tiff_no_data.fit(tiff_no_data.read(first), self.dtype)
        # `codec` does not replace the no-data value, which may be NaN or outside [-1, 1].
        has_gaps = self.no_data is not None and self.dtype.kind == "f"
        # Pillow also reads palettes, CMYK and fax pages, but is slower than tifffile.
        is_picture = options.channels in (1, 3) and not options.in_units and not self._splits_channels
        self._may_use_pillow = is_picture and not _is_simple(first) and not has_gaps
        self._pillow: TiffImageFile | None = None
        self.has_units = int(first.photometric) != _PALETTE
        samples = first.samplesperpixel if self.has_units or options.in_units else 3
        self.channels = samples * len(self._groups[0])
        self.kind = f"TIFF {self.dtype} x {self.channels}"
        self.has_masks = pages.has_masks
        self.has_copies = pages.has_copies or bool(first.subifds)  # Pyramids of OME-TIFF are in sub-IFDs.
        is_image = options.channels in (1, 3) and not options.in_units
        self.is_plain = is_image and numbers == [0] and not has_gaps
        self.has_more_metadata = file.is_ome or file.is_imagej or any(
            code in first.tags for code in (*tiff_results.GEO_TAGS, tiff_no_data.TAG)
        )

    def __len__(self) -> int:
        return len(self._groups)

    def read(self, index: int) -> Slice:
        with explain_damage():
            parts = [self._read_page(number) for number in self._groups[index]]
        if len(parts) == 1:
            return parts[0]
        pixels = np.concatenate([part.pixels for part in parts], axis=-1)
        masks = [part.valid for part in parts if part.valid is not None]
        return Slice(pixels, np.any(masks, axis=0) if len(masks) == len(parts) else None)

    def _read_page(self, number: int) -> Slice:
        page: Any = self._file.pages.get(number)
        if _describe_page(page) != self._keyframe:
            raise ValueError(f"page {number + 1} has {_describe_page(page)}, the first page {self._keyframe}; write "
                             "them to separate files")
        if self._pillow is None and self._may_use_pillow:
            self._pillow = tiff.try_pillow(self._raw, number)
            self._may_use_pillow = self._pillow is not None
        if self._pillow is not None:
            self._pillow.seek(number)
            return _decode_with_pillow(self._pillow, page, self.no_data, self._options.channels)
        samples = tiff.read_samples(page, codec.MAX_PIXELS)
        values, alpha = _separate_alpha(page, samples, self._options.channels)
        # Pictures are composited on white instead.
        stored_valid = tiff_no_data.find_valid(values, self.no_data, alpha if self._options.in_units else None)
        orientation = page.tags.valueof(tiff.ORIENTATION, 1)
        valid = None if stored_valid is None else codec.apply_orientation(stored_valid, orientation)
        if self._options.in_units:
            if not self.has_units:
                raise ValueError("the page has a palette, whose indices have no unit; convert the page to gray or RGB")
            if values.dtype == np.bool_:
                # Masks may store 0 for white, as fax pages do; white becomes 1.
                values = (values ^ (int(page.photometric) == tiff.WHITE_IS_ZERO)).astype(np.uint8)
            alpha = None if alpha is None else codec.apply_orientation(alpha, orientation)
            return Slice(codec.apply_orientation(values, orientation), valid, alpha)
        if samples.dtype.kind == "f" and stored_valid is not None:
            samples = np.where(stored_valid[..., np.newaxis], samples, samples.dtype.type(-1))
        # Each page of a group is one channel.
        decoded = tiff.interpret(page, samples, 1 if self._splits_channels else self._options.channels)
        alpha = None if decoded.alpha is None else codec.apply_orientation(decoded.alpha, orientation)
        return Slice(codec.decode_page(decoded, decoded.pixels.shape[-1]), valid, alpha)

    def create(
        self, path: str, channels: int, dtype: np.dtype, value_range: ValueRange | None
    ) -> contextlib.AbstractContextManager[StackWriter]:
        source = tiff_results.Source(
            self._file, self._groups, self._first.description, self._splits_channels, self.no_data,
            self._options.in_units,
        )
        return tiff_results.create(path, source, channels, dtype, value_range)

    def close(self) -> None:
        self._file.close()
        self._raw.close()


def _group_pages(file: Any, first: Any, numbers: Sequence[int], channels: int) -> list[tuple[int, ...]]:
    """Groups pages by slice: one page, or one page for each channel if the file says that its pages are channels.

    OME-TIFF and ImageJ files state their channels. The pages of other files are channels if no page has as many
    channels as the networks expect, but the file has as many pages.

    Raises:
      ValueError: the file does not have a page for each of its planes.
    """
    singles: list[tuple[int, ...]] = [(number,) for number in _order_pages(file, numbers)]
    may_lack_pages = len(numbers) == 1 and (file.is_imagej or file.is_shaped)
    if may_lack_pages and math.prod(file.series[0].shape) > math.prod(first.shape):
        raise ValueError("the planes are not separate pages; save the stack as OME-TIFF or BigTIFF")
    if first.samplesperpixel > 1 or len(numbers) == 1:
        return singles
    if file.is_ome or file.is_imagej:
        return _group_channels(file, numbers, channels) or singles
    if channels not in (1, 3) and len(numbers) == channels:
        return [tuple(numbers)]
    return singles


def _group_channels(file: Any, numbers: Sequence[int], channels: int) -> list[tuple[int, ...]]:
    """Groups the pages of an OME-TIFF or ImageJ file into slices of `channels` pages; each page holds one channel.

    An OME-TIFF file may hold several images, such as the positions of a stage, which tifffile calls series.

    Returns:
      The groups of all images; an empty list if an image has another number of channels, or a page does not belong to
      exactly one image.
    """
    groups: list[tuple[int, ...]] = []
    for series in file.series:
        pages = [page and page.index for page in series.pages]
        lengths = [(axis, length) for axis, length in zip(series.axes, series.shape, strict=True) if axis not in "YXS"]
        shape = [length for _, length in lengths]
        if ("C", channels) not in lengths or math.prod(shape) != len(pages) or None in pages:
            return []
        order = np.moveaxis(np.reshape(pages, shape), lengths.index(("C", channels)), -1).reshape(-1, channels)
        groups += [tuple(map(int, group)) for group in order]
    return groups if sorted(itertools.chain(*groups)) == sorted(numbers) else []


def _order_pages(file: Any, numbers: Sequence[int]) -> Sequence[int]:
    """Returns the pages of an OME-TIFF file in the order of the planes that they hold; of other files, `numbers`.

    TiffData elements may assign pages to planes in any order. A result describes its pages by their order.
    """
    if not file.is_ome:
        return numbers
    pages = [page.index for series in file.series for page in series.pages if page is not None]
    return pages if sorted(pages) == sorted(numbers) else numbers


def _is_simple(page: Any) -> bool:
    """True for lossless gray or RGB pages of 8 or 16 bits without alpha, which Pillow and tifffile decode alike."""
    is_gray_or_rgb = (int(page.photometric), page.samplesperpixel) in ((1, 1), (2, 3))
    return is_gray_or_rgb and page.bitspersample in (8, 16) and int(page.compression) in tiff_results.LOSSLESS


def _describe_page(page: Any) -> str:
    """Describes the size, the dtype and the channels of a page."""
    return f"{page.imagewidth} x {page.imagelength} pixels of {page.dtype} x {page.samplesperpixel}"


def _separate_alpha(page: Any, samples: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Separates the samples (H, W, C) of a page into values and alpha, unless the networks take C channels.

    Values include extra samples without a meaning, such as near infrared.
    """
    place = tiff.find_alpha(page)
    if place is None or samples.shape[-1] == channels:
        return samples, None
    index = samples.shape[-1] - len(page.extrasamples) + place
    return np.delete(samples, index, axis=-1), samples[..., index]


def _decode_with_pillow(image: TiffImageFile, page: Any, no_data: float | None, channels: int) -> Slice:
    """Decodes the current page of an image opened by Pillow, composited on white, with its natural channels."""
    image.load()
    alpha = codec.read_alpha(image) if codec.has_alpha(image) else None
    valid = None
    if no_data is not None:
        values, _ = _separate_alpha(page, tiff.read_samples(page, codec.MAX_PIXELS), channels)
        valid = tiff_no_data.find_valid(values, no_data)
    if valid is not None:
        valid = codec.apply_orientation(valid, page.tags.valueof(tiff.ORIENTATION, 1))
    natural = 1 if image.mode in codec.GRAY_MODES else 3
    return Slice(codec.decode_pillow(image, b"", natural, None), valid, alpha)
