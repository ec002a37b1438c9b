"""Data sets on disk for the tests: Hugging Face Parquet, and CIFAR's own pickles and archive."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from imbtune.data.load import DataSource, load
from imbtune.data.splits import Bytes, Dataset, Images
from imbtune.errors import DataError, ImbtuneError

# A checkout may have real CIFAR-10 in Hugging Face Parquet beside it; tests that want it skip else
REAL_CIFAR10 = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10"
NOBODY = 65534
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@contextmanager
def raises_one_line(
    *parts: object, kind: type[ImbtuneError] = DataError
) -> Iterator[pytest.ExceptionInfo[ImbtuneError]]:
    """The block fails with one line that has all the parts in it."""
    with pytest.raises(kind) as caught:
        yield caught
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    for part in parts:
        assert str(part) in message


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """`path` without any permission, and without root's leave to read it all the same."""
    mode, user = path.stat().st_mode, os.geteuid()
    path.chmod(0)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        path.chmod(mode)


def read(name: str, root: Path | None = None, skip_corrupt: bool = False, **knobs: Any) -> Dataset:
    """The data set from `root`."""
    return load(name, knobs, DataSource(root, skip_corrupt))


def same(a: Images, b: Images) -> bool:
    return np.array_equal(a.array(), b.array()) and np.array_equal(a.labels, b.labels)


def encode(pixels_CHW: Bytes, format: str = "PNG") -> bytes:
    """An image file, grey where there is one channel."""
    pixels = pixels_CHW[0] if len(pixels_CHW) == 1 else pixels_CHW.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def encode_all(images: Images) -> list[bytes]:
    return [encode(pixels) for pixels in images.array()]


def write_columns(path: Path, columns: dict[str, Any], names: object = None) -> None:
    """One Parquet file; `names` become the label's class names, as Hugging Face stores them."""
    table = pa.table(columns)
    if names is not None:
        feature = {"names": names, "_type": "ClassLabel"}
        features = {key: feature for key in columns if "label" in key}
        metadata = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": metadata})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def write_shard(
    path: Path,
    encoded: Sequence[bytes | None],
    labels: Sequence[int | None],
    image: str = "img",
    label: str = "label",
    names: object = None,
) -> None:
    cells = [{"bytes": file, "path": None} for file in encoded]
    write_columns(path, {image: pa.array(cells, IMAGE), label: pa.array(labels, pa.int64())}, names)


def write_split(
    folder: Path, split: str, images: Images, shards: int = 1, **columns: Any
) -> list[Path]:
    """All images of a split, in file order over `shards` files."""
    paths = [folder / f"{split}-{i:05d}-of-{shards:05d}.parquet" for i in range(shards)]
    for path, index in zip(paths, np.array_split(np.arange(len(images)), shards), strict=True):
        part = images.take(index)
        write_shard(path, encode_all(part), part.labels.tolist(), **columns)
    return paths


def save_to_disk(
    folder: Path, images: Images, names: Sequence[str], files: int = 1, stream: bool = True
) -> None:
    """What `datasets.Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    cells = pa.array([{"bytes": file, "path": None} for file in encode_all(images)], IMAGE)
    table = pa.table({"image": cells, "label": images.labels})
    shards = []
    for i in range(files):
        name = f"data-{i:05d}-of-{files:05d}.arrow"
        part = table.take(np.array_split(np.arange(len(table)), files)[i])
        make = pa.ipc.new_stream if stream else pa.ipc.new_file
        with make(str(folder / name), part.schema) as writer:
            writer.write_table(part, max_chunksize=2)
        shards.append({"filename": name})
    state = {"_data_files": shards, "_fingerprint": "0", "_format_type": None, "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": kinds, "splits": {}}))


def write_cifar(
    root: Path,
    cifar: Any,
    train: Images,
    test: Images,
    names: list[str],
    patch: pytest.MonkeyPatch,
    dtype_flags: bytes = b"K\x00K\x01",
) -> Path:
    """The batches of torchvision's class `cifar`, which from now on takes their MD5 sums."""
    folder: Path = root / cifar.base_folder
    folder.mkdir(parents=True)
    labels_key = "fine_labels" if "fine" in cifar.meta["key"] else "labels"
    for part, attribute in ((train, "train_list"), (test, "test_list")):
        files = [name for name, _ in getattr(cifar, attribute)]
        sums = []
        for name, index in zip(
            files, np.array_split(np.arange(len(part)), len(files)), strict=True
        ):
            batch = part.take(index)
            rows = _array(batch.array().reshape(len(batch), -1), dtype_flags)
            content = {"data": rows, labels_key: _list(batch.labels.tolist(), _int)}
            sums.append([name, _write(folder / name, _dict(content))])
        patch.setattr(cifar, attribute, sums)
    meta = _dict({cifar.meta["key"]: _list([name.encode() for name in names], _str)})
    digest = _write(folder / cifar.meta["filename"], meta)
    patch.setattr(cifar, "meta", {**cifar.meta, "md5": digest})
    return folder


def archive(folder: Path) -> bytes:
    """A tar.gz with the folder in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _write(path: Path, pickled: bytes) -> str:
    content = b"\x80\x02" + pickled + b"."
    path.write_bytes(content)
    return md5(content)


# What Python 2 and NumPy 1 wrote: byte strings, numpy.core, and integers for dtype's flags. The
# pickle module of today cannot write it.


def _int(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def _str(value: bytes) -> bytes:
    return b"T" + len(value).to_bytes(4, "little") + value


def _list(values: Sequence[Any], pickled: Any) -> bytes:
    return b"](" + b"".join(pickled(value) for value in values) + b"e"


def _dict(items: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(_str(key.encode()) + value for key, value in items.items()) + b"u"


def _array(rows: Bytes, dtype_flags: bytes) -> bytes:
    new = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1" + dtype_flags + b"\x87R(K\x03U\x01|NNN"
    dtype += _int(-1) * 2 + b"K\x00tb"
    shape = _int(rows.shape[0]) + _int(rows.shape[1]) + b"\x86"
    return new + b"(K\x01" + shape + dtype + b"\x89" + _str(rows.tobytes()) + b"tb"
