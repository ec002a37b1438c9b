"""Published data sets.

Each is read from `--data` (Hugging Face Parquet, or the layout of the original archive), else
downloaded to the cache. The order of the labels is that of the classes from head to tail.
"""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imbtune.data.benchmark_files import BENCHMARKS, check_counts, check_names
from imbtune.data.cache import from_files
from imbtune.data.data_source import DataSource
from imbtune.data.dataset_registry import datasets
from imbtune.data.encoded_images import TargetShape, decode_images
from imbtune.data.readers.download import fetch_archive, torchvision_data
from imbtune.data.readers.folders import read_class_folders
from imbtune.data.readers.hf_parquet import SHARDS, find_shards, read_shards
from imbtune.data.readers.labels import labels_from_texts
from imbtune.data.readers.source_data import (
    SourceData,
    SourceSplit,
    check_regular,
    files_on_disk,
)
from imbtune.data.readers.split_names import TRAIN, choose_splits, quoted, split_of
from imbtune.data.splits import Dataset, Images, Preprocessing
from imbtune.errors import DataError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

CIFAR = "Krizhevsky 2009, Learning multiple layers of features from tiny images"
DIGITS = "Alpaydin & Kaynak 1998, UCI optical digits (bundled with scikit-learn)"
CINIC = "Darlow et al. 2018, arXiv 1810.03505"
SVHN = "Netzer et al. 2011, Reading digits in natural images"
TINY = "Le & Yang 2015, Tiny ImageNet visual recognition challenge"
FASHION = "Xiao et al. 2017, arXiv 1708.07747"

CINIC_ARCHIVE = (
    "https://datashare.ed.ac.uk/bitstream/handle/10283/3192/CINIC-10.tar.gz",
    "6ee4d0c996905fe93221de577967a372",
)
TINY_ARCHIVE = (
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
)

# Crop, flip and normalisation are those of the reference package (ntucllab/imbalanced-DL). It
# normalises CIFAR-100 with CIFAR-10's values and Tiny-ImageNet with ImageNet's, and mirrors digits
# in SVHN.
_CIFAR_PREPROCESSING = Preprocessing(
    (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), pad=4, flip=True
)
_CINIC_PREPROCESSING = Preprocessing(
    (0.47889522, 0.47227842, 0.43047404), (0.24205776, 0.23828046, 0.25874835), pad=4, flip=True
)
_SVHN_PREPROCESSING = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), pad=4, flip=True)
_TINY_PREPROCESSING = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), pad=8, flip=True)
# Computed from the 60,000 training images. Shift and flip as Zhong et al. 2017, arXiv 1708.04896.
_FASHION_PREPROCESSING = Preprocessing((0.2860,), (0.3530,), pad=4, flip=True)


@datasets.register(
    "digits",
    help="handwritten digits, 8×8, 1,797 images, no download",
    source=DIGITS,
    reads_files=False,
)
def digits(data_source: DataSource) -> Dataset:
    """scikit-learn's digits. The last 40 of each class, in file order, are the test set.

    Each image has the name of its place in `sklearn.datasets.load_digits()`: `load_digits 1383`.
    """
    package = Path(str(importlib.util.find_spec("sklearn").origin)).parent  # type: ignore[union-attr]
    # the file of sklearn.datasets, whose import would take more than a second
    rows = np.loadtxt(package / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    pixels = (rows[:, :64] * (255 / 16)).round().astype(np.uint8)  # 0 … 16 to 0 … 255
    images = Images(pixels.reshape(-1, 1, 8, 8), rows[:, 64].astype(np.int64))
    images = images.named("load_digits")
    is_test = np.zeros(len(images), dtype=bool)
    for k in range(10):
        is_test[np.flatnonzero(images.labels == k)[-40:]] = True
    names = tuple(str(k) for k in range(10))
    # mean and std of all 1,797 images; no flip, since mirrored digits are not digits
    preprocessing = Preprocessing(mean=(0.305,), std=(0.376,), pad=1)
    return Dataset(
        images.take(np.flatnonzero(~is_test)),
        images.take(np.flatnonzero(is_test)),
        names,
        preprocessing,
    )


@datasets.register("cifar10", help="CIFAR-10, 32×32, 50,000 + 10,000 images", source=CIFAR)
@from_files(*SHARDS, "cifar-10-batches-py")
def cifar10(data_source: DataSource) -> Dataset:
    """CIFAR-10, from Hugging Face Parquet, torchvision's layout, or torchvision's download."""
    from torchvision.datasets import CIFAR10

    return _cifar("cifar10", CIFAR10, data_source)


@datasets.register("cifar100", help="CIFAR-100, 32×32, 50,000 + 10,000 images", source=CIFAR)
@from_files(*SHARDS, "cifar-100-python")
def cifar100(data_source: DataSource) -> Dataset:
    """CIFAR-100 with its 100 fine classes, from the same sources as CIFAR-10."""
    from torchvision.datasets import CIFAR100

    return _cifar("cifar100", CIFAR100, data_source)


def _cifar(name: str, torchvision_class: type[CIFAR10], data_source: DataSource) -> Dataset:
    """CIFAR-10 or CIFAR-100 (a subclass of CIFAR10 in torchvision)."""
    if dataset := _from_parquet(name, data_source, (3, 32), _CIFAR_PREPROCESSING):
        return dataset
    layout = f"torchvision's {torchvision_class.base_folder}/ with the right MD5 sums"
    parts = []
    for train in (True, False):
        split = torchvision_data(name, data_source, layout, torchvision_class, train=train)
        pixels = np.ascontiguousarray(split.data.transpose(0, 3, 1, 2))
        parts.append(Images(pixels, np.asarray(split.targets, dtype=np.int64)))
    return Dataset(parts[0], parts[1], tuple(split.classes), _CIFAR_PREPROCESSING)


@datasets.register("svhn", help="house numbers, 32×32, 73,257 + 26,032 images", source=SVHN)
@from_files(*SHARDS, "*.mat")
def svhn(data_source: DataSource) -> Dataset:
    """SVHN, with the classes in the reference package's order 1, 2, …, 9, 0.

    The extra images are not used. The test set is not balanced. For the reference package's
    training set, whose largest class has 1,000 images, set `head: 1000`.
    """
    from torchvision.datasets import SVHN as torchvision_class  # noqa: N811

    names = tuple("1234567890")
    if dataset := _from_parquet("svhn", data_source, (3, 32), _SVHN_PREPROCESSING):
        digits = np.array([int(re.sub(r"\D", "", name)) for name in dataset.classes])
        parts = [replace(p, labels=digits[p.labels]) for p in (dataset.train, dataset.test)]
    else:
        layout = "train_32x32.mat and test_32x32.mat with the right MD5 sums"
        splits = [
            torchvision_data("svhn", data_source, layout, torchvision_class, split=split)
            for split in ("train", "test")
        ]
        parts = [Images(np.ascontiguousarray(s.data), s.labels) for s in splits]
    train, test = (replace(part, labels=(part.labels - 1) % 10) for part in parts)
    return Dataset(train, test, names, _SVHN_PREPROCESSING, dataset.notes if dataset else ())


@datasets.register(
    "fashion_mnist", help="clothes, grey, 28×28, 60,000 + 10,000 images", source=FASHION
)
@from_files(*SHARDS, "FashionMNIST/raw")
def fashion_mnist(data_source: DataSource) -> Dataset:
    """Fashion-MNIST, from the same sources as CIFAR-10."""
    from torchvision.datasets import FashionMNIST

    if dataset := _from_parquet("fashion_mnist", data_source, (1, 28), _FASHION_PREPROCESSING):
        return dataset
    layout = "torchvision's complete FashionMNIST/raw/"
    parts = []
    for train in (True, False):
        split = torchvision_data("fashion_mnist", data_source, layout, FashionMNIST, train=train)
        parts.append(Images(split.data.numpy()[:, None], split.targets.numpy()))
    return Dataset(parts[0], parts[1], tuple(split.classes), _FASHION_PREPROCESSING)


@datasets.register("cinic10", help="CINIC-10, 32×32, 90,000 + 90,000 images", source=CINIC)
@from_files(*SHARDS, "train", "test", "CINIC-10")
def cinic10(data_source: DataSource) -> Dataset:
    """CINIC-10's `train` and `test` folders. The reference package evaluates on `valid` instead."""
    if dataset := _from_parquet("cinic10", data_source, (3, 32), _CINIC_PREPROCESSING):
        return dataset
    root = _layout("cinic10", data_source, CINIC_ARCHIVE, "CINIC-10", ("train", "test"))
    source = SourceData(_class_folders(root / "train"), _class_folders(root / "test"))
    return _from_source("cinic10", source, (3, 32), _CINIC_PREPROCESSING, data_source)


@datasets.register(
    "tiny_imagenet", help="Tiny-ImageNet, 64×64, 200 classes, 100,000 + 10,000", source=TINY
)
@from_files(*SHARDS, "train", "val", "words.txt", "tiny-imagenet-200")
def tiny_imagenet(data_source: DataSource) -> Dataset:
    """Tiny-ImageNet. The validation images are the test set, since its test set has no labels.

    Classes are in the order of their WordNet IDs, and have the first name in words.txt. Grey images
    are converted to RGB.
    """
    if dataset := _from_parquet("tiny_imagenet", data_source, (3, 64), _TINY_PREPROCESSING):
        return dataset
    root = _layout(
        "tiny_imagenet", data_source, TINY_ARCHIVE, "tiny-imagenet-200", ("train", "val")
    )
    train = _class_folders(root / "train")
    source = SourceData(train, _tiny_validation(root / "val", train.labels[0].names))
    dataset = _from_source("tiny_imagenet", source, (3, 64), _TINY_PREPROCESSING, data_source)
    classes, notes = _tiny_names(root / "words.txt", dataset.classes)
    return replace(dataset, classes=classes, notes=dataset.notes + notes)


def _from_parquet(
    name: str,
    data_source: DataSource,
    shape: tuple[int, int],
    preprocessing: Preprocessing,
) -> Dataset | None:
    """The data set from Hugging Face shards; None if the root has no training shard.

    Args:
        shape: channels, and height and width in pixels.

    Raises:
        DataError: there is no test shard, or files are broken or of another data set.
    """
    root = data_source.root_folder(name)
    if root is None:
        return None
    shards, _ = find_shards(root)
    if not any(split_of(split) == TRAIN for split in shards):
        return None
    train, test, _ = choose_splits(shards, root)
    if not test:
        raise DataError(f"no test-*.parquet in {root}: both train and test shards are needed")
    source = SourceData(read_shards(train), read_shards(test))
    return _from_source(name, source, shape, preprocessing, data_source)


def _from_source(
    name: str,
    source: SourceData,
    shape: tuple[int, int],
    preprocessing: Preprocessing,
    data_source: DataSource,
) -> Dataset:
    """The data set from the image files of its training and test split.

    Raises:
        DataError: files cannot be read, or are those of another data set.
    """
    splits, classes, notes = source.matched(BENCHMARKS[name].n_classes)
    every = source.train.labels + (source.test.labels if source.test else ())
    check_names(name, every, classes)
    place = data_source.root or source.train.place
    notes += check_counts(name, len(splits[0].files), len(splits[1].files), place)
    channels, side = shape
    (train, test), more = decode_images(splits, TargetShape(channels, (side, side)), data_source)
    return Dataset(train, test, classes, preprocessing, notes + more)


def _class_folders(root: Path) -> SourceSplit:
    """The images in folders of classes."""
    try:
        split, _ = read_class_folders(root)  # the archives have text files beside the images
    except OSError as error:
        raise DataError(f"cannot read {error.filename} ({error.strerror}): check it") from error
    return split


def _layout(
    name: str, data_source: DataSource, archive: tuple[str, str], inner: str, parts: tuple[str, str]
) -> Path:
    """The folder with the folders `parts`: the root or its folder `inner`, else the download's."""
    root = data_source.root_folder(name) or fetch_archive(name, *archive)
    for folder in (root, root / inner):
        if all((folder / part).is_dir() for part in parts):
            return folder
    raise DataError(
        f"{root} does not contain {name}: it needs train-*.parquet, or the folders {parts[0]} and "
        f"{parts[1]}, directly or in {inner}"
    )


def _tiny_validation(folder: Path, ids: tuple[str, ...]) -> SourceSplit:
    """The validation images, with the labels of val_annotations.txt or, without it, in folders."""
    annotations = folder / "val_annotations.txt"
    if not annotations.is_file():
        return _class_folders(folder)
    known, paths, labels = set(ids), [], []
    for line in _lines(annotations):
        name, _, rest = line.partition("\t")
        wordnet_id = rest.partition("\t")[0]
        if wordnet_id not in known:
            raise DataError(
                f"{annotations} gives {name!r} the class {wordnet_id!r}, which is not in train/: "
                f"get the file again"
            )
        paths.append(folder / "images" / name)
        labels.append(wordnet_id)
    if not paths:
        raise DataError(f"{annotations} lists no images: get it again")
    return files_on_disk(paths, labels_from_texts(labels, str(annotations)))


def _tiny_names(words: Path, ids: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The first name of each WordNet ID, with the ID where several classes have the same name.

    Returns:
        The names, and a note if the file lacks some, whose classes have their IDs.
    """
    if not words.exists():
        return ids, ()
    pairs = (line.partition("\t") for line in _lines(words))
    known = {wordnet_id: word.partition(",")[0].strip() for wordnet_id, _, word in pairs}
    names = [known.get(wordnet_id) or wordnet_id for wordnet_id in ids]
    count = Counter(names)
    without = [wordnet_id for wordnet_id in ids if not known.get(wordnet_id)]
    note = f"{words} has no names for the classes {quoted(without, 5)}, which have their IDs"
    return tuple(
        name if count[name] == 1 else f"{name} ({wordnet_id})"
        for name, wordnet_id in zip(names, ids, strict=True)
    ), (note,) * bool(without)


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    check_regular(path)
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} ({error}): get it again") from error
