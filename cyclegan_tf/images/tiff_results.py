"""Writes translations of TIFF files, with the page layout of the source and the metadata that remains true.

Metadata is the tags of each page and the description of OME-TIFF and ImageJ files.
"""

import contextlib
import dataclasses
import logging
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.images import tiff, tiff_no_data
from cyclegan_tf.images.damage import explain_damage
from cyclegan_tf.images.stacks import Slice, StackWriter
from cyclegan_tf.storage import atomic, filesystem

log = logging.getLogger("cyclegan_tf")

_GDAL_METADATA = 42112
# Tags that say where a page is on the Earth: pixel scale, tie points, transformation, three of the projection, and the
# coefficients of the sensor model (RPC).
GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 50844)
# Position of the page, camera, times, authors and copyright, IPTC and XMP, but no EXIF or GPS directory. The resolution
# is not among these tags, because tifffile writes the resolution from arguments.
_KEPT_TAGS = (269, 271, 272, 285, 286, 287, 305, 306, 315, 316, tiff.XMP, 33432, 33723, *GEO_TAGS)
# Lossless compressions, and their names in tifffile; translations of files with other compressions use Deflate.
LOSSLESS = {1: None, 5: "lzw", 8: "zlib", 32946: "zlib", 32773: "packbits", 34925: "lzma", 50000: "zstd"}
_PREDICTED = ("lzw", "zlib", "lzma", "zstd")
_CLASSIC_BYTES = 2**32 - 2**25  # Larger pixels need BigTIFF; the rest of the 2^32 bytes is for metadata.
_COLORS = (2, 3, 5, 6)  # Photometric interpretations: RGB, palette, CMYK, YCbCr.
_OME_TYPES = {"float32": "float", "float64": "double"}  # Types whose names differ from NumPy's.


@dataclasses.dataclass(frozen=True)
class Source:
    """A TIFF file whose translation is written.

    Attributes:
      file: the file as tifffile opened it.
      groups: for each slice, the numbers of its pages. The translation keeps the tags of the first page.
      description: the image description of the file, such as OME-XML.
      splits_channels: whether each channel of a slice is a separate page.
      no_data: the value of pixels without data, or None.
      in_units: whether the values that were read have a unit; see `stacks.StackOptions`.
    """

    file: Any
    groups: Sequence[tuple[int, ...]]
    description: str
    splits_channels: bool
    no_data: float | None
    in_units: bool

    def get_page(self, index: int) -> Any:
        """Returns the first page of slice `index`."""
        return self.file.pages.get(self.groups[index][0])


@contextlib.contextmanager
def create(
    path: str, source: Source, channels: int, dtype: np.dtype, value_range: ValueRange | None
) -> Iterator[StackWriter]:
    """Creates the translation of a TIFF file, as `Stack.create` does."""
    import tifffile

    if not path.lower().endswith((".tif", ".tiff")):
        raise ValueError("the translation of a TIFF stack needs a name that ends in .tif or .tiff")
    first, n_slices = source.get_page(0), len(source.groups)
    size = n_slices * first.imagelength * first.imagewidth * (channels + 1) * np.dtype(dtype).itemsize
    is_big = source.file.is_bigtiff or size > _CLASSIC_BYTES
    filesystem.makedirs(os.path.dirname(path) or ".")
    with atomic.open_for_writing(path, "w+b") as file:
        with tifffile.TiffWriter(file, bigtiff=is_big, byteorder=source.file.byteorder) as tiff_file:
            writer = _Writer(path, tiff_file, source, channels, np.dtype(dtype), value_range)
            yield writer
        if writer.count != n_slices:
            raise ValueError(f"{writer.count} of {n_slices} slices were written")


class _Writer(StackWriter):
    """Writes each translated slice as one page, or as one page per channel if the source has a page for each channel.

    Attributes:
      count: slices written so far.
    """

    def __init__(
        self, path: str, file: Any, source: Source, channels: int, dtype: np.dtype, value_range: ValueRange | None
    ) -> None:
        self._path, self._file, self._source, self._dtype = path, file, source, dtype
        self._channels, self.count = channels, 0
        first = source.get_page(0)
        _require_upright_map(first)
        self._no_data = tiff_no_data.fit(source.no_data, dtype)
        if source.no_data is not None and self._no_data is None:
            raise ValueError(f"{dtype} does not hold {source.no_data:g}, the value of pixels without data; train with "
                             "a range for the domain of the translations (--range_a, --range_b)")
        self._options = _choose_layout(first, dtype)
        self._splits_channels = source.splits_channels
        is_color = value_range is None or int(first.photometric) in _COLORS
        self._is_rgb = channels == 3 and not self._splits_channels and is_color
        # The reader has inverted gray levels of sources without a range, and one-bit levels in any case.
        is_white_zero = int(first.photometric) == tiff.WHITE_IS_ZERO and first.bitspersample > 1
        is_inverted = source.in_units and value_range is not None and is_white_zero
        self._photometric = "rgb" if self._is_rgb else "miniswhite" if is_inverted else "minisblack"

    def write(self, pixels: np.ndarray, source: Slice) -> None:
        pixels = pixels.astype(self._dtype, copy=False)
        if self._no_data is not None:
            valid = np.ones(pixels.shape[:2], bool) if source.valid is None else source.valid
            pixels = tiff_no_data.mark(pixels, valid, self._no_data)
        alpha = source.alpha if source.alpha is not None and source.alpha.dtype == self._dtype else None
        if source.alpha is not None and alpha is None and self.count == 0:
            log.warning("%s: the transparency is left out, because the pixels are %s and the alpha channel is %s",
                        self._path, self._dtype, source.alpha.dtype)
        planes = np.moveaxis(pixels, -1, 0)[..., np.newaxis] if self._splits_channels else [pixels]
        page = self._source.get_page(self.count)
        _require_upright_map(page)
        with explain_damage(passes=(OSError,)):
            for number, plane in enumerate(planes):
                self._write_page(plane, alpha, page, self._describe_page(number, len(planes)))
        self.count += 1

    def _describe_page(self, number: int, n_pages: int) -> bytes | None:
        """Returns the description of page `number` of the `n_pages` pages of the next slice."""
        if self.count == number == 0:
            return _describe(self._source, self._channels, self._dtype)
        file, group = self._source.file, self._source.groups[self.count]
        # OME-TIFF and ImageJ files have one description, on the first page. If a slice has more or fewer pages in the
        # result than in the source, the pages of the result do not correspond to pages of the source.
        if file.is_ome or file.is_imagej or len(group) != n_pages:
            return None
        return _encode_description(file.pages.get(group[number]).description)

    def _write_page(
        self, pixels: np.ndarray, alpha: np.ndarray | None, page: Any, description: bytes | None
    ) -> None:
        colors = pixels.shape[-1]
        kinds = ["unspecified"] * (colors - (3 if self._is_rgb else 1))
        if alpha is not None:
            pixels, kinds = np.concatenate([pixels, alpha[..., np.newaxis]], axis=-1), [*kinds, "unassalpha"]
        is_separate = int(page.planarconfig) == 2 and pixels.shape[-1] > 1
        array = np.moveaxis(pixels, -1, 0) if is_separate else pixels
        tags = list(_keep_tags(page, self._no_data, 3 if self._is_rgb else 1))
        if description:
            tags.append((tiff.DESCRIPTION, "s", 0, description, True))
        layout = _describe_resolution(page)
        if pixels.shape[-1] > 1:
            layout["planarconfig"] = "separate" if is_separate else "contig"
        self._file.write(
            array if pixels.shape[-1] > 1 else array[..., 0], photometric=self._photometric,
            extrasamples=kinds, metadata=None, software=False, extratags=tags, maxworkers=1, **layout, **self._options,
        )


def _require_upright_map(page: Any) -> None:
    """Raises a ValueError if a page has a georeference and is not stored upright.

    A georeference describes the rows and columns as stored.
    """
    orientation = page.tags.valueof(tiff.ORIENTATION, 1)
    if orientation in range(2, 9) and any(code in page.tags for code in GEO_TAGS):
        raise ValueError(f"the file has a georeference and the orientation {orientation}, which GIS programs ignore, "
                         "so the place of an upright result is not known; remove the orientation, for example with "
                         "gdal_translate IN OUT")


def _choose_layout(page: Any, dtype: np.dtype) -> dict[str, Any]:
    """Returns tiles and compression of the source as arguments of tifffile; Deflate for a lossy compression."""
    compression = LOSSLESS.get(int(page.compression), "zlib")
    layout: dict[str, Any] = {"compression": compression}
    if int(page.predictor) > 1 and compression in _PREDICTED:
        layout["predictor"] = 3 if dtype.kind == "f" else 2
    if page.is_tiled:
        layout["tile"] = (page.tilelength, page.tilewidth)
    return layout


def _describe_resolution(page: Any) -> dict[str, Any]:
    """Returns the resolution of the upright page as arguments of tifffile."""
    found = tiff.find_resolution(page.tags.valueof)
    if found is None:
        return {}
    is_rotated = page.tags.valueof(tiff.ORIENTATION, 1) in (5, 6, 7, 8)  # Columns become rows.
    return tiff.describe_resolution(found._replace(values=found.values[::-1]) if is_rotated else found)


def _keep_tags(page: Any, no_data: float | None, colors: int) -> Iterator[tuple[int, Any, int, Any, bool]]:
    """Yields the tags of a source page that the translation, of 1 or 3 colors, keeps, as tifffile's extratags."""
    for tag in page.tags:
        if tag.code == _GDAL_METADATA:
            if text := _keep_file_items(str(tag.value)):
                yield tag.code, "s", 0, text.encode(), False
        elif tag.code == tiff_no_data.TAG:
            if no_data is not None:
                yield tag.code, "s", 0, str(tag.value), False
        elif tag.code == tiff.ICC_PROFILE:
            if tiff.select_profile(tag.value, colors):
                yield tag.code, tag.dtype, tag.count, tag.value, False
        elif tag.code in _KEPT_TAGS:
            value = tag.value.encode() if isinstance(tag.value, str) else tag.value
            if tag.code == tiff.XMP and isinstance(value, bytes):
                value = tiff.reset_xmp_orientation(value)
            yield tag.code, tag.dtype, tag.count, value, False


def _keep_file_items(text: str) -> str:
    """Removes the items of single bands from GDAL's metadata: statistics, scales and names that fit only the source."""
    try:
        root = ElementTree.fromstring(text.strip("\0"))
    except ElementTree.ParseError:
        return ""
    for item in list(root):
        if "sample" in item.attrib:
            root.remove(item)
    return ElementTree.tostring(root, encoding="unicode") if len(root) else ""


def _describe(source: Source, channels: int, dtype: np.dtype) -> bytes | None:
    """Returns the image description of the translated file: OME-XML, ImageJ's lines, free text or None."""
    text, n_slices = source.description, len(source.groups)
    if source.file.is_ome:
        samples = source.get_page(0).samplesperpixel
        return _change_ome(text, channels, dtype, n_slices, samples, source.splits_channels)
    if source.file.is_imagej:
        return _change_imagej(text, channels if source.splits_channels else None, n_slices)
    return _encode_description(text)


def _encode_description(text: str) -> bytes | None:
    """Encodes a page's description; returns None if the text is empty or only tifffile's record of the shape."""
    return None if not text or text.startswith('{"shape"') else text.encode()


def _change_ome(
    text: str, channels: int, dtype: np.dtype, n_slices: int, samples: int, splits_channels: bool
) -> bytes:
    """Adapts the source's OME-XML to the type and the channels of the translation.

    Args:
      channels: channels of a translated slice.
      samples: samples of a pixel in a page of the source.
      splits_channels: whether each channel of a slice is a separate page.
    """
    root = ElementTree.fromstring(text)
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    if space:
        ElementTree.register_namespace("", space[1:-1])
    root.attrib.pop("UUID", None)
    found = 0
    for number, image in enumerate(root.findall(f"{space}Image")):
        found += _change_ome_image(image, space, f"Channel:{number}", channels, dtype, found, samples, splits_channels)
    if found != n_slices:
        raise ValueError(f"the OME metadata describes {found} images, but the file has {n_slices}: some may be "
                         "missing, or in other files; save the images in one file")
    return b'<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(root, encoding="utf-8")


def _change_ome_image(
    image: ElementTree.Element, space: str, name: str, channels: int, dtype: np.dtype, first: int, samples: int,
    splits_channels: bool,
) -> int:
    """Changes an element Image of OME-XML as `_change_ome` does.

    Args:
      space: the namespace, in braces.
      name: beginning of the names of new channels.
      first: index of the first slice of this element in the file.

    Returns:
      The number of the slices of this element.
    """
    pixels = image.find(f"{space}Pixels")
    if pixels is None:
        raise ValueError("the OME metadata has no element Pixels")
    pixels.attrib.pop("BigEndian", None)
    pixels.attrib.pop("SignificantBits", None)
    pixels.set("Type", _OME_TYPES.get(dtype.name, dtype.name))
    n_planes = 1 if splits_channels else max(1, int(pixels.get("SizeC", "1")) // samples)
    n_slices = n_planes * int(pixels.get("SizeZ", "1")) * int(pixels.get("SizeT", "1"))
    if splits_channels:  # The channels of a slice are written one after the other.
        order = pixels.get("DimensionOrder", "XYCZT").replace("C", "")
        pixels.set("DimensionOrder", f"XYC{order[2:]}")
    size_c = str(n_planes * channels)
    # If the number of channels changes, the planes of the result do not correspond to the planes of the source.
    planes = pixels.findall(f"{space}Plane") if size_c != pixels.get("SizeC", "1") else []
    pixels.set("SizeC", size_c)
    described = pixels.findall(f"{space}Channel")
    for child in [*pixels.findall(f"{space}TiffData"), *planes, *described]:
        pixels.remove(child)
    n_described, own_samples = (channels, 1) if splits_channels else (n_planes, channels)
    if len(described) != n_described:
        described = [ElementTree.Element(f"{space}Channel", {"ID": f"{name}:{n}"}) for n in range(n_described)]
    for channel in described:
        channel.set("SamplesPerPixel", str(own_samples))
    pages_per_slice = channels if splits_channels else 1
    data = ElementTree.Element(
        f"{space}TiffData", {"IFD": str(first * pages_per_slice), "PlaneCount": str(n_slices * pages_per_slice)}
    )
    # The schema has the channels first, then TiffData.
    for place, child in enumerate([*described, data]):
        pixels.insert(place, child)
    return n_slices


def _change_imagej(text: str, channels: int | None, n_slices: int) -> bytes:
    """Adapts ImageJ's description to the translation, without the limits of the display.

    Args:
      channels: channels of a translated slice if each is a separate page; otherwise None.
    """
    dropped = "min|max|mode|images" + ("|channels" if channels else "")
    first, *others = (line for line in text.splitlines() if not re.match(f"({dropped})=", line))
    counts = [f"images={(channels or 1) * n_slices}", *([f"channels={channels}"] if channels else [])]
    return "\n".join([first, *counts, *others]).encode() + b"\n"
