"""Training warns of images whose values use a small part of the range from black to white."""

import numpy as np
import pytest
from conftest import skip_outputs
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.data import narrow_values, sources
from cyclegan_tf.training import fitting


def write_set(folder, images_a):
    """Writes the arrays as training images of A, .npy for floats, and one 8-bit image of B."""
    for part in ("trainA", "trainB"):
        (folder / part).mkdir(parents=True)
    for number, array in enumerate(images_a):
        path = folder / "trainA" / str(number)
        np.save(path, array) if array.dtype.kind == "f" else Image.fromarray(array).save(f"{path}.png")
    Image.new("RGB", (8, 8)).save(folder / "trainB" / "0.png")
    return str(folder)


def find(folder, **options):
    config = Config.preset("tiny", dataset=folder, input_channels=1, output_channels=1, **options)
    return list(narrow_values.find_narrow_values(config, sources.open_dataset(config)))


DARK = ("the images of A use a small part of their range: the 16-bit values are {} to {}, but black is 0 and white is "
        "65535; train with --range_a=0,{} to use the whole range")
BRIGHT = ("the images of A use a small part of their range: the floats are {} to {}, but black is -1 and white is 1; "
          "train with --range_a=0,1 to use the whole range")


@pytest.mark.parametrize(("images", "warnings"), [
    pytest.param([np.array([[7, 4000]], np.uint16)], [DARK.format(7, 4000, 4095)], id="12 bits"),
    pytest.param([np.array([[0, 9]], np.uint16), np.array([[3, 16383]], np.uint16)], [DARK.format(0, 16383, 16383)],
                 id="14 bits in one of two images"),
    pytest.param([np.array([[0, 16384]], np.uint16)], [], id="15 bits"),
    pytest.param([np.array([[0, 0]], np.uint16)], [], id="black"),
    pytest.param([np.array([[0, 9]], np.uint8)], [], id="8-bit images"),
    pytest.param([np.array([[0, 0.5]], np.float32), np.array([[0.25, 1]], np.float64)], [BRIGHT.format(0, 1)],
                 id="floats in [0, 1]"),
    pytest.param([np.array([[-0.01, 1]], np.float32)], [], id="floats in [-1, 1]"),
    pytest.param([np.array([[0.5, 0.5]], np.float32)], [], id="one float"),
    pytest.param([np.array([[0, 0.5]], np.float32), np.array([[0, 9]], np.uint16)], [], id="floats and 16-bit images"),
])
def test_warning(tmp_path, images, warnings):
    assert find(write_set(tmp_path, images)) == warnings


def test_levels_that_are_scaled_to_16_bits_cause_no_warning(tmp_path):
    folder = write_set(tmp_path, [np.array([[0, 9]], np.uint16)])
    (tmp_path / "trainA" / "0.png").unlink()
    (tmp_path / "trainA" / "0.pgm").write_bytes(b"P5 2 1 4095\n\0\0\3\xe8")  # 0 and 1000, which becomes 16004.
    assert find(folder) == []


def test_a_range_needs_no_warning(tmp_path):
    folder = write_set(tmp_path, [np.array([[7, 4000]], np.uint16)])
    assert find(folder, range_a="0,4095") == []
    assert find(folder, range_b="0,255") == [DARK.format(7, 4000, 4095)]


def test_images_of_b_are_checked_too(tmp_path):
    folder = write_set(tmp_path, [np.array([[7, 4000]], np.uint16)])
    (tmp_path / "trainA").rename(tmp_path / "other")
    (tmp_path / "trainB").rename(tmp_path / "trainA")
    (tmp_path / "other").rename(tmp_path / "trainB")
    expected = DARK.format(7, 4000, 4095).replace("images of A", "images of B").replace("range_a", "range_b")
    assert find(folder) == [expected]


def test_the_next_image_replaces_one_that_cannot_be_read(tmp_path):
    folder = write_set(tmp_path, [np.array([[0, 1]], np.uint16), np.array([[7, 4000]], np.uint16)])
    (tmp_path / "trainA" / "0.png").write_bytes(b"no image")
    assert find(folder) == [DARK.format(7, 4000, 4095)]


def test_images_of_a_caller_are_checked_at_the_start_of_a_run(tmp_path, caplog, monkeypatch):
    skip_outputs(monkeypatch)
    images = np.random.default_rng(0).uniform(0, 1, (2, 2, 16, 16, 1)).astype(np.float32)
    config = Config.preset("tiny", input_channels=1, output_channels=1, max_steps=1)
    fitting.fit(config, tmp_path / "run", dataset=(images[0], 2 * images[1] - 1))
    (found,) = [record.getMessage() for record in caplog.records if "small part" in record.getMessage()]
    assert found.startswith("the images of A use a small part of their range: the floats are ")
