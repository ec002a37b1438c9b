"""study.yaml and best.yaml: what was searched, and what came out."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import yaml

from imbtune import __version__
from imbtune.config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.imports import describe, with_imports
from imbtune.results.store import Store
from imbtune.search.records import SearchOutcome, TrialRecord
from imbtune.search.request import SearchRequest
from imbtune.search.resources import Resources

PACKAGES = ("torch", "torchvision", "ray", "optuna", "pyarrow", "numpy")


def write_study(
    store: Store, request: SearchRequest, splits: Splits, budgets: list[int], resources: Resources
) -> None:
    """study.yaml: the resolved space, the data's fingerprint, versions, seed and command line."""
    content = {
        "name": request.name,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join(["imbtune", *sys.argv[1:]]),
        "seed": request.seed,
        "trials": request.trials,
        "sampler": request.sampler,
        "rungs": {"kind": request.rungs, "budgets": budgets, "eta": request.space.rungs.eta},
        "resources": vars(resources),
        "data": {
            "train": len(splits.train),
            "validation": len(splits.held),
            "counts": splits.counts().tolist(),
            "classes": list(splits.classes),
            "sha256": splits.fingerprint(),
        },
        "versions": versions(),
        "imports": describe(request.space.imports),
        "space": request.space.describe(),
    }
    store.write("study.yaml", _yaml(content).encode())


def best_yaml(request: SearchRequest, outcome: SearchOutcome) -> str:
    """The winner as a complete configuration, and where it comes from.

    Its seed is 0, not the trial's: what is trained from it shall not repeat the lucky run.
    """
    assert outcome.winner
    config = TrainConfig.from_settings(outcome.winner.settings).replace(seed=0)
    provenance = {
        "study": outcome.place,
        "objective": request.space.objective,
        "winner": _evidence(outcome.winner),
        "best_preset": _evidence(outcome.baseline) if outcome.baseline else None,
        "trials": len(outcome.records),
        "versions": versions(),
    }
    return (
        f"# The best finished trial of {outcome.place}, by its validation score.\n"
        "# Train it on all training data and test it: imbtune train THIS_FILE --seeds 5\n"
        + _yaml(with_imports(config.nested(), request.space.imports) | {"provenance": provenance})
    )


def versions() -> dict[str, str]:
    """The versions that results depend on."""
    found = {"imbtune": __version__, "python": sys.version.split()[0]}
    return found | {package: metadata.version(package) for package in PACKAGES}


def _evidence(record: TrialRecord) -> Mapping[str, Any]:
    return {
        "trial": record.number,
        "preset": record.preset,
        "seed": record.settings["seed"],
        "validation_score": record.score,
        "epochs": record.budget,
    }


def _yaml(content: object) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
