"""Published data sets in miniature, in the layouts of their makers."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from data_files import encode, encode_all, md5
from scipy.io import savemat
from small_data import make_images
from torchvision.datasets import SVHN, FashionMNIST

from imbtune.data.benchmark_files import BENCHMARKS
from imbtune.data.splits import Images

TEN = (
    "airplane",
    *(["automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship"]),
    "truck",
)
RGB, RGB_TEST = make_images([2] * 10, 32, 3), make_images([1] * 10, 32, 3, seed=4)
GREY, GREY_TEST = make_images([2] * 10, 28, 1), make_images([1] * 10, 28, 1, seed=4)
WORDNET = BENCHMARKS["tiny_imagenet"].classes
TINY, TINY_TEST = make_images([1] * 200, 64, 3), make_images([1] * 200, 64, 3, seed=4)


def write_svhn(root: Path, patch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The .mat files of Stanford's layout: digits 1 … 9, and 10 for 0; what they hold by name."""
    entries, files = dict(SVHN.split_list), {}
    for split, images in (("train", RGB), ("test", RGB_TEST)):
        name = f"{split}_32x32.mat"
        labels = images.labels + 1  # our class 0 is the digit 1, our class 9 the digit 0
        savemat(root / name, {"X": images.array().transpose(2, 3, 1, 0), "y": labels[:, None]})
        files[f"/{name}"] = (root / name).read_bytes()
        entries[split] = [entries[split][0], name, md5(files[f"/{name}"])]
    patch.setattr(SVHN, "split_list", entries)
    return files


def write_fashion(root: Path, patch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """torchvision's raw files, and as they are packed for download."""
    raw, packed = root / "FashionMNIST" / "raw", {}
    raw.mkdir(parents=True)
    for prefix, images in (("train", GREY), ("t10k", GREY_TEST)):
        n = len(images)
        for name, content in (
            ("images-idx3", struct.pack(">4i", 0x803, n, 28, 28) + images.array().tobytes()),
            ("labels-idx1", struct.pack(">2i", 0x801, n) + images.labels.astype("u1").tobytes()),
        ):
            (raw / f"{prefix}-{name}-ubyte").write_bytes(content)
            packed[f"/{prefix}-{name}-ubyte.gz"] = gzip.compress(content)
    sums = [(name[1:], md5(content)) for name, content in packed.items()]
    patch.setattr(FashionMNIST, "resources", sums)
    return packed


def write_cinic(root: Path) -> Path:
    other = make_images([1] * 10, 32, 3, seed=9)
    for split, images in (("train", RGB), ("valid", other), ("test", RGB_TEST)):
        for i, (file, k) in enumerate(zip(encode_all(images), images.labels, strict=True)):
            path = root / split / TEN[k] / f"cifar10-{split}-{i:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file)
    return root


def write_tiny(root: Path) -> Path:
    """Its own layout: validation images in one folder, out of order, and their list."""
    (root / "val" / "images").mkdir(parents=True)
    (root / "test" / "images").mkdir(parents=True)  # without labels, never read
    for i, (file, k) in enumerate(zip(encode_all(TINY), TINY.labels, strict=True)):
        path = root / "train" / WORDNET[k] / "images" / f"{WORDNET[k]}_{i}.JPEG"
        path.parent.mkdir(parents=True)
        path.write_bytes(file)  # PNG by content, so that pixels compare
        (path.parents[1] / f"{WORDNET[k]}_boxes.txt").write_text("0\t0\t1\t1")
    lines, order = [], np.random.default_rng(0).permutation(200)
    for i, k in enumerate(order):
        (root / "val" / "images" / f"val_{i}.JPEG").write_bytes(encode(TINY_TEST.array()[k]))
        lines.append(f"val_{i}.JPEG\t{WORDNET[k]}\t0\t0\t62\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (root / "wnids.txt").write_text("\n".join(reversed(WORDNET)))
    words = [f"{w}\tword{min(k, 198)}, other word" for k, w in enumerate(WORDNET)]
    (root / "words.txt").write_text("\n".join(["n99999999\tnobody", *words]))
    return root


def in_order(images: Images) -> Images:
    return images.take(np.argsort(images.labels, kind="stable"))
