"""The table of a comparison as text: what each cell says, in Markdown, LaTeX and on a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from imbtune.metrics.metric import Metric, metric_from
from imbtune.metrics.number_text import as_text
from imbtune.registry import Value
from imbtune.study.results.paired_tests import DECIMALS
from imbtune.study.results.table import METRICS, ComparisonTable, TableRow

DASH = "–"  # a cell without a value
LOWER = "↓"  # in a heading: lower is better
SMALLEST_P = 0.001  # smaller p-values are not printed in full

# what Markdown or LaTeX would not print as it is
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~])")
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "±": r"$\pm$",
    "×": r"$\times$",
    "<": r"$<$",
    ">": r"$>$",
    "–": "--",
    "−": "$-$",
    "≥": r"$\geq$",
    "↓": r"$\downarrow$",
}


class ComparedIn(Protocol):
    """The space of a comparison: its name, and the settings that the user fixed."""

    @property
    def name(self) -> str:
        """Of the space."""

    @property
    def pinned(self) -> Mapping[str, Value]:
        """The settings of `--set`."""


@dataclass(frozen=True)
class Cell:
    """What a cell says; `bold` for the best of its column."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Layout:
    """The table in words.

    Attributes:
        title: one line.
        headings: of the columns. The first column has names, the others numbers.
        lines: a cell for each heading.
        notes: what a reader must know to understand the numbers, a sentence or two each.
    """

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[Cell]]
    notes: Sequence[str]


def lay_out(table: ComparisonTable, space: ComparedIn) -> Layout:
    """The cells of a table; metrics between 0 and 1 in percent.

    Args:
        space: for the title, and for a note about settings that the user fixed.
    """
    metrics = [m for m in _metrics(table) if _is_printed(table, m)]
    origins = list(dict.fromkeys(f.origin for line in table.rows for f in line.published))
    headings = ["method", *map(_heading, metrics), "rank", "mean rank"]
    tests = [line.test for line in table.rows if line.test]
    has_p = any(test.p is not None for test in tests)  # not with one seed
    headings += [_lead_heading(table)] if tests else []
    headings += ["p"] if has_p else []
    headings += ["published"] if origins else []
    best = {
        m: (min if metric_from(m).sign < 0 else max)(
            round(value, DECIMALS) for line in table.rows if (value := line.means[m]) is not None
        )
        for m in metrics
    }
    lines = []
    for line in table.rows:
        cells = [Cell(line.row.name)]
        cells += [Cell(_mean(line, m), _is_best(line.means[m], best[m])) for m in metrics]
        cells += [
            Cell(DASH if line.rank is None else str(line.rank)),
            Cell(DASH if line.mean_rank is None else f"{line.mean_rank:.1f}"),
        ]
        cells += [Cell(_lead(line, table.objective))] if tests else []
        cells += [Cell(_p(line))] if has_p else []
        if origins:
            cited = [f"{f} [{origins.index(f.origin) + 1}]" for f in line.published]
            cells.append(Cell(", ".join(cited) or DASH))
        lines.append(cells)
    rows = counted(len(table.rows), "configuration")
    epochs = {line.row.settings["epochs"] for line in table.rows}
    length = f", {epochs.pop()} epochs" if len(epochs) == 1 else ""
    fixed = ", ".join(f"{k}={v}" for k, v in space.pinned.items() if k != "epochs")
    notes = [
        *_notes(table),
        *([f"Fixed with --set: {fixed}."] if fixed else []),
        *_sources(origins),
    ]
    title = f"{space.name}: {rows}, {counted(table.seeds, 'seed')}{length}"
    return Layout(title, headings, lines, notes)


def markdown(layout: Layout) -> str:
    """The table as a page of GitHub-flavoured Markdown."""
    rows = [layout.headings, *([_bold_markdown(cell) for cell in line] for line in layout.lines)]
    headings, *lines = ["| " + " | ".join(row) + " |" for row in _escaped(rows)]
    rule = "|" + "|".join([" --- ", *[" ---: "] * (len(layout.headings) - 1)]) + "|"
    notes = "\n".join(f"- {escape_markdown(note)}" for note in layout.notes)
    title = escape_markdown(layout.title)
    return "\n".join([f"# {title}", "", headings, rule, *lines, "", notes, ""])


def latex(layout: Layout, label: str) -> str:
    """The table as a LaTeX float, for the package booktabs.

    Args:
        label: for `\\ref`.
    """
    columns = "l" + "r" * (len(layout.headings) - 1)
    lines = [" & ".join(map(_bold_latex, line)) + r" \\" for line in layout.lines]
    notes = [rf"    {escape_latex(note)}\par" for note in layout.notes]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escape_latex(layout.title)}}}",
            rf"  \label{{tab:{re.sub(r'[^A-Za-z0-9.-]', '-', label)}}}",
            rf"  \begin{{tabular}}{{{columns}}}",
            r"    \toprule",
            "    " + " & ".join(map(escape_latex, layout.headings)) + r" \\",
            r"    \midrule",
            *(f"    {line}" for line in lines),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"",
            r"  \smallskip",
            r"  \begin{minipage}{\linewidth}\footnotesize",
            *notes,
            r"  \end{minipage}",
            r"\end{table}",
            "",
        ]
    )


def counted(count: int, noun: str) -> str:
    """`one seed`, `3 seeds`."""
    return f"{count} {noun}s" if count > 1 else f"one {noun}"


def escape_markdown(text: str) -> str:
    """The text as Markdown prints it unchanged, in one line."""
    return MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def escape_latex(text: str) -> str:
    """The text as LaTeX prints it unchanged, in one line."""
    return "".join(LATEX.get(char, char) for char in " ".join(text.split()))


def _escaped(rows: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Headings are escaped here; cells are already."""
    return [[escape_markdown(heading) for heading in rows[0]], *rows[1:]]


def _bold_markdown(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    return f"**{text}**" if cell.bold else text


def _bold_latex(cell: Cell) -> str:
    text = escape_latex(cell.text)
    return rf"\textbf{{{text}}}" if cell.bold else text


def _is_printed(table: ComparisonTable, metric: str) -> bool:
    """Whether a metric has a column: macro F1 only as an objective, others where defined."""
    if metric == "macro_f1" and metric not in [each.name for each in table.objectives]:
        return False
    return any(line.means[metric] is not None for line in table.rows)


def _is_best(mean: float | None, best: float) -> bool:
    return mean is not None and round(mean, DECIMALS) == best


def _mean(line: TableRow, metric: str) -> str:
    mean, std = line.means[metric], line.stds[metric]
    if mean is None:
        return DASH
    if not metric_from(metric).is_share:
        return as_text(mean) + ("" if std is None else f" ± {std:.4f}")
    return f"{100 * mean:.2f}" + ("" if std is None else f" ± {100 * std:.2f}")


def _metrics(table: ComparisonTable) -> list[str]:
    """The metrics that may have a column."""
    return list(dict.fromkeys((*METRICS, *(metric.name for metric in table.objectives))))


def _heading(metric: str) -> str:
    """The heading of a metric's column."""
    return metric.replace("_", " ") + f" {LOWER}" * (metric_from(metric).sign < 0)


def _lead_heading(table: ComparisonTable) -> str:
    """The heading of the differences, which are in the metric's own sign and unit."""
    if table.objective.sign > 0 and table.objective.is_share:
        return f"points over {table.reference}"
    return f"{table.objective.name.replace('_', ' ')} − {table.reference}"


def _lead(line: TableRow, objective: Metric) -> str:
    if line.test is None:
        return DASH
    return objective.difference(objective.sign * line.test.lead).partition(" ")[0]


def _p(line: TableRow) -> str:
    if line.test is None or line.test.p_holm is None:
        return DASH
    p = line.test.p_holm
    return f"<{SMALLEST_P:g}" if p < SMALLEST_P else f"{p:.3f}"


def _notes(table: ComparisonTable) -> list[str]:
    """What the numbers are."""
    objective, reference = table.objective.name.replace("_", " "), table.reference
    lower = ", the lowest first" if table.objective.sign < 0 else ""
    spread = ": mean ± sample standard deviation" if table.seeds > 1 else ""
    seeds = counted(table.seeds, "seed")
    raw = [m.replace("_", " ") for m in _metrics(table) if not metric_from(m).is_share]
    unit = f"in percent, but for {', '.join(raw)}" if raw else "in percent"
    notes = [
        f"Test images, model of the last epoch, {unit}{spread} over {seeds}. "
        "many, medium, few: mean recall of the classes with over 100, 20 to 100 and under 20 "
        f"training images. rank: by the mean {objective}{lower}; mean rank: by each seed's, "
        "averaged.",
        *_about_columns(table),
    ]
    tested = [line.test for line in table.rows if line.test]
    if tested and _lead_heading(table).startswith(objective):
        points = ", in points" if table.objective.is_share else ""
        better = "below" if table.objective.sign < 0 else "above"
        notes.append(
            f"{objective} − {reference}: the mean {objective} minus that of {reference}{points}; "
            f"{better} 0 is better."
        )
    if reference and tested and table.seeds > 1:
        others = counted(len(tested), "test")
        notes.append(
            f"p: paired t-test of the {objective} against {reference} over the seeds, two-sided, "
            f"Holm-corrected for {others}. It counts the variation between seeds only, not that "
            "between samples of training or test images."
            + ("" if table.chosen else f" {reference} was chosen as the best of the same runs, so ")
            + ("" if table.chosen else "p is slightly too small.")
        )
    notes += [
        f"{line.row.name}: {line.seeds} of {seeds}, so it is not ranked or tested."
        for line in table.rows
        if line.seeds < table.seeds
    ]
    return notes + _same(table) + _differences(table)


def _about_columns(table: ComparisonTable) -> list[str]:
    """What the knobs of the objectives are, and which columns are better where they are lower."""
    given = [metric for metric in table.objectives if _is_printed(table, metric.name)]
    notes = [
        f"{metric.name.replace('_', ' ')}: {knobs}."
        for metric in given
        if (knobs := metric.knobs_in_words())
    ]
    return notes + [f"{LOWER}: lower is better."] * any(metric.sign < 0 for metric in given)


def _same(table: ComparisonTable) -> list[str]:
    """A note for rows that are one configuration, such as a winner that is a preset."""
    names: dict[str, list[str]] = {}
    for line in table.rows:
        own = {key: value for key, value in line.row.settings.items() if key != "seed"}
        names.setdefault(repr(sorted(own.items())), []).append(line.row.name)
    return [
        f"{' and '.join(same)} are one configuration, with the same runs; each of them is a row, "
        "and counts as a test of its own."
        for same in names.values()
        if len(same) > 1
    ]


def _differences(table: ComparisonTable) -> list[str]:
    """A note for each setting of the training's size in which rows differ."""
    notes: list[str] = []
    for key in ("model", "epochs", "batch_size"):
        names: dict[Value, list[str]] = {}
        for line in table.rows:
            names.setdefault(line.row.settings[key], []).append(line.row.name)
        if len(names) > 1:
            usual, *others = sorted(names, key=lambda value: -len(names[value]))
            each = "; ".join(f"{value} in {', '.join(names[value])}" for value in others)
            notes.append(f"{key.replace('_', ' ')}: {usual}, but {each}.")
    return notes


def _sources(origins: Sequence[str]) -> list[str]:
    """The numbered sources of the published figures."""
    if not origins:
        return []
    first = (
        "published: figures of other code, in its own setting. The best epoch on the test images "
        "scores higher than the last epoch does."
    )
    return [first, *(f"[{i}] {origin}." for i, origin in enumerate(origins, 1))]
