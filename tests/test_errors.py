"""The messages of other libraries' exceptions on one line."""

import errno

import pytest
from PIL import UnidentifiedImageError

from cyclegan_tf.errors import describe_error


@pytest.mark.parametrize(("error", "expected"), [
    (OSError(errno.EIO, "Input/output error", "x.png"), "Input/output error"),
    (UnidentifiedImageError("cannot identify image file <_io.BytesIO object at 0x7f0>"), "cannot identify image file"),
    (RuntimeError("two\n  lines "), "two lines"),
    (ValueError("in layer:\n\n\x1b[1mno \x1b[31;1msuch\x1b[0m axis"), "in layer: no such axis"),  # As Keras prints it.
    (KeyError(), "KeyError"),
    (UserWarning("Corrupt EXIF data"), "Corrupt EXIF data"),
])
def test_errors_of_libraries_become_one_line(error, expected):
    assert describe_error(error) == expected
