"""The names of the domains."""

import pytest

from cyclegan_tf.config import Config
from cyclegan_tf.config.config import list_differences
from cyclegan_tf.config.domains import find_names
from cyclegan_tf.errors import UserError


@pytest.mark.parametrize(("options", "names"), [
    ({"dataset": "demo"}, ("apple", "orange")),
    ({"dataset": "demo", "direction": "b2a"}, ("orange", "apple")),
    ({"dataset": "horse2zebra"}, ("horse", "zebra")),
    ({"dataset": "sets/cat2dog/"}, ("cat", "dog")),
    ({"dataset": "/data/red_apple2blue_plum.zip", "direction": "b2a"}, ("blue plum", "red apple")),
    ({"dataset": "maps"}, ("aerial photo", "map")),
    ({"dataset": "/data/maps.zip"}, ("aerial photo", "map")),
    ({"dataset": "summer2winter_yosemite.zip"}, ("summer", "winter")),
    ({"dataset": "photos"}, ("A", "B")),
    ({"dataset": "photos", "direction": "b2a"}, ("A", "B")),
    ({"dataset": "v2"}, ("A", "B")),
    ({"dataset": "given_to_fit"}, ("A", "B")),
    ({"dataset": "x" * 41 + "2y"}, ("A", "B")),
    ({"dataset": "photos", "name_b": "zebra"}, ("A", "zebra")),
    ({"dataset": "cat2dog", "name_a": "wolf"}, ("wolf", "dog")),
    ({"dataset": "cat2dog", "direction": "b2a", "name_a": "wolf"}, ("wolf", "cat")),
], ids=str)
def test_names_come_from_the_options_or_the_data_set(options, names):
    assert find_names(Config(**options)) == names


@pytest.mark.parametrize(("options", "message"), [
    ({"name_a": "a\nb"}, r"--name_a='a\\nb' has characters that cannot be shown"),
    ({"name_b": "\u200b"}, r"--name_b='\\u200b' has characters that cannot be shown"),
    ({"name_b": "x" * 41}, "has 41 characters; use at most 40"),
    ({"name_a": "cat", "name_b": "cat"}, "both called cat; set --name_a and --name_b to different names"),
    ({"dataset": "cat2dog", "name_b": "cat"}, "both called cat; set --name_a and --name_b to different names"),
], ids=["newline", "invisible", "too long", "equal", "equal to the data set's"])
def test_names_that_cannot_be_shown_are_rejected(options, message):
    with pytest.raises(UserError, match=message):
        Config(**options)


def test_a_resumed_run_may_change_the_names():
    assert list_differences(Config(name_a="cat"), Config()) == []
