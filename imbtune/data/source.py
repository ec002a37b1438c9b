"""How a data set is read: from where, how strictly, and how much memory its images may take."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from imbtune.errors import DataError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
UNITS |= {f"{unit}I": 1024**i for i, unit in enumerate("KMGT", 1)}


@dataclass(frozen=True)
class DataSource:
    """What every data set is made with.

    root: the folder or file to read from; None is the download cache. skip_corrupt: go on without
    images that cannot be read.
    """

    root: Path | None = None
    skip_corrupt: bool = False

    def root_folder(self, name: str) -> Path | None:
        """The root, which must be a folder for the data set `name`."""
        if self.root and not self.root.is_dir():
            raise DataError(f"{self.root} is a file: the data set '{name}' is read from a folder")
        return self.root

    def required_root(self, name: str) -> Path:
        """The root, which must be given for the data set `name`."""
        if self.root is None:
            raise DataError(
                f"the data set '{name}' is your own: say where, --data or $IMBTUNE_DATA"
            )
        return self.root


def data_root(given: Path | None) -> Path | None:
    """Where to read from: `--data`, else `$IMBTUNE_DATA`, else None (the download cache).

    Raises:
        DataError: neither a folder that can be looked into nor a file that can be read.
    """
    chosen = given or (Path(env) if (env := os.environ.get("IMBTUNE_DATA")) else None)
    if chosen is None:
        return None
    try:
        if chosen.is_file():
            chosen.open("rb").close()
        else:
            os.scandir(f"{chosen}/.").close()  # the dot asks for leave to read the files in it, too
    except OSError as error:
        raise DataError(
            f"no data folder {chosen} ({error.strerror}): give --data or $IMBTUNE_DATA a folder, "
            f"or a .npz file"
        ) from error
    return chosen.absolute()  # Ray's workers run in another folder


def cache_folder(name: str) -> Path:
    """A folder of this machine's cache: $IMBTUNE_CACHE, else in the user's own cache folder."""
    if given := os.environ.get("IMBTUNE_CACHE"):
        return Path(given).absolute() / name
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "imbtune" / name


def memory_limit() -> int:
    """Bytes that decoded images may take: $IMBTUNE_MEMORY, else half of the memory available.

    The other half is for the splits, which are copies.
    """
    given = os.environ.get("IMBTUNE_MEMORY", "").strip()
    if not given:
        return _memory_available() // 2
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", given.upper())
    if not match or match[2] not in UNITS:
        raise DataError(f"$IMBTUNE_MEMORY={given} is no size: give one such as 2GB or 500MB")
    return int(float(match[1]) * UNITS[match[2]])


def describe_size(size: int) -> str:
    """Bytes in the unit that reads best."""
    unit = next((u for u in ("T", "G", "M", "K") if size >= UNITS[u]), "")
    return f"{size / UNITS[unit]:.3g} {unit}B"


def _memory_available() -> int:
    """What the system could still give, and a container's own limit."""
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
