"""Commands with a stdout or stderr that is closed, full, or a pipe without a reader."""

import io
import logging
import os
import subprocess
import sys

import pytest
from conftest import run_python

from cyclegan_tf import console
from cyclegan_tf.errors import UserError

PRINT_EVERYTHING = """
import logging, os, sys
from cyclegan_tf import cli

def main(argv):
    print("a result", flush=True)
    print("a note", file=sys.stderr)
    logging.getLogger("cyclegan_tf").warning("a warning")
    open("file", "w").write(f"{os.fstat(1).st_rdev} {os.fstat(2).st_rdev}")
    return 0

cli.run(main)
"""


def run_shell(redirection, cwd, code=PRINT_EVERYTHING):
    """Runs Python code with a redirection of the shell; returns the CompletedProcess."""
    return subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, code], cwd=cwd, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("redirection", [">&- 2>&-", "2>/dev/full"])
def test_dead_streams_do_not_stop_a_command(redirection, tmp_path):
    child = run_shell(redirection, tmp_path)
    assert (child.returncode, child.stderr) == (0, "")
    null, full = (os.stat(path).st_rdev for path in ("/dev/null", "/dev/full"))
    # Without a stream, later files must not get its number: C++ code would write its messages into them.
    expected = f"{null} {null}" if "&-" in redirection else f"0 {full}"
    assert (tmp_path / "file").read_text() == expected


@pytest.mark.parametrize("arguments", [["datasets", "list"], ["train", "--help"]], ids=" ".join)
def test_reader_that_has_ended_is_no_error(arguments):
    code = f"import sys\nfrom cyclegan_tf import cli\nsys.argv = {arguments}\ncli.{arguments[0]}()"
    # With `| head -1`, the reader usually ends only after a command has written its few lines.
    reader, writer = os.pipe()
    os.close(reader)
    child = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (child.returncode, child.stderr) == (0, "")


def test_lost_result_is_an_error(tmp_path):
    child = run_shell(">/dev/full", tmp_path)
    assert child.returncode == 2
    assert child.stderr.splitlines()[-1] == (
        "error: the output on stdout is incomplete: No space left on device; redirect stdout to another file"
    )


@pytest.fixture
def guarded(monkeypatch):
    """Function that replaces stdout by a guarded file with the given descriptor, and returns the file."""
    def guard(descriptor, **options):
        stream = os.fdopen(descriptor, "w", **options)
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        console.guard_streams()
        assert sys.stdout is not stream
        return sys.stdout

    return guard


def test_broken_pipe_drops_output(guarded):
    reader, writer = os.pipe()
    os.close(reader)
    stream = guarded(writer)
    print("lost", file=stream, flush=True)
    stream.buffer.write(b"lost too")
    stream.flush()
    console.require_complete_stdout()


def test_full_pipe_that_does_not_block_drops_output(guarded):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stream = guarded(writer)
    print("x" * 2**20, file=stream, flush=True)
    with pytest.raises(UserError, match="stdout is incomplete: Resource temporarily unavailable"):
        console.require_complete_stdout()
    # The bytes that fit into the pipe arrive.
    assert set(os.read(reader, 2**20)) == {ord("x")}
    os.close(reader)


def test_text_that_the_terminal_cannot_show_is_escaped(guarded, tmp_path):
    stream = guarded(os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY), encoding="ascii")
    print("zebra \U0001f993 \udcff", file=stream)
    stream.flush()
    assert (tmp_path / "out").read_bytes() == b"zebra \\U0001f993 \\udcff\n"


def test_streams_without_a_file_are_kept(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    console.guard_streams()
    assert sys.stdout is sys.stderr is stream
    console.require_complete_stdout()


def test_missing_stream_is_not_a_terminal():
    assert not console.is_terminal(None)


def test_only_errors_of_the_package_are_called_errors(monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    root, level = logging.getLogger(), console.log.level
    handlers = root.handlers[:]
    root.handlers.clear()  # log_to_stderr closes the handlers that it finds.
    try:
        console.log_to_stderr()
        console.log.info("fine")
        console.log.error("not fine")
        logging.getLogger("another").error("theirs")
    finally:
        root.handlers[:] = handlers
        console.log.setLevel(level)
    assert stream.getvalue() == "fine\nerror: not fine\ntheirs\n"


def test_python_without_buffers_is_guarded_too():
    code = "import os; from cyclegan_tf import console; console.guard_streams(); os.close(1); print('lost', flush=True)"
    assert run_python("-u", "-c", code).returncode == 0


@pytest.mark.parametrize(("text", "escaped"), [
    ("horse.jpg", "horse.jpg"),
    ("\u6771\u4eac \u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.png",) * 2,
    (r"C:\photos\new.jpg",) * 2,
    ("two\nlines\r\n", r"two\nlines\r\n"),
    ("\x1b]0;title\x07\x7f\x00", r"\x1b]0;title\x07\x7f\x00"),
    ("\x9b2J", r"\x9b2J"),  # The control sequence introducer as one character.
    ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
    ("evil\u202egpj.exe", r"evil\u202egpj.exe"),
    (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
    ("\ud800", r"\ud800"),
])
def test_control_characters_are_escaped_once(text, escaped):
    assert console.escape(text) == escaped
    assert console.escape(escaped) == escaped


def test_a_log_record_of_the_package_is_one_line():
    formatter = console.Formatter("%(levelname)s %(message)s")

    def formatted(name):
        return formatter.format(logging.makeLogRecord({"name": name, "msg": "skipping a\n\x1bb", "levelname": "INFO"}))

    assert formatted("cyclegan_tf") == r"INFO skipping a\n\x1bb"
    assert formatted("tensorflow") == "INFO skipping a\n\x1bb"


def test_names_of_files_stay_on_one_line_of_stderr(run_command, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a\n\x1b[31mb.png").write_bytes(b"no image")
    result = run_command(
        "cyclegan_tf.translate", "--model=demo_maps", f"--input={tmp_path}/in", f"--output={tmp_path}/out"
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-2:] == [
        rf"skipped {tmp_path}/in/a\n\x1b[31mb.png: cannot identify image file",
        f"translated 0 of 1 files into {tmp_path}/out",
    ]
    assert "\x1b" not in result.stderr
