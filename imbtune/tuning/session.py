"""What a search or a calibration has to have before its first trial: checks, data, resources."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import optuna

from imbtune.config.plugins import register
from imbtune.config.train_config import TrainConfig
from imbtune.data.load import DataSource, load
from imbtune.data.splits import Splits, search_splits
from imbtune.errors import StudyError
from imbtune.progress import Log
from imbtune.registry import Part
from imbtune.storage import Store
from imbtune.study.files import check_no_study
from imbtune.study.request import AUTO, EVERY, SEARCH, SearchRequest
from imbtune.study.tables.wandb import check_wandb
from imbtune.training.model import check_model_fits
from imbtune.training.plugin_checks import check_plugins
from imbtune.tuning.cluster.connection import check_address, cluster_nodes, local_node
from imbtune.tuning.cluster.resources import (
    Node,
    Resources,
    check_gpu_fraction,
    plan_resources,
)
from imbtune.tuning.samplers import make_sampler
from imbtune.tuning.worker.trial_runner import WorkerSettings


@dataclass(frozen=True)
class Session:
    """What all steps of a search need; made while Ray is connected."""

    request: SearchRequest
    store: Store
    splits: Splits
    resources: Resources
    log: Log
    started: float = field(default_factory=time.monotonic)

    def worker_settings(self, rungs: str, runs: int, keeps: bool) -> WorkerSettings:
        """What the actors need for so many runs; `keeps` checkpoints of trunks."""
        folder = str(self.store.local.absolute()) if self.store.local else self.store.path
        return WorkerSettings(
            rungs,
            self.request.budgets,
            self.request.space.rungs.eta,
            self.request.space.objective,
            folder if keeps else None,
            self.resources.cpus,
            self.resources.gpus,
            imports=self.request.space.imports,
            pack=self.request.pack,
        )


def check_request(request: SearchRequest) -> Splits:
    """The data; ImbtuneError for anything that can be wrong before Ray starts."""
    register(request.space.imports)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    make_sampler(request.sampler, request.seed)
    check_gpu_fraction(request.share or 0)
    check_wandb(request.wandb)
    check_address(request.address)
    space = request.space
    splits = load_search_splits(space.base(), request.data_source(), space.plugin_parts())
    if not request.address:  # what this machine cannot give is said before Ray starts
        _plan(request, [local_node()])
    return splits


def find_resources(request: SearchRequest, log: Log) -> Resources:
    """What each trial gets of the machine or cluster that Ray is connected to."""
    nodes = cluster_nodes()
    resources = _plan(request, nodes)
    if resources.gpus > max(node.gpus for node in nodes):
        log("No machine of the cluster has a GPU yet: the trials wait until one joins.\n")
    if request.pack and not resources.gpus:
        log("--pack without GPUs makes a search slower (docs/cluster.md): leave it out here.\n")
    return resources


def load_search_splits(
    config: TrainConfig, data_source: DataSource, own: Iterable[Part] = ()
) -> Splits:
    """The search's data, with the network and the user's `own` parts tried on its shape."""
    dataset = load(config.data.name, config.data.knobs, data_source)
    splits = search_splits(dataset, config.data.shared)
    check_plugins(own, splits)
    check_model_fits(config, splits)
    return splits


def _plan(request: SearchRequest, nodes: list[Node]) -> Resources:
    share = request.share
    if request.gpus_per_trial == AUTO:  # to be measured yet: what asks for the fewest CPUs
        share = 1.0 if any(node.gpus for node in nodes) else 0.0
    return plan_resources(
        nodes,
        request.runs,
        request.cpus_per_trial,
        share,
        request.max_concurrent,
        may_grow=bool(request.address),
    )


def new_store(request: SearchRequest) -> Store:
    """The study's folder, not made yet; StudyError where there is one, or none can be."""
    store = Store(request.path)
    if not store.is_empty() and not store.exists("study.yaml"):
        raise StudyError(
            f"{request.path} is there and holds no study: delete it, or give another --name"
        )
    check_no_study(store, request)
    store.check_writable()
    return store


def headline(request: SearchRequest, splits: Splits, resources: Resources) -> str:
    """What is about to run, in a few lines."""
    budgets = ", ".join(map(str, request.budgets))
    trials, rungs = f"{request.trials} trials", f"{request.rungs} rungs at {budgets}"
    if request.rungs == "none":
        rungs = f"no early stopping, {budgets}"
    elif request.rungs == EVERY:
        trials, rungs = f"{request.runs} runs, 2 of each trial", f"rungs of all kinds at {budgets}"
    presets = len(request.space.presets()) if request.purpose == SEARCH else 0
    out = f"The space has {presets} presets: the last {presets - request.trials} are left out.\n"
    share = f"{resources.cpus} CPU" + (f" + {resources.gpus:g} GPU" if resources.gpus else "")
    return (
        f"{request.space.name}: {len(splits.train)} training and {len(splits.held_out)} validation "
        f"images, {len(splits.classes)} classes\n"
        f"{trials}, {resources.concurrent} at a time on {share} each; {rungs} epochs\n"
        + (out if presets > request.trials else "")
    )
