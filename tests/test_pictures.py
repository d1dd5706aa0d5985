"""experiments/pictures.py: which held-out images are shown, and in which order."""

import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import sources


@pytest.fixture
def pictures(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import pictures

    yield pictures
    del sys.modules["pictures"]


@pytest.mark.parametrize(("count", "wanted", "chosen"), [
    (31, 4, [0, 7, 14, 21]), (51, 4, [0, 12, 24, 36]), (4, 4, [0, 1, 2, 3]), (3, 4, [0, 1, 2]), (9, 2, [0, 4]),
])
def test_every_nth_image_is_chosen(pictures, count, wanted, chosen):
    assert pictures.choose_images(count, wanted) == chosen


def test_a_row_has_an_image_and_its_translation_in_both_directions(pictures, tmp_path):
    for part, grays in (("trainA", [0]), ("trainB", [0]), ("testA", [10, 11, 12, 13]), ("testB", [100, 101])):
        (tmp_path / part).mkdir()
        for gray in grays:
            Image.new("RGB", (4, 4), (gray,) * 3).save(tmp_path / part / f"{part}{gray}.png")
    config = Config(dataset=str(tmp_path), load_size=4, crop_size=4)
    translate = {Direction.A2B: lambda image: image + np.uint8(50), Direction.B2A: lambda image: image - np.uint8(50)}
    rows = pictures.translate_rows(translate, sources.open_dataset(config), config, 2)
    assert [[int(image[0, 0, 0]) for image in row] for row in rows] == [[10, 60, 100, 50], [12, 62, 101, 51]]
    (tmp_path / "testA" / "testA12.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"testA/testA12\.png cannot be read"):
        pictures.translate_rows(translate, sources.open_dataset(config), config, 2)
