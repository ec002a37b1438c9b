"""The site that `make docs` builds: complete, no broken links, the same text as on GitHub."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import imbtune

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "imbtune"
MODULES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] != "cli"
]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a broken link or a wrong parameter in a docstring is an error."""
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet: mkdocs then counts no warnings, and --strict has no effect.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_has_a_page(path: Path, site: Path) -> None:
    name = path.relative_to(ROOT).with_suffix("")
    page = site / "reference" / name.with_suffix(".html")
    if name.name == "__init__":
        name, page = name.parent, page.with_name("index.html")
    assert f'id="{".".join(name.parts)}"' in page.read_text(encoding="utf-8")


def test_every_public_name_is_on_the_first_page_of_the_reference(site: Path) -> None:
    page = (site / "reference" / "imbtune" / "index.html").read_text(encoding="utf-8")
    public = [name for name in getattr(imbtune, "__all__", ()) if not name.startswith("_")]
    assert [name for name in public if f'id="imbtune.{name}"' not in page] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_reads_as_on_github(path: Path, site: Path) -> None:
    """mkdocs reads another dialect of Markdown, e.g. a line that begins with `8.` as a list."""
    name = path.relative_to(ROOT).with_suffix(".html")
    page = site / ("index.html" if path.name == "README.md" else name)
    article = re.search(r"<article[^>]*>(.*)</article>", page.read_text("utf-8"), re.DOTALL)
    assert article
    here = re.sub(r'<a class="headerlink".*?</a>', "", article[1])
    github = MarkdownIt("commonmark").enable("table").render(path.read_text(encoding="utf-8"))
    assert without_tags(here) == without_tags(github)
    for tag in ("h2", "li", "td", "code", "a"):
        assert len(re.findall(f"<{tag}[ >]", here)) == len(re.findall(f"<{tag}[ >]", github)), tag


def without_tags(page: str) -> str:
    """The text of a page, without white space."""
    page = re.sub(r"<!--.*?-->|<nav.*?</nav>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    return "".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    """Neither fonts nor scripts, so that it works without a network; links may lead elsewhere."""
    loaded = re.compile(r'<(?:script|img|iframe)[^>]*src="?https?:|<link[^>]*href="?https?:')
    pages = list(site.rglob("*.html"))
    assert pages
    assert [page for page in pages if loaded.search(page.read_text(encoding="utf-8"))] == []


def test_the_files_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w./-]+(?:/|\.(?:py|yml)))`", text)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
