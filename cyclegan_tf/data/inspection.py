"""Statistics of a data set: counts, kinds, sizes, values in their units, distances between pixels, and bad files."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from cyclegan_tf import console
from cyclegan_tf.data.bad_images import BadImages
from cyclegan_tf.data.dataset import ImageList
from cyclegan_tf.errors import describe_error
from cyclegan_tf.images import grid, headers, sampling, stack_files, tiff, units
from cyclegan_tf.images.stacks import Slice, Stack, StackOptions
from cyclegan_tf.storage import array_files

CELL_PIXELS = 128  # The longer side of an image in a grid.
_N_SHOWN = 6  # Example images of each part.
_VALUES_PER_SLICE = 256  # Evenly spaced values that percentiles are computed from.


@dataclasses.dataclass
class Summary:
    """Statistics of one part (such as trainA) of a data set.

    Attributes:
      count: number of images, including bad ones. Each slice of a file is an image.
      n_files: number of files.
      kinds: counts by kind, such as "JPEG RGB", "NPY float32 x 5" or "NIfTI int16".
      sizes: counts by (width, height).
      spacings: counts by the distances in mm between rows, columns and slices, of images that state distances.
      shown: evenly spaced example images, shrunk to the size of a grid cell.
      low, high: smallest and largest value of the images whose values have a unit; infinite without such images.
      values: evenly spaced values of the images whose values have a unit.
    """

    count: int = 0
    n_files: int = 0
    kinds: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    sizes: collections.Counter[tuple[int, int]] = dataclasses.field(default_factory=collections.Counter)
    spacings: collections.Counter[tuple[float, float, float]] = dataclasses.field(default_factory=collections.Counter)
    shown: list[np.ndarray] = dataclasses.field(default_factory=list)
    low: float = np.inf
    high: float = -np.inf
    values: list[np.ndarray] = dataclasses.field(default_factory=list)

    def add(self, other: "Summary") -> None:
        """Adds the statistics of a file, except its example images."""
        self.count, self.n_files = self.count + other.count, self.n_files + other.n_files
        self.kinds += other.kinds
        self.sizes += other.sizes
        self.spacings += other.spacings
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.values += other.values


def describe(data: bytes) -> tuple[str, int]:
    """Returns an encoded image's kind, such as "JPEG RGB", and the number of channels to decode it with.

    Raises the exceptions of Pillow, tifffile and NumPy if `data` is not an image.
    """
    if data.startswith(array_files.SIGNATURE):
        array = array_files.parse(data)
        channels = array.shape[2] if array.ndim == 3 else 1
        return f"NPY {array.dtype} x {channels}", channels
    n_pages = headers.count_pages(data)
    pages = f" of {n_pages} pages" if n_pages > 1 else ""
    if tiff.needs_tifffile(data):
        return f"TIFF {tiff.describe(data)}{pages}", 3
    with headers.open_with_pillow(data) as image:
        return f"{image.format} {image.mode}{pages}", 3


def count_channels(data: bytes) -> int:
    """Returns the number of channels to decode an image file with: all channels of a NumPy array, 3 of other images."""
    try:
        return describe(data)[1]
    except Exception:  # Decoding the image raises the error again, with its reason.
        return 3


def inspect(parts: Mapping[str, ImageList], options: StackOptions | None = None) -> dict[str, Summary]:
    """Reads all images of all parts. Bad images are added to the lists' `bad`.

    Args:
      options: direction of the slices of volumes, and number of the volume in 4-D files.
    """
    options = dataclasses.replace(options or StackOptions(), in_units=True)
    return {name: _inspect_part(name, image_list, options) for name, image_list in parts.items()}


def _inspect_part(name: str, image_list: ImageList, options: StackOptions) -> Summary:
    total, n_files = Summary(), len(image_list)
    wanted = collections.Counter(round(i) for i in np.linspace(0, n_files - 1, _N_SHOWN))
    if n_files >= _N_SHOWN:
        wanted = collections.Counter(set(wanted))

    def examine(index: int) -> Summary:
        return _inspect_file(image_list, index, wanted[index], options)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        # Submit blocks, because a future for each of a million images would take much memory.
        blocks = (range(start, min(start + 1024, n_files)) for start in range(0, n_files, 1024))
        results = (result for block in blocks for result in pool.map(examine, block))
        due = 0  # Number of example images still to show; the next image replaces a bad image.
        bar = tqdm(results, name, n_files, unit="files", disable=None, leave=False)
        for index, result in enumerate(bar):
            total.add(result)
            due += wanted[index]
            shown = result.shown
            if due and not wanted[index]:
                shown = _inspect_file(image_list, index, due, options).shown
            total.shown += shown[:due]
            due -= len(shown[:due])
    return total


def _inspect_file(image_list: ImageList, index: int, n_shown: int, options: StackOptions) -> Summary:
    """Computes the statistics of a file, with up to `n_shown` evenly spaced example images."""
    path = image_list.path(index)

    def open_stack(options: StackOptions) -> Stack | None:
        return stack_files.open_stack(lambda: image_list.open(index), image_list.names[index], options)

    try:
        stack = open_stack(options)
        if stack and not stack.has_units:
            stack.close()
            stack = open_stack(dataclasses.replace(options, in_units=False))
    except (ValueError, OSError) as error:
        image_list.bad.add(path, describe_error(error))
        return Summary(1, 1)
    if stack is None:
        return _inspect_plain(image_list, index, n_shown)
    with contextlib.closing(stack):
        if _may_be_picture(stack):
            # A page of several bands may hold values in a unit instead of a picture.
            with contextlib.suppress(ValueError, OSError):
                _, kind, one = _read_plain(image_list, index)
                return _inspect_picture(one, kind, n_shown)
        return _inspect_stack(stack, image_list, path, n_shown)


def _may_be_picture(stack: Stack) -> bool:
    """True if a file is one TIFF page of at most 4 channels of bool, uint8 or uint16, without a no-data value."""
    is_tiff = stack.kind.startswith("TIFF") and len(stack) == 1 and stack.no_data is None
    return is_tiff and stack.dtype in (np.bool_, np.uint8, np.uint16) and stack.channels <= 4


def _read_plain(image_list: ImageList, index: int) -> tuple[bytes, str, ImageList]:
    """Reads a file once: its bytes, its kind, and a list of this file alone, with the number of its channels.

    Raises:
      ValueError, OSError: the file cannot be read.
    """
    data = image_list.read(index)
    try:
        kind, channels = describe(data)
    except Exception:  # Libraries raise many types. If the file is damaged, decoding raises an error with the reason.
        kind, channels = "unknown", 3
    return data, kind, dataclasses.replace(image_list.subset([index]), channels=channels, read=lambda _: data)


def _inspect_plain(image_list: ImageList, index: int, n_shown: int) -> Summary:
    """Computes the statistics of an image, or of a .npy file of values in a unit; records a damaged file as bad."""
    summary = Summary(1, 1)
    try:
        data, kind, one = _read_plain(image_list, index)
        try:
            return _inspect_picture(one, kind, n_shown)
        except (ValueError, OSError):
            if not data.startswith(array_files.SIGNATURE):
                raise
        piece = one.read_values(0)
    except (ValueError, OSError) as error:
        image_list.bad.add(image_list.path(index), describe_error(error))
        return summary
    _add_slice(summary, kind, piece, n_shown > 0)
    return summary


def _inspect_picture(one: ImageList, kind: str, n_shown: int) -> Summary:
    """Computes the statistics of an image without a unit, the only one of its list.

    Raises:
      ValueError, OSError: the file is damaged, or its values have a unit.
    """
    image = one.decode(0)
    summary = Summary(
        1, 1, collections.Counter([kind]), collections.Counter([(image.shape[1], image.shape[0])]),
        shown=[grid.shrink(image, CELL_PIXELS)] if n_shown else [],
    )
    if image.dtype != np.uint8:
        _add_values(summary, one.read_values(0))  # Ranges apply to stored levels.
    return summary


def _inspect_stack(stack: Stack, image_list: ImageList, path: str, n_shown: int) -> Summary:
    summary = Summary(len(stack), 1)
    # A single example image comes from the middle of the file.
    shown = {round((number + 0.5) * len(stack) / n_shown - 0.5) for number in range(n_shown)}
    reasons = {}
    for index in range(len(stack)):
        try:
            piece = image_list.halve(stack.read(index))
            units.require_numbers(piece)
        except (ValueError, OSError) as error:
            reasons[f"{path}[{index}]" if stack.is_volume else path] = describe_error(error)
            continue
        _add_slice(summary, stack.kind, piece, index in shown)
        if stack.spacing:
            summary.spacings[stack.spacing] += 1
    if len(reasons) == len(stack) and len(set(reasons.values())) == 1:  # The file as a whole is damaged.
        reasons = {path: next(iter(reasons.values()))}
    for name, reason in reasons.items():
        image_list.bad.add(name, reason)
    return summary


def _add_slice(summary: Summary, kind: str, piece: Slice, is_shown: bool) -> None:
    summary.kinds[kind] += 1
    summary.sizes[piece.pixels.shape[1], piece.pixels.shape[0]] += 1
    if piece.pixels.dtype != np.uint8:
        _add_values(summary, piece)
    if is_shown:
        summary.shown.append(grid.shrink(_scale(piece), CELL_PIXELS))


def _add_values(summary: Summary, piece: Slice) -> None:
    values = piece.values.ravel()
    if values.size:
        summary.low, summary.high = min(summary.low, values.min()), max(summary.high, values.max())
        summary.values.append(sampling.sample_evenly(values, _VALUES_PER_SLICE).astype(np.float64))


def _scale(piece: Slice) -> np.ndarray:
    """Scales a slice for viewing: the 1st percentile becomes black, the 99th white; 8-bit slices do not change."""
    if piece.pixels.dtype == np.uint8:
        return piece.pixels
    values = piece.values.astype(np.float64)
    low, high = np.percentile(values, (1, 99)) if values.size else (0.0, 1.0)
    scaled = np.nan_to_num(2 * (piece.pixels.astype(np.float64) - low) / max(high - low, 1e-30) - 1, nan=-1)
    return np.clip(scaled, -1, 1).astype(np.float32)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def format_report(summaries: Mapping[str, Summary], bad: BadImages) -> str:
    """Formats summaries, bad files, and animations as lines of text."""
    lines = []
    for name, summary in summaries.items():
        files = "" if summary.count == summary.n_files else f" in {_count(summary.n_files, 'file')}"
        lines.append(f"{console.escape(name)}: {_count(summary.count, 'image')}{files}")
        lines.append("  kinds: " + (_format_counts(summary.kinds) or "none"))
        lines += _format_sizes(summary) + _format_spacings(summary) + _format_values(summary)
    if bad.n_pages:
        lines.append(f"files with several pages (only page 1 is used): {len(bad.n_pages)}")
        lines += [f"  {console.escape(path)}: {count} pages" for path, count in sorted(bad.n_pages.items())]
    lines.append(f"bad files: {len(bad) or 'none'}")
    # Sort the files, because threads find them in any order.
    lines += [f"  {console.escape(f'{path}: {reason}')}" for path, reason in sorted(bad.reasons.items())]
    return "\n".join(lines)


def _format_sizes(summary: Summary) -> list[str]:
    if len(summary.sizes) > 4:
        widths, heights = zip(*summary.sizes, strict=True)
        return [f"  sizes: {len(summary.sizes)} different, {_format_limits(widths)} pixels wide, "
                f"{_format_limits(heights)} high"]
    if not summary.sizes:
        return []
    return ["  sizes: " + _format_counts({f"of {w} x {h}": n for (w, h), n in summary.sizes.items()})]


def _format_spacings(summary: Summary) -> list[str]:
    if len(summary.spacings) > 4:
        rows, columns, slices = (sorted(lengths) for lengths in zip(*summary.spacings, strict=True))
        return [f"  spacings: {len(summary.spacings)} different, pixels of {_format_limits([*rows, *columns])} mm, "
                f"slices {_format_limits(slices)} mm apart"]
    if not summary.spacings:
        return []
    counts = {
        f"of {row:.4g} x {column:.4g} mm" + (f", slices {between:.4g} mm apart" if between else ""): count
        for (row, column, between), count in summary.spacings.items()
    }
    return ["  spacings: " + _format_counts(counts, "; ")]


def _format_limits(lengths: Sequence[float]) -> str:
    low, high = (str(each) if isinstance(each, int) else f"{each:.4g}" for each in (min(lengths), max(lengths)))
    return low if low == high else f"{low} to {high}"


def _format_values(summary: Summary) -> list[str]:
    if not summary.values:
        return []
    low, high = np.percentile(np.concatenate(summary.values), (1, 99))
    return [f"  values: {summary.low:.6g} to {summary.high:.6g}, 98 % of them {low:.6g} to {high:.6g}"]


def _format_counts(counts: Mapping[str, int], separator: str = ", ") -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return separator.join(f"{count} {what}" for what, count in ordered)
