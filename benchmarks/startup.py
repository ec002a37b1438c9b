"""How long `import imbtune` and `imbtune --help` take, against Python itself.

python benchmarks/startup.py [--repeats 20]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from searches import IMBTUNE
from spread import Row, quartiles

COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "import": [sys.executable, "-c", "import imbtune"],
    "help": [IMBTUNE, "--help"],
}

Figures = dict[str, Any]

ABOUT = "Whole processes, in turn, from start to exit."


def seconds(command: list[str]) -> float:
    """Of a whole process."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def measure(repeats: int = 20) -> Figures:
    """Quartiles of the seconds of each command; a first round warms the disk's cache."""
    rounds = [{name: seconds(command) for name, command in COMMANDS.items()}]
    for _ in range(repeats):
        rounds.append({name: seconds(command) for name, command in COMMANDS.items()})
    return {name: quartiles([each[name] for each in rounds[1:]]) for name in COMMANDS}


def rows(figures: Figures) -> list[Row]:
    """The table."""
    return [
        Row("`python -c pass`, s", figures["python"]),
        Row("`python -c 'import imbtune'`, s", figures["import"], "< 0.3"),
        Row("`imbtune --help`, s", figures["help"], "< 0.3"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    print(json.dumps(measure(parser.parse_args().repeats), indent=1))


if __name__ == "__main__":
    main()
