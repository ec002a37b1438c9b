"""Time of `import imbtune` and `imbtune --help`, compared with that of Python itself.

python benchmarks/startup.py [--repeats 20]
"""

from __future__ import annotations

import subprocess
import sys
import time

from searches import IMBTUNE
from spread import Results, Row, print_results, quartiles

COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "import": [sys.executable, "-c", "import imbtune"],
    "help": [IMBTUNE, "--help"],
}

ABOUT = "Wall time of whole processes, from start to exit; the commands alternate."


def seconds(command: list[str]) -> float:
    """Wall time of a whole process, in seconds."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def measure(repeats: int = 20) -> Results:
    """Quartiles of the seconds of each command; a first round warms the disk's cache."""
    rounds = [{name: seconds(command) for name, command in COMMANDS.items()}]
    for _ in range(repeats):
        rounds.append({name: seconds(command) for name, command in COMMANDS.items()})
    return {name: quartiles([each[name] for each in rounds[1:]]) for name in COMMANDS}


def rows(results: Results) -> list[Row]:
    """The rows of the table."""
    return [
        Row("`python -c pass`, s", results["python"]),
        Row("`python -c 'import imbtune'`, s", results["import"], "< 0.3"),
        Row("`imbtune --help`, s", results["help"], "< 0.3"),
    ]


if __name__ == "__main__":
    print_results(measure, __doc__, repeats=20)
