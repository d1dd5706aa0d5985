"""Recognizes the format of an image file by its first bytes."""

from cyclegan_tf.images import tiff
from cyclegan_tf.storage import array_files

# The number of bytes that `find_format` needs.
HEAD_BYTES = 132
_BEGINNINGS = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n", "PNG"), (b"GIF8", "GIF"), (array_files.SIGNATURE, "NPY"),
    *((signature, "TIFF") for signature in tiff.SIGNATURES),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"), (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"), (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"8BPS", "Photoshop"), (b"SIMPLE  =", "FITS"), (b"NRRD000", "NRRD"), (b"ObjectType", "MetaImage"),
)
# Sizes in bytes of a BMP file's second header, which follows the first header of 14 bytes. A text file may begin with
# "BM" too, but its bytes at the position of the size form a larger number.
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
# Major brands of images in the ISO base media file format. Videos and audio files (MOV, MP4, M4A) have other brands.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"miaf",
                     b"msf1"), "HEIF"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "CR3",
}
# The formats that cannot be read, and a format to convert such files to.
UNREADABLE = {
    "CR3": "TIFF", "JPEG XL": "PNG", "OpenEXR": "TIFF", "Photoshop": "PNG", "FITS": "TIFF", "NRRD": "NIfTI",
    "MetaImage": "NIfTI",
}


def find_format(head: bytes) -> str | None:
    """Returns the format of a file: Pillow's name of the format, "NPY", "DICOM", "HEIF", or a key of `UNREADABLE`.

    Returns None for other files, such as videos, and for Netpbm and TGA files and NIfTI volumes, which are recognized
    by their suffix.

    Args:
      head: at least the first `HEAD_BYTES` bytes of the file.
    """
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
        # HEIF and AVIF files share major brands such as mif1; the compatible brands, in the same box, differ.
        brands = head[16 : int.from_bytes(head[:4], "big")]
        is_avif = _BRANDS[head[8:12]] == "HEIF" and b"avif" in brands and b"heic" not in brands
        return "AVIF" if is_avif else _BRANDS[head[8:12]]
    return "DICOM" if head[128:132] == b"DICM" else None
