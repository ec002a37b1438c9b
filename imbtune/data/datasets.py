"""The data sets by name, and where their files are looked for.

`load(name, root)` returns the whole data set. `root` is `--data`, else `$IMBTUNE_DATA`, else the
user's cache, to which torchvision downloads.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from http.client import HTTPException
from pathlib import Path

import numpy as np
from numpy.exceptions import VisibleDeprecationWarning

from imbtune.data.hf_parquet import find_shards, read_images
from imbtune.data.profiles import Imbalance
from imbtune.data.splits import Dataset, Images, Look
from imbtune.errors import DataError
from imbtune.registry import Registry

CIFAR = "Krizhevsky 2009, Learning multiple layers of features from tiny images"
DIGITS = "Alpaydin & Kaynak 1998, UCI optical digits (bundled with scikit-learn)"

datasets = Registry("data", "the data set, its imbalance profile and validation split", Imbalance)


def data_root(given: Path | None) -> Path | None:
    """The folder to read from: `--data`, else `$IMBTUNE_DATA`, else None (the download cache)."""
    chosen = given or (Path(env) if (env := os.environ.get("IMBTUNE_DATA")) else None)
    if chosen is None:
        return None
    try:
        os.scandir(f"{chosen}/.").close()  # the dot asks for leave to read the files in it, too
    except OSError as error:
        raise DataError(
            f"no data folder {chosen} ({error.strerror}): give --data or $IMBTUNE_DATA a folder"
        ) from error
    return chosen


def load(name: str, root: Path | None) -> Dataset:
    """The data set `name`, checked.

    Raises:
        ConfigError: an unknown name.
        DataError: files that are missing, truncated, or not what they should be.
    """
    dataset: Dataset = datasets[name].make(root)
    for part in (dataset.train, dataset.test):
        counts = part.counts(len(dataset.classes))
        if len(counts) > len(dataset.classes) or counts.min() == 0:
            raise DataError(
                f"data set '{name}' in {root}: labels {sorted(set(part.labels.tolist()))[:12]} "
                f"do not cover its {len(dataset.classes)} classes: check the files"
            )
    return dataset


@datasets.register(
    "digits", help="handwritten digits, 8×8, 1,797 images, no download", source=DIGITS
)
def digits(root: Path | None) -> Dataset:
    """scikit-learn's digits; the last 40 of each class in file order are the test set."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = (bunch.images[:, None] * (255 / 16)).round().astype(np.uint8)  # 0 … 16 to 0 … 255
    images = Images(pixels, bunch.target.astype(np.int64))
    is_test = np.zeros(len(images), dtype=bool)
    for k in range(10):
        is_test[np.flatnonzero(images.labels == k)[-40:]] = True
    names = tuple(str(k) for k in range(10))
    look = Look(mean=(0.305,), std=(0.376,), pad=1)  # of all 1,797 images; digits do not mirror
    return Dataset(
        images.take(np.flatnonzero(~is_test)), images.take(np.flatnonzero(is_test)), names, look
    )


# The reference package normalises CIFAR-100 with CIFAR-10's figures too.
_CIFAR_LOOK = Look((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), pad=4, flip=True)


@datasets.register("cifar10", help="CIFAR-10, 32×32, 50,000 + 10,000 images", source=CIFAR)
def cifar10(root: Path | None) -> Dataset:
    """CIFAR-10 from torchvision's layout, Hugging Face Parquet, or torchvision's download."""
    from torchvision.datasets import CIFAR10

    return _cifar("cifar10", CIFAR10, 10, root)


@datasets.register("cifar100", help="CIFAR-100, 32×32, 50,000 + 10,000 images", source=CIFAR)
def cifar100(root: Path | None) -> Dataset:
    """CIFAR-100, its 100 fine classes, from the same places."""
    from torchvision.datasets import CIFAR100

    return _cifar("cifar100", CIFAR100, 100, root)


def _cifar(name: str, torchvision_class: type, classes: int, root: Path | None) -> Dataset:
    if root and find_shards(root, "train"):
        train, names = read_images(root, "train", size=(32, 32), classes=classes)
        test, _ = read_images(root, "test", size=(32, 32), classes=classes)
        return Dataset(train, test, names, _CIFAR_LOOK)
    train, names = _torchvision_images(name, torchvision_class, root, train=True)
    test, _ = _torchvision_images(name, torchvision_class, root, train=False)
    return Dataset(train, test, names, _CIFAR_LOOK)


def _torchvision_images(
    name: str, torchvision_class: type, root: Path | None, train: bool
) -> tuple[Images, tuple[str, ...]]:
    folder = root or _cache() / name
    try:
        with warnings.catch_warnings():
            # NumPy 2.4.0 to 2.4.4 warn of the integer `align` in pickles as old as CIFAR's
            warnings.filterwarnings("ignore", r"dtype\(\): align", VisibleDeprecationWarning)
            source = torchvision_class(str(folder), train=train, download=root is None)
    except (OSError, HTTPException) as error:  # no network, no server, no room, no leave
        if root is None:
            with contextlib.suppress(OSError):  # it stays where it holds something
                folder.rmdir()
        what = f"read {name} in" if root else f"download {name} to"
        reason = " ".join(str(error).split())
        raise DataError(
            f"could not {what} {folder} ({reason}): give a folder with --data"
        ) from error
    except RuntimeError as error:  # torchvision's own check of the files' MD5 sums
        if root is None:
            raise DataError(
                f"the download of {name} in {folder} is broken: delete that folder and try again, "
                f"or give a folder with --data"
            ) from error
        raise DataError(
            f"{folder} holds no whole {name}: neither train-*.parquet nor torchvision's "
            f"{torchvision_class.base_folder}/ with the right MD5 sums"  # type: ignore[attr-defined]
        ) from error
    pixels = np.ascontiguousarray(source.data.transpose(0, 3, 1, 2))
    return Images(pixels, np.asarray(source.targets, dtype=np.int64)), tuple(source.classes)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "imbtune"
