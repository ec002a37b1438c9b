"""A cache entry is valid only for the code that made it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imbtune.data import cache
from imbtune.data.data_source import DataSource
from imbtune.data.load import datasets


def test_the_stamp_covers_all_modules_that_read_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "mine.npz", images=np.zeros((4, 2, 2), np.uint8), labels=[0, 0, 1, 1])
    read: set[str] = set()
    read_bytes = Path.read_bytes

    def record(path: Path) -> bytes:
        read.add(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", record)
    assert cache._stamp("npz", datasets["npz"].make, DataSource(tmp_path))
    assert {path.name for path in Path(cache.__file__).parent.rglob("*.py")} <= read
    assert {"npz.py", "hf_parquet.py", "user.py", "encoded_images.py"} <= read
