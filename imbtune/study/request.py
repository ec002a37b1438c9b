"""What a search is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from imbtune.data.source import DataSource, data_root
from imbtune.space.search_space import SearchSpace
from imbtune.storage import Store, join

AUTO = "auto"  # rungs: those that a calibration recommends; GPUs a trial: what is measured
EVERY = "every"  # rungs: all kinds on one path, none of which stops anything: a calibration's
SEARCH, CALIBRATION = "search", "calibration"  # what a study is for
FINALISTS, PER_FINALIST = 5, 10  # finals by default: 5, but not more than one of ten trials


@dataclass(frozen=True)
class SearchRequest:
    """What the user asks for; see `imbtune search --help`.

    typed: the space's name or path as the user gave it. calibration: the one that the rungs follow:
    its `place`, the `sha256` of its file, the fingerprint of its `data`, and what else `differs`.
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
    rescue: float = 0.05
    finals: int | None = None
    final_seeds: int = 3
    time_budget: float | None = None
    wandb: str = "off"
    data: Path | None = None
    skip_corrupt: bool = False
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
        """The GPUs of a trial where they are given; None also before `auto` is measured."""
        return None if isinstance(self.gpus_per_trial, str) else self.gpus_per_trial

    @property
    def purpose(self) -> str:
        """What the study is for."""
        return CALIBRATION if self.rungs == EVERY else SEARCH

    @property
    def runs(self) -> int:
        """Trainings of the first round: a trial of a calibration has two seeds."""
        return 2 * self.trials if self.purpose == CALIBRATION else self.trials

    @property
    def budgets(self) -> list[int]:
        """The rungs in epochs, rising to the full budget; that one alone without stopping."""
        every = self.space.rungs.budgets(self.space.base().epochs)
        return every[-1:] if self.rungs == "none" else every

    @property
    def rungs_kind(self) -> str:
        """The kind of the rungs; without stopping all kinds are the same run."""
        return "cooldown" if self.rungs == "none" else self.rungs

    @property
    def finalists(self) -> int:
        """How many of the best trials are trained again; 0 for a search too small to pay for it."""
        asked = min(FINALISTS, self.trials // PER_FINALIST) if self.finals is None else self.finals
        return asked if self.final_seeds else 0

    def data_source(self) -> DataSource:
        """Where the data is, and how strictly it is read."""
        return DataSource(data_root(self.data), self.skip_corrupt)

    def plain(self) -> dict[str, Any]:
        """All but the space, as YAML can hold it."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "space"}
        return {**found, "data": str(self.data_source().root) if self.data_source().root else None}

    @classmethod
    def from_plain(cls, space: SearchSpace, content: Mapping[str, Any]) -> SearchRequest:
        """What `plain` described; TypeError for an unknown field, or a value of another type."""
        kinds = get_type_hints(cls)
        data = content.get("data")
        found = {**content, "data": Path(data) if data else None}
        for name, value in found.items():
            if name not in kinds or not _fits(value, kinds[name]):
                raise TypeError(f"{name}={value!r} is no setting of a study's request")
        return cls(space, **found)


def _fits(value: object, kind: Any) -> bool:
    """Whether a value that was read from YAML is of a field's type; a whole number is a float."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    plain = tuple(get_origin(each) or each for each in kinds)
    return isinstance(value, (*plain, int) if float in plain else plain)
