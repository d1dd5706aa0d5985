"""Behavior shared by all commands: help, errors and exit statuses."""

import configparser
import dataclasses
import re
import runpy
import sys
import time

import pytest
from absl import flags
from conftest import PLUGINS, ROOT, run_python, run_train
from test_imports import COMMANDS, PACKAGE

import cyclegan_tf
from cyclegan_tf import __main__ as commands
from cyclegan_tf import cli, errors
from cyclegan_tf.config import Config, options
from cyclegan_tf.config import flags as config_flags


def test_console_script_prints_the_same_help():
    script = run_python("-c", "from cyclegan_tf import cli; cli.train()", "--help")
    command = run_python("-m", "cyclegan_tf", "train", "--help")
    assert script.stdout == run_train("--help").stdout == command.stdout
    assert "cyclegan train --dataset=horse2zebra" in script.stdout


def test_each_command_has_a_console_script(monkeypatch):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")[1:]
    assert sorted(lines) == sorted(
        ["cyclegan = cyclegan_tf.__main__:run", *(f"cyclegan-{name} = cyclegan_tf.cli:{name}" for name in COMMANDS)]
    )
    ran = []
    monkeypatch.setattr(runpy, "run_module", lambda module, **options: ran.append(module))
    for name in COMMANDS:
        getattr(cli, name)()
        monkeypatch.setattr(sys, "argv", [])
        assert commands.main([name, "--model=x", "--", "-h"]) == 0
        assert sys.argv == [f"cyclegan {name}", "--model=x", "--", "-h"]
    assert ran == [f"cyclegan_tf.{name}" for name in COMMANDS for _ in range(2)]


def list_shown(text):
    """The flags that a help text shows, in order."""
    return re.findall(r"^  --(?:\[no\])?(\w+):", text, flags=re.MULTILINE)


def test_help_is_fast_and_begins_with_the_common_options():
    start = time.monotonic()
    child = run_train("--help")
    seconds = time.monotonic() - start
    shown = list_shown(child.stdout)
    assert shown[:3] == ["dataset", "preset", "workdir"]
    assert len(shown) <= 16
    n_options = len(dataclasses.fields(Config)) + len({"preset", "workdir", "dry_run"})
    assert child.stdout.endswith(f"\n--helpfull shows {n_options - len(shown)} more options.\n")
    text = " ".join(child.stdout.split())
    assert "--crop_size: side of the square crops that the networks are trained on, in pixels (default: 256)" in text
    assert "--batch_size: images of each domain per step and replica (GPU) (default: 1)" in text
    assert seconds < 2


def test_helpfull_lists_every_option_once_in_groups(run_command):
    text = run_command("cyclegan_tf.train", "--helpfull").stdout
    assert sorted(list_shown(text)) == sorted(
        [*(field.name for field in dataclasses.fields(Config)), "preset", "workdir", "dry_run"]
    )
    groups = [part.partition(":\n") for part in text.split("\n\n") if list_shown(part)]
    assert [title for title, _, _ in groups] == [
        "Options", "The model and its training images", "The networks", "The objective", "The optimization",
        "Precision, devices and speed", "Outputs and their cadence",
    ]
    found = {title: list_shown(names) for title, _, names in groups}
    assert found["The networks"][:3] == ["generator", "discriminator", "ngf"]
    assert found["The objective"][-1] == "pool_size"
    assert "--[no]flip: mirror half of the training images" in text
    assert "more options" not in text


def test_help_of_datasets_hides_the_options_of_training(run_command):
    shown = list_shown(run_command("cyclegan_tf.datasets", "-h").stdout)
    assert {"data_dir", "output", "shard_mb", "preset"} <= set(shown)
    assert "ngf" not in shown
    assert {"ngf", *shown} <= set(list_shown(run_command("cyclegan_tf.datasets", "--helpfull").stdout))


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


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "-h", "-?", "--helpshort"])
def test_help_exits_with_status_0(run_command, name, option):
    result = run_command(f"cyclegan_tf.{name}", option)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"  cyclegan {name} " in result.stdout
    paths = re.findall(r'define_paths?\("(\w+)"', (PACKAGE / f"{name}.py").read_text())
    full = run_command(f"cyclegan_tf.{name}", "--helpfull").stdout
    assert all(f"--{path}:" in full for path in paths)
    assert len(list_shown(result.stdout)) <= 16


@pytest.mark.parametrize("name", ["train", "translate", "evaluate"])
def test_help_warns_of_saved_models_of_strangers(run_command, name):
    text = " ".join(run_command(f"cyclegan_tf.{name}", "--help").stdout.split())
    assert "is a program: loading one from a stranger runs it" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_prints_the_version(run_command, name):
    result = run_command(f"cyclegan_tf.{name}", "--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"cyclegan_tf {cyclegan_tf.__version__}\n", "")


@pytest.mark.parametrize(("argument", "message"), [
    pytest.param("--modle=demo_maps", "unknown option --modle; did you mean --model?", id="misspelled"),
    pytest.param("--xyzzy", "unknown option --xyzzy; see --help", id="unlike_any"),
    pytest.param("--x\x1b[31m\ny", r"unknown option --x\x1b[31m\ny; see --help", id="control_characters"),
    pytest.param("--tile=big", "--tile=big: expected a non-negative integer", id="type"),
    pytest.param("--direction=c", "--direction=c: expected one of a2b, b2a", id="choice"),
    pytest.param("--overwrite=maybe", "--overwrite=maybe: expected true or false", id="boolean"),
    pytest.param("--slice_axis=saggital", "--slice_axis=saggital: did you mean sagittal?", id="misspelled_choice"),
    pytest.param("--tile", "Missing value for flag --tile; see --help", id="no_value"),
    pytest.param("--nooverwrite=3", "--nooverwrite=3 does not take an argument; see --help", id="value_of_a_no_flag"),
    pytest.param("--flagfile=no/such.flags", "--flagfile=no/such.flags cannot be read: No such file or directory; "
                 "give a file with one option in each line", id="no_flagfile"),
    pytest.param(f"--flagfile={ROOT}/docs/web.png", "the file of --flagfile is not text in UTF-8 (invalid start byte); "
                 "see --help", id="binary_flagfile"),
])
def test_usage_error_is_one_line_and_status_2(run_command, argument, message):
    result = run_command("cyclegan_tf.translate", argument)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"error: {message}\n")


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_the_package_lists_its_commands(capsys, arguments):
    assert commands.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines.index("Commands, each with --help:") + 1
    listed = [line.split(maxsplit=1) for line in lines[first:first + len(COMMANDS)]]
    assert [name for name, _ in listed] == list(COMMANDS)
    assert listed[0][1] == "Trains a CycleGAN, pix2pix or CUT model."


@pytest.mark.parametrize(("arguments", "message"), [
    pytest.param(["trian"], "unknown command trian; did you mean train?", id="misspelled"),
    pytest.param(["x\x1b"], rf"unknown command x\x1b; expected one of {', '.join(COMMANDS)}", id="unlike_any"),
    pytest.param(["--ngf=8", "train"], "--ngf=8 before the command; give the command first, as in cyclegan train "
                 "--ngf=8", id="option_first"),
])
def test_a_wrong_command_is_one_line_and_status_2(capsys, arguments, message):
    assert commands.main(arguments) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_the_package_answers_without_tensorflow_and_numpy(option):
    code = f"""
import sys
from cyclegan_tf.__main__ import main
main([{option!r}])
print({{"tensorflow", "numpy"}} & set(sys.modules))
"""
    assert run_python("-c", code).stdout.endswith("\nset()\n")


@pytest.mark.parametrize(("value", "path"), [
    ("~/photos", "/home/me/photos"), ("~", "/home/me"), ("photos/~", "photos/~"), ("gs://bucket/~", "gs://bucket/~"),
])
def test_a_tilde_at_the_start_of_a_path_is_the_home_folder(monkeypatch, value, path):
    monkeypatch.setenv("HOME", "/home/me")
    own = flags.FlagValues()
    cli.define_path("model", None, "a path", own)
    own(["", f"--model={value}"])
    assert own.model == path
    if not value.startswith("gs"):
        assert config_flags.from_arguments([f"--dataset={value}", f"--init_from={value}"]).dataset == path


def test_all_options_that_may_be_paths_know_the_tilde():
    # The values of these options are not paths.
    others = {"size", "precision", "metrics", "judge_classes_{domain}", "plugins"}
    names = {
        name for command in COMMANDS
        for name in re.findall(r'DEFINE_(?:string|list)\(f?"([^"]+)"', (PACKAGE / f"{command}.py").read_text())
    }
    assert names <= others
    texts = {field.name: field for field in dataclasses.fields(Config) if options.get_value_type(field) is str}
    free = {name for name, field in texts.items() if not options.get_choices(field)}
    assert {name for name in free if texts[name].metadata["is_path"]} == {"dataset", "data_dir", "init_from"}
    assert free - {"dataset", "data_dir", "init_from"} == {
        "plugins", "name_a", "name_b", "range_a", "range_b", "window", "nce_layers", "diff_augment", "eval_metrics",
        "keep_best",
    }


def test_lists_of_paths_know_the_tilde(monkeypatch, run_command, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    result = run_command("cyclegan_tf.convert", "--from_pytorch=~/latest_net_G_A.pth,~/x.pth", "--output=~/run")
    assert f"{tmp_path}/x.pth" in result.stderr


def test_a_name_that_the_locale_cannot_decode_is_one_line(tmp_path):
    # Python 3.7 and later turn UTF-8 on in the C locale unless they are told not to.
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = run_python("-m", "cyclegan_tf.train", "--dataset=caf\u00e9", **locale)
    assert (result.returncode, result.stderr.splitlines()) == (2, [
        "error: --dataset=caf\\xc3\\xa9: the name is not valid UTF-8; set PYTHONUTF8=1, because Python takes names "
        "in ascii in this locale"
    ])


def run_main(body, *arguments, operands=False, before="", **environment):
    """Runs `before`, then `cli.run` in a child process with a `main(argv)` of this body."""
    code = (f"import os, signal, time\nfrom cyclegan_tf import cli\n{before}\ndef main(argv): {body}\n"
            f"cli.run(main, operands={operands})")
    return run_python("-c", code, *arguments, **environment)


def test_exit_status_is_what_main_returns():
    assert run_main("return None").returncode == 0
    assert run_main("return 3").returncode == 3


def test_ctrl_c_is_one_line_and_status_130():
    child = run_main("raise KeyboardInterrupt")
    assert (child.returncode, child.stderr) == (130, "interrupted\n")


def test_sigterm_removes_unfinished_files_and_ends_with_status_143(tmp_path):
    child = run_main(f"""
    from cyclegan_tf.storage import atomic
    with atomic.open_for_writing({str(tmp_path / "result")!r}) as file:
        assert len(os.listdir({str(tmp_path)!r})) == 1
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(9)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # A second signal must not interrupt the cleanup.""")
    assert (child.returncode, child.stderr) == (143, "")
    assert list(tmp_path.iterdir()) == []


def test_an_ignored_sigterm_stays_ignored():
    child = run_main("os.kill(os.getpid(), signal.SIGTERM)", before="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    assert child.returncode == 0


@pytest.mark.parametrize(("body", "line"), [
    ("open('no/such', 'w')", "no/such: No such file or directory"),
    ("os.replace('no', 'results.tmp')", "results.tmp: No such file or directory"),
    ("os.listdir(b'caf\\xe9')", r"caf\xe9: No such file or directory"),
    ("open('/dev/full', 'w').write(' ' * 10**6)", "a file: No space left on device; free some space, then start again"),
], ids=["open", "replace", "bytes", "full disk"])
def test_a_file_that_cannot_be_written_is_one_line_and_status_2(body, line):
    child = run_main(body)
    assert (child.returncode, child.stderr) == (2, f"error: cannot read or write {line}\n")


def test_other_exceptions_keep_their_traceback():
    for body in ("1 / 0", "raise OSError('no file')"):
        child = run_main(body)
        assert child.returncode == 1
        assert child.stderr.startswith("Traceback")


def test_operands_reach_main():
    assert run_main("print(argv[1:])", "one", "two", operands=True).stdout == "['one', 'two']\n"


FAILING_COMMAND = """
import itertools, sys, time
import numpy as np
import cyclegan_tf
from cyclegan_tf import cli
from cyclegan_tf.data import dataset

error, loading, numbers, load = eval(sys.argv.pop()), set(), itertools.count(), dataset.ImageList.load

def load_slowly(*arguments):
    number = next(numbers)
    loading.add(number)
    time.sleep(0.5 if number > 10 else 0)
    loading.remove(number)
    return load(*arguments)

def fail_while_loading(step, scalars):
    if loading:
        raise error

def main(argv):
    dataset.ImageList.load = load_slowly
    config = cyclegan_tf.Config.preset(
        "tiny", plugins="toy_package.networks", generator="toy", discriminator="toy", max_steps=20, cache="off",
    )
    cyclegan_tf.fit(config, "run", 2 * [np.zeros((20, 40, 40, 3), np.uint8)], [fail_while_loading])

cli.run(main)
"""


@pytest.mark.parametrize(("error", "status", "line"), [
    ("cyclegan_tf.UserError('a mistake')", 2, "error: a mistake"), ("KeyError('a bug')", 1, "KeyError: 'a bug'"),
], ids=["mistake", "bug"])
def test_a_command_that_fails_while_images_are_loaded_ends(error, status, line, tmp_path):
    child = run_python("-c", FAILING_COMMAND, error, cwd=tmp_path, timeout=60, PYTHONPATH=f"{ROOT}:{PLUGINS}")
    assert child.returncode == status
    assert child.stderr.splitlines()[-1] == line


@pytest.mark.parametrize(("error", "line"), [
    (ValueError("bad\nmore"), "bad"), (ValueError("\n  bad\nmore"), "bad"), (KeyError("a"), "'a'"),
    (RuntimeError(), "RuntimeError"), (ValueError(" \n"), "ValueError"), (ValueError("\x1b[1mbad\x1b[0m"), "bad"),
], ids=["two lines", "line after an empty one", "key", "no message", "blank message", "bold type"])
def test_first_line_of_an_error(error, line):
    assert errors.get_first_line(error) == line
