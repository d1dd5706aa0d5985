"""Makes a data set of volumes from the brain template of nilearn: T1-weighted MR (A) and gray matter (B).

  pip install '.[medical]' nilearn
  python experiments/make_brain.py brain
  cyclegan train --dataset=brain --workdir=runs/brain --slice_axis=sagittal --min_content=0.1 \
    --range_a=0,255 --range_b=0,255 --input_channels=1 --output_channels=1 --preprocess=scale_shortside_and_crop \
    --load_size=96 --crop_size=64 --ngf=16 --ndf=16 --n_blocks=3 --n_layers=2 --norm_affine --upsample=resize_conv \
    --max_steps=300
  cyclegan translate --model=runs/brain --input=brain/testA --output=gray
  python experiments/make_brain.py brain --compare=gray/brain.nii.gz

The template is the MNI ICBM152 average of 152 adults (Fonov et al. 2009), which nilearn's wheel holds. The right
hemisphere is for training and the left one is held out. --compare prints the mean absolute error of translated gray
matter, and the error of the mean of all training slices.
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
NAME = "brain.nii.gz"  # All files have this name, because files of one name are pairs.


def make(folder: Path) -> None:
    """Writes the halves of both volumes into `folder`."""
    found = importlib.util.find_spec("nilearn")
    if found is None or found.origin is None:
        raise SystemExit("error: nilearn is missing: pip install nilearn")
    for domain, source in SOURCES.items():
        image = nibabel.Nifti1Image.from_filename(Path(found.origin).parent / "datasets" / "data" / source)
        middle = image.shape[0] // 2  # The first axis goes from left to right.
        for split, half in (("train", slice(middle + 1, None)), ("test", slice(middle))):
            part = folder / f"{split}{domain}"
            part.mkdir(parents=True, exist_ok=True)
            nibabel.save(image.slicer[half], part / NAME)


def compare(folder: Path, translated: Path) -> None:
    """Prints the errors of a translated volume and of the mean slice."""
    source, truth, training = (
        nibabel.Nifti1Image.from_filename(folder / part / NAME) for part in ("testA", "testB", "trainB")
    )
    result = nibabel.Nifti1Image.from_filename(translated)
    expected, mean_slice = truth.get_fdata(), training.get_fdata().mean(axis=0)
    print(f"affine of the source: {'kept' if np.array_equal(result.affine, source.affine) else 'changed'}")
    print(f"mean absolute error, of 255: {np.abs(result.get_fdata() - expected).mean():.2f}")
    print(f"mean absolute error of the mean slice: {np.abs(mean_slice - expected).mean():.2f}")


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
