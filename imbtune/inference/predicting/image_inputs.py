"""The images that `imbtune predict` is given: a folder, a list of paths, one file, or Parquet.

They are found one after another and not held, so there may be any number of them. What cannot be
read becomes an image with its problem; it ends nothing.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from imbtune.data.file_walk import files_below, hidden_files_below, is_special
from imbtune.data.images import text_of
from imbtune.data.readers.hf_tables import IMAGE_COLUMNS, holds_bytes
from imbtune.data.readers.image_index import is_image
from imbtune.errors import ConfigError, DataError, first_line, shown, some_of
from imbtune.paths import local_path
from imbtune.text_encoding import MARK_BYTES, encoding_of

LISTS = (".txt", ".lst")
PARQUET = ".parquet"
COLUMNS = 10  # of a Parquet file without images that a message names
NAMED = 3  # files without images that a message names
ROWS = 16  # of a Parquet file that are read at a time
LONGEST_LINE = 8192  # characters of a list's line; a path is shorter
GIVE = (
    "give a folder of images, one image, a .txt or .lst file with a path per line, or a Parquet "
    "file"
)


@dataclass(frozen=True)
class ImageItem:
    """One image that is to be predicted.

    Attributes:
        path: its path, or file and row in Parquet; with escapes for bytes that are not UTF-8.
        file: its path or its encoded content; empty where there is a problem.
        problem: why it cannot be read; empty unless that is known before it is opened.
    """

    path: str
    file: str | bytes
    problem: str = ""


@dataclass(frozen=True)
class ImageInput:
    """Where images come from.

    Attributes:
        place: the folder or file, for messages.
        count: how many images there are; None where that is known only at the end.
        items: begins to read them.
        notes: messages for the user.
    """

    place: str
    count: int | None
    items: Callable[[], Iterator[ImageItem]]
    notes: tuple[str, ...] = ()


def images_at(given: object) -> ImageInput:
    """The images at a path, or those of a sequence of paths.

    Args:
        given: a folder, which is searched with the folders below; an image file; a text file with a
            path in each line, from the current folder or else from that of the text file, in which
            blank lines and those that begin with `#` are left out; a Parquet
            file with encoded images, or a folder that has such files and no images.

    Raises:
        ConfigError: no path, or a list with something else.
        DataError: there is nothing there, or no image; or it cannot be read.
    """
    if not isinstance(given, Iterable | Path) or isinstance(given, bytes):
        raise ConfigError(f"images {shown(given)}: give a path, or a list of paths")
    if not isinstance(given, str | Path):
        paths = [Path(local_path("an image", path)) for path in given]
        if not paths:
            raise DataError(f"no images are given: {GIVE}")
        return ImageInput(f"{len(paths):,} paths", len(paths), lambda: map(_at_path, paths))
    path = Path(local_path("IMAGES", given))
    try:
        if path.is_dir():
            return _folder(path)
        if not path.exists():
            raise DataError(f"there is nothing at {path}: {GIVE}")
        if not path.is_file():
            raise DataError(f"{path} is no regular file: {GIVE}")
        ending = path.suffix.lower()
        if ending == PARQUET:
            return _parquet(path, [path], ())
        if ending in LISTS:
            return _list(path)
    except OSError as error:
        raise DataError(
            f"cannot read {error.filename or path} ({error.strerror or error}): check it"
        ) from error
    if is_image(path):
        return ImageInput(str(path), 1, lambda: iter([_at_path(path)]))
    raise DataError(f"{path} has the ending of no image that can be read: {GIVE}")


def _at_path(path: Path, name: str | None = None) -> ImageItem:
    """The image file at a path; with a problem unless it is a regular file with content."""
    shown = text_of(name if name is not None else str(path))
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null byte
        reason = getattr(error, "strerror", None) or first_line(error)
        return ImageItem(shown, "", reason)
    if stat.S_ISDIR(status.st_mode):
        return ImageItem(shown, "", "it is a folder")
    if not stat.S_ISREG(status.st_mode):  # a pipe may never end
        return ImageItem(shown, "", "it is no regular file")
    if not status.st_size:
        return ImageItem(shown, "", "the file is empty")
    return ImageItem(shown, str(path))


def _folder(root: Path) -> ImageInput:
    """The image files below a folder, or the rows of its Parquet files if it has no images."""
    images, parquet, others, special, left = 0, list[Path](), list[Path](), list[Path](), 0
    for path in files_below(root):
        if is_special(path):
            special.append(path)
        elif is_image(path):
            images += 1
        elif path.suffix.lower() == PARQUET:
            parquet.append(path)
        else:
            left += 1
            others += [path] * (len(others) < NAMED)
    if not images and parquet:
        return _parquet(root, parquet, ())
    hidden = hidden_files_below(root)
    dotted = f"{hidden:,} hidden file{'s' * (hidden > 1)}"
    if not images:
        has = ", ".join([_counted(others, left)] * bool(others) + [dotted] * bool(hidden))
        has = f" (it has {has})" if has else ""
        raise DataError(f"{root} has no images{has}: {GIVE}")

    def items() -> Iterator[ImageItem]:
        paths = (path for path in files_below(root) if is_image(path) and not is_special(path))
        return map(_at_path, paths)

    left += len(parquet)
    named = _counted([*parquet[:NAMED], *others], left)
    notes = (f"not read, since they have other endings than images: {named}",) * bool(left)
    notes += (f"not read, since their names begin with a dot: {dotted}",) * bool(hidden)
    if special:
        named = _counted(special, len(special))
        notes += (f"not read, since no regular file (a named pipe, a socket or a device): {named}",)
    return ImageInput(str(root), images, items, notes)


def _counted(files: Sequence[Path], count: int) -> str:
    """The names of the first of so many files, and how many more there are."""
    return some_of((text_of(path.name) for path in files), NAMED, count)


def _list(path: Path) -> ImageInput:
    """The image files that a text file lists."""
    count = comments = 0
    for line in _lines(path):
        comments += _is_comment(line)
        count += not _is_comment(line)
    if not count:
        raise DataError(f"{path} lists no images: write a path into each line")

    def items() -> Iterator[ImageItem]:
        return (_listed(path, line) for line in _lines(path) if not _is_comment(line))

    lines = f"{comments:,} line{'s' * (comments > 1)} of {path.name}"
    notes = (f"not read, since they begin with #: {lines}",) * bool(comments)
    return ImageInput(str(path), count, items, notes)


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file that are not blank, with the bytes that are not UTF-8 kept."""
    with path.open("rb") as start:
        encoding = encoding_of(start.read(MARK_BYTES))
    try:
        with path.open(encoding=encoding, errors="surrogateescape", newline=None) as file:
            while line := file.readline(LONGEST_LINE):
                if "\0" in line:
                    raise DataError(f"{path} is no text file: {GIVE}")
                if len(line) == LONGEST_LINE:
                    raise DataError(f"{path} has a line that is too long for a path: {GIVE}")
                if (text := line.rstrip("\n")) and text.strip():
                    yield text
    except UnicodeError as error:  # UTF-8 raises none
        raise DataError(f"{path} is not text in {encoding.upper()}: save it as UTF-8") from error


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _listed(path: Path, line: str) -> ImageItem:
    r"""The image of a line: from the current folder, or else from that of the list.

    A file whose name is the whole line comes first. Else spaces and quotes around the path do not
    count, `~/` is the home folder, and `\` stands for `/`, as Windows writes it.
    """
    plain = line.strip()
    if len(plain) > 2 and plain[0] == plain[-1] and plain[0] in "\"'":
        plain = plain[1:-1]
    for name in dict.fromkeys((line, plain)):
        texts = [name, name.replace("\\", "/")]
        texts += [str(Path.home() / name[2:])] if name.startswith("~/") else []
        tried = [folder / text for text in dict.fromkeys(texts) for folder in (Path(), path.parent)]
        if found := next(filter(_is_there, tried), None):
            return _at_path(found, name)
    return _at_path(tried[-1], plain)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long
        return False


def _parquet(place: Path, files: Iterable[Path], notes: tuple[str, ...]) -> ImageInput:
    """The encoded images in the rows of Parquet files."""
    found, count = list[tuple[Path, str]](), 0
    for path in files:
        try:
            schema, rows = pq.read_schema(path), pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"{path} is not a complete Parquet file ({first_line(error)}): get it again"
            ) from error
        found.append((path, _image_column(schema, path)))
        count += rows
    if not count:
        raise DataError(f"{place} has no rows: {GIVE}")

    def items() -> Iterator[ImageItem]:
        for path, column in found:
            yield from _rows(path, column)

    return ImageInput(str(place), count, items, notes)


def _image_column(schema: pa.Schema, path: Path) -> str:
    """The column of encoded images: by its name, or the only one with bytes."""
    holding: list[str] = [field.name for field in schema if _holds_images(field.type)]
    lower = {name.lower(): name for name in reversed(holding)}
    if found := next((lower[name] for name in IMAGE_COLUMNS if name in lower), None):
        return found
    if len(holding) == 1:
        return holding[0]
    columns = some_of((f"{text_of(field.name)} ({field.type})" for field in schema), COLUMNS)
    raise DataError(
        f"{path} has the columns {columns}: it needs one of encoded images, such as "
        f"'{IMAGE_COLUMNS[0]}', of bytes or struct(bytes, path); paths of files go into a .txt file"
    )


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_images(kind.field(index).type)
    return holds_bytes(kind)


def _rows(path: Path, column: str) -> Iterator[ImageItem]:
    """The images of one Parquet file."""
    number = 0
    try:
        with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS, columns=[column]):
                for value in batch.column(0).to_pylist():
                    yield _in_row(value, f"{path}, row {number}")
                    number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read from row {number} on ({first_line(error)}): get it again"
        ) from error


def _in_row(value: object, where: str) -> ImageItem:
    """The image in a row of Parquet."""
    has_path = False
    if isinstance(value, dict):
        inner = value.get("path")
        has_path = isinstance(inner, str) and bool(inner)
        where = str(inner) if has_path else where
        value = value.get("bytes")
    if not isinstance(value, bytes) or not value:
        has = ", only a path" if has_path else ""
        return ImageItem(where, "", f"there is no image in the row{has}")
    return ImageItem(where, value)
