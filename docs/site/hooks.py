"""Hooks of MkDocs: pages for files outside of docs/, so that links to code and experiments work in the site.

A page of docs/ links to ../cyclegan_tf/models/losses.py, as it must where a repository is browsed. The site gets a page
for each such file: Markdown files as they are, other files as highlighted code.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # The hooks of a page's text need no MkDocs, and are tested without it.
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([\w./-]+)")
CODE = re.compile(r"(?<!<pre>)<code>([^<]*)</code>")
WORD = re.compile(r"(?<!\S)\S{1,38}(?!\S)")
LANGUAGES = {".py": "python", ".sh": "bash", ".yaml": "yaml", ".cfg": "ini", ".flags": "text", "": "text"}


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Adds the files outside of docs/ that the pages, or files added before, link to."""
    from mkdocs.structure.files import File

    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    while waiting:
        path = waiting.pop()
        for target in list_links(path):
            uri = to_source_uri(target)
            if not files.get_file_from_path(uri):
                content = (ROOT / target).read_bytes() if is_page(target) else show_code(target)
                files.append(File.generated(config, uri, content=content))
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Makes links to files outside of docs/ links to their pages."""
    del config, files
    uri = page.file.src_uri
    path = to_path(uri)
    return LINK.sub(lambda link: relate(resolve(link[1], path), uri), markdown) if path.endswith(".md") else markdown


def on_page_content(html: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Keeps words of code, and values with their deviation, on one line; words wider than a phone may still break."""
    del page, config, files
    html = html.replace(" ± ", "&nbsp;±&nbsp;")
    return CODE.sub(lambda code: f"<code>{WORD.sub(mark_word, code[1])}</code>", html)


def mark_word(word: re.Match[str]) -> str:
    """Returns a word of code as HTML that keeps it on one line."""
    return f'<span class="word">{word[0]}</span>'


def list_links(path: str) -> Iterator[str]:
    """Yields the files that a Markdown file of the repository links to, by their paths in the repository."""
    if path.endswith(".md"):
        for link in LINK.findall((ROOT / path).read_text(encoding="utf-8")):
            target = resolve(link, path)
            if (ROOT / target).is_file():
                yield target


def resolve(link: str, path: str) -> str:
    """Returns the path in the repository that a link in the file `path` leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def relate(target: str, uri: str) -> str:
    """Returns the link from the page `uri` to a file of the repository."""
    return posixpath.relpath(to_source_uri(target), posixpath.dirname(uri))


def is_page(path: str) -> bool:
    """True for a file that the site shows as it is."""
    return path.endswith((".md", ".png", ".jpg", ".ipynb"))


def to_source_uri(path: str) -> str:
    """Returns MkDocs's name of a file of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}" if is_page(path) else f"repository/{path}.md"


def to_path(uri: str) -> str:
    """Returns the path in the repository of a page: the inverse of `to_source_uri`."""
    if not uri.startswith("repository/"):
        return f"docs/{uri}"
    path = uri.removeprefix("repository/")
    return path if (ROOT / path).is_file() else path.removesuffix(".md")


def show_code(path: str) -> str:
    """Returns a page that shows a file of the repository."""
    text = (ROOT / path).read_text(encoding="utf-8")
    language = LANGUAGES.get(posixpath.splitext(path)[1], "text")
    return f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n`````{language} linenums=\"1\"\n{text}\n`````\n"
