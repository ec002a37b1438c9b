"""Finals: the best trials again with fresh seeds, and who wins by them: imbtune.study.evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
from ray.tune import Callback

from imbtune.search.recorder import last_line
from imbtune.search.tune import one_run
from imbtune.seeds import Purpose, derived_seed
from imbtune.storage import Store
from imbtune.study.records import COMPLETE, FinalRecord, TrialRecord
from imbtune.study.tables.schema import FINALS

OF_A_TRUNK = 2  # finalists


def finalists(records: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """The best `count` finished trials, at most two of a trunk (they are much alike), and the best
    finished preset if it is not among them."""
    ranked = sorted(
        (r for r in records if r.state == COMPLETE), key=lambda r: (-(r.score or 0), r.number)
    )
    chosen: list[TrialRecord] = []
    for record in ranked:
        alike = sum(record.trunk == other.trunk for other in chosen)
        if len(chosen) < count and alike < OF_A_TRUNK:
            chosen.append(record)
    preset = next((r for r in ranked if r.preset), None)
    return [*chosen, preset] if count and preset and preset not in chosen else chosen


def fresh_seeds(study_seed: int, count: int) -> list[int]:
    """Training seeds that no trial of the study has, the same for every finalist."""
    return [derived_seed(study_seed, number, Purpose.FINALS) for number in range(count)]


def final_runs(
    chosen: Sequence[TrialRecord], seeds: Sequence[int], done: Sequence[FinalRecord]
) -> list[dict[str, Any]]:
    """What is to be trained: every finalist with every seed, but for those that are done."""
    known = {(final.trial, final.seed) for final in done}
    return [
        one_run(record.number, {**record.settings, "seed": seed}, whole=True)
        for seed in seeds
        for record in chosen
        if (record.number, seed) not in known
    ]


class FinalsRecorder(Callback):
    """Keeps each final run the moment it ends, and says how it went."""

    def __init__(
        self, store: Store, done: list[FinalRecord], runs: int, say: Callable[[str], None]
    ) -> None:
        self._store, self.finals, self._runs, self._say = store, done, runs, say
        self.failed: list[int] = []  # trial numbers, one for each run

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A run failed; the others go on."""
        self.failed.append(trial.config["number"])
        self._say(f"final of trial {trial.config['number']} failed: {last_line(trial)}")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A run's score."""
        for row in result.get("rung", ()):
            seed = trial.config["settings"][0]["seed"]
            self.finals.append(FinalRecord(row["trial"], seed, row["score"]))
            cells = {**row["figures"], **asdict(self.finals[-1]), "images": row["images"]}
            table = pa.Table.from_pylist([cells], schema=FINALS)
            self._store.write_table(f"finals/{row['trial']}-{seed}.parquet", table)
            count = f"{len(self.finals):>{len(str(self._runs))}}/{self._runs}"
            self._say(f"final {count}  trial {row['trial']}  {row['score']:.3f}")


def known_finals(store: Store) -> list[FinalRecord]:
    """The final runs that a study has."""
    if not store.exists("finals"):
        return []
    rows = store.table("finals").select(["trial", "seed", "score"]).to_pylist()
    return [FinalRecord(**row) for row in rows]
