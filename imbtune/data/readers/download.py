"""Downloads to the cache: torchvision's data sets, and archives with a known MD5 sum."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

from numpy.exceptions import VisibleDeprecationWarning

from imbtune.data.data_source import DataSource, cache_folder
from imbtune.data.readers.source_data import check_regular
from imbtune.errors import DataError
from imbtune.progress.reporter import current_reporter
from imbtune.progress.run_events import Downloaded

DatasetT = TypeVar("DatasetT")

PARTS = 10  # reports of one download
SILENT_SECONDS = 30.0  # between two reports at most
UNKNOWN_STEP = 50e6  # bytes between two reports where the whole size is not known
LAYOUTS = ("*.mat", "cifar-*/*", "FashionMNIST/raw/*")  # files that torchvision opens
# What torchvision raises for broken files
BROKEN = (RuntimeError, ValueError, TypeError, AssertionError, LookupError)


def torchvision_data(
    name: str,
    data_source: DataSource,
    layout: str,
    torchvision_class: Callable[..., DatasetT],
    **arguments: bool | str,
) -> DatasetT:
    """torchvision's data set object, read from the root or, if there is none, downloaded.

    Args:
        name: the name of the data set and of its folder in the cache.
        data_source: where to read from.
        layout: the files that the root must contain, for messages.
        torchvision_class: the class of the data set.
        arguments: arguments of that class, such as `train=True`.

    Raises:
        DataError: the download fails, or files are missing or broken.
    """
    root = data_source.root_folder(name)
    folder = root or cache_folder(name)
    for path in (path for pattern in LAYOUTS for path in folder.glob(pattern)):
        check_regular(path)
    try:
        with warnings.catch_warnings():
            # NumPy 2.4.0 to 2.4.4 warn about the integer `align` in old pickles such as CIFAR's
            warnings.filterwarnings("ignore", r"dtype\(\): align", VisibleDeprecationWarning)
            with reported_downloads(name):
                return torchvision_class(str(folder), download=root is None, **arguments)
    except (OSError, HTTPException) as error:
        if root is None:
            raise _no_download(name, folder, error) from error
        raise DataError(
            f"could not read {name} in {folder} ({error}): give another folder with --data"
        ) from error
    except BROKEN as error:
        if root is not None:
            raise DataError(
                f"{folder} has no complete {name}: it needs train-*.parquet or {layout}"
            ) from error
        # The MNIST classes raise RuntimeError for network errors, too
        if "Error downloading" in str(error) and "corrupted" not in str(error):
            raise _no_download(name, folder, error) from error
        raise _broken(name, folder) from error


@contextlib.contextmanager
def reported_downloads(name: str) -> Iterator[None]:
    """Report torchvision's downloads as the progress of the work, instead of its own bar.

    Its bar writes carriage returns, also into files, and torchvision has no way to replace it but
    the name under which its module holds it.

    Args:
        name: of the data set.
    """
    from torchvision.datasets import utils

    own = utils.tqdm
    utils.tqdm = functools.partial(_Download, name)
    try:
        yield
    finally:
        utils.tqdm = own


class _Download:
    """Takes the calls that torchvision makes of its bar, one bar for each file.

    Args:
        name: of the data set.
        total: bytes; None where the server does not say.
    """

    def __init__(self, name: str, total: int | None = None, **_: object) -> None:
        self._name, self._whole, self._size = name, total, 0
        self._reporter = current_reporter()
        self._began = self._reporter.now()
        self._told, self._told_at = 0, self._began

    def __enter__(self) -> _Download:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, size: int) -> None:
        """Report about every tenth, or every `SILENT_SECONDS`, and the end."""
        self._size += size
        now = self._reporter.now()
        step = self._whole / PARTS if self._whole else UNKNOWN_STEP
        is_due = self._size - self._told >= step or now - self._told_at >= SILENT_SECONDS
        if is_due or self._size == self._whole:
            self._told, self._told_at = self._size, now
            seconds = now - self._began
            self._reporter.tell(Downloaded(now, self._name, self._size, self._whole, seconds))


def fetch_archive(name: str, url: str, md5: str) -> Path:
    """The folder in the cache with the unpacked archive, which is downloaded if it is missing.

    Args:
        name: the name of that folder.
        url: the archive's address.
        md5: its MD5 sum in hex.

    Raises:
        DataError: the download fails or is broken.
    """
    from torchvision.datasets.utils import download_and_extract_archive

    folder = cache_folder(name)
    part = folder.with_name(f"{name}.part")  # renamed when it is complete
    if folder.is_dir():
        return folder
    try:
        with reported_downloads(name):
            download_and_extract_archive(url, str(part), md5=md5, remove_finished=True)
        part.rename(folder)
    except (OSError, HTTPException) as error:
        raise _no_download(name, part, error) from error
    except RuntimeError as error:
        raise _broken(name, part) from error
    return folder


def _no_download(name: str, folder: Path, error: Exception) -> DataError:
    """The error for a failed download. Removes the empty folders that it left."""
    for empty in (*sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True), folder):
        with contextlib.suppress(OSError):
            empty.rmdir()
    return DataError(f"could not download {name} to {folder} ({error}): give a folder with --data")


def _broken(name: str, folder: Path) -> DataError:
    """The error for a download that is incomplete or has a wrong MD5 sum."""
    return DataError(
        f"the download of {name} in {folder} is broken: delete that folder and try again, or give "
        f"a folder with --data"
    )
