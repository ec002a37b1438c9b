"""Time to load CIFAR-10 from Parquet files, and again from the cache of decoded images.

    python benchmarks/cache.py [--repeats 3] [--data FOLDER]

FOLDER, or $IMBTUNE_DATA, has the Parquet files in the Hugging Face layout; nothing is downloaded.
Each measurement is one call of `imbtune.data.load.load` in a new process, imports excluded. Each
pair of measurements uses a new cache folder.
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

from spread import Results, Row, quartiles

from imbtune.data.data_source import data_root
from imbtune.data.load import DataSource, load
from imbtune.errors import ImbtuneError

ABOUT = (
    "Loading CIFAR-10's 60,000 images from Parquet files: decoded the first time, memory-mapped "
    "from the cache the second time. Each load runs in a new process."
)


def one(data: Path) -> float:
    """Seconds to load the data in this process."""
    started = time.perf_counter()
    dataset = load("cifar10", data_source=DataSource(data))
    dataset.train.array()[-1]
    return time.perf_counter() - started


def measure(repeats: int, data: Path) -> Results:
    """Quartiles of the seconds of the first and the second load, and of their ratio."""
    pairs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            pairs.append((in_process(data, folder), in_process(data, folder)))
    return {
        "first": quartiles([first for first, _ in pairs]),
        "second": quartiles([second for _, second in pairs]),
        "ratio": quartiles([first / second for first, second in pairs]),
    }


def in_process(data: Path, cache: str) -> float:
    """Seconds to load the data in a new process."""
    command = [sys.executable, __file__, "--data", str(data), "--one"]
    settings = os.environ | {"IMBTUNE_CACHE": cache}
    done = subprocess.run(command, env=settings, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def rows(results: Results) -> list[Row]:
    """The rows of the table."""
    return [
        Row("first load, s", results["first"]),
        Row("second load, s", results["second"], "< 1"),
        Row("ratio", results["ratio"]),
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
        print("skipped: give the folder of CIFAR-10 with --data or $IMBTUNE_DATA", file=sys.stderr)
    elif options.one:
        print(one(data))
    else:
        print(json.dumps(measure(options.repeats, data), indent=1, allow_nan=False))


if __name__ == "__main__":
    main()
