"""What a search has to tell: a record of each trial, and its outcome. Knows no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imbtune.registry import Value


@dataclass
class TrialRecord:
    """What is known of a trial so far."""

    number: int
    preset: str | None
    settings: Mapping[str, Value]
    started: float
    state: str = "RUNNING"
    rung_budgets: list[int] = field(default_factory=list)
    rung_scores: list[float] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    node: str = ""

    @property
    def score(self) -> float | None:
        """The objective at the highest rung reached."""
        return self.rung_scores[-1] if self.rung_scores else None

    @property
    def budget(self) -> int:
        return self.rung_budgets[-1] if self.rung_budgets else 0


@dataclass(frozen=True)
class SearchOutcome:
    """A search's end; `winner` the best finished trial, `baseline` the best finished preset."""

    place: str
    records: list[TrialRecord]
    winner: TrialRecord | None
    baseline: TrialRecord | None
    seconds: float


def summary(settings: Mapping[str, Value]) -> str:
    """A configuration in a few words: the parts that make it special."""
    weights, ordinary = settings["weights"], ("none", "ce", "sgd")
    chosen = [settings[slot] for slot in ("mix", "generate", "loss")]
    parts = [str(part) for part in chosen if part not in ordinary]
    if weights != "none":
        parts.append(f"{weights} {settings['weights.schedule']}")
    if settings["sampler"] != "instance":
        parts.append(str(settings["sampler"]))
    ends = [settings[slot] for slot in ("optimizer", "after")]
    parts += [str(part) for part in ends if part not in ordinary]
    return " + ".join(parts) or "cross-entropy"
