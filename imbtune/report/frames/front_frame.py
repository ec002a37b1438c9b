"""The scores of several objectives, and the Pareto front among them."""

from __future__ import annotations

import pandas as pd

from imbtune.metrics.pareto import front_ranks
from imbtune.report.frames.finals_frames import final_record
from imbtune.report.frames.trial_frame import kind_of, name_of
from imbtune.report.missing import none_finished
from imbtune.report.study_data import NothingToDrawError, StudyData, records
from imbtune.study.evidence import objective_means
from imbtune.study.records import other_scores


def front_frame(study: StudyData) -> pd.DataFrame:
    """A row per finished trial of a search with several objectives, by number.

    Columns: `trial`, `name`, `kind`; `s0`, `s1`, … the score of each objective in one run; `m0`,
    `m1`, … their means over the fresh seeds of the finals (null for trials without all seeds); and
    `front`: whether the trial is on the Pareto front of these means, or without finals on that of
    the scores.

    Raises:
        NothingToDrawError: one objective, or no trial has finished.
    """
    objectives = study.objectives
    if len(objectives) < 2:
        raise NothingToDrawError("the study has one objective")
    if study.finished.empty:
        raise NothingToDrawError(none_finished(study))
    finals = [final_record(row) for row in records(study.finals)]
    means = objective_means(finals, objectives)
    rows, numbers = [], range(len(objectives))
    for row in records(study.finished.sort_values("trial")):
        trial = int(row["trial"])
        scores = [float(row["score"]), *other_scores(row, objectives)]
        rows.append(
            {
                "trial": trial,
                "name": f"{trial}  {name_of(row)}",
                "kind": kind_of(study, trial, row["preset"]),
                **{f"s{i}": scores[i] for i in numbers},
                **{f"m{i}": means[trial][i] if trial in means else None for i in numbers},
            }
        )
    frame = pd.DataFrame(rows)
    compared = frame[frame["m0"].notna()] if means else frame
    columns = [f"{'m' if means else 's'}{i}" for i in numbers]
    ranks = front_ranks(compared[columns].to_numpy(dtype=float))
    frame["front"] = frame["trial"].isin(compared["trial"][ranks == 0])
    return frame
