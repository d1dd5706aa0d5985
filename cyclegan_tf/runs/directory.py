"""Finds a run directory, and reserves one for a single process, with its lock, config.json and log.txt."""

import contextlib
import dataclasses
import errno
import logging
import os
import re
from collections.abc import Iterator
from typing import IO

from cyclegan_tf import console
from cyclegan_tf.config import config as config_lib
from cyclegan_tf.config import value_ranges
from cyclegan_tf.config.run_options import CONVERTED_DATASET
from cyclegan_tf.errors import UserError, describe_error
from cyclegan_tf.storage import filesystem, path_checks

log = logging.getLogger("cyclegan_tf")

# The run directories inside the package, by the names that --model takes. They hold trained generators only.
_DEMOS = {name: os.path.join(os.path.dirname(__file__), f"{name}_model") for name in ("demo", "demo_maps")}
# Name of a checkpoint from which a run resumes; the group is the step.
CHECKPOINT_NAME = re.compile(r"step-(\d{8,})\.npz")
# Errors of file systems without locks, such as Lustre and some NFS.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


def locate(path: str) -> str:
    """Returns the run directory that a user's `path` refers to.

    RUN/checkpoints/NAME.npz refers to RUN. "demo" and "demo_maps" refer to run directories inside the package. Any
    other path is a run directory itself.

    Raises:
      UserError: `path` is the name of a run in the package, and also a run directory in the current folder.
    """
    if path in _DEMOS:
        if os.path.exists(os.path.join(path, "config.json")):
            raise UserError(f"{path} is a trained model in the package, and also a run directory in this folder; give "
                            f"./{path} for the run directory, or rename the run directory")
        return _DEMOS[path]
    if not path.endswith(".npz"):
        return path
    return os.path.dirname(os.path.dirname(path if filesystem.is_remote(path) else os.path.abspath(path)))


def find_name(path: str) -> str:
    """Returns the name of the run that a user's `path` refers to, for titles."""
    return os.path.basename(os.path.abspath(locate(path) if path.endswith(".npz") else path))


def choose_default(config: config_lib.Config) -> str:
    """Chooses the run directory if the user names none: runs/ and the name of the data set."""
    path = config.dataset if filesystem.is_remote(config.dataset) else os.path.abspath(config.dataset)
    return os.path.join("runs", os.path.basename(path.rstrip("/")).removesuffix(".zip") or "dataset")


def is_run(path: str) -> bool:
    """True if `path` refers to a run directory, as `locate` resolves it."""
    return filesystem.exists(os.path.join(locate(path), "config.json"))


@contextlib.contextmanager
def open_run(config: config_lib.Config, workdir: str) -> Iterator[None]:
    """Reserves `workdir` for a run of `config` during the body; logs to log.txt, including an error that ends the body.

    Creates the folder if it is missing. Remote file systems and some local ones have no locks. On these file systems
    the user must not start two processes in one run directory.

    Raises:
      UserError: another process trains in `workdir`, its run has other options, its name is not valid UTF-8, or the
        body could not write a file (full disk, read-only or removed folder).
    """
    path_checks.require_utf8("workdir", workdir)
    with _explain_errors(workdir):
        filesystem.makedirs(workdir)
        # The inner _explain_errors makes log.txt show the explained error; the outer one covers errors of the lock.
        with _lock(workdir) as locked, _log_to(os.path.join(workdir, "log.txt")), _explain_errors(workdir):
            if not locked:
                log.warning("the file system of %s cannot lock files: do not start two processes in this run directory",
                            workdir)
            _claim(config, workdir)
            yield


@contextlib.contextmanager
def _explain_errors(workdir: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(_explain(error, workdir)) from error


def _explain(error: OSError, workdir: str) -> str:
    if not filesystem.is_remote(workdir) and not os.path.isdir(workdir):
        if isinstance(error, FileExistsError | NotADirectoryError):
            return f"run directory {workdir} cannot be created, because a file is in the way; give another --workdir"
        return (f"run directory {workdir} was removed or cannot be created: {describe_error(error)}; give another "
                "--workdir")
    reason = {
        errno.ENOSPC: "the disk is full: free some space",
        errno.EDQUOT: "the quota is used up: free some space",
        errno.EFBIG: "the file is larger than the limit for this process: raise the limit",
        errno.EROFS: "the file system is read-only: make it writable",
        errno.EACCES: "permission denied: make it readable and writable",
    }.get(error.errno or 0, f"{describe_error(error)}: remove the cause")
    action = "write" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS) else "access"
    where = error.filename or workdir
    return f"cannot {action} {where}: {reason}, then start again: the run resumes from its newest checkpoint"


@contextlib.contextmanager
def _lock(workdir: str) -> Iterator[bool]:
    """Locks a local run directory; the operating system releases the lock when the process ends in any way.

    Yields:
      False if the file system or the operating system has no locks; True, without a lock, for a remote directory.
    """
    if filesystem.is_remote(workdir):
        yield True
        return
    with open(os.path.join(workdir, ".lock"), "w") as file:
        yield _try_lock(file, workdir)


def _try_lock(file: IO[str], workdir: str) -> bool:
    try:
        import fcntl  # Windows does not have this module.
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"another process trains in {workdir}: wait for it, or use another --workdir") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


class _LogHandler(logging.StreamHandler):
    """Writes log.txt; drops lines that cannot be written, because a failed log line must not stop a run."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def log_end(self, error: BaseException) -> None:
        """Logs the error that ends the run, with a traceback unless the error is a UserError or an interrupt."""
        expected = isinstance(error, KeyboardInterrupt | UserError)
        self.handle(log.makeRecord(
            log.name, logging.ERROR, __file__, 0, "%s", (str(error) or type(error).__name__,),
            None if expected else (type(error), error, error.__traceback__),
        ))

    def close(self) -> None:
        """Closes the file too, so that logging.shutdown() uploads a remote log."""
        with contextlib.suppress(OSError):
            self.stream.close()
        super().close()


@contextlib.contextmanager
def _log_to(path: str) -> Iterator[None]:
    stream = filesystem.open_for_appending(path)
    handler = _LogHandler(stream)
    handler.setFormatter(console.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    except BaseException as error:
        handler.log_end(error)
        raise
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()


def _claim(config: config_lib.Config, workdir: str) -> None:
    """Writes config.json, unless the directory belongs to a run with other options."""
    require_same_options(config, workdir)
    if filesystem.exists(os.path.join(workdir, "config.json")) and not _holds_run(workdir):
        config_lib.Config.load(workdir)  # Raises for the config.json of another program.
        # Remove what a failed start recorded, because the new run would append to it. log.txt keeps all starts.
        for name in filesystem.listdir(workdir):
            if name == "bad_images.txt" or name.startswith("events.out.tfevents."):
                filesystem.remove(os.path.join(workdir, name))
    config.save(workdir)


def _holds_run(workdir: str) -> bool:
    """True if `workdir` holds a run with a checkpoint or exports; a run that failed earlier has nothing to resume."""
    if not filesystem.exists(os.path.join(workdir, "config.json")):
        return False
    return _has_exports(workdir) or any(name.endswith(".npz") for name in _list_checkpoint_folder(workdir))


def _has_exports(workdir: str) -> bool:
    return filesystem.isdir(os.path.join(workdir, "export"))


def _list_checkpoint_folder(workdir: str) -> list[str]:
    folder = os.path.join(workdir, "checkpoints")
    return filesystem.listdir(folder) if filesystem.isdir(folder) else []


def adopt_ranges(config: config_lib.Config, workdir: str) -> config_lib.Config:
    """Replaces percentile ranges of `config` with the ranges that the run in `workdir` measured for the percentiles."""
    if not _holds_run(workdir):
        return config
    stored = config_lib.Config.load(workdir)
    names = [
        name for name in ("range_a", "range_b")
        if value_ranges.is_record_of(getattr(stored, name), getattr(config, name))
    ]
    return dataclasses.replace(config, **{name: getattr(stored, name) for name in names})


def require_same_options(config: config_lib.Config, workdir: str) -> None:
    """Raises a UserError if `workdir` holds a run that `config` cannot resume."""
    if not _holds_run(workdir):
        return
    old = config_lib.Config.load(workdir)
    if old.dataset == CONVERTED_DATASET:
        raise UserError(f"{workdir} was converted from .pth files and cannot be resumed: use another --workdir and "
                        f"--init_from={workdir}")
    differences = config_lib.list_differences(old, config)
    if differences:
        raise UserError(f"{workdir} holds a run with other options ({'; '.join(differences)}): use the same "
                        "options to resume it, or another --workdir")
    # A run writes a checkpoint before its exports. The folder may still hold best.npz, from which no run resumes.
    if _has_exports(workdir) and not any(map(CHECKPOINT_NAME.fullmatch, _list_checkpoint_folder(workdir))):
        raise UserError(f"{workdir} holds the exports of a run, but no checkpoint to resume from: put the checkpoints "
                        "back, or use another --workdir")
