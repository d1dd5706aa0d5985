"""The suffixes of image files, in lower case."""

TIFF = (".tif", ".tiff")
DICOM = (".dcm", ".dicom", ".ima")
NIFTI = (".nii", ".nii.gz")
# Files of one image. The others may hold several slices.
SINGLE = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".npy")
STACKS = (*TIFF, *DICOM, *NIFTI)
ALL = (*SINGLE, *STACKS)


def match(name: str, suffixes: tuple[str, ...] = ALL) -> str:
    """The first of `suffixes` that a file name ends with, in upper or lower case; "" if the name ends with none."""
    name = name.lower()
    # Testing all suffixes at once is fast, and data sets may have a million files.
    return next(filter(name.endswith, suffixes)) if name.endswith(suffixes) else ""
