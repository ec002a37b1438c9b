"""The table of a comparison as numbers: a row per configuration, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from imbtune.metrics.metric import Metric
from imbtune.study.results.comparison_record import Comparison, Row
from imbtune.study.results.paired_tests import (
    DECIMALS,
    PairedTest,
    mean_ranks,
    paired_tests,
    ranks_of_means,
)
from imbtune.study.results.published_figures import PublishedFigure, figures_for

# in the order in which papers print them
METRICS = ("balanced_accuracy", "accuracy", "many", "medium", "few", "worst_class", "macro_f1")


@dataclass(frozen=True)
class TableRow:
    """A configuration's line of the table.

    Attributes:
        row: the configuration.
        seeds: how many of its runs have finished.
        means: of each metric over these runs, in its own range; None where it is undefined.
        stds: sample standard deviations; None for one run.
        rank: of the mean objective; None where a run is missing, or for ranks to be complete.
        mean_rank: mean over the seeds of the rank among the rows.
        test: against the reference; None for the reference itself, and where a run is missing.
        published: figures of others.
    """

    row: Row
    seeds: int
    means: dict[str, float | None]
    stds: dict[str, float | None]
    rank: int | None
    mean_rank: float | None
    test: PairedTest | None
    published: Sequence[PublishedFigure]


@dataclass(frozen=True)
class ComparisonTable:
    """The whole table.

    Attributes:
        rows: those with a finished run, best first by the mean objective.
        seeds: how many runs each row was to have.
        objectives: metrics that have a column; the first one is that of ranks and tests.
        reference: name of the row that the others were tested against; None where no row has all
            of its runs.
        chosen: whether the reference was given, instead of being the best row.
    """

    rows: Sequence[TableRow]
    seeds: int
    objectives: Sequence[Metric]
    reference: str | None
    chosen: bool

    @property
    def objective(self) -> Metric:
        """The metric of ranks and tests."""
        return self.objectives[0]

    def arrow(self) -> pa.Table:
        """The table as `table.parquet` holds it; each metric in its own range.

        Two more columns than `SCHEMA` for each objective that is none of `METRICS`.
        """
        columns = [_columns(line, self.reference) for line in self.rows]
        schema = SCHEMA
        for name in [metric.name for metric in self.objectives if metric.name not in METRICS]:
            for column in (name, f"{name}_std"):
                schema = schema.append(pa.field(column, pa.float64()))
        return pa.Table.from_pylist(columns, schema=schema)


SCHEMA = pa.schema(
    [
        ("row", pa.string()),  # the preset, or a study's name with -winner
        ("preset", pa.string()),  # null for a winner
        ("study", pa.string()),  # that it has won; null for a preset
        ("trial", pa.int32()),  # its number in the study; null for a preset
        ("epochs", pa.int32()),  # of each run
        ("seeds", pa.int32()),  # runs that finished
        # mean and sample standard deviation over the seeds, on the test images, not in %
        *((column, pa.float64()) for name in METRICS for column in (name, f"{name}_std")),
        ("rank", pa.int32()),  # of the mean objective, from 1; null where a run is missing
        ("mean_rank", pa.float64()),  # rank among the rows, averaged over the seeds
        ("reference", pa.string()),  # the row that the others are tested against
        ("lead", pa.float64()),  # mean score (docs/metrics.md) minus that of the reference
        ("lead_low", pa.float64()),  # 95 % confidence interval of the lead
        ("lead_high", pa.float64()),
        ("p", pa.float64()),  # of the paired t-test over the seeds
        ("p_holm", pa.float64()),  # corrected for all tests of the table
        (
            "published",
            pa.list_(
                pa.struct(
                    [
                        ("percent", pa.float64()),
                        *((name, pa.string()) for name in ("metric", "epoch", "seeds")),
                        *((name, pa.string()) for name in ("training", "title", "url")),
                    ]
                )
            ),
        ),
    ]
)


def make_table(
    comparison: Comparison, runs: pd.DataFrame, objectives: Sequence[Metric]
) -> ComparisonTable:
    """Compute the table from the runs that have finished.

    Only rows with all of their runs are ranked and tested.

    Args:
        runs: a line for each finished run, with `row`, `seed` and the metrics.
        objectives: as in :class:`ComparisonTable`.
    """
    objective = objectives[0]
    by_row = {
        row.name: runs[runs["row"] == row.name].sort_values("seed") for row in comparison.rows
    }
    complete = [r.name for r in comparison.rows if len(by_row[r.name]) == len(comparison.seeds)]
    ranks, tests = dict[str, tuple[int, float]](), dict[str, PairedTest]()
    reference = comparison.reference if comparison.reference in complete else None
    if complete:
        scores_RS = objective.sign * np.stack(
            [by_row[name][objective.name].to_numpy(dtype=float) for name in complete]
        )
        best = complete[int(scores_RS.mean(1).round(DECIMALS).argmax())]
        reference = reference or (best if comparison.reference is None else None)
        both = zip(ranks_of_means(scores_RS), mean_ranks(scores_RS).tolist(), strict=True)
        ranks = dict(zip(complete, both, strict=True))
        if reference:
            found = paired_tests(scores_RS, complete.index(reference))
            tests = {complete[i]: test for i, test in found.items()}
    shown = list(dict.fromkeys((*METRICS, *(metric.name for metric in objectives))))
    lines = [
        _line(row, by_row[row.name], shown, ranks.get(row.name), tests.get(row.name))
        for row in comparison.rows
        if len(by_row[row.name])
    ]
    lines.sort(
        key=lambda line: -objective.sign * round(line.means[objective.name] or 0.0, DECIMALS)
    )
    chosen = comparison.reference is not None
    return ComparisonTable(lines, len(comparison.seeds), objectives, reference, chosen)


def _line(
    row: Row,
    runs: pd.DataFrame,
    shown: Sequence[str],
    ranks: tuple[int, float] | None,
    test: PairedTest | None,
) -> TableRow:
    means, stds = dict[str, float | None](), dict[str, float | None]()
    for name in shown:
        values = runs[name].to_numpy(dtype=float)
        defined = not np.isnan(values).any()
        means[name] = float(values.mean()) if defined else None
        stds[name] = float(values.std(ddof=1)) if defined and len(values) > 1 else None
    rank, mean_rank = ranks or (None, None)
    published = figures_for(row.settings, row.preset)
    return TableRow(row, len(runs), means, stds, rank, mean_rank, test, published)


def _columns(line: TableRow, reference: str | None) -> dict[str, object]:
    row, test = line.row, line.test
    return {
        "row": row.name,
        "preset": row.preset,
        "study": row.study,
        "trial": row.trial,
        "epochs": row.settings["epochs"],
        "seeds": line.seeds,
        **line.means,
        **{f"{name}_std": std for name, std in line.stds.items()},
        "rank": line.rank,
        "mean_rank": line.mean_rank,
        "reference": reference,
        "lead": test and test.lead,
        "lead_low": test and test.low,
        "lead_high": test and test.high,
        "p": test and test.p,
        "p_holm": test and test.p_holm,
        "published": [vars(figure) for figure in line.published],  # its fields of the schema
    }
