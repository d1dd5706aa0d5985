"""Files and folders that are there whole or not at all: written beside their place, then renamed."""

import contextlib
import os
import shutil
import tempfile

from cyclegan_tf.storage import filesystem


@contextlib.contextmanager
def open_for_writing(path, mode="w", durable=False):
    """Yields a file that becomes `path` when the body ends, and is removed if the body fails.

    Args:
      path: a remote one is written to a local temporary file first, for what writes images and archives wants to seek.
      mode: "w" for text in UTF-8, "wb" for bytes, "w+b" for bytes that are also read back.
      durable: whether it is on the disk before it takes the place of what was there.
    """
    encoding = None if "b" in mode else "utf-8"
    if filesystem.is_remote(path):
        with tempfile.TemporaryFile("w+b" if "b" in mode else "w+", encoding=encoding) as file:
            yield file
            file.seek(0)
            filesystem.put(path, file if "b" in mode else file.buffer)
        return
    temporary = f"{path}.tmp"
    try:
        with open(temporary, mode, encoding=encoding) as file:
            yield file
            if durable:
                filesystem.sync(file)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def replace_folder(path, new):
    """Renames folder `new` to `path`; a folder that is there gives way first, and comes back if that fails.

    A remote one does not come back: its files are removed, then those of `new` are moved one by one.
    """
    if filesystem.is_remote(path):
        filesystem.remove_tree(path)
        filesystem.move_tree(new, path)
        return
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
