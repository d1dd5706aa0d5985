"""Behavior shared by all commands: help, errors and exit statuses."""

import dataclasses
import time

from conftest import run_python, run_train

from cyclegan_tf.config import Config


def test_console_script_prints_the_same_help():
    script = run_python("-c", "from cyclegan_tf import cli; cli.train()", "--help")
    assert [line for line in script.stdout.splitlines() if line.startswith("  --")] == [
        line for line in run_train("--help").stdout.splitlines() if line.startswith("  --")
    ]
    assert "python -m cyclegan_tf.train --dataset=horse2zebra" in script.stdout


def test_help_is_fast_and_lists_every_flag_with_its_default():
    start = time.monotonic()
    child = run_train("--help")
    seconds = time.monotonic() - start
    assert "python -m cyclegan_tf.train --dataset=horse2zebra" in child.stdout
    for field in dataclasses.fields(Config):
        assert f"--{'[no]' if field.default is True or field.default is False else ''}{field.name}:" in child.stdout
    text = " ".join(child.stdout.split())
    assert "--crop_size: side of the square crops that the networks are trained on, in pixels (default: '256')" in text
    assert seconds < 2


def test_user_error_is_one_line_and_status_2(tmp_path, run_command):
    for arguments, message in (
        (["--dataset=/no/such/folder"], "error: --dataset=/no/such/folder: no such folder or .zip"),
        (["--load_size=10", "--crop_size=20"], "error: --load_size=10 is smaller than --crop_size=20"),
        (["dataset=demo"], "error: unexpected arguments: dataset=demo"),
    ):
        child = run_command("cyclegan_tf.train", *arguments, f"--workdir={tmp_path}/run")
        assert child.returncode == 2
        assert child.stderr.strip().splitlines()[-1].startswith(message)
        assert "Traceback" not in child.stderr
        assert not (tmp_path / "run").exists()
