"""The rule by which experiments/make_demo.py makes the photographic demo set."""

import hashlib
import io
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image


@pytest.fixture
def make_demo(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import make_demo

    yield make_demo
    del sys.modules["make_demo"]


def row(part, kind, variety, data):
    return {"dataset": part, "coarse_cat": kind, "finegrained_cat": variety, "image_data": data}


def name(variety, data):
    return f"{hashlib.sha256(data).hexdigest()[:10]}_{variety}.jpg"


def test_parts_and_domains_follow_the_source(make_demo):
    parts = make_demo.select([
        row("train", "Apple", "Royal-Gala", b"1"), row("val", "Apple", "Pink-Lady", b"2"),
        row("train", "Satsumas", "Satsumas", b"3"), row("train", "Pear", "Conference", b"4"),
        row("train", "Apple", "Royal-Gala", b"1"), row("test", "Orange", "Orange", b"5"),
    ])
    assert {part: list(images.items()) for part, images in parts.items()} == {
        "trainA": [(name("pink-lady", b"2"), b"2"), (name("royal-gala", b"1"), b"1")],
        "trainB": [(name("satsumas", b"3"), b"3")], "testA": [], "testB": [(name("orange", b"5"), b"5")],
    }


def test_every_ninth_apple_and_every_fourth_orange_is_held_out(make_demo):
    data = [b"%d" % number for number in range(19)]
    rows = [row("test", kind, kind, each) for kind in ("Apple", "Orange") for each in data]
    parts = make_demo.select(rows)
    apples, oranges = (sorted(name(kind, each) for each in data) for kind in ("apple", "orange"))
    assert list(parts["testA"]) == [apples[0], apples[9], apples[18]]
    assert list(parts["testB"]) == [oranges[0], oranges[4], oranges[8], oranges[12], oranges[16]]


@pytest.mark.parametrize("transpose", [False, True], ids=["wide", "high"])
def test_the_central_square_is_kept(make_demo, transpose):
    columns = np.repeat(np.tile(np.arange(8, dtype=np.uint8), (4, 1))[..., np.newaxis], 3, axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(columns.swapaxes(0, 1) if transpose else columns).save(buffer, "PNG")
    square = np.asarray(make_demo.cut_square(buffer.getvalue()))[..., 0]
    assert np.array_equal(square.T if transpose else square, np.tile([2, 3, 4, 5], (4, 1)))


def test_the_quality_is_the_highest_that_keeps_to_the_size(make_demo, monkeypatch):
    monkeypatch.setattr(make_demo, "SIDES", (32,))
    images = [Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48, 3), np.uint8)) for seed in (0, 1)]
    encodings = list(make_demo.list_encodings(images, max_bytes=2600))
    assert [encoding.subsampling for encoding in encodings] == ["4:4:4", "4:2:2", "4:2:0"]
    for encoding in encodings:
        better = make_demo.Encoding(encoding.side, encoding.subsampling, encoding.quality + 1)
        sizes = [sum(len(each.encode(image)) for image in images) for each in (encoding, better)]
        assert sizes[0] <= 2600 < sizes[1]
        stored = Image.open(io.BytesIO(encoding.encode(images[0])))
        assert (stored.size, stored.format) == ((32, 32), "JPEG")
