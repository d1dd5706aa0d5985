"""A record of the images that cannot be used, or only in part, for the log and for bad_images.txt."""

import logging
import os
import re
import threading

from cyclegan_tf import console
from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.errors import UserError
from cyclegan_tf.storage import filesystem

log = logging.getLogger("cyclegan_tf")


class BadImageError(UserError):
    """An image cannot be used, and the user chose to stop at the first such image (--on_bad_image=error)."""


class BadImages:
    """Records and logs images that cannot be used, or can be used only in part. Thread-safe.

    Attributes:
      reasons: dict of an image's path to the reason why the image cannot be used.
      only_as_pair: the paths in `reasons` of images that are usable alone, but not as pairs with their counterparts.
      n_pages: dict of an image's path to its number of pages, for images with several pages; only the first is used.
      clipped: dict of an image's path to (number of values that are outside of the range and clipped, number of
        values).
      notices: the notices that have been logged; each notice is logged once, for the first file that it concerns.
      stop: whether to raise a BadImageError for a bad image instead of continuing without it.
    """

    def __init__(self, stop: bool = False) -> None:
        self.reasons: dict[str, str] = {}
        self.only_as_pair: set[str] = set()
        self.n_pages: dict[str, int] = {}
        self.clipped: dict[str, tuple[int, int]] = {}
        self.notices: set[str] = set()
        self.stop = stop
        self._file: str | None = None
        self._written: set[str] = set()
        self._logged: set[str] = set()  # Logged reasons; words that contain digits are removed.
        self._lock = threading.Lock()

    def __contains__(self, path: str) -> bool:
        return path in self.reasons

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, path: str, reason: str, only_as_pair: bool = False) -> None:
        """Records that the image at `path` cannot be used, and logs the reason.

        After `record_to`, reasons that differ only in words with digits are logged once, for the first file.

        Args:
          only_as_pair: True if the image is usable alone, but not as a pair with its counterpart. `ImageList.load`
            still loads the image, so that measures of single images do not depend on which pairs were read before.

        Raises:
          BadImageError: `stop` is set.
        """
        with self._lock:
            is_new = path not in self.reasons
            if is_new:
                self.reasons[path] = reason
                if only_as_pair:
                    self.only_as_pair.add(path)
                self._write(path, reason)
            kind = re.sub(r"\S*\d\S*", "", reason)
            is_logged = is_new and kind not in self._logged
            if self._file:
                self._logged.add(kind)
        if self.stop:
            raise BadImageError(f"{path}: {reason}; repair or remove the file, or skip bad images with "
                                "--on_bad_image=skip")
        if is_logged:
            more = f"; only {os.path.basename(self._file)} lists further files with this reason" if self._file else ""
            # File names need not be valid UTF-8, but log handlers may require it.
            log.warning("skipping %s: %s%s", console.escape(path), reason, more)

    def add_pages(self, path: str, count: int) -> None:
        """Records that only the first of `count` pages of the image at `path` is used; logs the first such image."""
        with self._lock:
            is_first = not self.n_pages
            self.n_pages[path] = count
        if is_first:
            log.warning("%s: only page 1 of %d is used, and only page 1 of other such files; `cyclegan "
                        "datasets inspect` lists them", console.escape(path), count)

    def add_notice(self, path: str, notice: str) -> None:
        """Logs a notice on the file at `path`, unless the same notice has been logged on another file."""
        with self._lock:
            is_first = notice not in self.notices
            self.notices.add(notice)
        if is_first:
            log.warning("%s: %s", console.escape(path), notice)

    def add_clipped(self, path: str, n_clipped: int, n_values: int, value_range: ValueRange) -> None:
        """Records that some of an image's values are outside of `value_range` and clipped; logs the first such image.

        `describe_clipped` sums up.
        """
        with self._lock:
            is_first = not self.clipped
            self.clipped[path] = n_clipped, n_values
        if is_first:
            log.warning("%s: %.3g %% of the values are outside of the range %s and are clipped", console.escape(path),
                        100 * n_clipped / n_values, value_range)

    def describe_clipped(self) -> str:
        """Sums up all images with clipped values in a sentence for the log; empty if there are none."""
        if not self.clipped:
            return ""
        n_clipped, n_values = map(sum, zip(*self.clipped.values(), strict=True))
        return (f"values outside of the range were clipped in {len(self.clipped)} images, {n_clipped / n_values:.2%} "
                "of their values")

    def record_to(self, path: str) -> None:
        """Appends all bad images, known and future, to the file at `path` as lines "IMAGE<tab>REASON".

        Skips images that the file already lists. `console.escape` describes the characters that are escaped.
        """
        if filesystem.exists(path):
            lines = filesystem.read_bytes(path).decode(errors="backslashreplace").split("\n")
            self._written.update(line.split("\t")[0] for line in lines)
        self._file = path
        for bad, reason in self.reasons.items():
            self._write(bad, reason)

    def _write(self, path: str, reason: str) -> None:
        name = console.escape(path)
        if self._file and name not in self._written:
            self._written.add(name)
            filesystem.append(self._file, f"{name}\t{console.escape(reason)}\n".encode())
