"""All image files below a folder, found by the names that other files give them."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from pathlib import Path, PurePosixPath

from imbtune.data.decoding import ENDINGS
from imbtune.data.file_walk import files_below
from imbtune.data.readers.split_names import quoted, split_of
from imbtune.errors import DataError


def is_image(path: Path) -> bool:
    """Whether the file has an ending of an image format."""
    return path.suffix.lower() in ENDINGS


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

        Raises:
            DataError: several files have that name.
        """
        parts = [_key(part) for part in PurePosixPath(name.replace("\\", "/")).parts]
        found = self._by_name.get(parts[-1], []) if parts else []
        if len(found) > 1:  # those with that very path, that end of a path, in a split's folder
            wanted = folder / name.replace("\\", "/")
            found = [path for path in found if path == wanted] or found
            ends = [[_key(part) for part in path.parts[-len(parts) :]] for path in found]
            found = [path for path, end in zip(found, ends, strict=True) if end == parts] or found
            found = [path for path in found if split in self._splits(path)] or found
        if len(found) > 1:
            raise DataError(
                f"'{name}' of {folder} is the name of several files, {quoted(found, 3)}: "
                f"write their paths"
            )
        return found[0] if found else None

    def _splits(self, path: Path) -> set[str | None]:
        """The splits that the folders of a file name."""
        return {split_of(name) for name in path.relative_to(self.root).parts[:-1]}


def _key(name: str) -> str:
    """What spellings of a name have in common: case and Unicode form do not count."""
    return unicodedata.normalize("NFC", name.strip()).casefold()
