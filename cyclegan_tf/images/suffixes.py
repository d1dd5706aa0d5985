"""The suffixes of image files, in lower case."""

TIFF = (".tif", ".tiff")
DICOM = (".dcm", ".dicom", ".ima")
NIFTI = (".nii", ".nii.gz")
# Files of one image. The others may hold several slices.
SINGLE = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".npy")
STACKS = (*TIFF, *DICOM, *NIFTI)
ALL = (*SINGLE, *STACKS)


def match(name: str, suffixes: tuple[str, ...] = ALL) -> str:
    """The one of `suffixes` that a file name ends with, in any case; empty if there is none."""
    name = name.lower()
    # The first test is fast, and data sets may have a million files.
    return next(filter(name.endswith, suffixes)) if name.endswith(suffixes) else ""
