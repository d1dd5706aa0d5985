"""Pairs by file name: which files are counterparts, what --paired assumes, and which images a pair then shows."""

import numpy as np
import pytest
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.data import pairing, sources
from cyclegan_tf.errors import UserError


@pytest.mark.parametrize(
    ("names_a", "names_b", "partners"),
    [
        (["0.png", "1.png"], ["0.png", "1.png"], {0: 0, 1: 1}),
        (["0.jpg", "1.JPG"], ["0.png", "1.jpeg"], {0: 0, 1: 1}),
        (["0.jpg"], ["0.png", "0.tif"], {}),
        (["0.jpg", "0.png"], ["0.png"], {1: 0}),
        (["0.jpg", "0.png"], ["0.jpg", "0.tif"], {0: 0}),
        (["0.jpg", "0.jpg"], ["0.jpg", "0.jpg"], {}),
        (["frame.01"], ["frame.02"], {}),
        (["x/0.jpg", "y/0.jpg"], ["x/0.png", "y/0.png"], {0: 0, 1: 1}),
        # "." sorts before "k", and "jpg" before "k", but "png" after it.
        (["a.jpg", "a.k.jpg"], ["a.k.png", "a.png"], {0: 1, 1: 0}),
        (["0.png", "1.png", "2.png"], ["1.png", "3.png"], {1: 0}),
        (["caf\u00e9.png"], ["cafe\u0301.png"], {0: 0}),
        (["0.png"], [], {}),
    ],
    ids=["equal", "suffix", "two suffixes", "equal first", "equal only", "twice", "no suffix", "folders", "order",
         "extra", "Unicode forms", "empty"],
)
def test_names_find_their_counterparts(names_a, names_b, partners):
    assert pairing.match_names(names_a, names_b) == partners


@pytest.fixture
def open_set(tmp_path):
    """Function that opens a set with held-out images of the given names, each flat in the color that is its number."""
    for split in ("trainA", "trainB"):
        (tmp_path / split).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / split / f"{split}.png")

    def open_set(test_a, test_b, **options):
        for split, names in (("testA", test_a), ("testB", test_b)):
            (tmp_path / split).mkdir()
            for name in names:
                Image.new("RGB", (8, 8), (int(name[0]),) * 3).save(tmp_path / split / name)
        return sources.open_dataset(Config(dataset=str(tmp_path), **options))

    return open_set


def decode(image_list):
    return [int(image_list.decode(index).max()) for index in range(len(image_list))]


@pytest.mark.parametrize(
    ("paired", "test_a", "test_b", "n_pairs", "sentence"),
    [
        ("auto", ["0.png", "1.png"], ["0.png", "1.png"], 2,
         "taken as pairs: all of them have equal file names; --paired=no takes them as unpaired"),
        ("auto", ["0.png", "1.png"], ["0.bmp", "1.bmp"], 2,
         "taken as pairs: all of them have file names that are equal except for suffixes; --paired=no takes them"),
        ("auto", ["0\u00e9.png"], ["0e\u0301.png"], 1,
         "taken as pairs: all of them have equal file names; --paired=no takes them as unpaired"),
        ("auto", ["0.png", "1.png"], ["2.png"], 0, "taken as unpaired: they have no file names in common"),
        ("auto", ["0.png", "1.png"], ["0.png", "1.png", "2.png"], 0,
         "taken as unpaired: 1 image has no counterpart ({}/testB/2.png); 2 pairs have equal file names, and only "
         "these are taken as pairs with --paired=yes"),
        ("no", ["0.png", "1.png"], ["0.png", "1.png"], 0, "taken as unpaired: --paired=no says so"),
        ("yes", ["0.png", "1.png", "3.png"], ["1.png", "2.png"], 1,
         "taken as pairs: 1 pair has equal file names; 3 images have no counterpart ({}/testA/0.png, ...)"),
        ("yes", ["1.png"], ["0.png", "1.png"], 1,
         "taken as pairs: 1 pair has equal file names; 1 image has no counterpart ({}/testB/0.png)"),
    ],
    ids=["equal", "suffixes", "Unicode forms", "different", "extra", "no", "some", "second"],
)
def test_the_log_says_what_is_assumed_and_why(tmp_path, open_set, paired, test_a, test_b, n_pairs, sentence):
    dataset = open_set(test_a, test_b, paired=paired)
    assert (dataset.n_pairs, dataset.has_pairs) == (n_pairs, n_pairs > 0)
    assert dataset.pairing.startswith("the held-out images are " + sentence.format(tmp_path))
    assert decode(dataset.test_a)[:n_pairs] == decode(dataset.test_b)[:n_pairs]
    # No image is lost, and each keeps its name, by which its file is opened.
    assert sorted(dataset.test_a.names) + sorted(dataset.test_b.names) == [*test_a, *test_b]
    assert sorted(decode(dataset.test_a)) == [int(name[0]) for name in test_a]
    assert sorted(decode(dataset.test_b)) == [int(name[0]) for name in test_b]


@pytest.mark.parametrize(
    ("test_a", "test_b", "message"),
    [
        (["0.png"], ["1.png"], r"--paired=yes: no file in .*testA has a counterpart of the same name in .*testB; give"),
        (["0.png"], [], r"--paired=yes: there are no held-out images in .*testB; add some, or use --paired=auto"),
    ],
    ids=["different", "missing"],
)
def test_pairs_that_do_not_exist_are_an_error(open_set, test_a, test_b, message):
    with pytest.raises(UserError, match=message):
        open_set(test_a, test_b, paired="yes")


def test_without_held_out_images_nothing_is_assumed(open_set):
    assert open_set([], []).pairing == ""


def test_training_pairs_may_differ_in_suffix_and_order(tmp_path):
    for split, names in (("trainA", ["a.jpg", "a.k.jpg"]), ("trainB", ["a.k.png", "a.png"])):
        (tmp_path / split).mkdir()
        for name in names:
            Image.new("RGB", (8, 8), (100 * name.count("k"),) * 3).save(tmp_path / split / name)
    config = Config(dataset=str(tmp_path), model="pix2pix")
    dataset = sources.open_dataset(config)
    pairing.require_training_pairs(dataset, config)
    for index in range(2):
        a, b = (image_list.decode(index) for image_list in (dataset.train_a, dataset.train_b))
        np.testing.assert_allclose(a, b, atol=1)
    # Models that need no pairs keep the order of the names.
    assert list(sources.open_dataset(Config(dataset=str(tmp_path))).train_b.names) == ["a.k.png", "a.png"]


def test_pix2pix_takes_the_held_out_images_that_have_counterparts_as_pairs(open_set):
    dataset = open_set(["0.png", "1.png"], ["1.png"], model="pix2pix")
    assert dataset.n_pairs == 1
    assert decode(dataset.test_a) == [1, 0]
