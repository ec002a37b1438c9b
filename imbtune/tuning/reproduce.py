"""Trains a trial of a study again exactly as its search did, without Ray, and compares them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pyarrow.compute as pc
import torch

from imbtune.config.train_config import TrainConfig
from imbtune.errors import StudyError
from imbtune.metrics.number_text import as_text
from imbtune.paths import local_path, path_or_uri
from imbtune.progress import Log
from imbtune.storage import Store
from imbtune.study.files import check_purpose, check_same_data, read_study
from imbtune.study.journal import read_trials, trial_record
from imbtune.study.records import TrialRecord, summary
from imbtune.study.request import SEARCH, SearchRequest
from imbtune.study.tables.own_files import own_table
from imbtune.training.device.device_data import DeviceData
from imbtune.training.phases import rung_segments
from imbtune.training.rungs import Diverged, RungResult, train_through_rungs
from imbtune.training.state import pick_device
from imbtune.tuning.session import load_search_splits


def repeat_trial(path: str, number: int, data: str | None, log: Log) -> bool:
    """Train a trial again up to its last recorded rung, and log the score of each rung.

    Args:
        path: the study's folder or URI.
        number: of the trial.
        data: folder or file of the data set; None for the study's.
        log: is called with each line for the user.

    Returns:
        Whether every score and every epoch's loss equals the recorded one, to the last bit. With
        another machine, GPU, number of threads or version of torch they may differ.

    Raises:
        ConfigError: an empty path.
        StudyError: there is no such study or trial, the trial reached no rung, or the data differs.
    """
    path = path_or_uri("the study", path)
    given = None if data is None else Path(local_path("--data", data))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    request, content = read_study(path)
    check_purpose(request, SEARCH)
    request = replace(request, data=given or request.data)
    record = _find_trial(path, number, request)
    space = request.space
    splits = load_search_splits(space.base(), request.data_source(), space.plugin_parts())
    check_same_data(content, splits)
    torch.set_num_threads(record.rungs[-1].threads)
    device = pick_device() if content["resources"]["gpus"] else torch.device("cpu")
    tensors = DeviceData(splits, device)
    config = TrainConfig.from_settings(record.settings)
    log(f"trial {number} of {path}: {record.preset or summary(record.settings)}, on {device}")
    known = {rung.budget: rung.score for rung in record.rungs}
    segments = rung_segments(request.rungs_kind, request.budgets, config.schedule.shared)
    store = Store(path)
    losses = _losses(store, record) if store.exists("epochs") else {}
    if not losses:
        log("The study has no rows for its epochs, so only the scores of its rungs are compared.")
    if len({rung.threads for rung in record.rungs}) > 1:
        log(
            "The trial was resumed with another number of threads, which can change the last bits "
            "of its scores."
        )
    same = True
    for result in train_through_rungs([config], tensors, segments[: len(known)]):
        if isinstance(result, Diverged):
            log(f"this time the training diverged: {result.reason}")
            return False
        equal = True
        if isinstance(result, RungResult):
            budget = result.segment.budget
            score = space.objective.score(result.predictions)
            equal = score == known[budget]
            recorded_score = "as recorded" if equal else f"recorded was {as_text(known[budget])}"
            log(f"{budget:>4} epochs: {as_text(score)}, {recorded_score}")
        elif not result.failure:
            epoch = result.epoch
            recorded = losses.get((epoch.phase, epoch.budget, epoch.index + 1))
            equal = recorded in (None, result.loss)  # rows of a killed search may be lost
            if not equal and same:
                log(f"epoch {epoch.index + 1}: loss {result.loss!r}, recorded was {recorded!r}")
        same = same and equal
    return same


def _find_trial(path: str, number: int, request: SearchRequest) -> TrialRecord:
    trials = read_trials(Store(path), request.name)
    if not trials:
        raise StudyError(f"{path} has no trial yet: run it with imbtune resume")
    if not 0 <= number < len(trials):
        raise StudyError(f"{path} has no trial {number}: give one of 0 to {len(trials) - 1}")
    record = trial_record(trials[number], request.space, request.seed, {})
    if not record.rungs:
        raise StudyError(
            f"trial {number} of {path} reached no rung, so it has no score to compare with: give "
            "another trial"
        )
    return record


def _losses(store: Store, record: TrialRecord) -> dict[tuple[str, int, int], float]:
    """The recorded loss of each epoch of a trial and its trunk, by phase, budget and epoch."""
    table = own_table(store, "epochs")
    mine = pc.equal(table["trial"], record.number)
    trunk = pc.and_(pc.equal(table["trial"], record.trunk), pc.equal(table["phase"], "trunk"))
    rows = table.filter(pc.or_(mine, trunk)).select(["phase", "budget", "epoch", "loss"])
    return {(r["phase"], r["budget"], r["epoch"]): r["loss"] for r in rows.to_pylist()}
