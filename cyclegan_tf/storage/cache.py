"""The folder for downloads that the package keeps."""

import os


def find_folder() -> str:
    """Returns $XDG_CACHE_HOME/cyclegan_tf, or ~/.cache/cyclegan_tf if the variable is not set."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "cyclegan_tf")
