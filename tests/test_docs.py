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
OTHER_DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("cyclegan_tf", "tests") for path in (ROOT / folder).rglob("README.md")
)
# The paths that help texts, error messages and comments name.
PATH = re.compile(r"(?<![\w/.-])(?:cyclegan_tf|experiments|docs|tests|examples)/[\w./-]*[\w/]")
# Options of other programs: pip, http.server, TensorBoard, TensorFlow Serving, Slurm, Docker, XLA.
FOREIGN_OPTIONS = {
    "build-arg", "directory", "gpus", "gpus-per-node", "logdir", "model_base_path", "model_name", "no-deps", "nodes",
    "rest_api_port", "rm", "user", "xla_gpu_enable_command_buffer", "xla_gpu_graph_min_graph_size",
    "xla_gpu_require_exclusive_lock",
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


def remove_blocks(text):
    """Removes fenced blocks, where # begins a comment."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def list_anchors(text):
    """Lists the anchors of the headings of a page, as GitHub and the site name them."""
    headings = re.findall(r"^#+ (.*)$", remove_blocks(text), flags=re.MULTILINE)
    return [re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings]


def find_dead_links(name, text):
    """Lists the links in the text of document `name` that lead nowhere, except links to other servers.

    A link by reference ([text][name]), a link with a title, and an HTML link count as dead, because the site does not
    follow them; so does an anchor of two headings, because GitHub and the site number such headings differently.
    """
    document = ROOT / name
    prose = re.sub(r"`[^`\n]*`", "", remove_blocks(text))
    dead = re.findall(r"\]\[[^\]]*\]|^\[[^\]]+\]:.*|<(?:a|img)\b[^>]*>", prose, flags=re.MULTILINE)
    for link in re.findall(r"\]\(([^)]*)\)", prose):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if re.match("https?://", link):
            continue
        if path and not (re.fullmatch(r"[\w./-]+", path) and target.exists()):
            dead.append(link)
        elif anchor or link.endswith("#"):
            page = text if target == document else target.read_text(encoding="utf-8")
            if target.suffix != ".md" or list_anchors(page).count(anchor) != 1:
                dead.append(link)
    return dead


@pytest.mark.parametrize("name", [*DOCUMENTS, *OTHER_DOCUMENTS])
def test_links_exist(name):
    assert not find_dead_links(name, (ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "link",
    [
        "[page](nowhere.md)", "![picture](nowhere.png)", "[heading](runs.md#nowhere)", "[heading](#nowhere)",
        "[comment](#a-comment)", "[twice](#twice)", "[empty](runs.md#)", "[dots](runs.md#a.b)",
        "[code](../cyclegan_tf/cli.py#L3)", "[title](runs.md \"title\")", "[blank](no where.md)",
        "[reference][runs]", "[runs]: runs.md", '<a href="runs.md">', '<img src="web.png">',
    ],
)
def test_each_kind_of_dead_link_is_found(link):
    text = f"# Page\n\n```sh\n# a comment\n```\n\n## Twice\n\n## Twice\n\n{link}\n"
    assert len(find_dead_links("docs/page.md", text)) == 1


@pytest.mark.parametrize(
    "link",
    [
        "[page](runs.md)", "[heading](runs.md#non-finite-losses)", "[heading](#page)", "[code](../setup.py)",
        "[paper](https://arxiv.org/abs/1703.10593)", "`[code](nowhere)`", "```python\nx = [f](nowhere)\n```",
    ],
)
def test_links_that_lead_somewhere_are_not_dead(link):
    assert not find_dead_links("docs/page.md", f"# Page\n\n{link}\n")


def test_paths_exist():
    sources = [path for folder in ("cyclegan_tf", "experiments") for path in (ROOT / folder).rglob("*.py")]
    for name in [*DOCUMENTS, *OTHER_DOCUMENTS, *sources]:
        for path in PATH.findall((ROOT / name).read_text(encoding="utf-8")):
            assert "NAME" in path or (ROOT / path).exists(), (name, path)


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


def test_navigation_of_the_site_names_only_pages():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    for page in re.findall(r": ([\w./-]+\.md)$", navigation, flags=re.MULTILINE):
        assert (ROOT / page.removeprefix("repository/") if "/" in page else ROOT / "docs" / page).exists(), page


TARGETS = re.search(r"\.PHONY: (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))[1].split()


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_of_make_has_commands(target):
    command = ["make", "--dry-run", "--always-make", "--old-file=setup.cfg", target]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Nothing to be done" not in result.stdout
