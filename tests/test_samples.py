"""The sample grid of a run: which images it shows, in which order."""

import numpy as np
import pytest

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import sources
from cyclegan_tf.images import codec, grid
from cyclegan_tf.training.samples import draw_sample_grid

# A translation adds 1 from A to B and 10 from B to A, so that each image of the grid tells where it comes from.
TRANSLATE = {
    Direction.A2B: lambda image: image + np.uint8(1),
    Direction.B2A: lambda image: image + np.uint8(10),
}


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Function that draws the grid of a data set in `tmp_path`; returns rows of values, and the titles."""

    def draw(translate=TRANSLATE, **options):
        drawn = []
        monkeypatch.setattr(grid, "draw", lambda *arguments, scale: drawn.append(arguments))
        config = Config.preset("tiny", dataset=str(tmp_path), load_size=32, crop_size=32, **options)
        draw_sample_grid(config, translate, sources.open_dataset(config))
        (rows, titles), = drawn
        return [[int(image.max()) for image in row] for row in rows], titles

    return draw


def write_images(folder, values, prefix=""):
    """Writes flat images."""
    folder.mkdir()
    for index, value in enumerate(values):
        (folder / f"{prefix}{index}.png").write_bytes(codec.encode_png(np.full((32, 32, 3), value, np.uint8)))


@pytest.mark.parametrize("n_samples", [1, 2, 3])
def test_rows_are_the_first_images(tmp_path, draw, n_samples):
    write_images(tmp_path / "trainA", [20, 30, 40, 50])
    write_images(tmp_path / "trainB", [120, 130, 140, 150])
    rows, titles = draw(n_samples=n_samples)
    assert rows == [
        [20, 21, 31, 120, 130, 131],
        [30, 31, 41, 130, 140, 141],
        [40, 41, 51, 140, 150, 151],
    ][:n_samples]
    assert titles == ["A", "A to B", "A to B to A", "B", "B to A", "B to A to B"]


def test_a_grid_has_at_most_the_images_of_the_smaller_domain(tmp_path, draw):
    write_images(tmp_path / "trainA", [20, 30, 40])
    write_images(tmp_path / "trainB", [120, 130])
    assert [row[0] for row in draw(n_samples=4)[0]] == [20, 30]


def test_held_out_pairs_have_their_truth(tmp_path, draw):
    write_images(tmp_path / "trainA", [1])
    write_images(tmp_path / "trainB", [2])
    write_images(tmp_path / "testA", [20, 30])
    write_images(tmp_path / "testB", [120, 130])
    rows, titles = draw(n_samples=1)
    assert rows == [[20, 21, 31, 120, 120, 130, 131, 20]]
    assert titles == ["A", "A to B", "A to B to A", "truth", "B", "B to A", "B to A to B", "truth"]


def test_only_the_pairs_are_shown_if_other_images_have_no_counterpart(tmp_path, draw):
    write_images(tmp_path / "trainA", [1])
    write_images(tmp_path / "trainB", [2])
    write_images(tmp_path / "testA", [20, 30, 40])
    write_images(tmp_path / "testB", [120, 130, 140])
    (tmp_path / "testA" / "0.png").rename(tmp_path / "testA" / "5.png")
    rows, _ = draw({Direction.A2B: TRANSLATE[Direction.A2B]}, paired="yes", n_samples=3)
    assert rows == [[30, 31, 130], [40, 41, 140]]
    rows, titles = draw({Direction.A2B: TRANSLATE[Direction.A2B]}, paired="no", n_samples=3)
    assert rows == [[30, 31], [40, 41], [20, 21]]
    assert titles == ["A", "A to B"]


def test_one_direction_has_no_way_back(tmp_path, draw):
    write_images(tmp_path / "trainA", [20])
    write_images(tmp_path / "trainB", [120])
    rows, titles = draw({Direction.A2B: TRANSLATE[Direction.A2B]})
    assert rows == [[20, 21]]
    assert titles == ["A", "A to B"]


def test_the_next_image_takes_the_place_of_a_bad_one(tmp_path, draw):
    write_images(tmp_path / "trainA", [20, 30, 40, 50, 60])
    write_images(tmp_path / "trainB", [120, 130, 140, 150, 160])
    for bad in ("trainA/0.png", "trainA/2.png", "trainB/1.png"):
        (tmp_path / bad).write_bytes(b"")
    rows, _ = draw(n_samples=3)
    assert [(row[0], row[3]) for row in rows] == [(30, 120), (50, 140), (60, 150)]


def test_the_next_pair_takes_the_place_of_a_bad_one(tmp_path, draw):
    for split in ("train", "test"):
        write_images(tmp_path / f"{split}A", [20, 30, 40, 50, 60])
        write_images(tmp_path / f"{split}B", [120, 130, 140, 150, 160])
    for bad in ("testA/0.png", "testB/2.png"):
        (tmp_path / bad).write_bytes(b"")
    rows, _ = draw(n_samples=3)
    assert [(row[0], row[4]) for row in rows] == [(30, 130), (50, 150), (60, 160)]
