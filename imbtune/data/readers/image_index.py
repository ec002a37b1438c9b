"""All image files below a folder, found by the names that other files give them."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Hashable
from pathlib import Path, PurePosixPath

from imbtune.data.decoding import ENDINGS
from imbtune.data.file_walk import files_below
from imbtune.data.readers.split_names import quoted, split_of
from imbtune.errors import DataError


def is_image(path: Path) -> bool:
    """Whether the file has an ending of an image format."""
    return path.suffix.lower() in ENDINGS


def identity(path: Path) -> Hashable:
    """A key that all links to one file share; the path itself where there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a null byte
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else path.resolve()


class ImageIndex:
    """The image files below a folder, by name.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = sorted((path for path in files_below(root) if is_image(path)), key=str)
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            for key in {_key(path.name), _key(path.stem)}:
                self._by_name[key].append(path)

    def find(self, name: str, folder: Path, split: str | None) -> Path | None:
        r"""The image file that a name stands for; None if there is none.

        Args:
            name: a file name, also without its ending, or a path with `/` or `\`.
            folder: the folder of the file that has the name; relative paths start there.
            split: the image's split. It decides between files of the same name.

        A name with folders stands for a file in folders of these names only.

        Raises:
            DataError: several files have that name.
        """
        path_of_name = posixpath.normpath(name.replace("\\", "/")) if name else "."
        parts = [_key(part) for part in PurePosixPath(path_of_name).parts if part != ".."]
        found = self._by_name.get(parts[-1], []) if parts else []
        wanted = os.path.normpath(folder / path_of_name)
        if here := [path for path in found if os.path.normpath(path) == wanted]:
            return here[0]
        found = [path for path in found if self._has_folders(path, parts[:-1])]
        if len(found) > 1:  # those with that very name, in a split's folder
            found = [path for path in found if _key(path.name) == parts[-1]] or found
            found = [path for path in found if split in self._splits(path)] or found
        if len(found) > 1:
            raise DataError(
                f"'{name}' of {folder} is the name of several files, {quoted(found, 3)}: "
                f"write their paths"
            )
        return found[0] if found else None

    def _has_folders(self, path: Path, folders: list[str]) -> bool:
        """Whether the path of an image ends in these folders.

        An absolute path, maybe of another computer, must end in the path below the root instead.
        """
        own = [_key(part) for part in path.parts[:-1]]
        if folders and (folders[0] == "/" or folders[0].endswith(":")):
            own = [_key(part) for part in path.relative_to(self.root).parts[:-1]]
            return not own or folders[-len(own) :] == own
        return not folders or own[-len(folders) :] == folders

    def _splits(self, path: Path) -> set[str | None]:
        """The splits that the folders of a file name."""
        return {split_of(name) for name in path.relative_to(self.root).parts[:-1]}


def _key(name: str) -> str:
    """What spellings of a name have in common: case and Unicode form do not count."""
    return unicodedata.normalize("NFC", name.strip()).casefold()
