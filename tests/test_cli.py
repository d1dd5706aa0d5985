"""Behavior shared by all commands: help, errors and exit statuses."""

import configparser
import dataclasses
import runpy
import time

from conftest import ROOT, run_python, run_train
from test_imports import COMMANDS

from cyclegan_tf import cli
from cyclegan_tf.config import Config


def test_console_script_prints_the_same_help():
    script = run_python("-c", "from cyclegan_tf import cli; cli.train()", "--help")
    assert [line for line in script.stdout.splitlines() if line.startswith("  --")] == [
        line for line in run_train("--help").stdout.splitlines() if line.startswith("  --")
    ]
    assert "python -m cyclegan_tf.train --dataset=horse2zebra" in script.stdout


def test_each_command_has_a_console_script(monkeypatch):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")[1:]
    assert sorted(lines) == sorted(f"cyclegan-{name} = cyclegan_tf.cli:{name}" for name in COMMANDS)
    ran = []
    monkeypatch.setattr(runpy, "run_module", lambda module, **options: ran.append(module))
    for name in COMMANDS:
        getattr(cli, name)()
    assert ran == [f"cyclegan_tf.{name}" for name in COMMANDS]


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


def run_main(body, *arguments, operands=False, **environment):
    """Runs `cli.run` in a child process with a `main(argv)` of this body."""
    code = f"import os\nfrom cyclegan_tf import cli\ndef main(argv): {body}\ncli.run(main, operands={operands})"
    return run_python("-c", code, *arguments, **environment)


def test_exit_status_is_what_main_returns():
    assert run_main("return None").returncode == 0
    assert run_main("return 3").returncode == 3


def test_ctrl_c_is_one_line_and_status_130():
    child = run_main("raise KeyboardInterrupt")
    assert (child.returncode, child.stderr) == (130, "interrupted\n")


def test_operands_reach_main():
    assert run_main("print(argv[1:])", "one", "two", operands=True).stdout == "['one', 'two']\n"


def test_environment_of_tensorflow_is_set_unless_the_user_sets_it(monkeypatch):
    names = ["TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS", "TF_FORCE_GPU_ALLOW_GROWTH"]
    for name in names:
        monkeypatch.delenv(name, raising=False)
    body = f"print(*[os.environ[name] for name in {names}])"
    assert run_main(body).stdout == "2 1 true\n"
    assert run_main(body, **dict(zip(names, ["0", "0", "false"], strict=True))).stdout == "0 0 false\n"
