"""Directions: their parts, parsing, and finding them in file names."""

import json

import pytest
from conftest import run_python

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError


@pytest.mark.parametrize("text, source, target, generator, reverse, ordered", [
    ("a2b", "a", "b", "gen_ab", "b2a", (1, 2)),
    ("b2a", "b", "a", "gen_ba", "a2b", (2, 1)),
])
def test_a_direction_names_its_parts(text, source, target, generator, reverse, ordered):
    direction = Direction.parse(text)
    assert (direction.source, direction.target, direction.generator) == (source, target, generator)
    assert direction.reverse is Direction(reverse)
    assert direction.order(1, 2) == ordered


@pytest.mark.parametrize("text", ["", "ab", "A2B", "a2b2a", "gen_ab"])
def test_an_unknown_direction_is_an_error(text):
    with pytest.raises(UserError, match="expected a2b or b2a"):
        Direction.parse(text)


def test_a_direction_can_stand_for_its_text():
    assert {Direction.A2B: 1}["a2b"] == 1
    assert f"{Direction.B2A}" == str(Direction.B2A) == "b2a"
    assert json.dumps({Direction.A2B: Direction.B2A}) == '{"a2b": "b2a"}'


@pytest.mark.parametrize("name, expected", [
    ("a2b", Direction.A2B), ("b2a-float16.tflite", Direction.B2A), ("export", None), ("gen_a2b", None),
])
def test_the_beginning_of_a_file_name_tells_the_direction(name, expected):
    assert Direction.find_in_name(name) is expected


def test_pix2pix_has_one_direction_and_cyclegan_two():
    assert Config(model="pix2pix", dataset="demo_pairs").directions == (Direction.A2B,)
    assert Config().directions == (Direction.A2B, Direction.B2A)


def test_directions_need_no_tensorflow():
    code = "import sys; from cyclegan_tf.config import direction; sys.exit('tensorflow' in sys.modules)"
    assert run_python("-c", code).returncode == 0
