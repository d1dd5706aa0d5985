"""The ten unpaired sets of the CycleGAN authors, through tensorflow-datasets, as random access to encoded bytes."""

import functools
import os
import threading
import urllib.error
import urllib.request

from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.data.download import download
from cyclegan_tf.errors import UserError
from cyclegan_tf.storage import filesystem

_PROBE_SECONDS = 6


def open_tfds(name, data_dir=""):
    """The TFDS set cycle_gan/`name`, downloaded and prepared first where that has not been done.

    Prepared once into `data_dir` (or TFDS's default folder). An archive `name`.zip in `data_dir` takes the place of the
    download, which goes on where an earlier one was interrupted; TFDS checks the checksum of either.

    Raises:
      UserError: it is not prepared, there is no archive, and the download cannot be had; or the archive is not the one
        that TFDS knows.
    """
    import tensorflow_datasets as tfds

    builder = _builder(name, data_dir)
    if not builder.is_prepared():
        _prepare(tfds, builder, name, data_dir)
    decoders = {"image": tfds.decode.SkipDecoding()}
    lists = {}
    for split in ("trainA", "trainB", "testA", "testB"):
        source = builder.as_data_source(split, decoders=decoders) if split in builder.info.splits else []
        # Names carry the split: equal indices in testA and testB are no pair.
        names = [f"{split}/{index:05d}" for index in range(len(source))]
        lists[split] = ImageList(f"{name} {split}", names, functools.partial(_image_bytes, source))
    return ImageDataset(lists["trainA"], lists["trainB"], lists["testA"], lists["testB"])


def is_prepared(name, data_dir=""):
    """Whether `open_tfds` would find the set prepared."""
    return _builder(name, data_dir).is_prepared()


def _builder(name, data_dir):
    import tensorflow_datasets as tfds

    filesystem.require_local("data_dir", data_dir)  # array_record, its reader, knows no other files.
    # The one file format with random access.
    return tfds.builder(f"cycle_gan/{name}", data_dir=data_dir or None, file_format="array_record")


def _image_bytes(source, index):
    return source[index]["image"]


def _prepare(tfds, builder, name, data_dir):
    url = next(url for url in builder.url_infos if url.endswith(f"/{name}.zip"))
    downloads = data_dir or os.path.expanduser("~/tensorflow_datasets/downloads/manual")
    archives = [os.path.join(folder, f"{name}.zip") for folder in (data_dir or ".", downloads)]
    archive = next((path for path in archives if os.path.isfile(path)), None)
    downloaded = archive is None
    if downloaded:
        reason = _unreachable(url)
        if reason:
            raise UserError(
                f"cannot download {url}: {reason}. Three ways on: put {name}.zip into a folder and give it as "
                "--data_dir, train on your own folder with --dataset=FOLDER, or use --dataset=demo"
            )
        archive = archives[-1]
        download(url, archive)
    manual_dir = os.path.dirname(os.path.abspath(archive))
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    except NonMatchingChecksumError as error:
        if downloaded:
            os.remove(archive)
        what = f"what {url} gives" if downloaded else archive
        raise UserError(f"{what} is not the archive that TFDS knows: {error}") from error
    except tfds.download.DownloadError as error:
        raise UserError(f"download of {url} failed: {error}; start again to retry, or use --dataset=demo") from error


def _unreachable(url):
    """Why `url` does not answer, or an empty string; decides within seconds, where TFDS retries for minutes."""
    reason = [f"no answer within {_PROBE_SECONDS} s"]

    def probe():
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
                reason[0] = ""
        except urllib.error.URLError as error:
            reason[0] = str(error.reason)
        except OSError as error:
            reason[0] = str(error)

    # A thread, because the timeout of urlopen does not bound the look-up of the name.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS + 1)
    return reason[0]
