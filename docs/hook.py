"""What the site has beside the pages in docs/: see `hooks` in mkdocs.yml.

Every file keeps its path in the repository (README.md, docs/search.md), so that a relative link
works both on GitHub and in the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS, PACKAGE = ROOT / "docs", ROOT / "imbtune"
COMMAND_LINE = PACKAGE / "cli"  # not in the reference: `imbtune --help` documents it
LINK = re.compile(r"\]\(([^)#:\s]+)")  # the path of a relative link or of an image


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's pages, the files that they link to, and the reference."""
    for file in list(files):
        if file.src_dir and Path(file.src_dir) == DOCS:
            files.remove(file)  # it comes back below, as docs/NAME
    pages = {*ROOT.glob("*.md"), *DOCS.rglob("*.md")}
    for path in sorted(pages | linked_files(pages)):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for section in config.nav or []:
        if "Reference" in section:
            section["Reference"] = add_package(PACKAGE, files, config)
    return files


def linked_files(pages: set[Path]) -> set[Path]:
    """What the pages link to inside the repository: images, the license, examples."""
    links = {page.parent / link for page in pages for link in LINK.findall(page.read_text("utf-8"))}
    paths = {link.resolve() for link in links if link.is_file()}
    return {path for path in paths if path.is_relative_to(ROOT)}


def add_package(folder: Path, files: Files, config: MkDocsConfig) -> list[Any]:
    """Add the pages of a package and of all that is in it; returns their navigation."""
    nav: list[Any] = [add_module(folder, "/index.md", files, config)]
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py" and not path.stem.startswith("_"):
            nav.append({path.stem: add_module(path.with_suffix(""), ".md", files, config)})
        elif (path / "__init__.py").is_file() and path != COMMAND_LINE:
            nav.append({path.name: add_package(path, files, config)})
    return nav


def add_module(path: Path, ending: str, files: Files, config: MkDocsConfig) -> str:
    """Add the page that mkdocstrings fills with a module's docstrings; returns the page's name."""
    module = path.relative_to(ROOT)
    name, content = f"reference/{module.as_posix()}{ending}", f"::: {'.'.join(module.parts)}\n"
    files.append(File.generated(config, name, content=content))
    return name
