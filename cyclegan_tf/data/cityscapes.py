"""Makes the CycleGAN authors' version of Cityscapes from the official archives."""

import os
from collections.abc import Callable

from tqdm import tqdm

from cyclegan_tf.data.dataset import ImageList
from cyclegan_tf.data.folders import list_archive, list_folder, open_archive
from cyclegan_tf.errors import UserError, describe_error
from cyclegan_tf.images import codec
from cyclegan_tf.storage import atomic, filesystem, path_checks

_SIDE = 256
# The ending of the file names of each domain.
_SUFFIXES = {"A": "_leftImg8bit.png", "B": "_gtFine_color.png"}


def prepare(left_img: str, gt_fine: str, output: str) -> dict[str, int]:
    """Writes 256 x 256 photographs to OUTPUT/trainA and testA, and their label colors to trainB and testB.

    Follows the authors' script: bicubic resizing; the validation images become test images, because the official test
    images have no labels; JPEG of quality 100 without chroma subsampling. Both images of a pair are named after their
    scene. Existing images are kept, so that an interrupted preparation resumes.

    Args:
      left_img: leftImg8bit_trainvaltest.zip, or its unpacked folder leftImg8bit.
      gt_fine: gtFine_trainvaltest.zip, or its unpacked folder gtFine.

    Returns:
      The number of pairs in "train" and in "test".

    Raises:
      UserError: an archive is missing or damaged, or the archives hold different scenes.
    """
    path_checks.require_local("output", output)
    counts = {}
    sources = {"A": _open(left_img, "leftImg8bit"), "B": _open(gt_fine, "gtFine")}
    for split, phase in (("train", "train"), ("test", "val")):
        scenes = {domain: _find_scenes(source(phase), _SUFFIXES[domain]) for domain, source in sources.items()}
        if unpaired := set(scenes["A"]) ^ set(scenes["B"]):
            example = min(unpaired)
            where = left_img if example in scenes["A"] else gt_fine
            raise UserError(
                f"{phase}/{example} exists only in {where} (scenes without a pair: {len(unpaired)}); get both archives "
                "again"
            )
        if not scenes["A"]:
            raise UserError(f"no {phase}/CITY/*{_SUFFIXES['A']} in {left_img}; give leftImg8bit_trainvaltest.zip")
        counts[split] = len(scenes["A"])
        for domain, found in scenes.items():
            folder = os.path.join(output, split + domain)
            os.makedirs(folder, exist_ok=True)
            for scene, (image_list, index) in tqdm(found.items(), split + domain, disable=None):
                _write(image_list, index, os.path.join(folder, f"{scene}.jpg"))
    return counts


def _open(path: str, top: str) -> Callable[[str], ImageList]:
    """Returns a function that lists the images of a phase (train or val)."""
    if filesystem.isdir(path):
        # `path` is either the folder `top` or its parent.
        inner = os.path.join(path, top)
        root = inner if filesystem.isdir(inner) else path
        return lambda phase: list_folder(os.path.join(root, phase))
    if not filesystem.exists(path):
        raise UserError(f"{path} does not exist; get the archives from cityscapes-dataset.com after registration")
    archive = open_archive(path)
    return lambda phase: list_archive(archive, phase)


def _find_scenes(image_list: ImageList, suffix: str) -> dict[str, tuple[ImageList, int]]:
    """Returns the (list, index) of each scene's image, by the scene's name."""
    return {
        os.path.basename(name).removesuffix(suffix): (image_list, index)
        for index, name in enumerate(image_list.names) if name.endswith(suffix)
    }


def _write(image_list: ImageList, index: int, path: str) -> None:
    if os.path.exists(path):
        return
    try:
        image = image_list.decode(index)
    except (ValueError, OSError) as error:
        raise UserError(f"{image_list.path(index)}: {describe_error(error)}; get the archive again") from error
    with atomic.open_for_writing(path, "wb") as file:
        codec.write(codec.resize(image, _SIDE, _SIDE), file, format="JPEG", quality=100, subsampling=0)
