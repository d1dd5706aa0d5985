"""Checkpoints: .npz files in a run directory, each with the arrays of `model_state`.

NumPy alone can read a file. Reading verifies a checksum for each array (CRC-32, from the zip format) and the directory
of the archive, so damage never goes unnoticed.
"""

import logging
import os
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from cyclegan_tf.errors import UserError, describe_error
from cyclegan_tf.runs import directory
from cyclegan_tf.runs.model_state import Arrays, Pools, Progress, collect_state
from cyclegan_tf.storage import array_files, filesystem
from cyclegan_tf.storage.zip_files import DamagedFileError

if TYPE_CHECKING:
    from cyclegan_tf.models.base import Model

log = logging.getLogger("cyclegan_tf")

BEST = "best.npz"
_COUNT_NAMES, _NUMBER_NAMES = re.compile(r"step|skipped|stale|replicas|images/\w+/count"), re.compile("best|epoch/.*")


class NullWriter:
    """The interface of `Writer`, without effect: for workers that write no checkpoints."""

    def save(
        self, model: "Model", progress: Progress, file_name: str | None = None,
        pools: Sequence[Pools] | None = None,
    ) -> None:
        """Writes a checkpoint in the background."""

    def check(self) -> None:
        """Raises an OSError if a background write has already failed; does not wait for an unfinished write."""

    def wait(self) -> None:
        """Waits until the last checkpoint is written; raises an OSError if the checkpoint could not be written."""

    def close(self) -> None:
        """Waits as `wait` does, then frees resources."""


class Writer(NullWriter):
    """Writes checkpoints into a folder from a background thread, one at a time, while training continues.

    Args:
      folder: created if it is missing; files that a killed process left half-written are removed.
      keep: number of checkpoints to keep; older ones are removed.
    """

    def __init__(self, folder: str, keep: int) -> None:
        self._folder, self._keep = folder, keep
        filesystem.makedirs(folder)
        for name in filesystem.listdir(folder):
            if name.endswith(".tmp"):
                filesystem.remove(os.path.join(folder, name))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[str] | None = None

    def save(
        self, model: "Model", progress: Progress, file_name: str | None = None,
        pools: Sequence[Pools] | None = None,
    ) -> None:
        """Copies the state now and writes the copy in the background, after waiting for the previous checkpoint.

        Args:
          file_name: as in `write`.
          pools: as in `model_state.collect_state`.

        Raises:
          OSError: the previous checkpoint could not be written.
        """
        self.wait()
        arrays = collect_state(model, progress, pools)
        self._writing = self._thread.submit(write, self._folder, arrays, self._keep, file_name)

    def check(self) -> None:
        if self._writing and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Waits until the last checkpoint is written; raises the OSError that prevented it."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def close(self) -> None:
        """Waits as `wait` does, then ends the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()


def write(folder: str, arrays: Arrays, keep: int, file_name: str | None = None) -> str:
    """Writes FOLDER/step-NNNNNNNN.npz atomically and removes all but the `keep` newest checkpoints; returns its path.

    Checkpoints of later steps do not count and are not removed: such a checkpoint is damaged, because the run resumed
    from an earlier one. A file with another `file_name`, such as `BEST`, is never removed and never resumed from.
    """
    path = os.path.join(folder, file_name or f"step-{arrays['step']:08d}.npz")
    array_files.write(path, arrays, durable=True)
    intact = [each for step, each in list_files(folder) if step <= arrays["step"]]
    for old in intact[keep:]:
        filesystem.remove(old)
    return path


def list_files(folder: str) -> list[tuple[int, str]]:
    """Lists (step, path) of the checkpoints in a folder, newest first; empty if the folder does not exist."""
    names = filesystem.listdir(folder) if filesystem.isdir(folder) else []
    matches = filter(None, map(directory.CHECKPOINT_NAME.fullmatch, names))
    return sorted(((int(match[1]), os.path.join(folder, match[0])) for match in matches), reverse=True)


def read_newest(folder: str) -> tuple[str, dict[str, np.ndarray]] | None:
    """Reads the newest intact checkpoint in a folder: (path, arrays), or None if there are no checkpoints.

    Logs a warning for each damaged checkpoint, before the next older one is tried.

    Raises:
      UserError: a checkpoint cannot be opened, or all checkpoints are damaged.
    """
    candidates = list_files(folder)
    for _, path in candidates:
        try:
            return path, read(path)
        except DamagedFileError as error:
            log.warning("checkpoint %s is damaged (%s); trying an older one", path, error)
        except OSError as error:  # The checkpoint may be intact, so the run must not resume from an older checkpoint.
            if isinstance(error, FileNotFoundError) and path not in [each for _, each in list_files(folder)]:
                return read_newest(folder)  # A running process has removed the file after it wrote a newer checkpoint.
            raise UserError(f"cannot read checkpoint {path}: {describe_error(error)}; make it readable or remove "
                            "it") from error
    if candidates:
        raise UserError(f"all {len(candidates)} checkpoints in {folder} are damaged: move the folder away to start "
                        "from scratch")
    return None


def read_run(path: str) -> tuple[str, dict[str, np.ndarray]] | None:
    """Reads the checkpoint that a user's `path` refers to: (path, arrays), or None if the run has no checkpoint.

    Args:
      path: a run directory or the name of one in the package, whose newest intact checkpoint is read, or the checkpoint
        file itself (RUN/checkpoints/best.npz).

    Raises:
      UserError: the file is missing or damaged, a checkpoint of the run cannot be opened, or all are damaged.
    """
    if path.endswith(".npz"):
        return path, read_user_file(path)
    return read_newest(os.path.join(directory.locate(path), "checkpoints"))


def require_run(path: str) -> tuple[str, dict[str, np.ndarray]]:
    """Reads the checkpoint that a user's `path` refers to, as `read_run` does; the checkpoint must exist.

    Raises:
      UserError: as in `read_run`, or there is no checkpoint.
    """
    found = read_run(path)
    if found is None:
        raise UserError(f"{path} has no checkpoint yet; train the run first")
    return found


def read_best_value(folder: str) -> float | None:
    """Reads the value of the measure that chose the checkpoint `BEST` in `folder`; None without an intact file."""
    try:
        value = read(os.path.join(folder, BEST)).get("best")
    except (FileNotFoundError, DamagedFileError):
        return None
    return None if value is None else float(value)


def read_user_file(path: str) -> dict[str, np.ndarray]:
    """Reads the arrays, by name, of a checkpoint file that the user asks for.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        return read(path)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}; give a file of the folder checkpoints of a run") from error
    except OSError as error:
        raise UserError(f"cannot read checkpoint {path}: {describe_error(error)}") from error
    except DamagedFileError as error:
        raise UserError(f"checkpoint {path} is damaged ({error}): use another checkpoint of this run") from error


def read(path: str) -> dict[str, np.ndarray]:
    """Reads the arrays of a checkpoint file by name, and verifies their checksums.

    Raises:
      DamagedFileError: the file is damaged or is not a checkpoint.
      OSError: the file is missing or cannot be read.
    """
    arrays = array_files.read(path)
    if "step" not in arrays:
        raise DamagedFileError("it holds no step")
    for name, array in arrays.items():
        if _COUNT_NAMES.fullmatch(name) and (array.shape or array.dtype.kind not in "iu" or array < 0):
            raise DamagedFileError(f"{name} is not a count")
        if _NUMBER_NAMES.fullmatch(name) and (array.shape or array.dtype.kind not in "iuf"):
            raise DamagedFileError(f"{name} is not a number")
    return arrays
