"""The images that a run trains on: their fingerprint in each checkpoint, and their names in training_images.json.

The number of images decides the order of the data and the length of the run, and the names of the images decide their
numbers. A run that resumes with other images would therefore not continue the same training. Arrays have no names, so
their pixels identify them.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.runs.model_state import Fingerprint
from cyclegan_tf.storage import atomic, filesystem

FILE_NAME = "training_images.json"
_MOST_NAMES = 3  # Names that a message lists.


def compute_fingerprints(dataset: ImageDataset) -> dict[str, Fingerprint]:
    """Computes the fingerprint of the training images of each domain.

    The digest is the SHA-256 of the names, followed by the contents if `hash_contents` of the list is set.
    """
    return {
        # The lists of a stream hold only its first images.
        domain: Fingerprint(dataset.stream_size if dataset.stream else len(image_list), _digest_list(image_list))
        for domain, image_list in _get_domains(dataset).items()
    }


def _get_domains(dataset: ImageDataset) -> dict[str, ImageList]:
    return {"a": dataset.train_a, "b": dataset.train_b}


def _digest_list(image_list: ImageList) -> bytes:
    contents = map(image_list.read, range(len(image_list))) if image_list.hash_contents else ()
    return _digest(image_list.names, contents)


def _digest(names: Sequence[str], contents: Iterable[bytes] = ()) -> bytes:
    # Names that are not valid UTF-8 hold surrogates. No name holds a zero byte.
    text = "".join(f"{name}\0" for name in names)
    digest = hashlib.sha256(text.encode(errors="surrogatepass"))
    for content in contents:
        digest.update(content)
    return digest.digest()


def list_changes(
    recorded: Mapping[str, Fingerprint], current: Mapping[str, Fingerprint], dataset: ImageDataset, workdir: str
) -> list[str]:
    """Describes how the training images of each domain differ from a checkpoint's; empty if they are the same.

    Args:
      recorded: fingerprints in the checkpoint. A checkpoint of an older version has none, so no change is found.
      current: fingerprints of `dataset`, from `compute_fingerprints`.
      workdir: the run directory; its training_images.json gives the names of the former images.
    """
    return list(_find_changes(recorded, current, dataset, workdir))


def _find_changes(
    recorded: Mapping[str, Fingerprint], current: Mapping[str, Fingerprint], dataset: ImageDataset, workdir: str
) -> Iterator[str]:
    names = read_names(workdir)
    for domain, image_list in _get_domains(dataset).items():
        former = recorded.get(domain)
        # In older versions, the digest never included contents.
        if former in (None, current[domain], Fingerprint(current[domain].count, _digest(image_list.names))):
            continue
        # The lists of a stream hold only its first images, whose number depends on --n_samples.
        if dataset.stream is not None and former.count == current[domain].count:
            continue
        change = f"{image_list.where} had {former.count} images and now has {current[domain].count}"
        if image_list.hash_contents:
            yield change if former.count != current[domain].count else f"{change}, with other pixels"
            continue
        former_names = names.get(domain, [])
        # training_images.json may be damaged, or a later start of the run may have written the file.
        if _digest(former_names) != former.digest:
            yield f"{change}, with other names"
            continue
        added = _format_names("added", set(image_list.names) - set(former_names))
        removed = _format_names("removed", set(former_names) - set(image_list.names))
        reordered = ["in another order"] if former.count == current[domain].count and not added + removed else []
        yield ", ".join([change, *added, *removed, *reordered])


def _format_names(what: str, names: set[str]) -> list[str]:
    """Formats names as ["WHAT NAME, NAME, NAME and N more"]; empty if there are no names."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return [f"{what} {', '.join(sorted(names)[:_MOST_NAMES])}{more}"] if names else []


def read_names(workdir: str) -> dict[str, list[str]]:
    """Reads the names in training_images.json by domain (a, b); empty if the file is missing or damaged."""
    path = os.path.join(workdir, FILE_NAME)
    try:
        found = json.loads(filesystem.read_bytes(path))
        return {domain: [str(name) for name in found[domain]] for domain in ("a", "b")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def write_names(workdir: str, dataset: ImageDataset) -> None:
    """Writes the names of the training images to training_images.json, unless the file already holds these names."""
    names = {domain: list(image_list.names) for domain, image_list in _get_domains(dataset).items()}
    if read_names(workdir) != names:
        with atomic.open_for_writing(os.path.join(workdir, FILE_NAME)) as file:
            json.dump(names, file)
