"""The machine and the package versions that a benchmark ran with."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "ray", "optuna")


def here_and_now() -> dict[str, Any]:
    """This machine, the versions of Python and of `PACKAGES`, and today's date."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # a GPU machine may lack Ray and Optuna
            versions[name] = version(name)
    return {
        "cpu": cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions,
        "date": dt.date.today().isoformat(),
    }


def cpu() -> str:
    """The processor's model name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return " ".join(named.group(1).split()) if named else platform.machine()


def kind(machine: dict[str, Any]) -> str:
    """The kind of machine in file names: `cpu`, or the GPU's name."""
    return re.sub(r"\W+", "-", (machine["gpu"] or "cpu").lower())


def described(machine: dict[str, Any]) -> str:
    """The machine in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    gpu = machine["gpu"] or "no GPU"
    return f"{machine['cores']} cores of {machine['cpu']}, {gpu}; {versions}; {machine['date']}"
