"""Image files that are read and written again, for tests of what a translated file keeps of its source."""

import numpy as np
from PIL import ImageCms

from cyclegan_tf.images import files as image_files

_RANDOM = np.random.default_rng(0)
COLORS = _RANDOM.integers(0, 256, (11, 17, 3), np.uint8)
DEEP = _RANDOM.integers(0, 65536, (11, 17, 3), np.uint16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MAKE, COPYRIGHT, ORIENTATION, EXPOSURE_TIME = 0x010F, 0x8298, 0x0112, 0x829A  # Numbers of EXIF tags.


def copy(tmp_path, name, channels=3):
    """Reads tmp_path/name and writes it to tmp_path/results; returns the path of the result."""
    pixels, extras = image_files.read(tmp_path / name, channels)
    result = tmp_path / "results" / image_files.get_output_name(name, pixels.shape[-1])
    image_files.write(str(result), pixels, extras)
    assert [path.name for path in result.parent.iterdir()] == [result.name], "no temporary file is left"
    return result
