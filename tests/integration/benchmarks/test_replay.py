"""The benchmark of searches as a command, on a small made-up table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from contenders import ALL
from recorded_table import write_table

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    write_table(tmp_path)
    options = f"--recorded {tmp_path} --replays 2 --workers 1 8 --jobs 1 --figure {tmp_path}/f.png"
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/search/replay.py"), *options.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for label in ALL:
        assert f"\n| {label} | 0." in done.stdout
    assert "**made-up, 8 workers**" in done.stdout and "11 configurations" in done.stdout
    assert (tmp_path / "f.png").stat().st_size > 10_000
