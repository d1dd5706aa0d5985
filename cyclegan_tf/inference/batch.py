"""Translates files: finds them, plans where each result goes, checks the plan, then translates in batches."""

import contextlib
import dataclasses
import glob
import itertools
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.data import folders
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec, dicom_series, stack_files, suffixes, units
from cyclegan_tf.images import files as image_files
from cyclegan_tf.inference import stacks, video
from cyclegan_tf.inference.loading import LoadedTranslator
from cyclegan_tf.ops import exhaustion
from cyclegan_tf.storage import filesystem

# Errors that concern a single file. A UserError concerns the options, and ends the command.
_FILE_ERRORS = (ValueError, OSError, MemoryError, tf.errors.OpError)
_WAITING_BATCHES = 4  # Images wait in memory for others of their size; this many batches in all.


@dataclasses.dataclass(frozen=True)
class Job:
    """A file to translate, and the path of the result.

    Attributes:
      source: path of the file, or of the first file of a DICOM series.
      target: path of the result; for a series, the folder of the results, which have the names of the files.
      series: the paths of all files of a series; empty for other files.
    """

    source: str
    target: str
    series: tuple[str, ...] = ()

    @property
    def n_files(self) -> int:
        """Number of files."""
        return max(1, len(self.series))

    @property
    def is_video(self) -> bool:
        """Whether the file is a video."""
        return video.is_video_name(self.source)


_Item = tuple[Job, np.ndarray, Any]  # A job, its decoded pixels, and the file's other contents (`images.files.read`).


def find(pattern: str, output: str) -> list[tuple[str, str]]:
    """Finds the files that `pattern` stands for.

    Args:
      pattern: a file; a folder, for all images in it and its subfolders; or a pattern with *, ? or **, for all images
        and videos that match.
      output: the output folder. Files in it are left out, even if it is inside the input folder.

    Returns:
      List of (path, name below the output folder).

    Raises:
      UserError: there are no such files, or the output folder is the input folder.
    """
    if filesystem.isfile(pattern):
        root, paths = os.path.dirname(pattern) or ".", [pattern]
    elif filesystem.isdir(pattern):
        names = [name for name in folders.list_folder(pattern).names if not video.is_video_name(name)]
        root, paths = pattern, [os.path.join(pattern, name) for name in names]
    elif filesystem.is_remote(pattern):
        raise UserError(f"--input={pattern}: no such file or folder; patterns work only on the local disk")
    else:
        root = _find_fixed_part(pattern)
        paths = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path) and _is_input(path)]
    if _resolve(root) == _resolve(output):
        raise UserError(f"--output={output} is the folder of the input, where results would mix with the originals; "
                        "give another folder")
    inside = os.path.join(_resolve(output), "")
    found = [(path, os.path.relpath(path, root)) for path in sorted(paths) if not _resolve(path).startswith(inside)]
    if not found:
        raise UserError(f"--input={pattern}: no such file or folder, or no images in it")
    return found


def _resolve(path: str) -> str:
    return path.rstrip("/") if filesystem.is_remote(path) else os.path.realpath(path)


def _find_fixed_part(pattern: str) -> str:
    """Returns the folder in which a pattern starts: the parts of the path before the first wildcard."""
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parent.parts)
    return os.path.join(".", *fixed)


def _is_known(path: str) -> bool:
    return bool(suffixes.match(path)) or video.is_video_name(path)


def _is_input(path: str) -> bool:
    return video.is_video_name(path) or folders.is_image(path)


def _find_kind(path: str) -> str:
    """The kind of a file; files of a kind are translated to files of the same kind."""
    if video.is_video_name(path):
        return "video"
    if suffixes.match(path, suffixes.NIFTI):
        return "volume"
    return "image" if dicom_series.read_identifier(path) is None else "DICOM file"


def plan(
    found: Sequence[tuple[str, str]], output: str, channels: int, overwrite: bool = False,
    value_range: ValueRange | None = None,
) -> list[Job]:
    """Plans a `Job` for each file, and one for all files of a DICOM series in a folder.

    Args:
      found: list of (path, name), as `find` returns it.
      output: folder; for a single file also the path of the result.
      channels: channels of the translations.
      overwrite: whether to replace existing files.
      value_range: range of the translations if their values have a unit.

    Raises:
      UserError: a result exists already, two results have the same path, or `output` is a file that cannot hold the
        results.
    """
    if len(found) == 1 and _is_known(output) and not filesystem.isdir(output):
        source = found[0][0]
        if _name_result(output, channels, value_range) != output or _find_kind(output) != _find_kind(source):
            raise UserError(f"--output={output}: {source} cannot be written as such a file; give a folder")
        jobs, series = [Job(source, output)], {}
    elif filesystem.exists(output) and not filesystem.isdir(output):
        raise UserError(f"--output={output} is a file; give a folder")
    else:
        series = {path: dicom_series.read_identifier(path) for path, _ in found}
        jobs = [
            Job(path, os.path.join(output, name if series.get(path) else _name_result(name, channels, value_range)))
            for path, name in found
        ]
    taken: dict[str, Job] = {}
    for job in jobs:
        if job.is_video and (filesystem.is_remote(job.source) or filesystem.is_remote(job.target)):
            raise UserError(f"{job.source}: videos must be on the local disk, and so must their results; copy it there")
        other = taken.setdefault(job.target, job)
        if other is not job:
            raise UserError(f"{other.source} and {job.source} would both become {job.target}; rename one of them")
    existing = [job.target for job in jobs if filesystem.exists(job.target)]
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise UserError(f"{existing[0]} exists already{more}: give another --output, or --overwrite")
    return _join_series(jobs, series)


def _join_series(jobs: Sequence[Job], series: Mapping[str, str | None]) -> list[Job]:
    """Replaces the jobs of the files of a series in one folder with one job."""
    groups: dict[tuple[str, str], list[Job]] = defaultdict(list)
    for job in jobs:
        groups[os.path.dirname(job.target), series.get(job.source) or job.source].append(job)
    return [
        group[0] if len(group) == 1 else Job(group[0].source, folder, tuple(job.source for job in group))
        for (folder, _), group in groups.items()
    ]


def count_slices(translator: LoadedTranslator, jobs: Sequence[Job]) -> int:
    """The number of slices of all files; an image, a video and a damaged file count as one."""
    return sum(len(job.series) or _count_slices(translator, job) for job in jobs)


def _count_slices(translator: LoadedTranslator, job: Job) -> int:
    try:
        stack = None if job.is_video else stack_files.open_file(job.source, translator.stack_options)
    except _FILE_ERRORS:
        return 1
    if stack is None:
        return 1
    with contextlib.closing(stack):
        return len(stack)


def _name_result(name: str, channels: int, value_range: ValueRange | None) -> str:
    if video.is_video_name(name):
        return video.get_output_name(name)
    return image_files.output_name(name, channels, value_range)


def run(
    translator: LoadedTranslator, jobs: Sequence[Job], batch_size: int = 4, tile: int = 0,
    update: Callable[[float], object] | None = None,
) -> dict[str, str]:
    """Translates the files of `jobs`. An error of one file leaves out this file only.

    Args:
      translator: the trained generator.
      jobs: as `plan` returns them.
      batch_size: images of equal size and dtype, or frames of a video, to translate at once. Batches of images with
        more than a megapixel together are smaller.
      tile: as in `loading.LoadedTranslator.translate`.
      update: called with the number of slices that are done since the previous call, 0.25 for a quarter of an image.

    Returns:
      {path: reason} of the files that were left out, because they or their results cannot be read, translated or
      written. The first file of a series stands for all of its files.

    Raises:
      UserError: the translator does not support tiles or videos.
    """
    # Look for mistakes in the options before the first result is written.
    if tile:
        translator.require_tiles()
    for job in jobs:
        if job.is_video:
            video.require_support(translator, job.source)
    update = update or (lambda amount: None)
    bad: dict[str, str] = {}
    images = [job for job in jobs if not job.is_video]
    plain = [job for job in images if not _translate_stack(translator, job, batch_size, tile, bad, update)]
    for batch in _read_batches(translator, plain, batch_size, tile, bad, update):
        _translate_batch(translator, batch, tile, bad, update)
    for job in jobs:
        if job.is_video:
            progress = _Increments(update)
            try:
                video.translate(translator, job.source, job.target, batch_size, tile, progress)
            except _FILE_ERRORS as error:
                bad[job.source] = _describe(error)
            progress(1.0)
    return bad


def _translate_stack(
    translator: LoadedTranslator, job: Job, batch_size: int, tile: int, bad: dict[str, str],
    update: Callable[[float], object],
) -> bool:
    """Translates a file of slices; returns False, and does nothing, for a plain image."""
    progress, count = _Increments(update), job.n_files
    try:
        stack = stacks.open_source(translator, job.series or (job.source,))
        if stack is None:
            return False
        with contextlib.closing(stack):
            count = len(stack)
            stacks.translate(translator, stack, job.source, job.target, batch_size, tile, progress)
    except _FILE_ERRORS as error:
        bad[job.source] = _describe(error)
    progress(count)
    return True


def _read_batches(
    translator: LoadedTranslator, jobs: Sequence[Job], batch_size: int, tile: int, bad: dict[str, str],
    update: Callable[[float], object],
) -> Iterator[list[_Item]]:
    """Yields batches of images of equal size and dtype, and keeps few images in memory until their batch is full.

    An image that is translated by tiles is a batch of its own.
    """
    waiting: dict[tuple[tuple[int, ...], np.dtype], list[_Item]] = defaultdict(list)
    for job in jobs:
        try:
            pixels, extras = image_files.read(job.source, translator.input_channels, bool(translator.units.source))
        except _FILE_ERRORS as error:
            bad[job.source] = _describe(error)
            update(1)
            continue
        _warn_of_clipping(translator, job, pixels)
        key = pixels.shape, pixels.dtype
        waiting[key].append((job, pixels, extras))
        limit = 1 if _needs_tiles(pixels, tile) else min(batch_size, stacks.BATCH_PIXELS // math.prod(pixels.shape[:2]))
        if len(waiting[key]) >= limit:
            yield waiting.pop(key)
        elif sum(map(len, waiting.values())) > _WAITING_BATCHES * batch_size:
            yield waiting.pop(max(waiting, key=lambda key: len(waiting[key])))
    yield from waiting.values()


def _warn_of_clipping(translator: LoadedTranslator, job: Job, values: np.ndarray) -> None:
    if (limits := translator.units.source) is not None and (count := units.count_outside(values, limits)):
        stacks.warn_of_clipping(job.source, count, values.size, limits)


def _needs_tiles(image: np.ndarray, tile: int) -> bool:
    return 0 < tile < max(image.shape[:2])


def _translate_batch(
    translator: LoadedTranslator, batch: list[_Item], tile: int, bad: dict[str, str], update: Callable[[float], object]
) -> None:
    images = [pixels for _, pixels, _ in batch]
    progress = _Increments(update)
    results: Sequence[np.ndarray] | np.ndarray
    try:
        if _needs_tiles(images[0], tile):
            # The output folder's disk has room for large results, so store the tiles' feature maps there.
            output = os.path.dirname(batch[0][0].target) or "."
            folder = None if filesystem.is_remote(output) else output
            if folder:
                os.makedirs(folder, exist_ok=True)
            results = [translator.translate(pixels, tile, folder, progress) for pixels in images]
        else:
            results = translator.translate(np.stack(images))
    except _FILE_ERRORS as error:
        if len(batch) > 1:
            # One image may be the cause, such as one with NaN, or the batch is too large for the memory.
            for item in batch:
                _translate_batch(translator, [item], tile, bad, update)
            return
        bad[batch[0][0].source] = _describe(error)
    else:
        for (job, _, extras), result in zip(batch, results, strict=True):
            try:
                image_files.write(job.target, result, extras)
            except _FILE_ERRORS as error:  # A full disk, or an image that the format cannot hold.
                bad[job.source] = f"cannot write {job.target}: {_describe(error)}"
    progress(float(len(batch)))


class _Increments:
    """Turns the amount that is done so far into the amount since the previous call."""

    def __init__(self, update: Callable[[float], object]) -> None:
        self._update, self._done = update, 0.0

    def __call__(self, done: float) -> None:
        self._update(done - self._done)
        self._done = done


def _describe(error: Exception) -> str:
    if exhaustion.is_exhausted(error):
        return "it needs more memory than there is; give --tile=512, or a smaller tile"
    return codec.describe(getattr(error, "strerror", None) or error)
