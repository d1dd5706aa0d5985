"""The files that a translation reads, and where each result goes."""

import dataclasses
import glob
import itertools
import logging
import os
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.data import folders
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import dicom_series, suffixes, tiff
from cyclegan_tf.images import files as image_files
from cyclegan_tf.inference import video
from cyclegan_tf.storage import array_files, filesystem

log = logging.getLogger("cyclegan_tf")


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


def require_input(pattern: str) -> None:
    """Raises a UserError if --input is a path that does not exist; accepts every pattern."""
    if not glob.has_magic(pattern) and not filesystem.exists(pattern):
        raise UserError(f"--input={pattern}: no such file or folder")


def find(pattern: str, output: str) -> list[tuple[str, str]]:
    """Finds the files that `pattern` stands for.

    Args:
      pattern: a file; a folder, for all images in the folder and its subfolders; or a pattern with *, ? or **, for all
        images and videos that match. Videos in a folder are left out, and a warning states their number.
      output: the output folder. If the output folder is inside the input folder, its files are left out as earlier
        results.

    Returns:
      List of (path, name below the output folder).

    Raises:
      UserError: there are no such files, or the output folder is the input folder.
    """
    videos: list[str] = []
    if filesystem.isfile(pattern):
        root, paths = os.path.dirname(pattern) or ".", [pattern]
    elif filesystem.isdir(pattern):
        root, listed = pattern, folders.list_folder(pattern, video.SUFFIXES)
        paths = [os.path.join(pattern, name) for name in listed.names if not video.is_video_name(name)]
        videos = [os.path.join(pattern, name) for name in listed.names if video.is_video_name(name)]
    elif filesystem.is_remote(pattern):
        raise UserError(f"--input={pattern}: no such file or folder; patterns work only on the local disk")
    else:
        root = _find_fixed_part(pattern)
        paths = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path) and _is_input(path)]
    input_folder, output_folder = (os.path.join(_resolve(folder), "") for folder in (root, output))
    if output_folder == input_folder:
        raise UserError(f"--output={output} is the folder of the input, where results would mix with the originals; "
                        "give another folder")
    if output_folder.startswith(input_folder) and paths != [pattern]:
        paths, videos = (
            [path for path in each if not _resolve(path).startswith(output_folder)] for each in (paths, videos)
        )
    found = [(path, os.path.relpath(path, root)) for path in sorted(paths)]
    _warn_of_videos(pattern, videos)
    if not found:
        raise UserError(f"--input={pattern}: no such file or folder, or no images in it")
    return found


def _warn_of_videos(folder: str, videos: Sequence[str]) -> None:
    """Warns that `videos` in `folder` are left out, and says how to translate them; does nothing if there are none."""
    if not videos:
        return
    way = "copy them to the local disk"
    if not filesystem.is_remote(folder):
        root, endings = glob.escape(folder), sorted({Path(path).suffix for path in videos})
        patterns = [shlex.quote(os.path.join(root, "**", f"*{ending}")) for ending in endings]
        way = "give " + " and then ".join(f"--input={pattern}" for pattern in patterns)
    log.warning("--input=%s: left out %d video%s; to translate videos, %s", folder, len(videos),
                "s" * (len(videos) > 1), way)


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


def _find_array_format(path: str) -> str:
    """Returns .npy for a NumPy file, .tif for a TIFF file, and "" for others."""
    name = _add_suffix(path, path)
    return ".tif" if suffixes.match(name, suffixes.TIFF) else suffixes.match(name, (".npy",))


def _can_hold(output: str, source: str, value_range: ValueRange | None) -> bool:
    """True if the format of `output` can hold the translation of `source`."""
    if _find_kind(output) != _find_kind(source):
        return False
    # Only their own formats hold the values in units of all types that NumPy and TIFF files may have.
    return value_range is None or _find_array_format(source) in ("", _find_array_format(output))


def plan(
    found: Sequence[tuple[str, str]], output: str, channels: int, overwrite: bool = False,
    value_range: ValueRange | None = None, *, is_file: bool = False,
) -> list[Job]:
    """Plans a `Job` for each file, and one for all files of a DICOM series in a folder.

    Args:
      found: list of (path, name), as `find` returns it.
      output: folder; for a single file also the path of the result.
      channels: channels of the translations.
      overwrite: whether to replace existing files.
      value_range: range of the translations if their values have a unit.
      is_file: whether --input is a file. An unknown suffix of `output` is then an error; for a folder or a pattern,
        `output` is a folder.

    Raises:
      UserError: a result exists already, would replace an input file, or has the path of another result, or `output`
        is a file that cannot hold the results.
    """
    # Suffixes begin with a letter: v1.2 is a folder.
    has_unknown = is_file and not filesystem.exists(output) and os.path.splitext(output)[1][1:2].isalpha()
    names_file = _is_known(output) or has_unknown
    if len(found) == 1 and names_file and not filesystem.isdir(output):
        source = found[0][0]

        def fits(target: str) -> bool:
            return _name_result(target, channels, value_range) == target and _can_hold(target, source, value_range)

        if not fits(output):
            known = [suffix for suffix in (*suffixes.ALL, *video.SUFFIXES) if fits(f"{output}{suffix}")]
            raise UserError(f"--output={output}: {source} cannot be written as such a file; give a folder, such as "
                            f"{output}/, or a name that ends in one of {', '.join(known)}")
        jobs, series = [Job(source, output)], {}
    elif filesystem.exists(output) and not filesystem.isdir(output):
        raise UserError(f"--output={output} is a file; give a folder")
    else:
        series = {path: dicom_series.read_identifier(path) for path, _ in found}
        jobs = [
            Job(path, os.path.join(output, name if series.get(path) else
                                   _name_result(_add_suffix(path, name), channels, value_range)))
            for path, name in found
        ]
    _require_free_targets(jobs, overwrite)
    return _join_series(jobs, series)


def _require_free_targets(jobs: Sequence[Job], overwrite: bool) -> None:
    """Raises a UserError if a result must not be written; `plan` lists the reasons."""
    taken: dict[str, Job] = {}
    sources = {_resolve(job.source) for job in jobs}
    for job in jobs:
        if _resolve(job.target) in sources:
            raise UserError(f"the result of {job.source} would replace the input file {job.target}; give another "
                            "--output")
        if job.is_video and (filesystem.is_remote(job.source) or filesystem.is_remote(job.target)):
            raise UserError(f"{job.source}: videos and their translations must be on the local disk; copy the video "
                            "there, or give a local --output")
        other = taken.setdefault(job.target, job)
        if other is not job:
            raise UserError(f"{other.source} and {job.source} would both become {job.target}; rename one of them")
    existing = [job.target for job in jobs if filesystem.exists(job.target)]
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise UserError(f"{existing[0]} exists already{more}: give another --output, or --overwrite")


def _join_series(jobs: Sequence[Job], series: Mapping[str, str | None]) -> list[Job]:
    """Replaces the jobs of the files of a series in one folder with one job."""
    groups: dict[tuple[str, str], list[Job]] = defaultdict(list)
    for job in jobs:
        groups[os.path.dirname(job.target), series.get(job.source) or job.source].append(job)
    return [
        group[0] if len(group) == 1 else Job(group[0].source, folder, tuple(job.source for job in group))
        for (folder, _), group in groups.items()
    ]


def _add_suffix(path: str, name: str) -> str:
    """Returns `name`, with the suffix .tif or .npy if `path` is a TIFF or NumPy file of another suffix, as scan.lsm."""
    if _is_known(path):
        return name
    try:
        with filesystem.open_regular_file(path) as file:
            head = file.read(len(array_files.SIGNATURE))
    except OSError:  # Translating the file reports the reason.
        return name
    suffix = ".tif" if head.startswith(tiff.SIGNATURES) else ".npy" if head == array_files.SIGNATURE else ""
    return f"{os.path.splitext(name)[0]}{suffix}" if suffix else name


def _name_result(name: str, channels: int, value_range: ValueRange | None) -> str:
    if video.is_video_name(name):
        return video.get_output_name(name)
    return image_files.get_output_name(name, channels, value_range)
