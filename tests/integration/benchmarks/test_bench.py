"""The benchmarks as commands: what cannot be run is one line, and what a short one measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import bench
import pytest
from data_files import write_split
from small_data import make_images


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["stepp"], "unknown benchmark 'stepp': choose from step, "),
        (["step", "--repeats", "0"], "--repeats must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_run_is_one_line(options: list[str], says: str) -> None:
    command = [sys.executable, str(bench.HERE / "bench.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {says}") and done.stderr.count("\n") == 1


def test_the_cache_is_measured_on_files(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_split(tmp_path, split, make_images([1] * 10, 32, 3))
    command = [sys.executable, str(bench.HERE / "cache.py"), "--repeats", "1"]
    left_out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(left_out.stdout) is None and "IMBTUNE_DATA" in left_out.stderr
    done = subprocess.run([*command, "--data", str(tmp_path)], capture_output=True, check=True)
    assert set(json.loads(done.stdout)) == {"first", "second", "ratio"}
