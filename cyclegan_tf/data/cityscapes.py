"""The Cityscapes set from its official archives, in the form that the CycleGAN authors use."""

import os

from tqdm import tqdm

from cyclegan_tf.data.folders import list_archive, list_folder, open_archive
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec
from cyclegan_tf.storage import atomic, filesystem

_SIDE = 256
# Domain -> the end of its file names in the archives.
_ENDINGS = {"A": "_leftImg8bit.png", "B": "_gtFine_color.png"}


def prepare(left_img, gt_fine, output):
    """Writes 256 x 256 photographs to OUTPUT/trainA and testA, their label colors to trainB and testB.

    As the authors' script does: bicubic, the validation part for testing (the test part has no labels), JPEG of quality
    100 without subsampling. Both images of a pair have one name, that of the scene. Images that are there are kept, so
    that an interrupted preparation goes on.

    Args:
      left_img: leftImg8bit_trainvaltest.zip, or the folder leftImg8bit of it.
      gt_fine: gtFine_trainvaltest.zip, or the folder gtFine of it.

    Returns:
      The number of pairs in train and in test.

    Raises:
      UserError: an archive is missing or damaged, or the two do not hold the same scenes.
    """
    filesystem.require_local("output", output)
    counts = {}
    sources = {"A": _open(left_img, "leftImg8bit"), "B": _open(gt_fine, "gtFine")}
    for split, phase in (("train", "train"), ("test", "val")):
        scenes = {domain: _scenes(source(phase), _ENDINGS[domain]) for domain, source in sources.items()}
        if alone := set(scenes["A"]) ^ set(scenes["B"]):
            example = min(alone)
            where = left_img if example in scenes["A"] else gt_fine
            raise UserError(f"{phase}/{example} is only in {where}; {len(alone)} have no pair: get both archives")
        if not scenes["A"]:
            raise UserError(f"no {phase}/CITY/*{_ENDINGS['A']} in {left_img}; give leftImg8bit_trainvaltest.zip")
        counts[split] = len(scenes["A"])
        for domain, found in scenes.items():
            folder = os.path.join(output, split + domain)
            os.makedirs(folder, exist_ok=True)
            for scene, (image_list, index) in tqdm(found.items(), split + domain, disable=None):
                _write(image_list, index, os.path.join(folder, f"{scene}.jpg"))
    return counts


def _open(path, top):
    """Function of a phase (train, val) to the images of it."""
    if os.path.isdir(path):
        # Given is the folder `top`, or the one that it was unpacked into.
        inner = os.path.join(path, top)
        return lambda phase: list_folder(os.path.join(inner if os.path.isdir(inner) else path, phase))
    if not os.path.exists(path):
        raise UserError(f"no {path}; Cityscapes' archives are had from its authors after registration")
    archive = open_archive(path)
    return lambda phase: list_archive(archive, phase)


def _scenes(image_list, ending):
    """Scene's name -> (list, index)."""
    return {
        os.path.basename(name).removesuffix(ending): (image_list, index)
        for index, name in enumerate(image_list.names) if name.endswith(ending)
    }


def _write(image_list, index, path):
    if os.path.exists(path):
        return
    try:
        image = image_list.decode(index)
    except (ValueError, OSError) as error:
        raise UserError(f"{image_list.path(index)}: {error}; get the archive again") from error
    with atomic.open_for_writing(path, "wb") as file:
        codec.write(codec.resize(image, _SIDE, _SIDE), file, format="JPEG", quality=100, subsampling=0)
