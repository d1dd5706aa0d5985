"""Imports go one way: a file imports only from the rooms to the left of its own, and files of one room in no circle."""

import ast
from pathlib import Path

import pytest
from conftest import run_python

import cyclegan_tf

PACKAGE = Path(cyclegan_tf.__file__).parent
# From left to right; a room is a folder or a file beside the folders. What stands right of these are the commands.
ROOMS = (
    "errors", "ops", "storage", "cli", "config", "pytorch", "images", "networks", "data", "models", "runs", "metrics",
    "inference", "exporters", "training",
)
FILES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def place(name):
    """How far right the room of the file `name` is; the package's own __init__ is right of the commands."""
    room = name.split("/")[0]
    return ROOMS.index(room) if room in ROOMS else len(ROOMS) + (room == "__init__")


def imported(name, for_types=True):
    """Files of the package that the file `name` imports, anywhere in it; without `for_types`, only when it runs."""
    for node in _walk(ast.parse(FILES[name].read_text()), for_types):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            # What is imported from a package is a file of it, or a name in its __init__.
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [module if _file(module) else node.module for module in modules]
        else:
            continue
        yield from filter(None, map(_file, modules))


def _walk(node, for_types):
    """`node` and all below it; without `for_types`, no `if TYPE_CHECKING` blocks."""
    yield node
    for child in ast.iter_child_nodes(node):
        is_for_types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if for_types or not is_for_types:
            yield from _walk(child, for_types)


def _file(module):
    """The file of a module of the package, else None."""
    if module.split(".")[0] != "cyclegan_tf":
        return None
    path = "/".join(module.split(".")[1:])
    return next((name for name in (path, f"{path}/__init__".removeprefix("/")) if name in FILES), None)


@pytest.mark.parametrize("name", FILES)
def test_imports_go_to_the_left(name):
    room = name.split("/")[0]
    for other in imported(name):
        same_room = room in ROOMS and other.split("/")[0] == room
        assert place(other) < place(name) or same_room, other


def test_files_of_a_room_import_each_other_in_no_circle():
    left = {name: {other for other in imported(name, for_types=False) if other != name} for name in FILES}
    # Whatever imports nothing that is left is taken away, until nothing is.
    while done := [name for name, others in left.items() if not others & left.keys()]:
        for name in done:
            del left[name]
    assert not left


def test_the_package_has_rooms_and_commands_only():
    commands = {"train", "translate", "evaluate", "export", "convert", "datasets", "launch", "gallery"}
    names = {path.stem for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert names == {*ROOMS, *commands, "__init__", "py"}


def test_help_and_config_need_no_tensorflow():
    code = "from cyclegan_tf import config, train, datasets, evaluate, export, gallery; "
    code += "import sys; sys.exit('tensorflow' in sys.modules)"
    assert run_python("-c", code).returncode == 0
