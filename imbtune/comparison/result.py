"""The result of a comparison: its runs and its table, read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd
import pyarrow as pa

from imbtune.final_training.final_run import FinalRun
from imbtune.spaces.search_space import SearchSpace
from imbtune.storage import Store
from imbtune.study.data_size import named
from imbtune.study.files import read_content
from imbtune.study.results.comparison_record import (
    RUN_SCHEMA,
    RUNS,
    Comparison,
    Row,
    recorded_runs,
)
from imbtune.study.results.layout import Layout, latex, lay_out, markdown
from imbtune.study.results.table import ComparisonTable, make_table

RunKey = tuple[str, int]  # a run: the name of its row, and its seed
TABLES = ("table.md", "table.tex", "table.parquet")


def run_file(row: str, seed: int) -> str:
    """The name of a run's file in `runs/`."""
    return f"{row}-seed{seed}.parquet"


def run_row(row: Row, run: FinalRun, images: int, threads: int, node: str) -> pa.Table:
    """The content of a run's file: one line."""
    columns = {
        **{"row": row.name, "preset": row.preset, "study": row.study, "trial": row.trial},
        **{"seed": run.seed, **run.metrics, "recall": run.recall_K},
        **{"confusion": run.confusion_KK, **run.margins, "seconds": run.seconds},
        **{"images": images, "threads": threads, "node": node},
    }
    return pa.Table.from_pylist([columns], schema=RUN_SCHEMA)


@dataclass(frozen=True, eq=False)
class ComparisonResult:
    """A comparison: presets and studies' winners, trained and tested with the same seeds.

    Attributes:
        path: its folder or URI.
        comparison: what is compared.
        space: with the settings of `--set`.
        failures: the error of each run that failed in this call, by row and seed.
    """

    path: str
    comparison: Comparison
    space: SearchSpace
    failures: Mapping[RunKey, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"ComparisonResult({self.path!r}): {self.done} of {len(self.comparison.runs)} runs of "
            f"{len(self.comparison.rows)} configurations"
        )

    @property
    def done(self) -> int:
        """How many runs have finished."""
        return len(Store(self.path).parts(RUNS))

    @property
    def interrupted(self) -> bool:
        """Whether runs are left that have neither finished nor failed in this call."""
        return self.done + len(self.failures) < len(self.comparison.runs)

    @property
    def runs(self) -> pd.DataFrame:
        """A line for each finished run: metrics, recall, confusion matrix, margins, cost.

        The columns are those of `runs/*.parquet`. Each metric has its own range (docs/metrics.md).
        """
        return recorded_runs(Store(self.path))

    @property
    def table(self) -> pd.DataFrame:
        """A line for each configuration, best first: the columns of `table.parquet`.

        For each metric, in its own range, its mean over the seeds, and `_std`, the sample standard
        deviation; ranks; the lead over `reference`, with p-values of the paired test; and published
        figures.
        """
        frame: pd.DataFrame = self._table().arrow().to_pandas()
        return frame

    @property
    def layout(self) -> Layout:
        """The table in words."""
        return lay_out(self._table(), self.space)

    @property
    def markdown(self) -> str:
        """The table as a page of Markdown, as in `table.md`."""
        return markdown(self.layout)

    @property
    def latex(self) -> str:
        """The table in LaTeX, as in `table.tex`; it needs the package booktabs."""
        return latex(self.layout, self.space.name)

    def has_tables(self) -> bool:
        """Whether all files of the table have been written."""
        store = Store(self.path)
        return all(store.exists(name) for name in TABLES)

    def write_tables(self) -> None:
        """Write the files of the table: `TABLES`."""
        store = Store(self.path)
        store.write_table("table.parquet", self._table().arrow())
        store.write("table.md", self.markdown.encode())
        store.write("table.tex", self.latex.encode())

    def _table(self) -> ComparisonTable:
        data = read_content(self.path)["data"]
        return make_table(self.comparison, self.runs, named(self.space.objectives, data))
