"""Where a run is, and a run directory in the hands of one process: its lock, its config.json and its log."""

import contextlib
import errno
import fcntl
import logging
import os

from cyclegan_tf.config import config as config_lib
from cyclegan_tf.errors import UserError
from cyclegan_tf.storage import filesystem

log = logging.getLogger("cyclegan_tf")

# The run in the package that `--model=demo` means: trained generators, nothing else.
_DEMO = os.path.join(os.path.dirname(__file__), "demo_model")


def locate(path):
    """The run directory that `path` means: itself, of RUN/checkpoints/NAME.npz the RUN, of "demo" the package's own."""
    if path == "demo":
        return _DEMO
    if not path.endswith(".npz"):
        return path
    return os.path.dirname(os.path.dirname(path if filesystem.is_remote(path) else os.path.abspath(path)))


def is_run(path):
    """Whether `path` means a run directory, as `locate` has it."""
    return filesystem.exists(os.path.join(locate(path), "config.json"))


@contextlib.contextmanager
def open_run(config, workdir):
    """Holds `workdir`, made if it is missing, for a run of `config` while the body runs; logs into its log.txt.

    On a remote file system there is no lock: that no other process trains there is up to whoever starts them.

    Raises:
      UserError: another process trains there, a run with other options is there, or the body could not write a file
        (a full disk, a read-only or vanished folder).
    """
    try:
        filesystem.makedirs(workdir)
        with _locked(workdir), _logging_to(os.path.join(workdir, "log.txt")):
            _claim(config, workdir)
            yield
    except OSError as error:
        raise UserError(_explanation(error, workdir)) from error


def _explanation(error, workdir):
    if not filesystem.is_remote(workdir) and not os.path.isdir(workdir):
        return f"run directory {workdir} is gone or cannot be made: {error.strerror or error}"
    what = {
        errno.ENOSPC: "no space is left there: free some",
        errno.EDQUOT: "the quota is used up: free some space",
        errno.EFBIG: "files may not grow that large here: raise the limit",
        errno.EROFS: "the file system is read-only: make it writable",
        errno.EACCES: "the permission is missing: make it writable",
    }.get(error.errno, error.strerror or str(error))
    where = error.filename or workdir
    return f"cannot write {where}: {what}, then start again: the run goes on from its newest checkpoint"


@contextlib.contextmanager
def _locked(workdir):
    """Holds the run directory; the lock ends with the process, however it ends. Remote file systems have none."""
    if filesystem.is_remote(workdir):
        yield
        return
    with open(os.path.join(workdir, ".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process trains in {workdir}; wait for it or use another --workdir") from error
        yield


@contextlib.contextmanager
def _logging_to(path):
    stream = filesystem.open_for_appending(path)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # A log line that cannot be written is no reason to stop; files that matter raise their own errors.
    handler.handleError = lambda record: None
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        with contextlib.suppress(OSError):
            stream.close()


def _claim(config, workdir):
    """Writes config.json, after making sure that it may replace the one that is there."""
    path = os.path.join(workdir, "config.json")
    if filesystem.exists(path):
        differences = config_lib.list_differences(config_lib.Config.load(workdir), config)
        if differences:
            raise UserError(f"{workdir} holds a run with other options ({'; '.join(differences)}): give the same ones "
                            "to go on with it, or another --workdir")
    config.save(workdir)
