"""Translating files: what is to be done, checked before anything is written; then image by image, in batches."""

import dataclasses
import glob
import itertools
import math
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import tensorflow as tf

from cyclegan_tf.data import folders
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec
from cyclegan_tf.images import files as image_files
from cyclegan_tf.inference import video
from cyclegan_tf.storage import filesystem

_BATCH_PIXELS = 2**20  # Of a batch, which takes about 0.7 GB with the paper's generator; a larger image goes alone.
_WAITING_BATCHES = 4  # Images wait in memory for others of their size, up to this many batches in all.


@dataclasses.dataclass(frozen=True)
class Job:
    """A file to translate, and where to."""

    source: str
    target: str

    @property
    def is_video(self):
        return video.is_video_name(self.source)


def find(pattern, output):
    """(path, name below the output folder) of the files that `pattern` means.

    Args:
      pattern: a file; a folder, whose images in any sub-folder are meant; or a pattern with *, ? and **, whose images
        and videos are meant.
      output: the output folder, which is passed over where it is inside.

    Raises:
      UserError: there are none, or the output folder is the input folder.
    """
    if filesystem.isfile(pattern):
        root, paths = os.path.dirname(pattern) or ".", [pattern]
    elif filesystem.isdir(pattern):
        names = [name for name in folders.list_folder(pattern).names if not video.is_video_name(name)]
        root, paths = pattern, [os.path.join(pattern, name) for name in names]
    elif filesystem.is_remote(pattern):
        raise UserError(f"--input={pattern}: no such file or folder; patterns are for the local disk")
    else:
        root = _fixed_part(pattern)
        paths = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path) and _is_known(path)]
    if _real(root) == _real(output):
        raise UserError(f"--output={output} is the folder of the input; the images there would be mixed up with their "
                        "translations: give another folder")
    inside = os.path.join(_real(output), "")
    found = [(path, os.path.relpath(path, root)) for path in sorted(paths) if not _real(path).startswith(inside)]
    if not found:
        raise UserError(f"--input={pattern}: no such file or folder, or no images in it")
    return found


def _real(path):
    return path.rstrip("/") if filesystem.is_remote(path) else os.path.realpath(path)


def _fixed_part(pattern):
    """The folder that a pattern starts from: its parts before the first one with a wildcard."""
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parent.parts)
    return os.path.join(".", *fixed)


def _is_known(path):
    return Path(path).suffix.lower() in codec.SUFFIXES or video.is_video_name(path)


def plan(found, output, channels, overwrite=False):
    """A `Job` for each of the files that `find` gives.

    Args:
      found: list of (path, name).
      output: folder; or, for a single file, a file of that suffix.
      channels: of the translations.
      overwrite: whether files may be there already.

    Raises:
      UserError: a result is there already, two have the same name, or `output` is a file of a kind that cannot be
        written.
    """
    if len(found) == 1 and _is_known(output) and not filesystem.isdir(output):
        source = found[0][0]
        if _result_name(output, channels) != output or video.is_video_name(output) != video.is_video_name(source):
            raise UserError(f"--output={output}: {source} cannot be written as such a file; give a folder")
        jobs = [Job(source, output)]
    else:
        jobs = [Job(path, os.path.join(output, _result_name(name, channels))) for path, name in found]
    taken = {}
    for job in jobs:
        if job.is_video and (filesystem.is_remote(job.source) or filesystem.is_remote(job.target)):
            raise UserError(f"{job.source}: videos are read and written on the local disk only; copy it there")
        other = taken.setdefault(job.target, job)
        if other is not job:
            raise UserError(f"{other.source} and {job.source} would both become {job.target}; rename one of them")
    there = [job.target for job in jobs if filesystem.exists(job.target)]
    if there and not overwrite:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UserError(f"{there[0]} exists already{more}: give another --output, or --overwrite")
    return jobs


def _result_name(name, channels):
    return video.get_output_name(name) if video.is_video_name(name) else image_files.output_name(name, channels)


def run(model, jobs, batch_size=4, tile=0, update=None):
    """Translates the files of `jobs`.

    Args:
      model: `loading.LoadedTranslator`.
      jobs: list of `Job`.
      batch_size: images of one size and kind, or frames of a video, that are translated at once; fewer if images have
        more than a megapixel together.
      tile: as in `loading.LoadedTranslator.translate`.
      update: function called with the number of files done since it was last called, 0.25 for a quarter of one.

    Returns:
      {path: reason} of the files that could not be read or translated; they are left out.

    Raises:
      UserError: a result cannot be written, or the model cannot do what is asked.
    """
    if tile and not model.supports_tiles:
        raise UserError("--tile needs the generator's layers, which only a run directory and a .pth file give: use one "
                        "of these as the --model, or translate whole images")
    update = update or (lambda amount: None)
    bad = {}
    for batch in _batches(model, [job for job in jobs if not job.is_video], batch_size, bad, update):
        _run_batch(model, batch, tile, bad, update)
    for job in jobs:
        if job.is_video:
            progress = _Shares(update)
            try:
                video.translate(model, job.source, job.target, batch_size, tile, progress)
            except (ValueError, tf.errors.OpError) as error:
                bad[job.source] = _reason(error)
            progress(1.0)
    return bad


def _batches(model, jobs, batch_size, bad, update):
    """Lists of (job, pixels, extras) of one size and kind; few images wait in memory for others of their size."""
    waiting = defaultdict(list)
    for job in jobs:
        try:
            pixels, extras = image_files.read(job.source, model.input_channels)
        except (ValueError, OSError) as error:
            bad[job.source] = _reason(error)
            update(1)
            continue
        key = pixels.shape, pixels.dtype
        waiting[key].append((job, pixels, extras))
        if len(waiting[key]) >= min(batch_size, _BATCH_PIXELS // math.prod(pixels.shape[:2])):
            yield waiting.pop(key)
        elif sum(map(len, waiting.values())) > _WAITING_BATCHES * batch_size:
            yield waiting.pop(max(waiting, key=lambda key: len(waiting[key])))
    yield from waiting.values()


def _run_batch(model, batch, tile, bad, update):
    pictures = [pixels for _, pixels, _ in batch]
    progress = _Shares(update)
    try:
        if tile and max(pictures[0].shape[:2]) > tile:
            # The maps of a large image need the room that its result is given.
            folder = os.path.dirname(batch[0][0].target) or "."
            folder = None if filesystem.is_remote(folder) else folder
            os.makedirs(folder or ".", exist_ok=True)
            results = [model.translate(pixels, tile, folder, progress) for pixels in pictures]
        else:
            results = model.translate(np.stack(pictures))
    except (ValueError, tf.errors.OpError) as error:
        bad.update({job.source: _reason(error) for job, _, _ in batch})
    else:
        for (job, _, extras), result in zip(batch, results, strict=True):
            try:
                image_files.write(job.target, result, extras)
            except OSError as error:
                raise UserError(f"cannot write {job.target}: {error.strerror or error}") from error
            except ValueError as error:  # The format holds no such image: WebP none of more than 16383 pixels.
                bad[job.source] = f"cannot be written as {os.path.basename(job.target)}: {error}"
    progress(float(len(batch)))


class _Shares:
    """Turns the share of a file that is done into what has been done since the last call."""

    def __init__(self, update):
        self._update, self._done = update, 0.0

    def __call__(self, done):
        self._update(done - self._done)
        self._done = done


def _reason(error):
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return "it needs more memory than there is; give --tile=512 or a smaller --batch_size"
    return " ".join((error.strerror or str(error)).split()) if isinstance(error, OSError) else str(error)
