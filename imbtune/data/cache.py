"""Data sets decoded once a machine: their arrays in a file that every process maps into memory.

An entry is one file, `NAME-KEY.images` (:mod:`imbtune.data.cache_file`). It is renamed into place,
under a lock, so processes that race decode once. It holds for the files that it was read from
(paths, sizes, times of change) and for the code that read them; where these differ, or a checksum
fails, it is made anew. So nothing depends on it: where it cannot be written, a data set is decoded
at every start, which is said in a line.

An entry that nobody has used for `UNUSED` days goes when another one is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import __version__ as pillow_version

from imbtune.data.cache_file import read_dataset, write_dataset
from imbtune.data.images import EncodedPixels
from imbtune.data.source import DataSource, cache_folder, memory_limit
from imbtune.data.splits import Dataset
from imbtune.registry import Value, knobs_of

UNUSED = 30  # days

Make = TypeVar("Make", bound=Callable[..., Dataset])


def from_files(*patterns: str) -> Callable[[Make], Make]:
    """Mark a data set as a function of files alone, worth keeping decoded.

    Args:
        patterns: of all the files, or of folders with everything below, that it may read in its
            root or in the folder of its download; as of `Path.glob`.
    """

    def mark(make: Make) -> Make:
        make.files = patterns  # type: ignore[attr-defined]
        return make

    return mark


def cached(
    name: str, make: Callable[..., Dataset], data_source: DataSource, knobs: Mapping[str, Value]
) -> Dataset:
    """`make(data_source, **knobs)`: from the cache, else loaded and cached.

    A data set that is not marked with `from_files`, or a full disk, is loaded without caching.
    """
    if not hasattr(make, "files"):
        return make(data_source, **knobs)
    try:
        path, stamp = _path(name, make, data_source, knobs), _stamp(name, make, data_source)
    except (OSError, RuntimeError):  # no home folder; files that cannot be looked at
        return make(data_source, **knobs)
    if stamp and (found := _read(path, stamp, data_source)):
        return found
    with _alone(path) as problem:
        if stamp and (found := _read(path, stamp, data_source)):  # another process has just made it
            return found
        dataset = make(data_source, **knobs)
        after = _stamp(name, make, data_source)
        if not after or stamp not in ("", after):  # changed while it was read
            return dataset
        problem = problem or _keep(path, dataset, after, data_source)
        if problem:
            note = (
                f"the decoded images cannot be kept in {path.parent} ({problem}) and are decoded at"
                f" every start: $IMBTUNE_CACHE names another place"
            )
            return replace(dataset, notes=(*dataset.notes, note))
        return _read(path, after, data_source) or dataset


def source_files(root: Path, patterns: Iterable[str]) -> Iterator[Path]:
    """The files that the patterns name, hidden ones left out; the root itself where it is one."""
    if root.is_file():
        yield root
    for pattern in patterns:
        for found in sorted(root.glob(pattern)):
            if found.name.startswith("."):
                continue
            if not found.is_dir():
                yield found
                continue
            for below, folders, names in os.walk(found, followlinks=True):
                folders.sort()
                yield from (Path(below) / n for n in sorted(names) if not n.startswith("."))


def _path(
    name: str, make: Callable[..., Dataset], data_source: DataSource, knobs: Mapping[str, Value]
) -> Path:
    """The entry's file: one for each data set, place and values of its knobs."""
    given = {key: parameter.default for key, parameter in knobs_of(make).items()} | dict(knobs)
    root = str(data_source.root.resolve()) if data_source.root else None
    key = hashlib.sha256(json.dumps([name, root, given], sort_keys=True).encode()).hexdigest()
    return cache_folder("decoded") / f"{name}-{key[:16]}.images"


def _stamp(name: str, make: Callable[..., Dataset], data_source: DataSource) -> str:
    """What an entry holds for: the source files as they are now, and the code that reads them.

    Empty where there is no file yet. OSError where they, or the code, cannot be read.
    """
    root = data_source.root or cache_folder(name)
    listed, any_file = hashlib.sha256(), False
    for path in source_files(root, make.files):  # type: ignore[attr-defined]
        any_file, about = True, path.stat()
        line = f"{path}\0{about.st_size}\0{about.st_mtime_ns}\0{about.st_ctime_ns}\n"
        listed.update(os.fsencode(line))
    listed.update(pillow_version.encode())  # another version may decode a JPEG otherwise
    for path in (*sorted(Path(__file__).parent.glob("*.py")), Path(make.__code__.co_filename)):
        listed.update(path.read_bytes())
    return listed.hexdigest() if any_file else ""


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[str]:
    """Hold the entry for this process; yields why that cannot be, or nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("a")
    except OSError as error:
        yield error.strerror or str(error)
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:  # a file system without locks
            yield error.strerror or str(error)
            return
        yield ""


def _keep(path: Path, dataset: Dataset, stamp: str, data_source: DataSource) -> str:
    """Write the entry; why it could not be written, or nothing."""
    if not _is_as_read(dataset):
        return ""
    part = path.with_suffix(".images.part")
    try:
        if shutil.disk_usage(path.parent).free < 2 * _room(dataset):
            return "they would take more than half of the room that the disk has"
        write_dataset(part, dataset, {"stamp": stamp, "skipping": data_source.skip_corrupt})
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        return error.strerror or str(error)
    _clean(path.parent)
    return ""


def _read(path: Path, stamp: str, data_source: DataSource) -> Dataset | None:
    """The data set of the entry; None where there is none that holds and is whole."""

    def holds(about: Mapping[str, Any]) -> bool:
        return about["stamp"] == stamp and (data_source.skip_corrupt or not about["skipping"])

    dataset = read_dataset(path, holds)
    if not dataset or not _is_as_read(dataset):
        return None
    with contextlib.suppress(OSError):  # of another user, who shares the folder
        os.utime(path)  # used today
    return dataset


def _is_as_read(dataset: Dataset) -> bool:
    """Whether its images are in memory just where they may be, as if they were read now."""
    parts = (dataset.train.pixels, dataset.test.pixels)
    encoded = any(isinstance(pixels, EncodedPixels) for pixels in parts)
    return encoded == (sum(pixels.nbytes for pixels in parts) > memory_limit())


def _room(dataset: Dataset) -> int:
    """Bytes of the entry, nearly."""
    each = [images.pixels for images in (dataset.train, dataset.test)]
    return sum(p.files.nbytes if isinstance(p, EncodedPixels) else p.nbytes for p in each)


def _clean(folder: Path) -> None:
    """Drop what nobody has used for long, and what a kill has left."""
    oldest = time.time() - UNUSED * 86400
    for path in folder.glob("*.images*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
