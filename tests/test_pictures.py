"""experiments/pictures.py: which images are shown, and in which order."""

import re
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


TRANSLATE = {Direction.A2B: lambda image: image + np.uint8(50), Direction.B2A: lambda image: image - np.uint8(50)}


def draw_rows(pictures, folder, wanted, **images):
    for part, grays in images.items():
        (folder / part).mkdir()
        for index, gray in enumerate(grays):
            Image.new("RGB", (4, 4), (gray,) * 3).save(folder / part / f"{part if len(grays) > 2 else ''}{index}.png")
    config = Config(dataset=str(folder), load_size=4, crop_size=4, name_a="cat", name_b="dog")
    rows, groups = pictures.translate_rows(TRANSLATE, sources.open_dataset(config), config, wanted)
    return [[int(image[0, 0, 0]) for image in row] for row in rows], groups


def test_a_row_has_an_image_and_its_translation_in_both_directions(pictures, tmp_path):
    rows, groups = draw_rows(
        pictures, tmp_path, 2, trainA=[0], trainB=[0], testA=[10, 11, 12, 13, 14], testB=[100, 101]
    )
    assert rows == [[10, 60, 100, 50], [12, 62, 101, 51]]
    assert groups == [("cat to dog", ["original", "translation"]), ("dog to cat", ["original", "translation"])]


def test_the_truth_of_pairs_is_beside_the_translation(pictures, tmp_path):
    rows, groups = draw_rows(pictures, tmp_path, 2, trainA=[0], trainB=[0], testA=[10, 11], testB=[100, 101])
    assert rows == [[10, 50, 100, 60], [11, 51, 101, 61]]
    assert groups == [("cat", ["truth", "from dog"]), ("dog", ["truth", "from cat"])]


def test_europe_is_above_its_translation(pictures):
    earth = np.arange(30, dtype=np.uint8).reshape(5, 6, 1).repeat(3, axis=2)
    drawn = pictures.draw_europe(earth, TRANSLATE[Direction.A2B], region=(1, 2, 2, 3))[..., 0]
    assert drawn.tolist() == [
        [8, 9, 10], [14, 15, 16], *[[255] * 3] * 8, [58, 59, 60], [64, 65, 66],
    ]


@pytest.mark.parametrize("page", [
    "README.md", *(f"docs/{name}.md" for name in ("index", "quickstart", "watching", "translate", "export")),
])
def test_scripts_make_the_pictures_of_a_page(pictures, page):
    scripts = "".join((ROOT / "experiments" / f"{name}.py").read_text() for name in ("pictures", "screenshots"))
    made = {f"{model}.png" for model in pictures.MODELS} | set(re.findall(r'"(\w+\.(?:png|jpg))"', scripts))
    shown = re.findall(r"!\[.*?\]\((?:docs/)?(.*?)\)", (ROOT / page).read_text())
    assert shown
    assert set(shown) <= made
    assert all((ROOT / "docs" / name).is_file() for name in shown)
