"""Reads a study for analysis, also while it is being searched.

Reading a study imports neither torch nor Ray, and does not run the plugins in its folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from imbtune.config.defaults import DEFAULTS
from imbtune.config.yaml_files import parse_yaml
from imbtune.errors import StudyError
from imbtune.metrics.number_text import as_text
from imbtune.registry import Value
from imbtune.report.reported_study import ReportedStudy
from imbtune.storage import Store, join
from imbtune.storage.damage import damage_explained
from imbtune.study.data_size import recorded_chance
from imbtune.study.evidence import Evidence, is_above
from imbtune.study.records import COMPLETE, summary
from imbtune.study.tables.curves import last_curves
from imbtune.study.tables.find_studies import not_a_study
from imbtune.study.tables.frame_of import frame_of
from imbtune.study.tables.own_files import own_table
from imbtune.study.tables.schema import (
    CLASSES,
    EPOCHS,
    FINALS,
    METRICS,
    PREDICTIONS,
    trial_schema,
)

if TYPE_CHECKING:
    import optuna

    from imbtune.study.outcome import SearchOutcome

PLAIN_SETTINGS = ("epochs", "batch_size", "precision", "cuda_graph", "seed")  # without a slot


@dataclass(frozen=True)
class Trial:
    """One trial of a study.

    Attributes:
        study: the study's folder or URI.
        number: of the trial.
        preset: name of the preset, or None.
        state: COMPLETE (full budget), PRUNED (stopped at a rung), FAIL, or STOPPED (interrupted).
        score: the objective at the highest rung reached, one run on the validation images; None
            where it reached no rung.
        budget: epochs of the model that was scored.
        settings: its complete configuration, without knobs that do not act.
        metrics: all metrics at the highest rung, each in its own range (docs/metrics.md).
        recall_K: recall of each class at the highest rung, in the order of the data's classes
            (`study.info["data"]["classes"]`).
        rungs: the score at each rung, by its budget in epochs.
    """

    study: str
    number: int
    preset: str | None
    state: str
    score: float | None
    budget: int
    settings: Mapping[str, Value]
    metrics: Mapping[str, float]
    recall_K: Sequence[float]
    rungs: Mapping[int, float]

    def __repr__(self) -> str:
        name = f"{self.preset} (preset)" if self.preset else summary(self.settings)
        reached = "no rung reached"
        if self.score is not None:
            reached = f"{as_text(self.score)} in one run of {self.budget} epochs"
        return f"trial {self.number}: {name}, {reached}, {self.state}"


class Study(ReportedStudy):
    """A study: what was searched, and what came out. It is only read.

    Every property reads the files anew, so that it is up to date while a search is running; rows
    are written every five seconds. Keep a table in a variable to read it once.

    Args:
        path: the study's folder, or its URI (`s3://…`, `gs://…`).

    Attributes:
        path: as given.
        outcome: how the search ended, if this process ran or resumed it; else None.

    Raises:
        StudyError: there is no study.
    """

    def __init__(self, path: str, outcome: SearchOutcome | None = None) -> None:
        self.path, self.outcome = path, outcome
        self._store = Store(path)
        try:
            if not self._store.exists("study.yaml"):
                raise StudyError(not_a_study(self._store))
        except OSError as error:
            raise StudyError(f"cannot reach {path}: {error}") from error

    def __repr__(self) -> str:
        info, states = self.info, self.trials["state"].value_counts()
        if info.get("purpose") == "calibration":
            return f"Study({self.path!r}): a calibration of {info.get('trials')} trials"
        if info.get("purpose") == "comparison":
            return f"Study({self.path!r}): a comparison of {info.get('trials')} runs"
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        found = f"{states.sum()} of {info.get('trials')} trials"
        return f"Study({self.path!r}): {found}" + (f" ({counts})" if counts else "")

    @property
    def info(self) -> Mapping[str, Any]:
        """The content of study.yaml: options, resolved space, data fingerprint, versions, seed."""
        name = join(self.path, "study.yaml")
        content = parse_yaml(name, self._store.read("study.yaml"))
        if not isinstance(content, dict):
            raise StudyError(f"{name} is not a mapping: restore it from a backup")
        return content

    @property
    def trials(self) -> pd.DataFrame:
        """A row per trial that has ended, by number.

        Its columns are those of `trials/*.parquet`: every knob under its own name, null where it
        does not act. `finalist` is added: whether the trial was trained again with fresh seeds.
        """
        frame = self._frame("trials", trial_schema({})).sort_values("trial", ignore_index=True)
        frame["finalist"] = frame["trial"].isin(self.finals["trial"]).astype(bool)
        return frame

    @property
    def epochs(self) -> pd.DataFrame:
        """A row per trial and epoch: learning curves and per-class recall."""
        keys = ["trial", "budget", "epoch"]
        return self._frame("epochs", EPOCHS).sort_values(keys, ignore_index=True)

    @property
    def curves(self) -> pd.DataFrame:
        """The rows of `epochs` that led to each trial's last model: one learning curve per trial.

        These are the epochs of its trunk and of the cool-down of the last rung that was begun. The
        cool-downs of earlier rungs, after which the trunk went on, are left out. A trial that
        shares another one's trunk has the rows of that trunk, too.
        """
        trunks = self.trials[["trial", "trunk"]]
        return last_curves(self.epochs, dict(zip(trunks["trial"], trunks["trunk"], strict=True)))

    @property
    def finals(self) -> pd.DataFrame:
        """A row per finalist and fresh seed; empty before the finals, or without any."""
        return self._frame("finals", FINALS).sort_values(["trial", "seed"], ignore_index=True)

    @property
    def predictions(self) -> pd.DataFrame:
        """A row per final run and validation image; empty without finals, and in older studies."""
        return self._frame("predictions", PREDICTIONS)

    def sql(self, query: str) -> pd.DataFrame:
        """The result of a query over the views `trials`, `epochs`, `finals`, `predictions`, …

        Their columns are those of the study's tables; the SQL is DuckDB's (docs/query.md). Text is
        in single quotes, and a column with a dot in its name in double ones:
        `study.sql('select mix, max(score) from trials where "mix.alpha" > 0.5 group by mix')`.

        Args:
            query: one SELECT. It reads nothing but these views.

        Raises:
            ConfigError: it cannot be run; DuckDB's message in one line.
        """
        from imbtune.study.tables.sql import query as run_query

        return frame_of(run_query([self.path], query))

    @property
    def classes(self) -> pd.DataFrame:
        """A row per class: index, name, training images, validation images.

        The columns are those of `classes/*.parquet`. Lists such as `recall` are in this order.
        """
        if self._store.exists("classes"):
            return self._frame("classes", CLASSES)
        data = self.info["data"]  # of an older study
        found: dict[str, Any] = {"class": range(len(data["classes"])), "name": data["classes"]}
        found |= {"train": data["counts"], "held_out": data.get("validation_counts")}
        return pd.DataFrame(found)

    @property
    def winner(self) -> Trial | None:
        """The winner by the finals: the best mean over fresh seeds. None without finals.

        It is never the trial with the highest score of one run, which is partly luck: that one is
        :attr:`best`.
        """
        confirmed = self._confirmed()
        return self.trial(confirmed["winner"]["trial"]) if confirmed else None

    @property
    def baseline(self) -> Trial | None:
        """The best preset by the finals. None without finals, or where no preset finished."""
        preset = (self._confirmed() or {}).get("best_preset")
        return self.trial(preset["trial"]) if preset else None

    @property
    def evidence(self) -> Evidence | None:
        """How sure the winner is: interval, lead over the baseline, p. None without finals."""
        confirmed = self._confirmed()
        if not confirmed:
            return None
        known = {field.name for field in fields(Evidence)}  # a later version may record more
        with damage_explained(self.path, "best.yaml"):
            return Evidence(**{k: v for k, v in confirmed["finals"].items() if k in known})

    @property
    def best(self) -> Trial | None:
        """The finished trial that `best.yaml` holds, or would hold.

        That is the winner; without finals it is the trial with the highest score of one run on the
        validation images, which another seed may not repeat. None where no trial has finished with
        a better score than chance, that of a model which predicts the same for every image.
        """
        if winner := self.winner:
            return winner
        trials = self.trials
        finished = trials[trials["state"] == COMPLETE]
        ranked = finished.sort_values(["score", "trial"], ascending=[False, True])
        if ranked.empty or not is_above(ranked["score"].iloc[0], self._chance()):
            return None
        return self.trial(int(ranked["trial"].iloc[0]))

    @property
    def optuna(self) -> optuna.Study:
        """The Optuna study, as a copy in memory: what is changed in it is not written back.

        This property imports torch.

        Raises:
            StudyError: the study has no journal.
        """
        import optuna

        from imbtune.study.journal import journal_copy  # it needs torch

        memory = optuna.storages.InMemoryStorage()
        with journal_copy(self._store, self.info["name"]) as study:
            optuna.copy_study(
                from_study_name=study.study_name,
                from_storage=study._storage,
                to_storage=memory,
            )
            name = study.study_name
        return optuna.load_study(study_name=name, storage=memory)

    def trial(self, number: int) -> Trial:
        """Trial `number`.

        Raises:
            StudyError: no such trial has ended.
        """
        table = own_table(self._store, "trials") if self._store.exists("trials") else None
        rows = [] if table is None else table.to_pylist()
        found = [row for row in rows if row["trial"] == number]
        if not found:
            raise StudyError(f"{self.path} has no trial {number} that has ended")
        row, metrics = found[0], [name for name, _ in METRICS if name != "recall"]
        return Trial(
            study=self.path,
            number=number,
            preset=row["preset"],
            state=row["state"],
            score=row["score"],
            budget=row["budget"],
            settings={k: v for k, v in row.items() if _is_setting(k) and v is not None},
            metrics={name: row[name] for name in metrics if row.get(name) is not None},
            recall_K=row["recall"] or [],
            rungs=dict(zip(row["rung_budgets"], row["rung_scores"], strict=True)),
        )

    def why_no_best(self) -> str:
        """Why the study has no `best.yaml`, in words that follow "because"."""
        purpose = self.info.get("purpose", "search")
        if purpose != "search":
            return f"it is a {purpose}"
        if not (self.trials["state"] == COMPLETE).any():
            return "no trial has finished yet"
        return (
            "its search has not ended, or no trial is better than a model that predicts one class "
            "only"
        )

    def best_provenance(self) -> dict[str, Any] | None:
        """What best.yaml says of its trial and of the finals; None without them.

        Raises:
            StudyError: it says something else than a search writes.
        """
        if not self._store.exists("best.yaml"):
            return None
        name = join(self.path, "best.yaml")
        content = parse_yaml(name, self._store.read("best.yaml"))
        if not isinstance(content, dict):
            raise StudyError(f"{name} is not a mapping: restore it from a backup")
        if "provenance" not in content:  # a user has made it a plain configuration
            return None
        try:
            found: dict[str, Any] = content["provenance"]
            valid = isinstance(found["winner"]["trial"], int)
            valid &= isinstance(found["finals"], dict | None)
            valid &= found["best_preset"] is None or isinstance(found["best_preset"]["trial"], int)
        except (KeyError, TypeError):
            valid = False
        if not valid:
            raise StudyError(f"{name} has no provenance of a search: restore it from a backup")
        return found

    def _chance(self) -> float:
        """The score of chance; below all scores for a study that did not record it."""
        info = self.info
        with damage_explained(self.path, "study.yaml"):
            return recorded_chance(info["space"].get("objective"), info["data"])

    def _confirmed(self) -> dict[str, Any] | None:
        """What best.yaml says of the winner, if finals confirmed it."""
        found = self.best_provenance()
        return found if found and found["finals"] else None

    def _frame(self, name: str, schema: pa.Schema) -> pd.DataFrame:
        """A table as a DataFrame; an empty one where nothing is written yet."""
        table = schema.empty_table()
        if self._store.exists(name):
            table = own_table(self._store, name)
            for field in schema:  # an earlier version did not have it
                if field.name not in table.column_names:
                    table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        return frame_of(table)


def _is_setting(column: str) -> bool:
    return column.partition(".")[0] in DEFAULTS or column in PLAIN_SETTINGS
