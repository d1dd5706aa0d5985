"""Decodes JPEG 2000 files of more than 8 bits per sample, whose values Pillow changes."""

import numpy as np

_START = b"\xff\x4f\xff\x51"  # The markers SOC and SIZ, which begin the compressed image.
_SAMPLE_TYPE = 42  # Position, after `_START`, of the bit depth and sign of the first channel (ISO/IEC 15444-1, A.5.1).


def read_bit_depth(data: bytes) -> int:
    """Returns the bits per sample of a JPEG 2000 file; 0 if the file is damaged.

    Raises:
      ValueError: the samples have a sign.
    """
    start = data.find(_START)
    if start < 0 or len(data) <= start + _SAMPLE_TYPE:
        return 0
    kind = data[start + _SAMPLE_TYPE]
    if kind & 0x80:
        raise ValueError("JPEG 2000 files of integers with a sign cannot be read; convert the file to TIFF")
    return (kind & 0x7F) + 1


def decode(data: bytes, bit_depth: int) -> np.ndarray:
    """Decodes samples of 9 to 16 bits to (H, W, samples), uint16, scaled to 0 .. 65535 and rounded."""
    import imagecodecs

    pixels = imagecodecs.jpeg2k_decode(data)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return np.rint(pixels * (65535 / (2**bit_depth - 1))).astype(np.uint16)
