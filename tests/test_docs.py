"""README.md and the other documentation: links, paths and options exist, and the layout table lists every room."""

import dataclasses
import re
import subprocess

import pytest
from conftest import ROOT
from test_imports import COMMANDS, ROOMS

from cyclegan_tf.config import Config

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "experiments").rglob("*.md"),
                 *(ROOT / "experiments").rglob("*.flags"), *(ROOT / "cyclegan_tf").rglob("*.flags")]
)
# Options of other programs: pip, http.server, TensorBoard, TensorFlow Serving, Slurm, Docker, XLA.
FOREIGN_OPTIONS = {
    "build-arg", "directory", "gpus-per-node", "logdir", "model_base_path", "model_name", "no-deps", "nodes",
    "rest_api_port", "rm", "user", "xla_gpu_enable_command_buffer",
}


def defined_options():
    """Lists the names of all options of the commands and scripts."""
    sources = [*(ROOT / "cyclegan_tf").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    names = set(re.findall(r"(?:DEFINE_\w+|define_paths?)\(\s*\"(\w+)\"", text))
    names |= set(re.findall(r"add_argument\(\"--([\w-]+)\"", text))
    names |= {field.name for field in dataclasses.fields(Config)}
    # absl's, cli's, and two that a loop defines.
    names |= {"flagfile", "help", "helpfull", "version", "judge_classes_a", "judge_classes_b"}
    return names | {f"no{name}" for name in names}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_paths_exist(name):
    document = ROOT / name
    text = document.read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text):
        target = document.parent / link if link else document
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in [re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings], anchor
    for path in re.findall(r"(?<![\w/.-])(?:cyclegan_tf|experiments|docs|tests)/[\w./-]*[\w/]", text):
        assert "NAME" in path or (ROOT / path).exists(), path


# The changelog also names removed options.
@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name != "CHANGELOG.md"])
def test_documented_options_exist(name):
    mentioned = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", (ROOT / name).read_text(encoding="utf-8")))
    assert mentioned - FOREIGN_OPTIONS <= defined_options()


def test_documented_commands_exist():
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        for module in re.findall(r"(?:python -m cyclegan_tf\.|(?:    |#   |`)cyclegan )([a-z]+)", text):
            assert module in COMMANDS, module


def test_layout_table_has_the_rooms_in_their_order():
    table = (ROOT / "docs" / "how_it_works.md").read_text(encoding="utf-8").split("## Layout of the code")[1]
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)`", table, flags=re.MULTILINE)
    assert tuple(rows[: len(ROOMS)]) == ROOMS


def test_readme_fits_a_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_page_is_in_the_navigation_of_the_site():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    listed = re.findall(r": (?:repository/)?([\w./-]+\.md)$", navigation, flags=re.MULTILINE)
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= set(listed)


TARGETS = re.search(r"\.PHONY: (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))[1].split()


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_of_make_has_commands(target):
    command = ["make", "--dry-run", "--always-make", "--old-file=setup.cfg", target]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Nothing to be done" not in result.stdout
