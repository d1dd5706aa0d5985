"""How a user's path refers to a run."""

import pytest

from cyclegan_tf.runs import directory


@pytest.mark.parametrize(("path", "name"), [
    ("runs/zebras", "zebras"), ("runs/zebras/checkpoints/best.npz", "zebras"), ("checkpoints/best.npz", "here"),
    (".", "here"), ("runs/zebras/", "zebras"), ("demo", "demo"), ("gs://bucket/zebras/", "zebras"),
    ("gs://bucket/zebras/checkpoints/best.npz", "zebras"),
])
def test_the_name_of_a_run(path, name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert directory.find_name(path) == name
