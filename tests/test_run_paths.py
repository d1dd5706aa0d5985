"""How a user's path refers to a run."""

import pytest

from cyclegan_tf.errors import UserError
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


def test_a_run_directory_named_like_a_packaged_model_is_ambiguous(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert directory.is_run("demo")
    (tmp_path / "demo" / "config.json").write_text("{}")
    message = "^demo is a trained model in the package, and also a run directory in this folder; give ./demo"
    for function in (directory.locate, directory.is_run):
        with pytest.raises(UserError, match=message):
            function("demo")
    assert directory.locate("./demo") == "./demo"
