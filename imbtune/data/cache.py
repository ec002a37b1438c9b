"""A cache of decoded data sets, so that each machine decodes a data set once.

A cache entry is one file, `NAME-KEY.images` (:mod:`imbtune.data.cache_file`), which every process
maps into memory. It is written under a lock and then renamed, so that of several processes only one
decodes. An entry is valid for the files that it was read from (paths, sizes, times of change) and
for the code that read them. If these differ, or a checksum fails, the data set is decoded again.
Where the cache cannot be written, the data set is decoded at every start, and a note says so.

When an entry is written, entries that were not used for `UNUSED_DAYS` days are deleted.
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
from typing import TypeVar

from PIL import __version__ as pillow_version

from imbtune.data.cache_file import read_dataset, write_dataset
from imbtune.data.data_source import DataSource, cache_folder, memory_limit
from imbtune.data.file_walk import files_below, is_broken_link, is_hidden
from imbtune.data.images import EncodedPixels
from imbtune.data.splits import Dataset
from imbtune.registry import Value, knobs_of

UNUSED_DAYS = 30

Make = TypeVar("Make", bound=Callable[..., Dataset])


def from_files(*patterns: str) -> Callable[[Make], Make]:
    """Mark a data set for the cache: its result depends only on files and its knobs.

    Args:
        patterns: `Path.glob` patterns of all files that it may read, below its root or the folder
            of its download. A folder stands for all files below it.
    """

    def mark(make: Make) -> Make:
        make.files = patterns  # type: ignore[attr-defined]
        return make

    return mark


def cached(
    name: str, make: Callable[..., Dataset], data_source: DataSource, knobs: Mapping[str, Value]
) -> Dataset:
    """`make(data_source, **knobs)`, from the cache if it has a valid entry.

    The result is not cached where `make` is not marked with :func:`from_files`, where the files
    change meanwhile, or where the cache cannot be written; the last adds a note to the data set.

    Args:
        name: the data set's name, part of the entry's file name.
        make: the registered function.
        data_source: its argument.
        knobs: the knobs to pass. Those that are left out have their defaults.
    """
    if not hasattr(make, "files"):
        return make(data_source, **knobs)
    try:
        path = _entry_path(name, make, data_source, knobs)
        stamp = _stamp(name, make, data_source)
    except (OSError, RuntimeError):  # no home folder, or no permission to read the files
        return make(data_source, **knobs)
    if stamp and (found := _read_entry(path, stamp, data_source)):
        return found
    with _locked(path) as problem:
        # another process may have written the entry since
        if stamp and (found := _read_entry(path, stamp, data_source)):
            return found
        dataset = make(data_source, **knobs)
        after = _stamp(name, make, data_source)
        if not after or stamp not in ("", after):  # the files changed while they were read
            return dataset
        problem = problem or _write_entry(path, dataset, after, data_source)
        if problem:
            note = (
                f"the decoded images cannot be cached in {path.parent} ({problem}), so they are "
                f"decoded at every start: set $IMBTUNE_CACHE to another folder"
            )
            return replace(dataset, notes=(*dataset.notes, note))
        return _read_entry(path, after, data_source) or dataset


def source_files(root: Path, patterns: Iterable[str]) -> Iterator[Path]:
    """The files below `root` that match the patterns, without hidden files; also broken links.

    A pattern that matches a folder stands for all files below it. A `root` that is a file is the
    first result.
    """
    if root.is_file():
        yield root
    for pattern in patterns:
        for found in sorted(root.glob(pattern)):
            if is_hidden(found.name):
                continue
            if found.is_dir():
                yield from files_below(found)
            else:
                yield found


def _entry_path(
    name: str, make: Callable[..., Dataset], data_source: DataSource, knobs: Mapping[str, Value]
) -> Path:
    """The file of the entry: one for each data set, root and values of the knobs."""
    values = {key: knob.default for key, knob in knobs_of(make).items()} | dict(knobs)
    root = str(data_source.root.resolve()) if data_source.root else None
    content = json.dumps([name, root, values], sort_keys=True, allow_nan=False)
    key = hashlib.sha256(content.encode()).hexdigest()
    return cache_folder("decoded") / f"{name}-{key[:16]}.images"


def _stamp(name: str, make: Callable[..., Dataset], data_source: DataSource) -> str:
    """A digest of what an entry is valid for: the source files and the code that reads them.

    Returns:
        SHA-256 in hex over the files' paths, sizes and times, Pillow's version and the code; empty
        where there is no file yet.

    Raises:
        OSError: the files or the code cannot be read.
    """
    root = data_source.root or cache_folder(name)
    listed, any_file = hashlib.sha256(), False
    for path in source_files(root, make.files):  # type: ignore[attr-defined]
        any_file, about = True, path.stat(follow_symlinks=not is_broken_link(path))
        line = f"{path}\0{about.st_size}\0{about.st_mtime_ns}\0{about.st_ctime_ns}\n"
        listed.update(os.fsencode(line))
    listed.update(pillow_version.encode())  # other versions may decode a JPEG differently
    for path in (*sorted(Path(__file__).parent.rglob("*.py")), Path(make.__code__.co_filename)):
        listed.update(path.read_bytes())
    return listed.hexdigest() if any_file else ""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[str]:
    """Lock the entry for this process. Yields why it cannot be locked, or an empty string."""
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


def _write_entry(path: Path, dataset: Dataset, stamp: str, data_source: DataSource) -> str:
    """Write the entry. Returns why it could not be written, or an empty string."""
    if not _suits_memory_limit(dataset):
        return ""
    part = path.with_suffix(".images.part")
    try:
        if shutil.disk_usage(path.parent).free < 2 * _entry_size(dataset):
            return "they would take more than half of the free disk space"
        write_dataset(part, dataset, {"stamp": stamp, "skipping": data_source.skip_corrupt})
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        return error.strerror or str(error)
    _delete_unused(path.parent)
    return ""


def _read_entry(path: Path, stamp: str, data_source: DataSource) -> Dataset | None:
    """The data set of the entry; None where there is no valid and complete entry."""

    def is_valid(about: Mapping[str, object]) -> bool:
        return about["stamp"] == stamp and (data_source.skip_corrupt or not about["skipping"])

    dataset = read_dataset(path, is_valid)
    if not dataset or not _suits_memory_limit(dataset):
        return None
    with contextlib.suppress(OSError):  # the file of another user who shares the folder
        os.utime(path)  # the time of the last use
    return dataset


def _suits_memory_limit(dataset: Dataset) -> bool:
    """Whether its images are encoded exactly if they exceed the current memory limit."""
    parts = (dataset.train.pixels, dataset.test.pixels)
    encoded = any(isinstance(pixels, EncodedPixels) for pixels in parts)
    return encoded == (sum(pixels.nbytes for pixels in parts) > memory_limit())


def _entry_size(dataset: Dataset) -> int:
    """The size of the entry in bytes, approximately."""
    each = [images.pixels for images in (dataset.train, dataset.test)]
    return sum(p.files.nbytes if isinstance(p, EncodedPixels) else p.nbytes for p in each)


def _delete_unused(folder: Path) -> None:
    """Delete old entries, and old temporary files of processes that were killed."""
    oldest = time.time() - UNUSED_DAYS * 86400
    for path in folder.glob("*.images*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
