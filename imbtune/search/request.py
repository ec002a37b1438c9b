"""What a search is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imbtune.data.reading import Reading, data_root
from imbtune.results.store import join
from imbtune.search.space import SearchSpace


@dataclass(frozen=True)
class SearchRequest:
    """What the user asks for; see `imbtune search --help`."""

    space: SearchSpace
    trials: int
    name: str
    seed: int = 0
    gpus_per_trial: float | None = None
    cpus_per_trial: int | None = None
    max_concurrent: int | None = None
    address: str | None = None
    storage: str = "runs"
    sampler: str = "tpe"
    rungs: str = "cooldown"
    time_budget: float | None = None
    wandb: str = "off"
    data: Path | None = None
    skip_corrupt: bool = False

    @property
    def place(self) -> str:
        """The study's folder or URI."""
        return join(self.storage, self.name)

    def reading(self) -> Reading:
        """Where the data is, and how strictly it is read."""
        return Reading(data_root(self.data), self.skip_corrupt)
