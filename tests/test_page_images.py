"""The images of a run's page: their choice, their order, their size, and two processes that write them."""

import json

import numpy as np
import pytest
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import sources
from cyclegan_tf.runs import page_images


def test_the_next_image_takes_the_place_of_a_bad_one(tmp_path):
    for part, gray in (("trainA", 0), ("trainB", 0), ("testA", 10), ("testB", 200)):
        (tmp_path / "set" / part).mkdir(parents=True)
        for index in range(10):
            Image.new("RGB", (8, 8), (gray + index,) * 3).save(tmp_path / "set" / part / f"{index}.png")
    for bad in ("testA/0.png", "testA/5.png", "testB/2.png"):
        (tmp_path / "set" / bad).write_bytes(b"")
    config = Config(dataset=str(tmp_path / "set"), preprocess="none", pool_size=0)
    translate = {Direction.A2B: lambda image: image + np.uint8(1)}
    page_images.write(str(tmp_path), config, translate, sources.open_dataset(config), 7)
    rows = json.loads((tmp_path / "gallery" / "results.json").read_text())["rows"]
    # All translations differ equally from the truth, but 2.png has no truth and comes last.
    assert [row["name"] for row in rows] == [f"{index}.png" for index in (1, 3, 4, 6, 7, 8, 9, 2)]
    for row in rows:
        number = int(row["name"][0])
        kinds = {"before": 10 + number, "after": 11 + number} | ({} if number == 2 else {"truth": 200 + number})
        assert {kind: Image.open(tmp_path / row[kind]).getpixel((0, 0))[0] for kind in kinds} == kinds
        assert ("truth" in row) == (number != 2)


def test_pairs_are_in_the_order_of_their_difference_from_the_truth(tmp_path):
    for part, grays in (("trainA", [0]), ("trainB", [0]), ("testA", [10, 20, 30]), ("testB", [115, 30, 36])):
        (tmp_path / part).mkdir()
        for index, gray in enumerate(grays):
            Image.new("RGB", (8, 8), (gray,) * 3).save(tmp_path / part / f"{index}.png")
    config = Config(dataset=str(tmp_path), preprocess="none", pool_size=0)
    translate = {Direction.A2B: lambda image: image + np.uint8(5)}
    page_images.write(str(tmp_path), config, translate, sources.open_dataset(config), 1)
    rows = json.loads((tmp_path / "gallery" / "results.json").read_text())["rows"]
    # 1 / 255, 5 / 255 and 100 / 255.
    assert [(row["name"], row["difference"]) for row in rows] == [
        ("2.png", "0.4 %"), ("1.png", "2.0 %"), ("0.png", "39.2 %")
    ]


def test_two_processes_can_write_the_images_of_one_page(tmp_path):
    """As a training that ends beside `cyclegan gallery`."""
    for part in ("trainA", "trainB", "testA", "testB"):
        (tmp_path / "set" / part).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / part / "0.png")
    config = Config(dataset=str(tmp_path / "set"), preprocess="none", pool_size=0)
    dataset, workdir = sources.open_dataset(config), tmp_path / "run"

    def read_step():
        return json.loads((workdir / "gallery" / "results.json").read_text())["step"]

    def let_the_other_finish(image):
        page_images.write(str(workdir), config, {Direction.A2B: lambda image: image}, dataset, 1)
        assert read_step() == 1
        return image

    page_images.write(str(workdir), config, {Direction.A2B: let_the_other_finish}, dataset, 2)
    assert read_step() == 2
    assert [path.name for path in workdir.iterdir()] == ["gallery"]


def test_a_page_whose_images_fail_leaves_nothing(tmp_path):
    for part in ("trainA", "trainB"):
        (tmp_path / "set" / part).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / part / "0.png")
    config = Config(dataset=str(tmp_path / "set"), preprocess="none", pool_size=0)
    with pytest.raises(ZeroDivisionError):
        page_images.write(
            str(tmp_path / "run"), config, {Direction.A2B: lambda image: 1 // 0}, sources.open_dataset(config), 1
        )
    assert list((tmp_path / "run").iterdir()) == []


def test_only_images_that_have_a_counterpart_have_a_truth(tmp_path):
    for part, grays in (("trainA", [0]), ("trainB", [0]), ("testA", [10, 20]), ("testB", [20, 30])):
        (tmp_path / part).mkdir()
        for gray in grays:
            Image.new("RGB", (8, 8), (gray + (part == "testB"),) * 3).save(tmp_path / part / f"{gray}.png")
    config = Config(dataset=str(tmp_path), preprocess="none", pool_size=0, paired="yes")
    page_images.write(str(tmp_path), config, {Direction.A2B: lambda image: image}, sources.open_dataset(config), 1)
    pair, alone = json.loads((tmp_path / "gallery" / "results.json").read_text())["rows"]
    assert (pair["name"], alone["name"]) == ("20.png", "10.png")
    assert Image.open(tmp_path / pair["truth"]).getpixel((0, 0)) == (21, 21, 21)
    assert "truth" not in alone


def test_large_images_are_shrunk(tmp_path):
    for part in ("trainA", "trainB"):
        (tmp_path / part).mkdir()
        Image.new("RGB", (17000, 34)).save(tmp_path / part / "0.png")  # WebP ends at 16383 pixels a side.
    config = Config(dataset=str(tmp_path), preprocess="none", pool_size=0)
    page_images.write(str(tmp_path), config, {Direction.A2B: lambda image: image}, sources.open_dataset(config), 1)
    # 34 pixels are rounded to 36, a multiple of 4: 36 / 17000 * 1024 is 2.2.
    assert Image.open(tmp_path / "gallery" / "a2b-00-after.webp").size == (1024, 2)
