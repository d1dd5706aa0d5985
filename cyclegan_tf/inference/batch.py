"""Translates files in batches of images of one size; a file that fails is skipped, and the others are translated."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from cyclegan_tf.errors import UserError, describe_error
from cyclegan_tf.images import files as image_files
from cyclegan_tf.images import nifti, stack_files, suffixes, units
from cyclegan_tf.inference import stack_translation, video
from cyclegan_tf.inference.jobs import Job
from cyclegan_tf.ops import exhaustion
from cyclegan_tf.storage import filesystem

if TYPE_CHECKING:
    from cyclegan_tf.inference.loading import LoadedTranslator

# Errors that concern a single file. A UserError concerns the options, and ends the command.
_FILE_ERRORS = (ValueError, OSError, MemoryError, tf.errors.OpError)
_WAITING_BATCHES = 4  # Images wait in memory for others of their size; this many batches in all.

_Item = tuple[Job, np.ndarray, Any]  # A job, its decoded pixels, and the file's other contents (`images.files.read`).


def count_slices(translator: "LoadedTranslator", jobs: Sequence[Job]) -> int:
    """The number of slices of all files; an image, a video and a damaged file count as one."""
    return sum(len(job.series) or _count_slices(translator, job) for job in jobs)


def _count_slices(translator: "LoadedTranslator", job: Job) -> int:
    try:
        stack = None if job.is_video else stack_files.open_file(job.source, translator.stack_options)
    except _FILE_ERRORS:
        return 1
    if stack is None:
        return 1
    with contextlib.closing(stack):
        return len(stack)


def run(
    translator: "LoadedTranslator", jobs: Sequence[Job], batch_size: int = 4, tile: int = 0,
    update: Callable[[float], object] | None = None, max_side: int = 0,
) -> dict[str, str]:
    """Translates the files of `jobs`. A file that fails is skipped; the others are translated.

    Args:
      translator: the trained generator.
      jobs: as `jobs.plan` returns them.
      batch_size: images of equal size and dtype, or frames of a video, to translate at once. Batches of images with
        more than a megapixel together are smaller.
      tile: as in `loading.LoadedTranslator.translate`.
      update: called with the number of slices that are done since the previous call, 0.25 for a quarter of an image.
      max_side: if not 0, the longer side in pixels to which larger images are shrunk before their translation.

    Returns:
      {path: reason} of the files that were left out, because they or their results cannot be read, translated or
      written. The first file of a series stands for all of its files.

    Raises:
      UserError: the translator does not support tiles or videos, a package is missing, or files cannot be shrunk;
        nothing is written.
    """
    # Look for mistakes in the options before the first result is written.
    if tile:
        translator.require_tiles()
    if max_side and translator.units.source:
        raise UserError("--max_side is not for a model of images in units; leave --max_side out")
    for job in jobs:
        if job.is_video:
            video.require_support(translator, job.source)
            if max_side:
                raise UserError(f"{job.source}: --max_side is not for videos; leave --max_side out")
    if any(suffixes.match(job.source, suffixes.NIFTI) for job in jobs):
        nifti.require_package()
    work = _BatchTranslator(translator, batch_size, tile, update or (lambda amount: None), max_side)
    plain = [job for job in jobs if not job.is_video and not work.translate_stack(job)]
    for batch in work.read_batches(plain):
        work.translate_batch(batch)
    for job in jobs:
        if job.is_video:
            work.translate_video(job)
    return work.bad


class _BatchTranslator:
    """Translates files of slices, videos, and batches of images; see `run`.

    Attributes:
      bad: the reasons why files were left out so far, by path.
    """

    def __init__(
        self, translator: "LoadedTranslator", batch_size: int, tile: int, update: Callable[[float], object],
        max_side: int,
    ) -> None:
        self._translator, self._batch_size, self._tile = translator, batch_size, tile
        self._update, self._max_side = update, max_side
        self.bad: dict[str, str] = {}

    def translate_stack(self, job: Job) -> bool:
        """Translates a file of slices; returns False, and does nothing, for a plain image."""
        progress, count = _Increments(self._update), job.n_files
        try:
            stack = stack_translation.open_source(self._translator, job.series or (job.source,))
            if stack is None:
                return False
            with contextlib.closing(stack):
                if self._max_side:  # `run` calls this function for all stacks before the first plain image.
                    raise UserError(f"{job.source}: --max_side is not for files of slices, or files whose geometry "
                                    "the result keeps; leave --max_side out")
                count = len(stack)
                stack_translation.translate(
                    self._translator, stack, job.source, job.target, self._batch_size, self._tile, progress
                )
        except _FILE_ERRORS as error:
            self.bad[job.source] = _describe(error)
        progress(count)
        return True

    def translate_video(self, job: Job) -> None:
        """Translates a video."""
        progress = _Increments(self._update)
        try:
            video.translate(self._translator, job.source, job.target, self._batch_size, self._tile, progress)
        except _FILE_ERRORS as error:
            self.bad[job.source] = _describe(error)
        progress(1.0)

    def read_batches(self, jobs: Sequence[Job]) -> Iterator[list[_Item]]:
        """Yields batches of images of equal size and dtype, and keeps few images in memory until their batch is full.

        An image that is translated by tiles is a batch of its own.
        """
        waiting: dict[tuple[tuple[int, ...], np.dtype], list[_Item]] = defaultdict(list)
        for job in jobs:
            try:
                pixels, extras = self._read(job)
            except _FILE_ERRORS as error:
                self.bad[job.source] = _describe(error)
                self._update(1)
                continue
            key = pixels.shape, pixels.dtype
            waiting[key].append((job, pixels, extras))
            limit = stack_translation.limit_batch(self._batch_size, *pixels.shape[:2])
            if len(waiting[key]) >= limit or self._needs_tiles(pixels):
                yield waiting.pop(key)
            elif sum(map(len, waiting.values())) > _WAITING_BATCHES * self._batch_size:
                yield waiting.pop(max(waiting, key=lambda key: len(waiting[key])))
        yield from waiting.values()

    def _read(self, job: Job) -> tuple[np.ndarray, Any]:
        limits = self._translator.units.source
        pixels, extras = image_files.read(job.source, self._translator.input_channels, limits is not None)
        if limits is not None and (count := units.count_outside(pixels, limits)):
            stack_translation.warn_of_clipping(job.source, count, pixels.size, limits)
        return image_files.shrink(pixels, extras, self._max_side) if self._max_side else (pixels, extras)

    def _needs_tiles(self, image: np.ndarray) -> bool:
        return 0 < self._tile < max(image.shape[:2])

    def translate_batch(self, batch: list[_Item]) -> None:
        """Translates a batch that `read_batches` yields, and writes the results."""
        images = [pixels for _, pixels, _ in batch]
        progress = _Increments(self._update)
        results: Sequence[np.ndarray] | np.ndarray
        try:
            if self._needs_tiles(images[0]):
                # The output folder's disk has room for large results, so store the tiles' feature maps there.
                output = os.path.dirname(batch[0][0].target) or "."
                folder = None if filesystem.is_remote(output) else output
                if folder:
                    os.makedirs(folder, exist_ok=True)
                results = [self._translator.translate(pixels, self._tile, folder, progress) for pixels in images]
            else:
                results = self._translator.translate(np.stack(images))
        except _FILE_ERRORS as error:
            if len(batch) > 1:
                # One image may be the cause, such as one with NaN, or the batch is too large for the memory.
                for item in batch:
                    self.translate_batch([item])
                return
            self.bad[batch[0][0].source] = _describe(error)
        else:
            for (job, _, extras), result in zip(batch, results, strict=True):
                try:
                    image_files.write(job.target, result, extras)
                except _FILE_ERRORS as error:  # A full disk, or an image that the format cannot hold.
                    self.bad[job.source] = f"cannot write {job.target}: {_describe(error)}"
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
        return "the translation ran out of memory; give --tile=512, or a smaller tile"
    return describe_error(error)
