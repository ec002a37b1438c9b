"""Where a data set is read from, and how much memory its images may take."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from imbtune.errors import DataError
from imbtune.paths import local_path

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
UNITS |= {f"{unit}I": 1024**i for i, unit in enumerate("KMGT", 1)}


@dataclass(frozen=True)
class DataSource:
    """Where a data set is read from. Every data set function gets one.

    Args:
        root: the folder or file to read from; None for the download cache.
        skip_corrupt: leave out images that cannot be read, instead of failing.
    """

    root: Path | None = None
    skip_corrupt: bool = False

    def root_folder(self, name: str) -> Path | None:
        """The root, or DataError if it is a file. `name` is the data set, for the message."""
        if self.root and not self.root.is_dir():
            raise DataError(f"{self.root} is a file: the data set '{name}' is read from a folder")
        return self.root

    def required_root(self, name: str) -> Path:
        """The root, or DataError if it is None. `name` is the data set, for the message."""
        if self.root is None:
            raise DataError(f"the data set '{name}' needs a path: set --data or $IMBTUNE_DATA")
        return self.root


def data_root(path: Path | None) -> Path | None:
    """The absolute path to read from: `path`, else `$IMBTUNE_DATA`, else None (download cache).

    Args:
        path: the value of `--data`, if it was given.

    Raises:
        DataError: the path is neither a readable folder nor a readable file.
        ConfigError: `$IMBTUNE_DATA` is not a path on this machine.
    """
    chosen = path
    if not chosen and (given := os.environ.get("IMBTUNE_DATA")):
        chosen = Path(local_path("$IMBTUNE_DATA", given))
    if chosen is None:
        return None
    try:
        if chosen.is_file():
            chosen.open("rb").close()
        else:
            os.scandir(
                f"{chosen}/."
            ).close()  # with the dot: checks the permission to open files, too
    except OSError as error:
        raise DataError(
            f"no data folder {chosen} ({error.strerror}): set --data or $IMBTUNE_DATA to a folder "
            f"or a .npz file"
        ) from error
    return chosen.absolute()  # Ray's workers run in another folder


def cache_folder(name: str) -> Path:
    """The folder `name` of the cache: in $IMBTUNE_CACHE, else in the user's cache folder."""
    if cache := os.environ.get("IMBTUNE_CACHE"):
        return Path(local_path("$IMBTUNE_CACHE", cache)).absolute() / name
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "imbtune" / name


def memory_limit() -> int:
    """The limit for decoded images in bytes: $IMBTUNE_MEMORY, else half of the available memory.

    The other half is for the splits, which are copies.

    Raises:
        DataError: $IMBTUNE_MEMORY is not a size.
    """
    limit = os.environ.get("IMBTUNE_MEMORY", "").strip()
    if not limit:
        return _memory_available() // 2
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", limit.upper())
    if not match or match[2] not in UNITS:
        raise DataError(f"$IMBTUNE_MEMORY={limit} is not a size: use a value such as 2GB or 500MB")
    return int(float(match[1]) * UNITS[match[2]])


def describe_size(size: int) -> str:
    """A number of bytes with a suitable unit, such as 1.5 GB."""
    unit = next((u for u in ("T", "G", "M", "K") if size >= UNITS[u]), "")
    return f"{size / UNITS[unit]:.3g} {unit}B"


def _memory_available() -> int:
    """The available memory in bytes, within the limit of a container."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        limits += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
        group = Path("/sys/fs/cgroup")
        used = int((group / "memory.current").read_text(encoding="utf-8"))
        limits.append(int((group / "memory.max").read_text(encoding="utf-8")) - used)
    except (OSError, ValueError):  # not Linux, no container, or "max"
        pass
    return max(0, min(limits, default=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
