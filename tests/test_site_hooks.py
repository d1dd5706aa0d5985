"""The hooks of the documentation's site: links between pages, and code that stays on one line."""

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    path = Path(__file__).parents[1] / "docs" / "site" / "hooks.py"
    spec = importlib.util.spec_from_file_location("site_hooks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("uri, link, expected", [
    pytest.param("a.md", "../setup.cfg", "repository/setup.cfg.md", id="code"),
    pytest.param("a.md", "../README.md#use", "repository/README.md#use", id="anchor-in-another-page"),
    pytest.param("a.md", "b.md", "b.md", id="page-of-docs"),
    pytest.param("a.md", "#use", "#use", id="anchor-in-the-page"),
    pytest.param("repository/README.md", "https://example.org/b.py", "https://example.org/b.py", id="web"),
    pytest.param("repository/README.md", "docs/b.md", "../b.md", id="from-outside-of-docs"),
    pytest.param("repository/setup.cfg.md", "docs/b.md", "docs/b.md", id="text-of-a-code-page"),
])
def test_links_lead_to_pages_of_the_site(hooks, uri, link, expected):
    page = SimpleNamespace(file=SimpleNamespace(src_uri=uri))
    assert hooks.on_page_markdown(f"See [it]({link}).", page, None, None) == f"See [it]({expected})."


@pytest.mark.parametrize("html, expected", [
    pytest.param(
        "<code>a b</code>", '<code><span class="word">a</span> <span class="word">b</span></code>', id="words",
    ),
    pytest.param(f"<code>{'a' * 39}</code>", f"<code>{'a' * 39}</code>", id="wider-than-a-phone"),
    pytest.param("<pre><code>a b</code></pre>", "<pre><code>a b</code></pre>", id="code-block"),
    pytest.param("1.5 ± 0.2", "1.5&nbsp;±&nbsp;0.2", id="deviation"),
])
def test_words_of_code_and_deviations_stay_on_one_line(hooks, html, expected):
    assert hooks.on_page_content(html, None, None, None) == expected


@pytest.mark.parametrize("path, uri", [
    ("docs/training.md", "training.md"), ("README.md", "repository/README.md"),
    ("setup.cfg", "repository/setup.cfg.md"),
])
def test_each_file_has_one_page(hooks, path, uri):
    assert (hooks.to_source_uri(path), hooks.to_path(uri)) == (uri, path)
