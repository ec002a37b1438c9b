"""One search, from its request to its winner."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune

from imbtune.config import PLAIN, TrainConfig
from imbtune.data.datasets import Reading, load
from imbtune.data.splits import Splits, search_splits
from imbtune.errors import StudyError
from imbtune.imports import keep_sources, register
from imbtune.registry import Entry
from imbtune.results.store import Store
from imbtune.results.tables import ParquetSink, Sink
from imbtune.results.wandb import WandbSink, check_wandb
from imbtune.search.actor import TrialActor
from imbtune.search.cluster import check_address, cluster_nodes, connected, local_node
from imbtune.search.recorder import Recorder
from imbtune.search.records import SearchOutcome, TrialRecord
from imbtune.search.request import SearchRequest
from imbtune.search.resources import Node, Resources, check_gpu_fraction, plan_resources
from imbtune.search.scheduler import RungScheduler
from imbtune.search.searcher import OptunaSearcher, make_sampler
from imbtune.search.space import SearchSpace
from imbtune.search.study_files import best_yaml, write_study
from imbtune.slots import SLOTS
from imbtune.training.contract import try_parts
from imbtune.training.model import try_model

REPORT_SECONDS = 3.0  # epochs reach the driver at every rung, and about this often


def run_search(request: SearchRequest, say: Callable[[str], None]) -> SearchOutcome:
    """Check everything, search, write the study, return the winner.

    Raises:
        ImbtuneError: before anything starts: the data, the study's place, the resources.
    """
    started = time.monotonic()
    space = request.space
    register(space.imports)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = make_sampler(request.sampler, request.seed)
    check_gpu_fraction(request.gpus_per_trial or 0)
    check_wandb(request.wandb)
    check_address(request.address)
    store = _new_store(request)
    store.check_writable()
    base = space.base()
    budgets = space.rungs.budgets(base.epochs)
    splits = load_search_splits(base, request.reading(), space.own_parts())
    if not request.address:  # what this machine cannot give is said before Ray starts
        _plan(request, [local_node()])
    with connected(request.address):
        nodes = cluster_nodes()
        resources = _plan(request, nodes)
        store.create()
        write_study(store, request, splits, budgets, resources)
        keep_sources(space.imports, store)
        say(_headline(request, splits, budgets, resources))
        for note in splits.notes:
            say(note)
        if resources.gpus > max(node.gpus for node in nodes):
            say("No machine of the cluster has a GPU yet: the trials wait until one joins.\n")
        with _journal(store) as storage:
            study = optuna.create_study(
                study_name=request.name, storage=storage, sampler=sampler, direction="maximize"
            )
            searcher = OptunaSearcher(study, space, request.trials, request.seed, budgets[-1])
            recorder = Recorder(request.trials, budgets[-1], say)
            recorder.sinks += _sinks(store, request, recorder)
            try:
                _fit(request, splits, budgets, resources, searcher, recorder)
            finally:
                searcher.close()
                recorder.close()
    outcome = _outcome(request, recorder, budgets[-1], time.monotonic() - started)
    if outcome.winner:
        store.write("best.yaml", best_yaml(request, outcome).encode())
    return outcome


def load_search_splits(config: TrainConfig, reading: Reading, own: Iterable[Entry] = ()) -> Splits:
    """The search's data, with the network and the user's `own` parts tried on its shape."""
    dataset = load(config.data.name, config.data.knobs, reading)
    splits = search_splits(dataset, config.data.shared)
    try_parts(own, splits)
    try_model(config, splits)
    return splits


def _fit(
    request: SearchRequest,
    splits: Splits,
    budgets: list[int],
    resources: Resources,
    searcher: OptunaSearcher,
    recorder: Recorder,
) -> None:
    """Hand the trials to Ray Tune. What Tune itself writes goes to a scratch folder."""
    eta = request.space.rungs.eta
    trainable = tune.with_parameters(
        TrialActor,
        splits=splits,
        rungs=request.rungs,
        budgets=budgets,
        eta=eta,
        objective=request.space.objective,
        threads=resources.cpus,
        report_seconds=REPORT_SECONDS,
        imports=request.space.imports,
    )
    scratch = tempfile.mkdtemp(prefix="imbtune-tune-")
    try:
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=RungScheduler(len(budgets), eta),
                num_samples=request.trials,
                max_concurrent_trials=resources.concurrent,
                time_budget_s=request.time_budget,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name=request.name,
                storage_path=scratch,
                callbacks=[recorder],
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _plan(request: SearchRequest, nodes: list[Node]) -> Resources:
    return plan_resources(
        nodes,
        request.trials,
        request.cpus_per_trial,
        request.gpus_per_trial,
        request.max_concurrent,
        may_grow=bool(request.address),
    )


def _new_store(request: SearchRequest) -> Store:
    store = Store(request.place)
    if not store.is_empty():
        free = next(n for i in range(2, 10**6) if _is_free(request, n := f"{request.name}-{i}"))
        raise StudyError(
            f"the study {request.place} exists already: give another name, --name {free}"
        )
    return store


def _is_free(request: SearchRequest, name: str) -> bool:
    return Store(replace(request, name=name).place).is_empty()


def _sinks(store: Store, request: SearchRequest, recorder: Recorder) -> list[Sink]:
    sinks: list[Sink] = [ParquetSink(store, knob_types(request.space))]
    if request.wandb != "off":
        folder = store.local or Path.cwd()
        sinks.append(
            WandbSink(request.space.name, request.name, request.wandb, folder, recorder.settings)
        )
    return sinks


def knob_types(space: SearchSpace) -> dict[str, type]:
    """The type of every setting that a trial of the space may have, in the order of the slots."""
    flats = [space.base().flat(), *(space.preset(name).flat() for name in space.presets())]
    for slot in SLOTS:
        ranges = [knob for knob in space.knobs if knob.key == slot]
        names = ranges[0].choices if ranges else ()
        flats += [TrainConfig.from_settings({slot: name}).flat() for name in names]
    types = {key: type(value) for flat in flats for key, value in flat.items()}
    order = [*SLOTS, *PLAIN]
    return dict(sorted(types.items(), key=lambda item: order.index(item[0].partition(".")[0])))


def _outcome(
    request: SearchRequest, recorder: Recorder, full_budget: int, seconds: float
) -> SearchOutcome:
    """The winner is chosen among trials that finished the full budget, and nowhere else."""
    records = list(recorder.records.values())
    finished = [r for r in records if r.state == "COMPLETE"]
    winner = max(finished, key=_score, default=None)
    baseline = max((r for r in finished if r.preset), key=_score, default=None)
    return SearchOutcome(request.place, records, winner, baseline, seconds)


def _score(record: TrialRecord) -> float:
    assert record.score is not None
    return record.score


@contextmanager
def _journal(store: Store) -> Iterator[JournalStorage]:
    """Optuna's journal in the study's folder; for a bucket, copied there at the end."""
    with tempfile.TemporaryDirectory() as scratch:
        path = (store.local or Path(scratch)) / "journal.log"
        try:
            yield JournalStorage(JournalFileBackend(str(path)))
        finally:
            if not store.local:
                store.write("journal.log", path.read_bytes())


def _headline(
    request: SearchRequest, splits: Splits, budgets: list[int], resources: Resources
) -> str:
    share = f"{resources.cpus} CPU" + (f" + {resources.gpus:g} GPU" if resources.gpus else "")
    return (
        f"{request.space.name}: {len(splits.train)} training and {len(splits.held)} validation "
        f"images, {len(splits.classes)} classes\n"
        f"{request.trials} trials, {resources.concurrent} at a time on {share} each; "
        f"{request.rungs} rungs at {', '.join(map(str, budgets))} epochs\n"
    )
