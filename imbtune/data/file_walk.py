"""Files below a folder, without hidden ones, and without following links in circles."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

# Made by operating systems and tools, lower case. Names that start with a dot are hidden, too.
TOOL_FOLDERS = {
    *("__macosx", "__pycache__", "@eadir", "@recycle", "@recently-snapshot", "#recycle"),
    *("#snapshot", "$recycle.bin", "system volume information", "lost+found"),
}
TOOL_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}


def is_hidden(name: str) -> bool:
    """Whether the user did not make the file or folder: hidden ones, and those of tools."""
    return name.startswith(".") or name.lower() in TOOL_FOLDERS | TOOL_FILES


def is_special(path: Path) -> bool:
    """Whether it is a named pipe, a socket or a device, also by a link.

    Nothing may open these: a pipe without a writer makes the process wait for ever, and some
    devices never end.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # nothing there, a link to itself, or a null byte
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_broken_link(path: Path) -> bool:
    """Whether it is a link that leads nowhere, or to itself."""
    return path.is_symlink() and not path.exists()


def any_case(pattern: str) -> str:
    """A glob pattern that matches in upper and lower case."""
    return "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in pattern)


def folders_in(root: Path) -> list[Path]:
    """The folders directly in `root`, sorted by name, without hidden ones.

    Raises:
        OSError: `root` cannot be read.
    """
    return sorted(p for p in root.iterdir() if p.is_dir() and not is_hidden(p.name))


def files_in(root: Path) -> list[Path]:
    """The files directly in `root`, sorted by name, without hidden ones.

    Special files (:func:`is_special`) are among them; links that lead nowhere are not.

    Raises:
        OSError: `root` cannot be read.
    """
    return sorted(
        p for p in root.iterdir() if not is_hidden(p.name) and (p.is_file() or is_special(p))
    )


def files_below(folder: Path, not_into: Iterable[Path] = ()) -> Iterator[Path]:
    """All files in the folder and below, without hidden files and folders.

    They come in the order of their names: first those of a folder, then those of the folders in it.

    Links to folders are followed, but each folder is entered once, and never one that contains
    `folder`: such a link would list the same files again and again. Links that lead nowhere or to
    themselves are listed, and so are special files (:func:`is_special`).

    Args:
        folder: where to start.
        not_into: resolved paths of folders that links may not lead into.

    Raises:
        OSError: a folder cannot be read.
    """
    start = folder.resolve()
    entered = {start, *start.parents, *not_into}
    waiting = [folder]
    while waiting:
        below, inner = waiting.pop(), list[Path]()
        with os.scandir(below) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = below / entry.name
                if is_hidden(entry.name):
                    continue
                if path.is_dir() if entry.is_symlink() else entry.is_dir():
                    target = path.resolve()
                    if target not in entered:
                        entered.add(target)
                        inner.append(path)
                else:
                    yield path
        waiting += reversed(inner)  # the last one is next


def hidden_files_below(folder: Path) -> int:
    """How many files :func:`files_below` leaves out for a name with a dot, in folders it enters.

    Files that systems and tools make, such as `.DS_Store`, are not counted.
    """
    entered = {folder, *(path.parent for path in files_below(folder))}
    found = 0
    for below in entered:
        with os.scandir(below) as entries:
            found += sum(
                entry.name.startswith(".")
                and not entry.name.startswith("._")
                and entry.name.lower() != ".ds_store"
                and entry.is_file()
                for entry in entries
            )
    return found
