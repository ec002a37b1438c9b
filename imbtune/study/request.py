"""The options of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from imbtune.data.load import DataSource, reads_files, source_of
from imbtune.errors import shown
from imbtune.limits import WHOLE, check_whole
from imbtune.spaces.search_space import SearchSpace
from imbtune.storage import Store, join
from imbtune.study.evidence import finalists_of

LOCAL = "local"  # address: this machine, also for a study that began on a cluster
OF_MACHINES = ("gpus_per_trial", "cpus_per_trial", "max_concurrent")  # fields that fit machines
AUTO = "auto"  # rungs: those that a calibration recommends; GPUs per trial: as measured
EVERY = "every"  # rungs: all kinds, and nothing is stopped: a calibration's
TEST = "test"  # rungs: none, and each finished model is tested: a comparison's
SEARCH, CALIBRATION, COMPARISON = "search", "calibration", "comparison"  # what a study is for
CALIBRATION_SUFFIX = "-calibration"  # of the name of a calibration's study
COMPARISON_SUFFIX = "-comparison"  # of the name of a comparison's study
# Fields of a request on which the results depend, beside the space and the data
COMPARED = (
    *("trials", "seed", "sampler", "rungs", "never_prune", "finals", "final_seeds"),
    "skip_corrupt",
)
NOT_COMPARED = ("name", "about", "objective", "set")  # of a space: words, or in other keys, too
RENAMED = {
    "rescue": "never_prune",
    "objective": "objectives",
}  # fields by the name that older studies have on disk


@dataclass(frozen=True)
class SearchRequest:
    """The options of a search, a calibration or a comparison; see `imbtune search --help`.

    Attributes:
        space: with the settings that `--set` fixes.
        trials: the total, presets included; of a comparison, its runs.
        name: of the study; its folder is `storage`/`name`.
        seed: of the sampler and, with a trial's number, of every trial.
        gpus_per_trial: 1/n, a whole number, AUTO (measured first), or None for 0.25 where there
            are GPUs.
        cpus_per_trial: whole CPUs; None for an even share.
        max_concurrent: trials at a time; None for as many as fit.
        pack: several trials share a process (experimental, see :mod:`imbtune.tuning.packing`).
        address: of a running Ray cluster; None for this machine. The option `local` becomes None.
        storage: folder or URI in which studies are.
        sampler: one of `imbtune.tuning.samplers.SAMPLERS`.
        rungs: a kind of rung, `none`, AUTO, EVERY or TEST.
        never_prune: share of the stopped trials that run to the end, in [0, 1].
        finals: finalists; None for the default.
        final_seeds: fresh seeds per finalist.
        time_budget: of the trials, in seconds; None for no limit.
        max_failures: how many workers in a row a trial may lose, with their process or machine,
            without reaching another rung.
        trial_timeout: seconds without a report after which a trial's worker is ended; None for
            30 minutes, or ten times the longest silence of any trial, if that is more.
        wandb: `off`, `offline` or `online`.
        wandb_project: of the runs in W&B; None for one named after the space.
        wandb_entity: the user or team of the project; None for W&B's default.
        wandb_tags: of every run.
        tensorboard: whether TensorBoard's files are written.
        mlflow: whether runs are sent to MLflow.
        data: folder or file of the data set; None for $IMBTUNE_DATA, or a download.
        skip_corrupt: go on without images that cannot be read.
        objectives: the metrics that the user gave instead of the space's, which `space` has too;
            empty if none.
        typed: the space's name or path as the user gave it, for commands that are printed.
        calibration: the one that the rungs follow: its `place`, the `sha256` of its file, the
            fingerprint of its `data`, and what else `differs`.
    """

    space: SearchSpace
    trials: int
    name: str
    seed: int = 0
    gpus_per_trial: float | str | None = None
    cpus_per_trial: int | None = None
    max_concurrent: int | None = None
    pack: bool = False
    address: str | None = None
    storage: str = "runs"
    sampler: str = "tpe"
    rungs: str = "cooldown"
    never_prune: float = 0.05
    finals: int | None = None
    final_seeds: int = 3
    time_budget: float | None = None
    max_failures: int = 3
    trial_timeout: float | None = None
    wandb: str = "off"
    wandb_project: str | None = None
    wandb_entity: str | None = None
    wandb_tags: list[str] = field(default_factory=list)
    tensorboard: bool = False
    mlflow: bool = False
    data: Path | None = None
    skip_corrupt: bool = False
    objectives: tuple[str, ...] = ()
    typed: str = ""
    calibration: Mapping[str, str] | None = None

    @property
    def path(self) -> str:
        """The study's folder or URI."""
        return join(self.storage, self.name)

    def free_name(self) -> str:
        """The name, or the first of NAME-2, NAME-3, … that no study has."""
        names = (f"{self.name}-{i}" if i > 1 else self.name for i in range(1, 10**6))
        return next(name for name in names if Store(join(self.storage, name)).is_empty())

    @property
    def share(self) -> float | None:
        """GPUs of a trial, if given as a number; None also for AUTO before it is measured."""
        return None if isinstance(self.gpus_per_trial, str) else self.gpus_per_trial

    @property
    def purpose(self) -> str:
        """What the study is for."""
        return {EVERY: CALIBRATION, TEST: COMPARISON}.get(self.rungs, SEARCH)

    @property
    def runs(self) -> int:
        """Training runs before the finals: a trial of a calibration has two, one for each seed."""
        return 2 * self.trials if self.purpose == CALIBRATION else self.trials

    @property
    def budgets(self) -> list[int]:
        """The rungs in epochs, rising to the full budget; only that without early stopping."""
        every = self.space.rungs.budgets(self.space.base().epochs)
        return every[-1:] if self.rungs in ("none", TEST) else every

    @property
    def rungs_kind(self) -> str:
        """The kind of the rungs; without early stopping all kinds are the same run."""
        return "cooldown" if self.rungs == "none" else self.rungs

    @property
    def finalists(self) -> int:
        """How many of the best trials are trained again with fresh seeds."""
        return finalists_of(self.trials, self.finals, self.final_seeds)

    def data_source(self) -> DataSource:
        """Where the data is, and whether corrupt images are skipped.

        Raises:
            ConfigError: `data` is given, and the space's data set reads no files.
            DataError: there is nothing that can be read.
        """
        return source_of(self.space.base().data.name, self.data, self.skip_corrupt)

    def to_dict(self) -> dict[str, object]:
        """All fields but the space, as YAML can hold them."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "space"}
        root = self.data_source().root
        return {**found, "objectives": list(self.objectives), "data": root and str(root)}

    @classmethod
    def from_dict(cls, space: SearchSpace, content: Mapping[str, Any]) -> SearchRequest:
        """The inverse of `to_dict`; also reads fields under the names of older studies.

        Raises:
            TypeError: an unknown field, or a value of another type.
            ConfigError: a number beyond its bounds.
        """
        kinds = get_type_hints(cls)
        data = content.get("data") if reads_files(space.base().data.name) else None
        found = {RENAMED.get(name, name): value for name, value in content.items()}
        found["data"] = Path(data) if data else None
        given = found.get("objectives") or ()
        found["objectives"] = (given,) if isinstance(given, str) else tuple(given)
        for name, value in found.items():
            if name not in kinds or not _fits(value, kinds[name]):
                raise TypeError(f"{name}={value!r} is not an option of a search")
            if name in WHOLE:
                check_whole(name, value, optional=True)
        return cls(space, **found)


def resume_changes(changes: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that change where a study is resumed with the options `changes`.

    With the address `local`, a study that began on a cluster takes nothing of what was planned for
    the cluster's machines.

    Args:
        content: of study.yaml.
    """
    if changes.get("address") != LOCAL:
        return dict(changes)
    request = content.get("request")
    began = request.get("address") if isinstance(request, Mapping) else None
    planned = dict.fromkeys(OF_MACHINES) if began else {}
    return {**planned, **changes, "address": None}


def other_settings(
    content: Mapping[str, Any],
    request: SearchRequest,
    there: Mapping[str, object],
    now: Mapping[str, object],
) -> list[str]:
    """The settings of a study and of a new command that differ: "seed: 0 there, 1 now".

    Args:
        content: of the study's study.yaml.
        request: of the command.
        there: more settings of the study: rows, seeds and reference of a comparison.
        now: the same of the command.
    """
    before = {**_settings(content["request"], content["space"]), **there}
    after = {**_settings(request.to_dict(), request.space.describe()), **now}
    return [
        f"{key}: {shown(before.get(key))} there, {shown(after.get(key))} now"
        for key in dict.fromkeys([*after, *before])
        if before.get(key) != after.get(key)
    ]


def _settings(request: Mapping[str, Any], space: Mapping[str, Any]) -> dict[str, object]:
    """What the results depend on, by flat names."""
    own = {key: value for key, value in space.items() if key not in ("fixed", *NOT_COMPARED)}
    found = {name: request.get(name) for name in COMPARED}
    return {**_flat(own), **_flat(space["fixed"]), "--data": request.get("data"), **found}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested settings by names such as `data.ratio`; a part by the name of its slot."""
    found: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            name = prefix.removesuffix(".") if prefix and key == "name" else f"{prefix}{key}"
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def _fits(value: object, kind: Any) -> bool:
    """Whether a value that was read from YAML is of a field's type; a whole number is a float."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    plain = tuple(get_origin(each) or each for each in kinds)
    return isinstance(value, (*plain, int) if float in plain else plain)
