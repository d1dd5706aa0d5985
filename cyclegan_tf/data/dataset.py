"""The images of a domain as a random-access list, and the register of those that cannot be used."""

import dataclasses
import itertools
import logging
import threading
from collections.abc import Callable, Sequence

from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec
from cyclegan_tf.storage import filesystem

log = logging.getLogger("cyclegan_tf")


class BadImages:
    """The images that cannot be used: path -> reason. Each is logged once; tf.data's threads may add to it.

    Attributes:
      reasons: dict of path to reason.
      stop: whether to raise a UserError for the first one in place of going on.
    """

    def __init__(self, stop=False):
        self.reasons = {}
        self.stop = stop
        self._file, self._written = None, set()
        self._lock = threading.Lock()

    def __contains__(self, path):
        return path in self.reasons

    def __len__(self):
        return len(self.reasons)

    def add(self, path, reason):
        with self._lock:
            if path in self.reasons:
                return
            self.reasons[path] = reason
            self._write(path, reason)
        if self.stop:
            raise UserError(f"{path}: {reason}; mend or remove it, or leave such images out with --on_bad_image=skip")
        # Names on disk need not be valid text, which what takes the line may insist on.
        log.warning("left out %s: %s", path.encode(errors="backslashreplace").decode(), reason)

    def record_to(self, path):
        """Also writes them to a file from now on, a line "PATH<tab>REASON" each, after those that it holds already."""
        if filesystem.exists(path):
            lines = filesystem.read_bytes(path).decode(errors="surrogateescape").split("\n")
            self._written.update(line.split("\t")[0] for line in lines)
        self._file = path
        for bad, reason in self.reasons.items():
            self._write(bad, reason)

    def _write(self, path, reason):
        if self._file and path not in self._written:
            self._written.add(path)
            # Names on disk need not be valid text.
            filesystem.append(self._file, f"{path}\t{reason}\n".encode(errors="surrogateescape"))


@dataclasses.dataclass(frozen=True)
class ImageList:
    """The images of one domain.

    Attributes:
      where: the place they are in, for messages.
      names: of the images, for people and for pairing.
      read: function of an index to that image's encoded bytes.
      half: left or right where each file holds A and B side by side, else empty.
      channels: of the arrays that the images become.
      bad: register of those that cannot be used.
    """

    where: str
    names: Sequence[str]
    read: Callable[[int], bytes]
    half: str = ""
    channels: int = 3
    bad: BadImages = dataclasses.field(default_factory=BadImages)

    def __len__(self):
        return len(self.names)

    def subset(self, indices):
        """The list of the images of these numbers."""
        names = [self.names[index] for index in indices]
        return dataclasses.replace(self, names=names, read=lambda index: self.read(indices[index]))

    def path(self, index):
        """Where image `index` is, for people."""
        return f"{self.where}/{self.names[index]}"

    def decode(self, index, target_size=None):
        """Image `index` as an array (H, W, channels) of one of the kinds of `images.ranges`.

        Args:
          target_size: function of (height, width) to the (height, width) that the image is resized to, if given.

        Raises:
          ValueError, OSError: it cannot be decoded or read; with the reason.
        """
        if not self.half:
            return codec.decode(self.read(index), self.channels, target_size)
        both = codec.decode(self.read(index), self.channels)
        middle = both.shape[1] // 2
        if not middle:
            raise ValueError("too narrow to hold two images side by side")
        image = both[:, :middle] if self.half == "left" else both[:, middle : 2 * middle]
        return codec.resize(image, *target_size(*image.shape[:2])) if target_size else image

    def load(self, index, target_size=None):
        """As `decode`, but None for an image that cannot be used, which is entered into `bad`.

        Raises:
          UserError: if `bad` is to stop at the first.
        """
        path = self.path(index)
        if path in self.bad:
            return None
        try:
            return self.decode(index, target_size)
        except (ValueError, OSError) as error:
            # Of an OSError the name of the error is enough: the path is said already.
            self.bad.add(path, getattr(error, "strerror", None) or str(error) or type(error).__name__)
            return None


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A data set: two training domains and the held-out images of each (empty lists where it has none)."""

    train_a: ImageList
    train_b: ImageList
    test_a: ImageList
    test_b: ImageList

    @property
    def has_pairs(self):
        """Whether the held-out images are pairs: both domains have the same names."""
        return len(self.test_a) > 0 and list(self.test_a.names) == list(self.test_b.names)

    @property
    def bad(self):
        """The register of images that cannot be used, one for all lists of an opened data set."""
        return self.train_a.bad

    @property
    def folders(self):
        """The lists by the names of a set's folders: trainA ..., or train and test of images side by side."""
        if self.train_a.half:
            return {"train": self.train_a, "test": self.test_a}
        return dict(zip(("trainA", "trainB", "testA", "testB"), vars(self).values(), strict=True))

    def require_training_pairs(self):
        """Raises a UserError unless the training images are pairs, too."""
        for name_a, name_b in itertools.zip_longest(self.train_a.names, self.train_b.names):
            if name_a != name_b:
                raise UserError(
                    f"--model=pix2pix or --identity_mode=cross needs pairs: {name_a or name_b} is only in "
                    f"{(self.train_a if name_a else self.train_b).where}, not in the other domain; give both images of "
                    "a pair one name, or put them side by side into files of a folder train"
                )
