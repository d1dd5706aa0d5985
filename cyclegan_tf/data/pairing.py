"""Finds the pairs among the images of two domains: files with equal names, or names that differ only in the suffix.

`arrange` puts the pairs first, so that both images of a pair have the same index in the lists of a data set.
"""

import collections
import dataclasses
import unicodedata
from collections.abc import Sequence

from cyclegan_tf.config import Config
from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import suffixes


def match_names(names_a: Sequence[str], names_b: Sequence[str]) -> dict[int, int]:
    """Maps the index of each name in A that has a counterpart in B to the index of its counterpart.

    The counterpart is the equal name, or the name that differs only in the suffix of an image file (0.jpg and 0.png) or
    in the Unicode form of accented letters. An equal name takes precedence. A name that is not unique in its domain has
    no counterpart. Names that differ in the suffix are counterparts only if no other suffix of this name occurs in
    either domain.
    """
    found = _match_unique(names_a, names_b)
    others = _match_unique([_make_key(name) for name in names_a], [_make_key(name) for name in names_b])
    return dict(sorted((others | found).items()))


def _match_unique(keys_a: Sequence[str], keys_b: Sequence[str]) -> dict[int, int]:
    counts_a, counts_b = collections.Counter(keys_a), collections.Counter(keys_b)
    places = {key: index for index, key in enumerate(keys_b)}
    return {i: places[key] for i, key in enumerate(keys_a) if counts_a[key] == counts_b[key] == 1}


def _make_key(name: str) -> str:
    """Reduces a name to the part that counterparts share: 0.png to 0, scan.nii.gz[7] to scan[7]; composes accents."""
    name = _compose(name)
    file, bracket, number = name.rpartition("[") if name.endswith("]") else (name, "", "")
    return file[: len(file) - len(suffixes.match(file))] + bracket + number


def _compose(name: str) -> str:
    """Composes accents with their letters (Unicode's form NFC), because macOS and its archives separate them."""
    return unicodedata.normalize("NFC", name)


def drop_skipped_slices(train_a: ImageList, train_b: ImageList) -> ImageList:
    """Removes slices from B whose counterparts in A were skipped, because they have too little content.

    A slice of B stays if no slice of A is from a file of the same name, so that the missing file is reported.
    """
    matched = set(match_names(train_a.names, train_b.names).values())
    volumes = {_find_volume(name) for name in train_a.names} - {None}
    kept = [index for index, name in enumerate(train_b.names) if index in matched or _find_volume(name) not in volumes]
    return train_b if len(kept) == len(train_b) else train_b.subset(kept)


def _find_volume(name: str) -> str | None:
    """Returns the file name of a slice, without the suffix; None for a file of a single image."""
    return _make_key(name).rpartition("[")[0] if name.endswith("]") else None


def arrange(dataset: ImageDataset, config: Config) -> ImageDataset:
    """Decides by --paired which held-out images are pairs, and reorders the images so that pairs have equal indices.

    Training images are reordered only if the config trains on pairs and all of them have counterparts. Without test
    images, measures use these training pairs.

    Returns:
      The data set with `n_pairs` and `pairing` set.

    Raises:
      UserError: --paired=yes is set, and there are no pairs.
    """
    test_a, test_b = dataset.test_a, dataset.test_b
    if config.trains_on_pairs:
        partners = match_names(dataset.train_a.names, dataset.train_b.names)
        if len(partners) == len(dataset.train_a) == len(dataset.train_b):
            dataset = dataclasses.replace(dataset, train_b=_reorder(dataset.train_b, list(partners.values())))
            if not test_a and not test_b:  # Measures use the training images.
                dataset = dataclasses.replace(dataset, n_pairs=len(partners))
    if not test_a or not test_b:
        if config.paired == "yes" and not config.trains_on_pairs:
            missing = test_b if test_a else test_a
            raise UserError(f"--paired=yes: there are no held-out images in {missing.where}; add some, or use "
                            "--paired=auto")
        return dataset
    partners = match_names(test_a.names, test_b.names)
    are_pairs, reason = _decide(config, test_a, test_b, partners)
    if not are_pairs:
        return dataclasses.replace(dataset, pairing=f"the held-out images are taken as unpaired: {reason}")
    masks = dataset.masks
    if masks:
        names = [test_a.names[index] for index in partners]
        masks = dataclasses.replace(masks, numbers=match_names(names, masks.images.names))
        reason += f"; {len(masks.numbers)} of them have masks"
    return dataclasses.replace(
        dataset, masks=masks, n_pairs=len(partners), pairing=f"the held-out images are taken as pairs: {reason}",
        test_a=_reorder(test_a, list(partners.keys())), test_b=_reorder(test_b, list(partners.values())),
    )


def _decide(
    config: Config, test_a: ImageList, test_b: ImageList, partners: dict[int, int]
) -> tuple[bool, str]:
    """Decides whether held-out images are pairs; returns the decision and the reason."""
    if config.paired == "no":
        return False, "--paired=no says so"
    if test_a.half:
        return True, "each file shows both"
    if not partners:
        if config.paired == "yes":
            raise UserError(f"--paired=yes: no file in {test_a.where} has a counterpart of the same name in "
                            f"{test_b.where}; give both images of a pair the same name, or use --paired=no")
        return False, "they have no file names in common"
    is_equal = all(_compose(test_a.names[a]) == _compose(test_b.names[b]) for a, b in partners.items())
    names = "equal file names" if is_equal else "file names that are equal except for suffixes"
    alone = [test_a.path(a) for a in range(len(test_a)) if a not in partners]
    matched_b = set(partners.values())
    alone += [test_b.path(b) for b in range(len(test_b)) if b not in matched_b]
    if not alone:
        return True, f"all of them have {names}; --paired=no takes them as unpaired"
    pairs = f"{len(partners)} pair{'s have' if len(partners) > 1 else ' has'} {names}"
    images = f"{len(alone)} image{'s have' if len(alone) > 1 else ' has'} no counterpart ({alone[0]}"
    images += ", ...)" if len(alone) > 1 else ")"
    if config.paired == "yes" or config.trains_on_pairs:
        return True, f"{pairs}; {images}"
    return False, f"{images}; {pairs}, and only these are taken as pairs with --paired=yes"


def _reorder(image_list: ImageList, first: Sequence[int]) -> ImageList:
    """Returns a list of the images at the indices `first`, then of the other images in their order."""
    chosen = set(first)
    order = [*first, *(index for index in range(len(image_list)) if index not in chosen)]
    return image_list if order == list(range(len(image_list))) else image_list.subset(order)


def require_training_pairs(dataset: ImageDataset, config: Config) -> None:
    """Checks that all training images of a data set from `arrange` are pairs, for a config that trains on pairs.

    Raises:
      UserError: a training image of one domain has no counterpart in the other.
    """
    train_a, train_b = dataset.train_a, dataset.train_b
    partners = match_names(train_a.names, train_b.names)
    matched_b = set(partners.values())
    alone = [(train_a.path(i), train_b) for i in range(len(train_a)) if i not in partners]
    alone += [(train_b.path(i), train_a) for i in range(len(train_b)) if i not in matched_b]
    for path, other in alone:
        raise UserError(
            f"{config.pairing_flag} trains on pairs, but {path} has no counterpart of the same name in {other.where}; "
            "give both images of a pair the same name, or put them side by side into one file in a folder named train"
        )
