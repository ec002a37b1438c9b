"""What a machine of a cluster answers when it is asked about the study's folder and the images."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from small_data import make_splits

from imbtune.data.images import EncodedPixels, Images
from imbtune.tuning.cluster.storage_check import UNSEEN, _files, try_storage


def test_a_folder_that_it_sees(tmp_path: Path) -> None:
    (tmp_path / ".mark").write_text("")
    assert try_storage(str(tmp_path), ".mark", [str(tmp_path / ".mark")]) == ""
    assert [path.name for path in tmp_path.iterdir()] == [".mark"]


def test_a_folder_of_the_same_name_on_another_machine(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for folder in ("runs", "missing"):
        assert try_storage(str(tmp_path / folder), ".mark", []) == UNSEEN
    assert not (tmp_path / "missing").exists() and not list((tmp_path / "runs").iterdir())


def test_a_folder_that_it_cannot_write_to(tmp_path: Path) -> None:
    (tmp_path / ".mark").write_text("")
    (tmp_path / f"..mark-{os.getpid()}.tmp").mkdir()  # where a file would be written
    answer = try_storage(str(tmp_path), ".mark", [])
    assert answer.startswith(f"cannot write to {tmp_path} (") and "\n" not in answer
    assert answer.endswith("that this machine has, or give another --storage")


def test_a_bucket_that_it_sees_another_one_of(bucket: str) -> None:
    answer = try_storage(bucket, ".mark", [])
    place = bucket.partition("?")[0]
    assert answer.startswith(f"cannot write to {place} (a file that was just written is")


def test_images_that_it_does_not_have(tmp_path: Path) -> None:
    there, missing = tmp_path / "1.png", tmp_path / "2.png"
    there.write_bytes(b"")
    decoder: Any = None
    files = pa.array([os.fsencode(there), os.fsencode(missing)], pa.large_binary())
    pixels = EncodedPixels(files, True, decoder, np.zeros((2, 32), np.uint8))
    splits = make_splits([3, 2])
    streamed = replace(splits, train=Images(pixels, np.zeros(2, np.int64)))
    assert _files(splits) == [] and _files(streamed) == [str(there), str(missing)]
    answer = try_storage(str(tmp_path), ".mark", _files(streamed))
    assert answer.startswith(f"cannot read the image {missing}: put the data at the same path")
