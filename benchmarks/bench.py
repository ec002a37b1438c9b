"""Run benchmarks, store their results, and write the section on speed of docs/benchmarks.md.

    python benchmarks/bench.py [NAME …] [--repeats N] [--data FOLDER]
    python benchmarks/bench.py --write

Without a name it runs all of them. Each stores its results in results/NAME-MACHINE.json, where
MACHINE is `cpu` or the name of the GPU. So a run replaces only the results of the same benchmark on
the same kind of machine. --write runs nothing: it writes the section from the stored results.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from machine import described, here_and_now, kind

HERE = Path(__file__).resolve().parent
RESULTS, DOCUMENT = HERE / "results", HERE.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- written by `make bench`: change benchmarks/*.py -->", "<!-- end -->"
TITLES = {  # other documents link to these headings
    "step": "The step",
    "throughput": "A whole search",
    "overhead": "Overhead",
    "driver": "The driver",
    "startup": "Start-up",
    "cache": "The cache",
    "memory": "Memory",
    "pack": "Packs",
    "report": "The report",
}


def run(name: str, options: list[str]) -> bool:
    """Run a benchmark in a new process and store its results.

    Returns:
        False where the benchmark could not run and printed `null`.
    """
    print(f"{name} …", file=sys.stderr, flush=True)
    command = [sys.executable, str(HERE / f"{name}.py"), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    results = json.loads(done.stdout)
    if results is None:
        return False
    machine = here_and_now()
    RESULTS.mkdir(exist_ok=True)
    content = json.dumps({"machine": machine, "figures": results}, indent=1, allow_nan=False)
    (RESULTS / f"{name}-{kind(machine)}.json").write_text(content + "\n", encoding="utf-8")
    return True


def section(results: Path) -> str:
    """The text between the marks: every benchmark with a table per machine, the CPU first."""
    parts = []
    for name, title in TITLES.items():
        files = sorted(results.glob(f"{name}-*.json"), key=lambda p: (p.stem != f"{name}-cpu", p))
        about = importlib.import_module(name).ABOUT
        tables = [table(name, json.loads(file.read_text("utf-8"))) for file in files]
        parts += [f"### {title}", f"{about} (`python benchmarks/bench.py {name}`)"]
        parts += tables or ["Not measured yet."]
    return "\n\n".join(parts)


def table(name: str, result: dict[str, Any]) -> str:
    """The results on one machine, as a Markdown table."""
    lines = [row.line() for row in importlib.import_module(name).rows(result["figures"])]
    head = ["| | median | quartiles | target |", "|---|---:|---:|---:|"]
    return f"{described(result['machine'])}:\n\n" + "\n".join([*head, *lines])


def written(document: str, text: str) -> str:
    """The document with the text between its marks replaced by `text`.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document lacks its marks: {BEGIN} … {END}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def write() -> None:
    """Write the section of docs/benchmarks.md from the stored results."""
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(written(document, section(RESULTS)), encoding="utf-8")


def _refuse(reason: str) -> NoReturn:
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TITLES))
    parser.add_argument("--repeats", type=int, help="Repeats of each benchmark. Default: its own.")
    parser.add_argument("--data", type=Path, help="Folder with CIFAR-10. Default: $IMBTUNE_DATA.")
    parser.add_argument(
        "--write",
        action="store_true",
        help="Run nothing; write the section from the stored results.",
    )
    options = parser.parse_args()
    if wrong := [name for name in options.names if name not in TITLES]:
        _refuse(f"unknown benchmark {wrong[0]!r}: choose from {', '.join(TITLES)}")
    if options.repeats is not None and options.repeats < 1:
        _refuse(f"--repeats must be at least 1, got {options.repeats}")
    if options.data:
        os.environ["IMBTUNE_DATA"] = str(options.data)
    repeats = ["--repeats", str(options.repeats)] if options.repeats else []
    for name in [] if options.write else options.names or TITLES:
        if run(name, repeats):
            write()
    if options.write:
        write()


if __name__ == "__main__":
    main()
