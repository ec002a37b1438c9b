"""Reads and writes study.yaml (the options of a search) and best.yaml (its winner)."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from imbtune import __version__
from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugin_record import describe
from imbtune.config.plugins import copy_sources, with_imports
from imbtune.config.settings_record import settings_record
from imbtune.config.train_config import TrainConfig
from imbtune.config.yaml_files import parse_yaml
from imbtune.credentials import without_credentials
from imbtune.data.splits import Splits
from imbtune.errors import ImbtuneError, StudyError, printable, some_of
from imbtune.spaces.space_file import parse_space
from imbtune.storage import Store, join
from imbtune.storage.damage import damage_explained
from imbtune.storage.store import check_regular
from imbtune.study.hints import resume_command
from imbtune.study.outcome import SearchOutcome
from imbtune.study.records import ERRORS, FINISHED, INTERRUPTED, OUT_OF_TIME, TrialRecord
from imbtune.study.request import COMPARISON, SEARCH, SearchRequest, other_settings
from imbtune.study.results.comparison_record import Comparison, recorded_comparison
from imbtune.study.tables.find_studies import not_a_study
from imbtune.study.tables.schema import CLASSES

FILE = "study.yaml"
NAMED = 10  # settings that a message names
READ = {  # the keys that are read from it, besides the request and the space
    "data": {"train", "counts", "sha256"},
    "resources": {"cpus", "gpus", "concurrent"},
}
PACKAGES = ("torch", "torchvision", "ray", "optuna", "pyarrow", "numpy")


def check_no_study(
    store: Store, request: SearchRequest, comparison: Comparison | None = None
) -> None:
    """Raise StudyError if the study exists already, with what differs and the command to resume it.

    Args:
        comparison: what a comparison compares.
    """
    if not store.exists(FILE):
        return
    other = _differences(store, request, comparison)
    own = " as it is" if other else ""
    raise StudyError(
        f"the study {request.path} exists already{other}: give another name, such as "
        f"--name {request.free_name()}, continue it{own} with {resume_command(request.path)}, or "
        "delete it"
    )


def _differences(store: Store, request: SearchRequest, comparison: Comparison | None) -> str:
    """What a study is or has that the command does not ask for; empty where it cannot be read."""
    try:
        content = read_content(store.path)
        purpose = purpose_of(content)
        if purpose != request.purpose:
            return f" and is a {purpose}"
        there = recorded_comparison(store)[0].settings() if comparison else {}
        now = comparison.settings() if comparison else {}
        other = other_settings(content, request, there, now)
    except (ImbtuneError, LookupError, TypeError, AttributeError):  # `resume` says what is wrong
        return ""
    return f" with other settings ({some_of(other, NAMED)})" if other else ""


def write_study(
    store: Store,
    request: SearchRequest,
    splits: Splits,
    resources: Mapping[str, float],
    imports: Iterable[PluginModule] | None = None,
) -> None:
    """Write study.yaml and space.yaml. The caller must hold the study's lock.

    study.yaml has the resolved space, the fingerprint of the data, versions, seed and command line.
    space.yaml is a complete space file, equivalent to the one that was searched.

    Args:
        resources: CPUs and GPUs per trial, and how many trials run at a time, by name.
        imports: the plugins; None for those of the space.

    Raises:
        StudyError: another search has created a study of this name since `check_no_study` was
            called before loading the data.
    """
    check_no_study(store, request)
    content = {
        "name": request.name,
        "purpose": request.purpose,
        "started": _now(),
        "command": printable(
            shlex.join([Path(sys.argv[0]).name, *without_credentials(sys.argv[1:])])
        ),
        "seed": request.seed,
        "trials": request.trials,
        "sampler": request.sampler,
        "rungs": {
            "kind": request.rungs,
            "budgets": request.budgets,
            "eta": request.space.rungs.eta,
        },
        "resources": dict(resources),
        "data": {
            "train": len(splits.train),
            "test" if request.purpose == COMPARISON else "validation": len(splits.held_out),
            "counts": splits.counts().tolist(),
            "validation_counts": splits.held_out.counts(len(splits.classes)).tolist(),
            "classes": list(splits.classes),
            "sha256": splits.fingerprint(),
        },
        "versions": versions(),
        "imports": describe(request.space.imports if imports is None else imports),
        "space": request.space.describe(),
        "request": request.to_dict(),
    }
    copy_sources(request.space.imports, store)
    names = list(splits.classes)
    classes = {
        "class": range(len(names)),
        "name": names,
        "train": splits.counts(),
        "held_out": splits.held_out.counts(len(names)),
    }
    store.write_table("classes/part-000000.parquet", pa.table(classes, schema=CLASSES))
    store.write("space.yaml", as_yaml(dict(request.space.source)).encode())
    store.write(FILE, as_yaml(content).encode())  # last: a folder with this file is a study


def read_content(path: str) -> Mapping[str, Any]:
    """Read a study's study.yaml. No module of the study runs.

    Args:
        path: the study's folder or URI.

    Raises:
        StudyError: there is no study, or the file is incomplete or damaged.
    """
    path = _with_name(path)
    store = Store(path)
    if not store.exists(FILE):
        raise StudyError(not_a_study(store))
    with damage_explained(path, FILE):
        content: Mapping[str, Any] = parse_yaml(join(path, FILE), store.read(FILE))
        for section, keys in READ.items():
            if missing := keys - content[section].keys():
                raise KeyError(f"{section}: {', '.join(sorted(missing))}")
        held_out = "test" if purpose_of(content) == COMPARISON else "validation"
        int(content["data"][held_out])
        return content


def purpose_of(content: Mapping[str, Any]) -> str:
    """What a study is for, by its study.yaml: `search`, `calibration` or `comparison`."""
    return str(content.get("purpose", SEARCH))  # the first version wrote searches alone


def read_study(path: str) -> tuple[SearchRequest, Mapping[str, Any]]:
    """Read a study's options, and the content of its study.yaml. The modules of its space run.

    Args:
        path: the study's folder or URI.

    Raises:
        StudyError: there is no study, or its files are incomplete or damaged.
        UntrustedError: it has modules that this user has not run before.
    """
    path, content = _with_name(path), read_content(path)
    store = Store(path)
    if store.local:
        check_regular(store.local / "journal.log")  # which is opened as a file
    with damage_explained(path, FILE):
        source = parse_yaml(join(path, "space.yaml"), store.read("space.yaml"))
        options, space_name = content["request"], content["space"]["name"]
        folder = Path(path) if store.local else Path()
        space = parse_space(space_name, source, folder, store).pin(content["space"]["set"])
        request = SearchRequest.from_dict(space, options)
        storage, name = _split(path)
        return replace(request, storage=storage, name=name), content


def change_options(store: Store, content: Mapping[str, Any], request: SearchRequest) -> None:
    """Write the options that a resumed search keeps to study.yaml, if they are others.

    Args:
        content: of study.yaml.
        request: with the new values.
    """
    kept = ("trials", "finals", "max_failures", "trial_timeout")
    changes = {name: getattr(request, name) for name in kept}
    options = {**content["request"], **changes}
    if options != content["request"]:
        changed = {**content, "trials": request.trials, "request": options}
        store.write(FILE, as_yaml(changed).encode())


def record_end(store: Store, end: str | None) -> Mapping[str, Any]:
    """Record in study.yaml when and how a search ended, and return what it holds then.

    Args:
        end: one of :data:`imbtune.study.records.ENDS`; None where it goes on.

    Raises:
        StudyError: the study was deleted meanwhile.
    """
    try:
        text = store.read(FILE)
    except FileNotFoundError as error:
        raise StudyError(
            f"{store.path} has no {FILE} any more: the study was deleted while it was searched"
        ) from error
    content: dict[str, Any] = parse_yaml(join(store.path, FILE), text)
    if content.get("end") == end:
        return content
    changed = {key: value for key, value in content.items() if key not in ("ended", "end")}
    if end:
        changed |= {"ended": _now(), "end": end}
    store.write(FILE, as_yaml(changed).encode())
    return changed


def how_it_ended(interrupted: bool, left: bool) -> str:
    """How a search ended that was not given up, as `record_end` takes it.

    Args:
        interrupted: by the user or a signal.
        left: whether trials are left to train.
    """
    return INTERRUPTED if interrupted else OUT_OF_TIME if left else FINISHED


def write_traceback(store: Store, name: str, text: str) -> None:
    """Write a traceback to the folder `errors`. Tried once: the trials' table has its error."""
    with contextlib.suppress(StudyError):
        store.with_patience(0).write(f"{ERRORS}/{name}.txt", text.encode())


def check_purpose(request: SearchRequest, purpose: str) -> None:
    """Raise StudyError unless the study is a `search`, a `calibration` or a `comparison`.

    Args:
        purpose: one of the three.
    """
    check_is_a(purpose, request.purpose, request.path)


def check_is_a(wanted: str, found: str, path: str) -> None:
    """Raise StudyError unless the study at `path` has the purpose that is wanted."""
    if found != wanted:
        raise StudyError(f"{path} is a {found}: give the folder of a {wanted}")


def check_same_data(content: Mapping[str, Any], splits: Splits) -> None:
    """Raise StudyError if the data is not the data that the study began with."""
    if content["data"]["sha256"] != splits.fingerprint():
        raise StudyError(
            f"the data differs from the data that the study {content.get('name')} began with "
            f"({content['data']['train']} training images): give that data with --data"
        )


def best_yaml(request: SearchRequest, outcome: SearchOutcome) -> str:
    """The content of best.yaml: the winner's complete configuration, and where it comes from.

    Its seed is 0 instead of the trial's, which was partly why the trial won: a training from this
    file must not repeat that lucky run.
    """
    assert outcome.winner
    config = TrainConfig.from_settings(outcome.winner.settings).replace(seed=0)
    evidence = outcome.evidence
    provenance = {
        "study": outcome.path,
        "objective": request.space.objective.setting(),
        "objectives": [metric.setting() for metric in request.space.objectives],
        **({"front": [found.trial for found in outcome.front]} if outcome.front else {}),
        "winner": trial_entry(outcome.winner),
        **settings_record(config),
        "best_preset": trial_entry(outcome.baseline) if outcome.baseline else None,
        "trials": len(outcome.records),
        "finals": evidence.to_dict() if evidence else None,
        "versions": versions(),
    }
    measure = "mean score over fresh seeds" if evidence else "validation score of one run"
    if outcome.front:
        measure = f"{outcome.objectives[0]}, {measure}"
    confirm = "# To confirm it with fresh seeds: imbtune resume STUDY --finals 5\n"
    return (
        f"# The best finished trial of {outcome.path}, by its {measure}.\n"
        f"{'' if evidence else confirm}"
        "# To train it on all training data and test it: imbtune train THIS_FILE --seeds 5\n"
        + as_yaml(with_imports(config.nested(), request.space.imports) | {"provenance": provenance})
    )


def versions() -> dict[str, str]:
    """The versions that results depend on."""
    found = {"imbtune": __version__, "python": sys.version.split()[0]}
    return found | {package: metadata.version(package) for package in PACKAGES}


def trial_entry(record: TrialRecord) -> Mapping[str, Any]:
    """A trial in the provenance of a configuration."""
    return {
        "trial": record.number,
        "preset": record.preset,
        "seed": record.settings["seed"],
        "validation_score": record.score,
        "epochs": record.budget,
    }


def _with_name(path: str) -> str:
    """The path, made absolute if it does not end in the study's name, such as `.` or `..`."""
    if "://" in path or Path(path).name not in ("", ".."):
        return path
    return str(Path(path).resolve())


def _split(path: str) -> tuple[str, str]:
    """The storage and the name in a study's path; a user may have renamed the folder."""
    if "://" not in path:
        return str(Path(path).parent), Path(path).name
    address, question, options = path.partition("?")
    storage, _, name = address.rstrip("/").rpartition("/")
    return storage + question + options, name


def as_yaml(content: object) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
