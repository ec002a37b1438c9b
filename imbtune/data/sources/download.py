"""Downloads to the cache: torchvision's own, and archives of known MD5 sum."""

from __future__ import annotations

import contextlib
import warnings
from http.client import HTTPException
from pathlib import Path
from typing import Any

from numpy.exceptions import VisibleDeprecationWarning

from imbtune.data.source import DataSource, cache_folder
from imbtune.errors import DataError

# What torchvision raises of files that are not what they should be
BROKEN = (RuntimeError, ValueError, TypeError, AssertionError, LookupError)


def torchvision_data(
    name: str, data_source: DataSource, layout: str, torchvision_class: Any, **arguments: Any
) -> Any:
    """torchvision's data set object, from the root, else downloaded to the cache.

    Args:
        layout: what the root must hold, for messages.
        arguments: for torchvision's class, such as `train=True`.
    """
    root = data_source.root_folder(name)
    folder = root or cache_folder(name)
    try:
        with warnings.catch_warnings():
            # NumPy 2.4.0 to 2.4.4 warn of the integer `align` in pickles as old as CIFAR's
            warnings.filterwarnings("ignore", r"dtype\(\): align", VisibleDeprecationWarning)
            return torchvision_class(str(folder), download=root is None, **arguments)
    except (OSError, HTTPException) as error:
        if root is None:
            raise _no_download(name, folder, error) from error
        raise DataError(
            f"could not read {name} in {folder} ({error}): give a folder with --data"
        ) from error
    except BROKEN as error:
        if root is not None:
            raise DataError(
                f"{folder} holds no whole {name}: neither train-*.parquet nor {layout}"
            ) from error
        # Its MNIST classes wrap whatever happened on the network
        if "Error downloading" in str(error) and "corrupted" not in str(error):
            raise _no_download(name, folder, error) from error
        raise _broken(name, folder) from error


def fetch_archive(name: str, url: str, md5: str) -> Path:
    """The cache's folder with the unpacked archive, which is downloaded where it is not there."""
    from torchvision.datasets.utils import download_and_extract_archive

    folder = cache_folder(name)
    part = folder.with_name(f"{name}.part")  # renamed when it is whole
    if folder.is_dir():
        return folder
    try:
        download_and_extract_archive(url, str(part), md5=md5, remove_finished=True)
        part.rename(folder)
    except (OSError, HTTPException) as error:
        raise _no_download(name, part, error) from error
    except RuntimeError as error:
        raise _broken(name, part) from error
    return folder


def _no_download(name: str, folder: Path, error: Exception) -> DataError:
    """No network, no server, no room, no leave; empty folders do not stay."""
    for empty in (*sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True), folder):
        with contextlib.suppress(OSError):
            empty.rmdir()
    return DataError(f"could not download {name} to {folder} ({error}): give a folder with --data")


def _broken(name: str, folder: Path) -> DataError:
    return DataError(
        f"the download of {name} in {folder} is broken: delete that folder and try again, or give "
        f"a folder with --data"
    )
