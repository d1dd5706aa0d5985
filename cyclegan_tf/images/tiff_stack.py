"""TIFF files as stacks: their pages, the channels of OME-TIFF and ImageJ files, and the metadata of the translation."""

import contextlib
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import IO, Any
from xml.etree import ElementTree

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.images import codec, tiff
from cyclegan_tf.images.stacks import Slice, Stack, StackOptions, StackWriter
from cyclegan_tf.storage import atomic, filesystem

log = logging.getLogger("cyclegan_tf")

_DESCRIPTION, _GDAL_METADATA, _GDAL_NODATA = 270, 42112, 42113
# Tags that say where a page is on the Earth: pixel scale, tie points, transformation, and three of the projection.
_GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
# Resolution and its unit, position, camera, times, authors and copyright, color profile, EXIF, IPTC and XMP.
_KEPT_TAGS = (
    269, 271, 272, 282, 283, 285, 286, 287, 296, 305, 306, 315, 316, 700, 33432, 33723, 34675, *_GEO_TAGS, _GDAL_NODATA,
)
# Compressions without loss, and their names in tifffile; other files become Deflate files.
_COMPRESSIONS = {1: None, 5: "lzw", 8: "zlib", 32946: "zlib", 32773: "packbits", 34925: "lzma", 50000: "zstd"}
_PREDICTED = ("lzw", "zlib", "lzma", "zstd")
_CLASSIC_BYTES = 2**32 - 2**25  # Larger files must be BigTIFF; metadata has the rest of 2^32.
_ALPHA = (1, 2)  # Kinds of extra samples: premultiplied and plain alpha.
_WHITE_IS_ZERO, _PALETTE = 0, 3  # Photometric interpretations.
_COLORS = (2, 3, 5, 6)  # Photometric interpretations: RGB, palette, CMYK, YCbCr.
_OME_TYPES = {"float32": "float", "float64": "double"}  # Types whose names differ from NumPy's.


def open_tiff(file: IO[bytes], options: StackOptions) -> "TiffStack | None":
    """Opens a TIFF file; None if tifffile cannot, so that Pillow may read the file or tell what is wrong.

    Args:
      file: the opened file, which the stack closes.

    Raises:
      ValueError: as for `TiffStack`.
    """
    import tifffile

    numbers = tiff.list_pages(file)
    file.seek(0)
    try:
        opened = tifffile.TiffFile(file)
        opened.pages.get(numbers[0] if numbers else 0)
    except MemoryError:
        raise
    except Exception:  # tifffile raises many types for damaged files.
        return None
    return TiffStack(file, opened, numbers or [0], options)


class TiffStack(Stack):
    """A TIFF file of one or more pages. Smaller copies of pages and masks are left out.

    Args:
      raw: the opened file, which the stack closes.
      file: the same file as tifffile opened it.
      numbers: the numbers of its pages.

    Attributes:
      splits_channels: whether each channel of a slice is a page of its own.

    Raises:
      ValueError: a part of the file is missing or damaged.
    """

    def __init__(self, raw: IO[bytes], file: Any, numbers: Sequence[int], options: StackOptions) -> None:
        tiff.require_complete(raw)
        self._raw, self._file, self._options = raw, file, options
        first: Any = file.pages.get(numbers[0])
        try:
            self._groups = _group_pages(file, first, numbers, options.channels)
        except MemoryError:
            raise
        except Exception as error:  # tifffile raises many types for damaged files.
            raise ValueError(codec.describe(error)) from error
        self.splits_channels = len(self._groups[0]) > 1
        # Pillow also reads palettes, CMYK and fax pages, but is slower than tifffile.
        is_picture = options.channels in (1, 3) and not options.in_units and not self.splits_channels
        self._may_use_pillow = is_picture and not _is_simple(first)
        self._pillow: TiffImageFile | None = None
        self._first, self._keyframe = first, _describe_page(first)
        self.dtype = np.dtype(first.dtype)
        self.channels = first.samplesperpixel * len(self._groups[0])
        self.kind = f"TIFF {self.dtype} x {self.channels}"
        self.no_data = _read_no_data(first)
        is_image = options.channels in (1, 3) and not options.in_units
        self.is_plain = is_image and len(self._groups) == len(numbers) == 1
        self.has_more_metadata = any(code in first.tags for code in (*_GEO_TAGS, _GDAL_NODATA)) or self._file.is_ome

    def __len__(self) -> int:
        return len(self._groups)

    def read(self, index: int) -> Slice:
        try:
            parts = [self._read_page(number) for number in self._groups[index]]
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(codec.describe(error)) from error
        if len(parts) == 1:
            return parts[0]
        pixels = np.concatenate([part.pixels for part in parts], axis=-1)
        masks = [part.valid for part in parts if part.valid is not None]
        return Slice(pixels, np.any(masks, axis=0) if len(masks) == len(parts) else None)

    def _read_page(self, number: int) -> Slice:
        page: Any = self._file.pages.get(number)
        if _describe_page(page) != self._keyframe:
            raise ValueError(f"page {number + 1} has {_describe_page(page)}, the first page {self._keyframe}; write "
                             "them to files of their own")
        if self._pillow is None and self._may_use_pillow:
            self._pillow = tiff.open_with_pillow(self._raw)
            self._may_use_pillow = self._pillow is not None
        if self._pillow is not None:
            self._pillow.seek(number)
            return _decode_with_pillow(self._pillow, page, self.no_data)
        samples = tiff.read_samples(page, codec.MAX_PIXELS)
        valid = _find_valid(samples, self.no_data)
        orientation = page.tags.valueof(tiff.ORIENTATION, 1)
        if valid is not None:
            valid = codec.apply_orientation(valid, orientation)
        if self._options.in_units:
            if int(page.photometric) == _PALETTE:
                raise ValueError("the page has a palette, whose indices have no unit; convert the page to gray or RGB")
            if samples.dtype == np.bool_:
                samples = samples.astype(np.uint8)
            samples = codec.apply_orientation(samples, orientation)
            if page.extrasamples and page.extrasamples[0] in _ALPHA and samples.shape[-1] != self._options.channels:
                colors = samples.shape[-1] - len(page.extrasamples)
                return Slice(samples[..., :colors], valid, samples[..., colors])
            return Slice(samples, valid)
        # Each page of a group is one channel.
        decoded = tiff.interpret(page, samples, 1 if self.splits_channels else self._options.channels)
        alpha = None if decoded.alpha is None else codec.apply_orientation(decoded.alpha, orientation)
        return Slice(codec.decode_page(decoded, decoded.pixels.shape[-1]), valid, alpha)

    @contextlib.contextmanager
    def create(
        self, path: str, channels: int, dtype: np.dtype, value_range: ValueRange | None
    ) -> Iterator[StackWriter]:
        import tifffile

        if not path.lower().endswith((".tif", ".tiff")):
            raise ValueError("the translation of a TIFF stack needs a name that ends in .tif or .tiff")
        size = len(self) * self._first.imagelength * self._first.imagewidth * (channels + 1) * np.dtype(dtype).itemsize
        is_big = self._file.is_bigtiff or size > _CLASSIC_BYTES
        filesystem.makedirs(os.path.dirname(path) or ".")
        with atomic.open_for_writing(path, "w+b") as file:
            with tifffile.TiffWriter(file, bigtiff=is_big, byteorder=self._file.byteorder) as tiff_file:
                writer = _TiffWriter(tiff_file, self, channels, np.dtype(dtype), value_range)
                yield writer
            if writer.count != len(self):
                raise ValueError(f"{writer.count} of {len(self)} slices were written")

    def close(self) -> None:
        self._file.close()
        self._raw.close()

    def get_first_page(self, index: int) -> Any:
        """The first page of slice `index`, whose tags the translation keeps."""
        return self._file.pages.get(self._groups[index][0])

    def describe_translation(self, channels: int, dtype: np.dtype) -> str | bytes | None:
        """The image description of the translated file: OME-XML, ImageJ's lines, free text or None."""
        text, samples = self._first.description, self._first.samplesperpixel
        if self._file.is_ome:
            return _change_ome(text, channels, dtype, len(self), samples, self.splits_channels)
        if self._file.is_imagej:
            return _change_imagej(text, channels if self.splits_channels else None, len(self))
        # tifffile's own description is the shape of the array that was written.
        return None if not text or text.startswith('{"shape"') else text.encode()


class _TiffWriter(StackWriter):
    """Writes translated slices as pages: one page of all channels, or one page for each channel as in the source.

    Attributes:
      count: slices written so far.
    """

    def __init__(
        self, file: Any, source: TiffStack, channels: int, dtype: np.dtype, value_range: ValueRange | None
    ) -> None:
        self._file, self._source, self._dtype = file, source, dtype
        self._channels, self.count = channels, 0
        first = source.get_first_page(0)
        self._no_data = _fit_no_data(source.no_data, dtype)
        if source.no_data is not None and self._no_data is None:
            raise ValueError(f"{dtype} does not hold {source.no_data:g}, the value of pixels without data; train with "
                             "a range for the domain of the translations (--range_a, --range_b)")
        self._options = _choose_layout(first, dtype)
        self._splits_channels = source.splits_channels
        is_color = value_range is None or int(first.photometric) in _COLORS
        self._is_rgb = channels == 3 and not self._splits_channels and is_color
        # Without a range, gray levels were inverted when they were read.
        is_inverted = value_range is not None and int(first.photometric) == _WHITE_IS_ZERO
        self._photometric = "rgb" if self._is_rgb else "miniswhite" if is_inverted else "minisblack"

    def write(self, pixels: np.ndarray, source: Slice) -> None:
        pixels = pixels.astype(self._dtype, copy=False)
        if source.valid is not None and self._no_data is not None:
            pixels = _mark_no_data(pixels, source.valid, self._no_data)
        alpha = source.alpha if source.alpha is not None and source.alpha.dtype == self._dtype else None
        if source.alpha is not None and alpha is None and self.count == 0:
            log.warning("the result leaves out the transparency: its pixels are %s, and the alpha channel is %s",
                        self._dtype, source.alpha.dtype)
        planes = np.moveaxis(pixels, -1, 0)[..., np.newaxis] if self._splits_channels else [pixels]
        page = self._source.get_first_page(self.count)
        try:
            for number, plane in enumerate(planes):
                self._write_page(plane, alpha, page, is_first=self.count == number == 0)
        except (MemoryError, OSError):
            raise
        except Exception as error:  # tifffile and the codecs raise many types.
            raise ValueError(codec.describe(error)) from error
        self.count += 1

    def _write_page(self, pixels: np.ndarray, alpha: np.ndarray | None, page: Any, is_first: bool) -> None:
        colors = pixels.shape[-1]
        kinds = ["unspecified"] * (colors - (3 if self._is_rgb else 1))
        if alpha is not None:
            pixels, kinds = np.concatenate([pixels, alpha[..., np.newaxis]], axis=-1), [*kinds, "unassalpha"]
        is_separate = int(page.planarconfig) == 2 and pixels.shape[-1] > 1
        array = np.moveaxis(pixels, -1, 0) if is_separate else pixels
        description = self._source.describe_translation(self._channels, self._dtype) if is_first else None
        tags = list(_keep_tags(page, self._no_data))
        if description:
            tags.append((_DESCRIPTION, "s", 0, description, True))
        layout = {"planarconfig": "separate" if is_separate else "contig"} if pixels.shape[-1] > 1 else {}
        self._file.write(
            array if pixels.shape[-1] > 1 else array[..., 0], photometric=self._photometric,
            extrasamples=kinds, metadata=None, software=False, extratags=tags, maxworkers=1, **layout, **self._options,
        )


def _group_pages(file: Any, first: Any, numbers: Sequence[int], channels: int) -> list[tuple[int, ...]]:
    """The pages of each slice: one, or one for each channel if the file says that its pages are channels.

    OME-TIFF and ImageJ files tell their channels. The pages of other files are channels if no page has as many channels
    as the networks expect, but the file has as many pages.

    Raises:
      ValueError: the file does not have a page for each of its planes.
    """
    singles: list[tuple[int, ...]] = [(number,) for number in numbers]
    may_lack_pages = len(numbers) == 1 and (file.is_imagej or file.is_shaped)
    if may_lack_pages and math.prod(file.series[0].shape) > math.prod(first.shape):
        raise ValueError("the planes have no pages of their own; save the stack as OME-TIFF or BigTIFF")
    if first.samplesperpixel > 1 or len(numbers) == 1:
        return singles
    if (file.is_ome or file.is_imagej) and len(series := file.series) == 1:
        pages = [page and page.index for page in series[0].pages]
        axes, shape = zip(*(
            (axis, length) for axis, length in zip(series[0].axes, series[0].shape, strict=True) if axis not in "YXS"
        ), strict=True) if len(pages) > 1 else ((), ())
        if "C" in axes and math.prod(shape) == len(pages) == len(numbers) and set(pages) == set(numbers):
            n_channels = shape[axes.index("C")]
            if n_channels == channels:
                order = np.moveaxis(np.reshape(pages, shape), axes.index("C"), -1).reshape(-1, n_channels)
                return [tuple(map(int, group)) for group in order]
    elif channels not in (1, 3) and len(numbers) == channels:
        return [tuple(numbers)]
    return singles


def _is_simple(page: Any) -> bool:
    """True for lossless gray or RGB pages of 8 or 16 bits without alpha, which Pillow and tifffile decode alike."""
    is_gray_or_rgb = (int(page.photometric), page.samplesperpixel) in ((1, 1), (2, 3))
    return is_gray_or_rgb and page.bitspersample in (8, 16) and int(page.compression) in _COMPRESSIONS


def _describe_page(page: Any) -> str:
    """The size, the dtype and the channels of a page."""
    return f"{page.imagewidth} x {page.imagelength} pixels of {page.dtype} x {page.samplesperpixel}"


def _read_no_data(page: Any) -> float | None:
    """The value of pixels without data, or None.

    Raises:
      ValueError: the value is not a number.
    """
    text = page.tags.valueof(_GDAL_NODATA)
    if text is None:
        return None
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        raise ValueError(f"the value of pixels without data (GDAL_NODATA) is {text!r}, which is not a number") from None


def _find_valid(samples: np.ndarray, no_data: float | None) -> np.ndarray | None:
    """The pixels (H, W) that have data in a channel; None if all have.

    Raises:
      ValueError: there is NaN in a pixel, and the file does not mark pixels without data.
    """
    valid = None
    no_data = _fit_no_data(no_data, samples.dtype)
    if no_data is not None:
        missing = np.isnan(samples) if math.isnan(no_data) else samples == samples.dtype.type(no_data)
        valid = ~missing.all(axis=-1)
    if samples.dtype.kind == "f":
        bad = np.isnan(samples).any(axis=-1) & (True if valid is None else valid)
        if count := int(np.count_nonzero(bad)):
            raise ValueError(f"{count} pixels are NaN without being marked as pixels without data (GDAL_NODATA)")
    return None if valid is None or valid.all() else valid


def _fit_no_data(no_data: float | None, dtype: np.dtype) -> float | None:
    """The value of pixels without data in the translation; None if its dtype does not hold the value."""
    if no_data is None or dtype.kind == "f":
        return no_data
    limits = np.iinfo(dtype)
    return no_data if no_data.is_integer() and limits.min <= no_data <= limits.max else None


def _mark_no_data(pixels: np.ndarray, valid: np.ndarray, no_data: float) -> np.ndarray:
    """Gives pixels without data the value `no_data`, and moves equal values of other pixels to the next one."""
    mark = pixels.dtype.type(no_data)
    if pixels.dtype.kind == "f":
        neighbor = np.nextafter(mark, pixels.dtype.type(0 if mark else 1))
    else:
        neighbor = mark - 1 if mark == np.iinfo(pixels.dtype).max else mark + 1
    pixels = np.where(pixels == mark, pixels.dtype.type(neighbor), pixels)
    return np.where(valid[..., np.newaxis], pixels, mark)


def _choose_layout(page: Any, dtype: np.dtype) -> dict[str, Any]:
    """Tiles and compression of the source, as arguments of tifffile; Deflate if that compression loses precision."""
    compression = _COMPRESSIONS.get(int(page.compression), "zlib")
    layout: dict[str, Any] = {"compression": compression}
    if int(page.predictor) > 1 and compression in _PREDICTED:
        layout["predictor"] = 3 if dtype.kind == "f" else 2
    if page.is_tiled:
        layout["tile"] = (page.tilelength, page.tilewidth)
    resolution = [page.tags.valueof(code) for code in (282, 283)]
    if all(isinstance(each, tuple) and len(each) == 2 and each[0] and each[1] for each in resolution):
        layout |= {"resolution": tuple(resolution), "resolutionunit": page.tags.valueof(296, 2)}
    return layout


def _keep_tags(page: Any, no_data: float | None) -> Iterator[tuple[int, Any, int, Any, bool]]:
    """The tags of a source page that its translation keeps, as tifffile's extratags."""
    for tag in page.tags:
        if tag.code == _GDAL_METADATA:
            if text := _keep_file_items(str(tag.value)):
                yield tag.code, "s", 0, text.encode(), False
        elif tag.code == _GDAL_NODATA:
            if no_data is not None:
                yield tag.code, "s", 0, str(tag.value), False
        elif tag.code in _KEPT_TAGS:
            value = tag.value.encode() if isinstance(tag.value, str) else tag.value
            yield tag.code, tag.dtype, tag.count, value, False


def _keep_file_items(text: str) -> str:
    """GDAL's metadata without the items of single bands: their statistics, scales and names belong to the source."""
    try:
        root = ElementTree.fromstring(text.strip("\0"))
    except ElementTree.ParseError:
        return ""
    for item in list(root):
        if "sample" in item.attrib:
            root.remove(item)
    return ElementTree.tostring(root, encoding="unicode") if len(root) else ""


def _change_ome(
    text: str, channels: int, dtype: np.dtype, n_slices: int, samples: int, splits_channels: bool
) -> bytes:
    """The source's OME-XML with the type and the channels of the translation.

    Args:
      channels: channels of a translated slice.
      samples: samples of a pixel in a page of the source.
      splits_channels: whether each channel of a slice is a page of its own.
    """
    root = ElementTree.fromstring(text)
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    if space:
        ElementTree.register_namespace("", space[1:-1])
    first, *others = root.findall(f"{space}Image")
    for image in others:
        root.remove(image)
    pixels = first.find(f"{space}Pixels")
    if pixels is None:
        raise ValueError("the OME metadata has no element Pixels")
    root.attrib.pop("UUID", None)
    pixels.attrib.pop("BigEndian", None)
    pixels.attrib.pop("SignificantBits", None)
    pixels.set("Type", _OME_TYPES.get(dtype.name, dtype.name))
    n_planes = 1 if splits_channels else max(1, int(pixels.get("SizeC", "1")) // samples)
    if splits_channels:  # The channels of a slice are written one after the other.
        order = pixels.get("DimensionOrder", "XYCZT").replace("C", "")
        pixels.set("DimensionOrder", f"XYC{order[2:]}")
    pixels.set("SizeC", str(n_planes * channels))
    described = pixels.findall(f"{space}Channel")
    for child in [*pixels.findall(f"{space}TiffData"), *described]:
        pixels.remove(child)
    n_described, own_samples = (channels, 1) if splits_channels else (n_planes, channels)
    if len(described) != n_described:
        described = [ElementTree.Element(f"{space}Channel", {"ID": f"Channel:0:{n}"}) for n in range(n_described)]
    for channel in described:
        channel.set("SamplesPerPixel", str(own_samples))
    n_pages = n_slices * (channels if splits_channels else 1)
    data = ElementTree.Element(f"{space}TiffData", {"IFD": "0", "PlaneCount": str(n_pages)})
    # The schema has the channels first, then TiffData.
    for place, child in enumerate([*described, data]):
        pixels.insert(place, child)
    return b'<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(root, encoding="utf-8")


def _change_imagej(text: str, channels: int | None, n_slices: int) -> bytes:
    """ImageJ's description of the translation, without the limits of the display.

    Args:
      channels: channels of a translated slice if each is a page of its own; otherwise None.
    """
    dropped = "min|max|mode|images" + ("|channels" if channels else "")
    first, *others = (line for line in text.splitlines() if not re.match(f"({dropped})=", line))
    counts = [f"images={(channels or 1) * n_slices}", *([f"channels={channels}"] if channels else [])]
    return "\n".join([first, *counts, *others]).encode() + b"\n"


def _decode_with_pillow(image: TiffImageFile, page: Any, no_data: float | None) -> Slice:
    """Decodes the current page of an image opened by Pillow, composited on white, with its natural channels."""
    image.load()
    has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    alpha = np.asarray(image.convert("RGBA").getchannel("A")) if has_alpha else None
    valid = None if no_data is None else _find_valid(tiff.read_samples(page, codec.MAX_PIXELS), no_data)
    natural = 1 if image.mode in ("1", "L", "LA", "I", "F", "I;16", "I;16B") else 3
    return Slice(codec.decode_pillow(image, b"", natural, None), valid, alpha)
