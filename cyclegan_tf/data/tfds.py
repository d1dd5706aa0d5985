"""The ten unpaired data sets of the CycleGAN authors, from tensorflow-datasets, with random access."""

import contextlib
import functools
import importlib.util
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.data.download import download
from cyclegan_tf.errors import UserError, get_first_line
from cyclegan_tf.ops import exhaustion
from cyclegan_tf.storage import path_checks

_PROBE_SECONDS = 6


def open_tfds(name: str, data_dir: str = "") -> ImageDataset:
    """Opens the TFDS set cycle_gan/`name`; downloads and prepares the set first if necessary.

    An archive NAME.zip in `data_dir` replaces the download. If `data_dir` is empty, the archive may be in the current
    folder or in ~/tensorflow_datasets/downloads/manual. An interrupted download resumes. TFDS verifies the checksum of
    the archive in all cases.

    Args:
      data_dir: folder of the prepared sets; if empty, TFDS's default folder.

    Raises:
      UserError: the set is not prepared, there is no archive, and the download fails; the archive has a wrong
        checksum, or cannot be prepared; or the prepared set is damaged.
    """
    if not _has_array_record():
        raise UserError(f"--dataset={name} needs the package array_record, which does not exist for Windows; give a "
                        "folder or a .zip file of the images")
    import tensorflow_datasets as tfds

    builder = _make_builder(name, data_dir)
    if not builder.is_prepared():
        _prepare(tfds, builder, name, data_dir)
    lists = {}
    for split in ("trainA", "trainB", "testA", "testB"):
        with _explain_damage(builder.data_dir):
            source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
            count = len(source)
        if not count and split.startswith("train"):
            raise UserError(f"{builder.data_dir} is incomplete: it has no images of {split}; remove the folder, then "
                            "start again")
        # Names include the split, because images of the same number are not pairs.
        names = [f"{split}/{index:05d}" for index in range(count)]
        lists[split] = ImageList(f"{name} {split}", names, functools.partial(_read_image, source))
    return ImageDataset(lists["trainA"], lists["trainB"], lists["testA"], lists["testB"])


def is_prepared(name: str, data_dir: str = "") -> bool:
    """True if `open_tfds` needs neither a download nor an archive."""
    return _has_array_record() and _make_builder(name, data_dir).is_prepared()


def _has_array_record() -> bool:
    return importlib.util.find_spec("array_record") is not None


def _make_builder(name: str, data_dir: str) -> Any:
    import tensorflow_datasets as tfds

    path_checks.require_local("data_dir", data_dir)  # The reader of ArrayRecord opens local files only.
    with _explain_damage(os.path.join(data_dir or "~/tensorflow_datasets", "cycle_gan", name)):
        # ArrayRecord is the only file format of TFDS with random access.
        return tfds.builder(f"cycle_gan/{name}", data_dir=data_dir or None, file_format="array_record")


@contextlib.contextmanager
def _explain_damage(folder: str) -> Iterator[None]:
    """Context that turns the many exceptions of TFDS for a damaged prepared set into a UserError."""
    try:
        yield
    except Exception as error:
        if exhaustion.is_exhausted(error):
            raise
        reason = get_first_line(error)
        raise UserError(f"{folder} is damaged ({reason}); remove the folder, then start again") from error


def _read_image(source: Sequence, index: int) -> bytes:
    try:
        return source[index]["image"]
    except (RuntimeError, IndexError) as error:
        raise OSError(f"damaged in the prepared set: {get_first_line(error)}") from error


def _prepare(tfds: ModuleType, builder: Any, name: str, data_dir: str) -> None:
    url = next(url for url in builder.url_infos if url.endswith(f"/{name}.zip"))
    downloads = data_dir or os.path.expanduser("~/tensorflow_datasets/downloads/manual")
    candidates = [os.path.join(folder, f"{name}.zip") for folder in (data_dir or ".", downloads)]
    archive = next((path for path in candidates if os.path.isfile(path)), None)
    downloaded = archive is None
    if archive is None:
        reason = _find_unreachable_reason(url)
        if reason:
            raise UserError(
                f"cannot download {url}: {reason}; put {name}.zip into a folder and name the folder with --data_dir, "
                "train on your own images with --dataset=FOLDER, or use --dataset=demo"
            )
        archive = candidates[-1]
        download(url, archive)
    manual_dir = os.path.dirname(os.path.abspath(archive))
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    except NonMatchingChecksumError as error:
        if downloaded:
            os.remove(archive)
        wrong = f"the file at {url}" if downloaded else archive
        raise UserError(f"{wrong} is not the archive that TFDS expects: {error}") from error
    except tfds.download.DownloadError as error:
        raise UserError(f"download of {url} failed: {error}; start again to retry, or use --dataset=demo") from error
    except Exception as error:  # Of many types: the disk is full, or the archive holds other files.
        if exhaustion.is_exhausted(error):
            raise
        raise UserError(f"cannot prepare {name} from {archive}: {get_first_line(error)}; remove the cause, then start "
                        "again") from error


def _find_unreachable_reason(url: str) -> str:
    """Returns why `url` does not answer, or "" if it answers. Takes seconds; TFDS would retry for minutes."""
    reason = f"no answer within {_PROBE_SECONDS} s"

    def probe() -> None:
        nonlocal reason
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
                reason = ""
        except urllib.error.URLError as error:
            reason = str(error.reason)
        except OSError as error:
            reason = str(error)

    # The timeout of urlopen does not limit the DNS lookup, so a thread does.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS + 1)
    return reason
