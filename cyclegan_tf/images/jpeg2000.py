"""Decodes JPEG 2000 files whose bit depth is not 8, because Pillow changes the values of such files."""

import numpy as np

_START = b"\xff\x4f\xff\x51"  # The markers SOC and SIZ, which begin the compressed image.
_SAMPLE_TYPE = 42  # Position, after `_START`, of the bit depth and sign of the first channel (ISO/IEC 15444-1, A.5.1).


def read_bit_depth(data: bytes) -> int:
    """Returns the bits per sample of a JPEG 2000 file; 0 if the file is damaged.

    Raises:
      ValueError: the samples are signed, or have more than 16 bits.
    """
    start = data.find(_START)
    if start < 0 or len(data) <= start + _SAMPLE_TYPE:
        return 0
    kind = data[start + _SAMPLE_TYPE]
    if kind & 0x80:
        raise ValueError("signed JPEG 2000 files cannot be read; convert the file to TIFF")
    bit_depth = kind + 1
    if bit_depth > 16:
        raise ValueError(f"JPEG 2000 files of {bit_depth} bits cannot be read; convert the file to TIFF")
    return bit_depth


def decode(data: bytes, bit_depth: int) -> np.ndarray:
    """Decodes to (H, W, samples), scaled and rounded: uint8 up to 8 bits per sample, uint16 for 9 to 16 bits."""
    import imagecodecs

    pixels = imagecodecs.jpeg2k_decode(data)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    dtype = np.uint8 if bit_depth <= 8 else np.uint16
    return np.rint(pixels * (np.iinfo(dtype).max / (2**bit_depth - 1))).astype(dtype)
