"""Makes a data set of volumes from the brain template of nilearn: T1-weighted MR (A) and gray matter (B).

  pip install '.[medical]' nilearn
  python experiments/make_brain.py brain
  cyclegan train --flagfile=experiments/brain.flags --dataset=brain --workdir=runs/brain
  cyclegan translate --model=runs/brain --input=brain/testA/brain.nii.gz --output=gray
  python experiments/make_brain.py brain --compare=gray/brain.nii.gz

The template is the MNI ICBM152 average of 152 adults (Fonov et al. 2009), which nilearn's wheel holds. The right
hemisphere is for training and the left one is held out. --compare prints the mean absolute error of translated gray
matter, and that of the mean of all training slices.
"""

import argparse
import importlib.util
from pathlib import Path

import nibabel
import numpy as np

SOURCES = {
    "A": "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    "B": "mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
}
NAME = "brain.nii.gz"  # Of all files, because files of one name are pairs.


def make(folder: Path) -> None:
    """Writes the halves of both volumes into `folder`."""
    found = importlib.util.find_spec("nilearn")
    if found is None or found.origin is None:
        raise SystemExit("error: nilearn is missing: pip install nilearn")
    for domain, source in SOURCES.items():
        image = nibabel.Nifti1Image.from_filename(Path(found.origin).parent / "datasets" / "data" / source)
        middle = image.shape[0] // 2  # The first axis goes from left to right.
        for split, half in (("train", slice(middle + 1, None)), ("test", slice(0, middle))):
            part = folder / f"{split}{domain}"
            part.mkdir(parents=True, exist_ok=True)
            nibabel.save(image.slicer[half], part / NAME)


def compare(folder: Path, translated: Path) -> None:
    """Prints the errors of a translated volume and of the mean slice."""
    truth, training = (nibabel.Nifti1Image.from_filename(folder / part / NAME).get_fdata() for part in ("testB", "trainB"))
    result = nibabel.Nifti1Image.from_filename(translated)
    affine = nibabel.Nifti1Image.from_filename(folder / "testA" / NAME).affine
    print(f"affine of the source: {'kept' if np.array_equal(result.affine, affine) else 'changed'}")
    print(f"mean absolute error, of 255: {np.abs(result.get_fdata() - truth).mean():.2f}")
    print(f"mean absolute error of the mean slice: {np.abs(training.mean(axis=0) - truth).mean():.2f}")


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--compare", type=Path, help="translated volume")
    given = parser.parse_args()
    if given.compare:
        compare(given.folder, given.compare)
    else:
        make(given.folder)


if __name__ == "__main__":
    main()
