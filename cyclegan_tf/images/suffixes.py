"""The suffixes of image files, in lower case."""

TIFF = (".tif", ".tiff")
DICOM = (".dcm", ".dicom", ".ima")
NIFTI = (".nii", ".nii.gz")
# Suffixes of files that hold one image. Files with other suffixes may hold several slices.
SINGLE = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".avif", ".heic", ".heif", ".jp2", ".j2k", ".pbm", ".pgm", ".ppm",
    ".pnm", ".tga", ".npy",
)
STACKS = (*TIFF, *DICOM, *NIFTI)
ALL = (*SINGLE, *STACKS)


def match(name: str, suffixes: tuple[str, ...] = ALL) -> str:
    """Returns the first of `suffixes` that ends a file name, in upper or lower case; "" if there is none."""
    name = name.lower()
    # Test all suffixes at once first, which is fast, because data sets may have a million files.
    return next(filter(name.endswith, suffixes)) if name.endswith(suffixes) else ""
