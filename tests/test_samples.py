"""The images of a run's sample grid, and their order."""

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import sources
from cyclegan_tf.images import codec, grid
from cyclegan_tf.runs import sample_files
from cyclegan_tf.training.samples import draw_sample_grid

# A translation adds 1 from A to B and 10 from B to A, so that each image of the grid tells where it comes from.
TRANSLATE = {
    Direction.A2B: lambda image: image + np.uint8(1),
    Direction.B2A: lambda image: image + np.uint8(10),
}


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Function that draws the grid of a data set in `tmp_path`; returns rows of values, and groups of columns."""

    def draw(translate=TRANSLATE, **options):
        drawn = []
        monkeypatch.setattr(grid, "draw_groups", lambda *arguments, scale: drawn.append(arguments))
        config = Config.preset("tiny", dataset=str(tmp_path), load_size=32, crop_size=32, **options)
        draw_sample_grid(config, translate, sources.open_dataset(config), "runs/a\nb/", 7)
        (rows, groups, heading), = drawn
        assert heading == "a\\nb, step 7"
        return [[int(image.max()) for image in row] for row in rows], groups

    return draw


def write_images(folder, values, prefix=""):
    """Writes flat images."""
    folder.mkdir()
    for index, value in enumerate(values):
        (folder / f"{prefix}{index}.png").write_bytes(codec.encode_png(np.full((32, 32, 3), value, np.uint8)))


@pytest.mark.parametrize(("n_samples", "shown"), [(1, [0]), (2, [0, 2]), (3, [0, 1, 3]), (5, [0, 1, 2, 3, 4])])
def test_rows_are_spread_over_the_images(tmp_path, draw, n_samples, shown):
    write_images(tmp_path / "trainA", [20, 30, 40, 50, 60])
    write_images(tmp_path / "trainB", [120, 130, 140, 150, 160])
    rows, groups = draw(n_samples=n_samples)
    expected = [[20, 21, 31, 120, 130, 131], [30, 31, 41, 130, 140, 141], [40, 41, 51, 140, 150, 151],
                [50, 51, 61, 150, 160, 161], [60, 61, 71, 160, 170, 171]]
    assert rows == [expected[index] for index in shown]
    columns = ["original", "translation", "there and back"]
    assert groups == [("A to B", columns), ("B to A", columns)]


def test_a_grid_has_at_most_the_images_of_the_smaller_domain(tmp_path, draw):
    write_images(tmp_path / "trainA", [20, 30, 40])
    write_images(tmp_path / "trainB", [120, 130])
    assert [row[0] for row in draw(n_samples=4)[0]] == [20, 30]


def test_the_truth_of_pairs_is_beside_the_translation(tmp_path, draw):
    write_images(tmp_path / "trainA", [1])
    write_images(tmp_path / "trainB", [2])
    write_images(tmp_path / "testA", [20, 30])
    write_images(tmp_path / "testB", [120, 130])
    rows, groups = draw(n_samples=1, name_a="photo", name_b="map")
    assert rows == [[20, 130, 31, 120, 21, 131]]
    assert groups == [
        ("photo", ["truth", "from map", "there and back"]), ("map", ["truth", "from photo", "there and back"])
    ]


def test_only_the_pairs_are_shown_if_other_images_have_no_counterpart(tmp_path, draw):
    write_images(tmp_path / "trainA", [1])
    write_images(tmp_path / "trainB", [2])
    write_images(tmp_path / "testA", [20, 30, 40])
    write_images(tmp_path / "testB", [120, 130, 140])
    (tmp_path / "testA" / "0.png").rename(tmp_path / "testA" / "5.png")
    rows, groups = draw({Direction.A2B: TRANSLATE[Direction.A2B]}, paired="yes", n_samples=3)
    assert rows == [[30, 31, 130], [40, 41, 140]]
    assert groups == [("A to B", ["original", "translation", "truth"])]
    rows, groups = draw({Direction.A2B: TRANSLATE[Direction.A2B]}, paired="no", n_samples=3)
    assert rows == [[30, 31], [40, 41], [20, 21]]
    assert groups == [("A to B", ["original", "translation"])]


def test_one_direction_has_no_way_back(tmp_path, draw):
    write_images(tmp_path / "trainA", [20])
    write_images(tmp_path / "trainB", [120])
    rows, groups = draw({Direction.A2B: TRANSLATE[Direction.A2B]})
    assert rows == [[20, 21]]
    assert groups == [("A to B", ["original", "translation"])]


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
    assert [(row[0], row[3]) for row in rows] == [(30, 130), (50, 150), (60, 160)]


def test_files_record_where_their_images_are(tmp_path):
    rows = [[np.full((8, 8, 3), 7, np.uint8)] * 2]
    picture = grid.draw_groups(rows, [grid.Group("A to B", ["original", "translation"])])
    sample_files.write(str(tmp_path), 7, picture)
    (tmp_path / "samples" / "step-000003.png").write_bytes(codec.encode_png(picture.pixels))  # As version 0.1.0 does.
    (tmp_path / "samples" / "notes.png").write_bytes(b"")
    old, new = sample_files.list_samples(str(tmp_path))
    assert old == sample_files.Sample(3, "samples/step-000003.png", None)
    # Below the titles of the group and of the columns, of 20 and 22 pixels; cells of 12 pixels, including a gap of 4.
    layout = sample_files.Layout(
        24, 20 + 22 + 12, [("A to B", ["original", "translation"])], [[[2, 42, 8, 8], [14, 42, 8, 8]]]
    )
    assert new == sample_files.Sample(7, "samples/step-000007.png", layout)


@pytest.mark.parametrize("text", [
    "", "[", "5", "{}", '{"groups": 5, "tiles": []}', '{"groups": [["A", ["x"]]], "tiles": [[]]}',
    '{"groups": [["A", ["x"]]], "tiles": [[[1, 2, 3]]]}', '{"groups": [["A", ["x"]]], "tiles": [[[1, 2, 3, null]]]}',
])
def test_a_damaged_layout_is_none(tmp_path, text):
    info = PngInfo()
    info.add_text("cyclegan_tf.tiles", text)
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png", pnginfo=info)
    assert sample_files.read_layout(str(tmp_path / "x.png")) is None
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:30])
    assert sample_files.read_layout(str(tmp_path / "x.png")) is None
