"""Prepares a study's runs: checks the options, loads the data, plans the resources."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import optuna

from imbtune.config.plugins import register
from imbtune.config.train_config import TrainConfig
from imbtune.data.load import DataSource, load
from imbtune.data.splits import Splits, search_splits
from imbtune.errors import StudyError
from imbtune.metrics.defined import check_defined
from imbtune.progress import Log
from imbtune.progress.reporter import Reporter
from imbtune.registry import Part
from imbtune.storage import Store
from imbtune.study.data_size import class_counts, data_size_lines
from imbtune.study.files import check_no_study
from imbtune.study.request import AUTO, EVERY, SEARCH, SearchRequest
from imbtune.study.results.comparison_record import Comparison
from imbtune.study.trackers.tracking import check_trackers
from imbtune.training.model import check_model_fits
from imbtune.training.plugin_checks import check_plugins
from imbtune.tuning.cluster.address import check_address
from imbtune.tuning.cluster.connection import cluster_nodes, local_node
from imbtune.tuning.cluster.resources import (
    Node,
    Resources,
    check_gpu_fraction,
    plan_resources,
)
from imbtune.tuning.execution.events import FailureLimits
from imbtune.tuning.samplers import check_sampler, make_sampler
from imbtune.tuning.worker.trial_runner import WorkerSettings


@dataclass(frozen=True)
class Session:
    """What all steps of a search need while Ray is connected.

    Attributes:
        request: the options of the search.
        store: the study's folder or bucket.
        splits: training and validation images.
        resources: CPUs and GPUs per trial, and trials at a time.
        reporter: gets everything that happens.
    """

    request: SearchRequest
    store: Store
    splits: Splits
    resources: Resources
    reporter: Reporter

    @property
    def limits(self) -> FailureLimits:
        """How often a trial is trained again whose worker was lost."""
        return FailureLimits(self.request.max_failures, self.request.trial_timeout)

    def worker_settings(self, rungs: str, with_checkpoints: bool) -> WorkerSettings:
        """The settings of the workers.

        Args:
            rungs: a kind of rung, or EVERY.
            with_checkpoints: whether trunks are saved at rungs, so that a search can be resumed.
        """
        folder = str(self.store.local.absolute()) if self.store.local else self.store.path
        return WorkerSettings(
            rungs,
            self.request.budgets,
            self.request.space.rungs.eta,
            self.request.space.objectives,
            folder if with_checkpoints else None,
            self.resources.cpus,
            self.resources.gpus,
            imports=self.request.space.imports,
            pack=self.request.pack,
        )


def check_request(request: SearchRequest) -> Splits:
    """Check all options of a search that can be checked before Ray starts, and load the data.

    Raises:
        ImbtuneError: an invalid option, or data that cannot be loaded.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    make_sampler(request.sampler, request.seed)
    check_sampler(request.sampler, request.space.objectives)
    check_trackers(request)
    check_machines(request)
    space = request.space
    splits = load_search_splits(space.base(), request.data_source(), space.plugin_parts())
    check_objectives(request, splits)
    return splits


def check_objectives(request: SearchRequest, splits: Splits) -> None:
    """ConfigError for an objective that says nothing of a model on the validation images."""
    validation_K = splits.held_out.counts(len(splits.classes))
    counts = class_counts(splits.classes, splits.counts(), validation_K)
    check_defined(request.space.objectives, counts, "validation images")


def check_machines(request: SearchRequest) -> None:
    """Register the plugins, and check address and resources as far as is possible without Ray.

    Raises:
        ImbtuneError: an invalid option, or CPUs or GPUs that this machine does not have.
    """
    register(request.space.imports)
    check_gpu_fraction(request.share or 0)
    check_address(request.address)
    if not request.address:
        _plan(request, [local_node()])


def find_resources(request: SearchRequest, log: Log) -> Resources:
    """Plan each trial's share of the machine or cluster that Ray is connected to."""
    nodes = cluster_nodes()
    resources = _plan(request, nodes)
    if resources.gpus > max(node.gpus for node in nodes):
        log("No machine of the cluster has a GPU yet: the trials start when one joins it.\n")
    if request.pack and not resources.gpus:
        log("--pack makes a search without GPUs slower (docs/cluster.md): leave it out.\n")
    return resources


def load_search_splits(
    config: TrainConfig, data_source: DataSource, plugins: Iterable[Part] = ()
) -> Splits:
    """Load training and validation images, and check that the network accepts their shape.

    Args:
        plugins: the user's parts, which are tried on the data.

    Raises:
        ImbtuneError: the data, the network or a plugin cannot be used.
    """
    dataset = load(config.data.name, config.data.knobs, data_source)
    splits = search_splits(dataset, config.data.shared)
    check_plugins(plugins, splits)
    check_model_fits(config, splits)
    return splits


def _plan(request: SearchRequest, nodes: list[Node]) -> Resources:
    share = request.share
    if request.gpus_per_trial == AUTO:  # measured later; a whole GPU needs the fewest CPUs
        share = 1.0 if any(node.gpus for node in nodes) else 0.0
    return plan_resources(
        nodes,
        request.runs,
        request.cpus_per_trial,
        share,
        request.max_concurrent,
        may_grow=bool(request.address),
    )


def new_store(request: SearchRequest, log: Log, comparison: Comparison | None = None) -> Store:
    """The store of a new study. Its folder is not created yet.

    Args:
        log: is called with a line where the storage fails.
        comparison: what a comparison compares.

    Raises:
        StudyError: the folder has files already, or cannot be written.
    """
    store = Store(request.path, log)
    if not store.is_empty() and not store.exists("study.yaml"):
        raise StudyError(
            f"{request.path} exists, but is not a study: delete it, or give another --name"
        )
    check_no_study(store, request, comparison)
    store.check_writable()
    return store


def size_lines(request: SearchRequest, splits: Splits) -> list[str]:
    """What a user should know of the size of the data, in one or two lines."""
    space, classes = request.space, splits.classes
    validation_K = splits.held_out.counts(len(classes))
    return data_size_lines(
        space.objective, classes, splits.counts(), validation_K, space.base().batch_size
    )


def headline(request: SearchRequest, splits: Splits, resources: Resources) -> str:
    """The lines that a search or calibration prints before its first trial."""
    budgets = ", ".join(map(str, request.budgets))
    trials, rungs = f"{request.trials} trials", f"{request.rungs} rungs at {budgets}"
    if request.rungs == "none":
        rungs = f"no early stopping, {budgets}"
    elif request.rungs == EVERY:
        trials, rungs = f"{request.runs} runs, 2 per trial", f"rungs of all kinds at {budgets}"
    presets = len(request.space.presets()) if request.purpose == SEARCH else 0
    others = presets - request.trials
    left_out = (
        f"The space has {presets} presets, more than --trials: the last "
        f"{'one is' if others == 1 else f'{others} are'} left out.\n"
    )
    share = f"{resources.cpus} CPU" + (f" + {resources.gpus:g} GPU" if resources.gpus else "")
    size = "\n".join(size_lines(request, splits))
    return (
        f"{request.space.name}: {len(splits.train)} training and {len(splits.held_out)} validation "
        f"images, {len(splits.classes)} classes\n{size}\n"
        f"{trials}, {resources.concurrent} at a time on {share} each; {rungs} epochs\n"
        + (left_out if presets > request.trials else "")
    )
