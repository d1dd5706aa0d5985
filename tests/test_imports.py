"""A file imports only from its own room and from rooms to the left, and the files of a room form no import circle."""

import ast
from pathlib import Path

import pytest
from conftest import run_python

import cyclegan_tf

PACKAGE = Path(cyclegan_tf.__file__).parent
# From left to right; a room is a folder, or a file beside the folders. The commands are to the right of all rooms.
ROOMS = (
    "errors", "ops", "storage", "console", "cli", "config", "pytorch", "images", "networks", "data", "models", "runs",
    "metrics", "inference", "exporters", "training",
)
COMMANDS = ("train", "translate", "evaluate", "export", "convert", "datasets", "launch", "gallery")
FILES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def rank(name):
    """Position of the file's room in `ROOMS`; the commands come after all rooms, the package's own __init__ last."""
    room = name.split("/")[0]
    return ROOMS.index(room) if room in ROOMS else len(ROOMS) + (room == "__init__")


def list_imports(name, for_types=True):
    """Yields the files of the package that the file imports anywhere; without `for_types`, only those it runs."""
    for node in _walk(ast.parse(FILES[name].read_text()), for_types):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            # `from package import name`: the name is a file of the package, or is defined in its __init__.
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [module if _find_file(module) else node.module for module in modules]
        else:
            continue
        yield from filter(None, map(_find_file, modules))


def _walk(node, for_types):
    """Yields `node` and its descendants; without `for_types`, no `if TYPE_CHECKING` blocks."""
    yield node
    for child in ast.iter_child_nodes(node):
        is_for_types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if for_types or not is_for_types:
            yield from _walk(child, for_types)


def _find_file(module):
    """The file of a module of the package; None for other modules."""
    if module.split(".")[0] != "cyclegan_tf":
        return None
    path = "/".join(module.split(".")[1:])
    return next((name for name in (path, f"{path}/__init__".removeprefix("/")) if name in FILES), None)


@pytest.mark.parametrize("name", FILES)
def test_imports_go_to_the_left(name):
    room = name.split("/")[0]
    for other in list_imports(name):
        same_room = room in ROOMS and other.split("/")[0] == room
        assert rank(other) < rank(name) or same_room, other


def test_files_of_a_room_import_each_other_without_circles():
    left = {name: {other for other in list_imports(name, for_types=False) if other != name} for name in FILES}
    # Remove the files that import no remaining file, until none is removed.
    while done := [name for name, others in left.items() if not others & left.keys()]:
        for name in done:
            del left[name]
    assert not left


def test_package_root_has_rooms_and_commands_only():
    names = {path.stem for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert names == {*ROOMS, *COMMANDS, "__init__", "__main__", "py"}


def test_help_and_config_need_no_tensorflow():
    code = f"from cyclegan_tf import Config, {', '.join(COMMANDS)}; import sys; Config(model='cut'); "
    code += "print('tensorflow' in sys.modules)"
    assert run_python("-c", code).stdout == "False\n"


# Modules of the standard library, and names of os and signal, that Windows does not have.
POSIX_MODULES = {"crypt", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog",
                 "termios", "tty"}
POSIX_NAMES = {
    "os.chown", "os.fchmod", "os.fork", "os.getegid", "os.geteuid", "os.getgid", "os.getloadavg", "os.getpgid",
    "os.getuid", "os.killpg", "os.mkfifo", "os.O_DIRECTORY", "os.O_NOFOLLOW", "os.O_NONBLOCK", "os.pread", "os.pwrite",
    "os.sched_getaffinity", "os.setsid", "os.statvfs", "os.sync", "os.sysconf", "os.uname", "os.wait",
    "signal.alarm", "signal.pause", "signal.pthread_kill", "signal.pthread_sigmask", "signal.setitimer",
    "signal.SIGALRM", "signal.SIGCHLD", "signal.SIGHUP", "signal.SIGKILL", "signal.SIGPIPE", "signal.SIGQUIT",
    "signal.SIGUSR1", "signal.SIGUSR2", "signal.sigwait",
}


@pytest.mark.parametrize("name", FILES)
def test_no_file_needs_posix(name):
    tree = ast.parse(FILES[name].read_text())
    at_import = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
    }
    assert not at_import & POSIX_MODULES
    assert not {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & POSIX_NAMES


def test_commands_start_without_posix_modules(tmp_path):
    code = f"""
import signal, sys
for name in {sorted(POSIX_MODULES - {"posix"})}:
    sys.modules[name] = None
for name in {sorted(name.partition(".")[2] for name in POSIX_NAMES if name.startswith("signal.SIG"))}:
    delattr(signal, name)
from cyclegan_tf import {", ".join(COMMANDS)}
from cyclegan_tf.config import Config
from cyclegan_tf.runs import directory
with directory.open_run(Config(), {str(tmp_path)!r}):
    print("ready")
"""
    result = run_python("-c", code)
    assert result.stdout == "ready\n", result.stderr
