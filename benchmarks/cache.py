"""Loading CIFAR-10 from Parquet the first time, and again from the cache of decoded images.

    python benchmarks/cache.py [--repeats 3] [--data FOLDER]

FOLDER, or $IMBTUNE_DATA, has the Parquet files in the Hugging Face layout; nothing is downloaded.
Each measurement is `imbtune.data.load.load` in a process of its own, without its imports; the
cache is a new folder for each pair.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from spread import Row, quartiles

from imbtune.data.load import DataSource, load
from imbtune.data.source import data_root
from imbtune.errors import ImbtuneError

Figures = dict[str, Any]

ABOUT = (
    "`load` of CIFAR-10's 60,000 images from Parquet files: decoded the first time, mapped from "
    "the cache afterwards. Each in a process of its own."
)


def one(data: Path) -> float:
    """Seconds to load it in this process."""
    started = time.perf_counter()
    dataset = load("cifar10", data_source=DataSource(data))
    dataset.train.array()[-1]
    return time.perf_counter() - started


def measure(repeats: int, data: Path) -> Figures:
    """Quartiles of the seconds of the first and the second time, and of their ratio."""
    pairs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            pairs.append((apart(data, folder), apart(data, folder)))
    return {
        "first": quartiles([first for first, _ in pairs]),
        "second": quartiles([second for _, second in pairs]),
        "ratio": quartiles([first / second for first, second in pairs]),
    }


def apart(data: Path, cache: str) -> float:
    """Seconds to load it in a new process."""
    command = [sys.executable, __file__, "--data", str(data), "--one"]
    settings = os.environ | {"IMBTUNE_CACHE": cache}
    done = subprocess.run(command, env=settings, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def rows(figures: Figures) -> list[Row]:
    """The table."""
    return [
        Row("the first time, s", figures["first"]),
        Row("the second time, s", figures["second"], "< 1"),
        Row("ratio", figures["ratio"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        data = data_root(options.data)
    except ImbtuneError as error:
        sys.exit(f"error: {error}")
    if not data:
        print("null")
        print("left out: say where CIFAR-10 is, --data or $IMBTUNE_DATA", file=sys.stderr)
    elif options.one:
        print(one(data))
    else:
        print(json.dumps(measure(options.repeats, data), indent=1))


if __name__ == "__main__":
    main()
