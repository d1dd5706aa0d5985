"""Files and folders that are there whole or not at all: written beside their place, then renamed."""

import contextlib
import os
import shutil


@contextlib.contextmanager
def writing(path, mode="w"):
    """Yields a file that becomes `path` when the body ends, and is removed if the body fails.

    Args:
      mode: "w" for text in UTF-8, "wb" for bytes, "w+b" for bytes that are also read back.
    """
    temporary = f"{path}.tmp"
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def replace_folder(path, new):
    """Renames folder `new` to `path`; a folder that is there gives way first, and comes back if that fails."""
    old = f"{path}.old"
    shutil.rmtree(old, ignore_errors=True)
    if os.path.isdir(path):
        os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        if os.path.isdir(old):
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
