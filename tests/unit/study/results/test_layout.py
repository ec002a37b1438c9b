"""The table of a comparison as numbers, and as it is printed in Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from imbtune.comparison.rows import make_comparison
from imbtune.metrics.metric import metric_from
from imbtune.metrics.predictions import ClassCounts
from imbtune.spaces.search_space import SearchSpace
from imbtune.spaces.space_file import load_space
from imbtune.study.results.comparison_record import Comparison
from imbtune.study.results.layout import (
    Layout,
    escape_latex,
    escape_markdown,
    latex,
    lay_out,
    markdown,
)
from imbtune.study.results.table import METRICS, SCHEMA, ComparisonTable, make_table

SPACE = load_space("cifar10-lt")
SCORES = {"erm": (0.70, 0.72, 0.71), "mixup_drw": (0.80, 0.83, 0.80), "cb": (0.60, 0.62, 0.61)}


def comparison_of(space: SearchSpace = SPACE, **options: Any) -> Comparison:
    given = {"presets": list(SCORES), "studies": [], "seeds": range(3), "reference": None}
    return make_comparison(space, **(given | options))


def run(row: str, seed: int, score: float) -> dict[str, object]:
    plain = dict.fromkeys(METRICS, score) | {"few": None, "accuracy": score / 2}
    return {"row": row, "seed": seed, **plain}


RUNS = pd.DataFrame(
    [run(row, i, s) for row, of_row in SCORES.items() for i, s in enumerate(of_row)]
)


def table_of(
    runs: pd.DataFrame = RUNS, objectives: Sequence[str] = ("balanced_accuracy",), **options: Any
) -> ComparisonTable:
    return make_table(comparison_of(**options), runs, [metric_from(name) for name in objectives])


def column(layout: Layout, heading: str) -> list[str]:
    return [line[layout.headings.index(heading)].text for line in layout.lines]


# ---- the numbers ---------------------------------------------------------------------------------


def test_rows_are_ranked_by_their_means_and_tested_against_the_best() -> None:
    table = table_of()
    assert [line.row.name for line in table.rows] == ["mixup_drw", "erm", "cb"]
    assert [line.rank for line in table.rows] == [1, 2, 3]
    assert [line.mean_rank for line in table.rows] == [1.0, 2.0, 3.0]
    assert (table.reference, table.chosen) == ("mixup_drw", False)
    best, second, _ = table.rows
    assert best.test is None
    assert second.test and second.test.lead == pytest.approx(-0.1)
    assert best.means["balanced_accuracy"] == pytest.approx(0.81)
    assert best.stds["balanced_accuracy"] == pytest.approx(0.03**0.5 / 10)
    assert best.means["few"] is None and best.stds["few"] is None


def test_a_loss_is_ranked_from_its_lowest_value_and_not_in_percent() -> None:
    """By hand: the row with the lowest log-loss is the first; 0.21 less is better by 0.21."""
    runs = RUNS.assign(log_loss=1 - RUNS["balanced_accuracy"], mcc=RUNS["balanced_accuracy"])
    table = table_of(runs, ["log_loss", "mcc"])
    assert [line.row.name for line in table.rows] == ["mixup_drw", "erm", "cb"]
    assert [line.rank for line in table.rows] == [1, 2, 3]
    layout = lay_out(table, SPACE)
    losses = ["0.1900 ± 0.0173", "0.2900 ± 0.0100", "0.3900 ± 0.0100"]
    assert column(layout, "log loss ↓") == losses
    assert column(layout, "mcc") == ["0.8100 ± 0.0173", "0.7100 ± 0.0100", "0.6100 ± 0.0100"]
    assert column(layout, "log loss − mixup_drw") == ["–", "+0.1000", "+0.2000"]
    assert layout.lines[0][layout.headings.index("log loss ↓")].bold
    assert "in percent, but for log loss, mcc" in layout.notes[0]
    assert "rank: by the mean log loss, the lowest first;" in layout.notes[0]
    assert layout.notes[1] == "↓: lower is better."
    assert layout.notes[2] == (
        "log loss − mixup_drw: the mean log loss minus that of mixup_drw; below 0 is better."
    )
    assert "of the log loss against mixup_drw" in layout.notes[3]
    assert r"log loss $\downarrow$ & mcc &" in latex(layout, "table")
    assert {"log_loss", "log_loss_std", "mcc"} <= set(table.arrow().column_names)


def test_knobs_of_the_metrics_are_told_with_their_classes() -> None:
    """As for data of the classes 'Krebs, Übergang' and 'ok', the first with fewer images."""
    counts = ClassCounts(["Krebs, Übergang", "ok"], np.array([3, 9]), np.array([2, 5]))
    given = (
        {"name": "recall_at_precision", "precision": 0.7},
        {"name": "expected_cost", "costs": [[0, 20], [1, 0]]},
    )
    columns = dict.fromkeys(("recall_at_precision", "expected_cost"), RUNS["balanced_accuracy"])
    objectives = [metric_from(setting).named(counts) for setting in given]
    notes = lay_out(make_table(comparison_of(), RUNS.assign(**columns), objectives), SPACE).notes
    assert notes[1:4] == [
        "recall at precision: precision ≥ 0.7, of 'Krebs, Übergang'.",
        "expected cost: costs 'Krebs, Übergang' as 'ok' 20.",
        "↓: lower is better.",
    ]


def test_rows_of_one_configuration_are_named() -> None:
    comparison = comparison_of()
    (row,) = [row for row in comparison.rows if row.name == "cb"]
    twin = replace(row, name="mine-winner", preset=None, settings={**row.settings, "seed": 7})
    twice = replace(comparison, rows=(*comparison.rows, twin))
    runs = pd.concat([RUNS, RUNS[RUNS["row"] == "cb"].assign(row="mine-winner")])
    layout = lay_out(make_table(twice, runs, [metric_from("balanced_accuracy")]), SPACE)
    assert any(
        note.startswith("cb and mine-winner are one configuration, with the same runs")
        for note in layout.notes
    )
    assert not any("one configuration" in note for note in lay_out(table_of(), SPACE).notes)


def test_equal_rows_are_all_the_best_in_the_given_order() -> None:
    scores = {"erm": (0.1, 0.2, 0.3), "cb": (0.3, 0.2, 0.1), "drw": (0.0, 0.0, 0.0)}
    runs = pd.DataFrame([run(row, i, s) for row, of in scores.items() for i, s in enumerate(of)])
    table = table_of(runs, presets=list(scores))
    assert [(line.row.name, line.rank) for line in table.rows] == [
        ("erm", 1),
        ("cb", 1),
        ("drw", 3),
    ]
    assert table.reference == "erm"
    assert [line[1].bold for line in lay_out(table, SPACE).lines] == [True, True, False]


def test_a_given_reference_is_used() -> None:
    table = table_of(reference="cb")
    assert (table.reference, table.chosen) == ("cb", True)
    assert [line.test is None for line in table.rows] == [False, False, True]


def test_a_row_that_lacks_a_run_is_neither_ranked_nor_tested() -> None:
    table = table_of(RUNS.iloc[[0, 1, 2, 3, 4, 6, 7, 8]])  # without the last run of mixup_drw
    assert [line.row.name for line in table.rows] == ["mixup_drw", "erm", "cb"]
    assert [(line.seeds, line.rank) for line in table.rows] == [(2, None), (3, 1), (3, 2)]
    assert table.reference == "erm" and table.rows[0].test is None
    notes = lay_out(table, SPACE).notes
    assert "mixup_drw: 2 of 3 seeds, so it is not ranked or tested." in notes


def test_without_a_whole_row_there_are_means_alone() -> None:
    layout = lay_out(table_of(RUNS[RUNS["seed"] == 0]), SPACE)
    assert column(layout, "balanced accuracy") == ["80.00", "70.00", "60.00"]
    assert column(layout, "rank") == ["–"] * 3 and "p" not in layout.headings


def test_the_parquet_table_has_shares_and_sources() -> None:
    frame = table_of().arrow().to_pandas()
    assert list(frame.columns) == SCHEMA.names
    assert frame["row"].tolist() == ["mixup_drw", "erm", "cb"]
    assert frame["balanced_accuracy"].tolist() == pytest.approx([0.81, 0.71, 0.61])
    assert frame["few"].isna().all() and frame["epochs"].tolist() == [200] * 3
    assert frame["p"].isna().tolist() == [True, False, False]
    (figure,) = frame["published"][0]
    assert (figure["percent"], figure["epoch"]) == (82.11, "best epoch on the test images")
    assert figure["url"] == "https://github.com/ntucllab/imbalanced-DL"


# ---- the words -----------------------------------------------------------------------------------


def test_cells_are_percent_with_the_best_in_bold() -> None:
    layout = lay_out(table_of(), SPACE)
    assert layout.title == "cifar10-lt: 3 configurations, 3 seeds, 200 epochs"
    assert column(layout, "method") == ["mixup_drw", "erm", "cb"]
    assert column(layout, "balanced accuracy") == ["81.00 ± 1.73", "71.00 ± 1.00", "61.00 ± 1.00"]
    assert column(layout, "accuracy")[0] == "40.50 ± 0.87"
    assert column(layout, "points over mixup_drw") == ["–", "−10.00", "−20.00"]
    assert column(layout, "mean rank") == ["1.0", "2.0", "3.0"]
    assert column(layout, "published") == ["82.11 [1]", "71.23 [1], 70.36 [2]", "70.48 [2]"]
    assert "few" not in layout.headings and "macro f1" not in layout.headings
    assert [line[1].bold for line in layout.lines] == [True, False, False]
    assert not any(line[0].bold or line[-1].bold for line in layout.lines)


def test_notes_say_what_p_counts_and_where_figures_are_from() -> None:
    notes = lay_out(table_of(), SPACE).notes
    (tested,) = [note for note in notes if note.startswith("p: ")]
    assert "paired t-test of the balanced accuracy against mixup_drw over the seeds" in tested
    assert "Holm-corrected for 2 tests" in tested and "between seeds only" in tested
    assert tested.endswith("chosen as the best of the same runs, so p is slightly too small.")
    (given,) = [n for n in lay_out(table_of(reference="cb"), SPACE).notes if n.startswith("p: ")]
    assert "chosen" not in given
    assert any(n.startswith("[1] ntucllab/imbalanced-DL") and "best epoch" in n for n in notes)


def test_settings_that_the_user_fixed_are_named() -> None:
    pinned = SPACE.pin({"data.ratio": 50, "epochs": 3})
    layout = lay_out(table_of(space=pinned), pinned)
    assert "Fixed with --set: data.ratio=50.0." in layout.notes
    assert layout.title.endswith("3 epochs") and "published" not in layout.headings


def test_rows_that_train_differently_are_named() -> None:
    runs = pd.DataFrame([run(row, 0, 0.5) for row in ("erm", "drw", "unimix")])
    table = table_of(runs, presets=["erm", "drw", "unimix"], seeds=[0])
    assert "batch size: 128, but 64 in unimix." in lay_out(table, SPACE).notes


def test_columns_without_a_value_are_not_printed() -> None:
    one_seed = lay_out(table_of(RUNS[RUNS["seed"] == 0], seeds=[0]), SPACE)
    assert column(one_seed, "points over mixup_drw") == ["–", "−10.00", "−20.00"]
    assert "p" not in one_seed.headings and one_seed.title.endswith("one seed, 200 epochs")
    assert not any(note.startswith("p: ") for note in one_seed.notes)
    alone = lay_out(table_of(RUNS.iloc[:3], presets=["erm"]), SPACE)
    assert alone.headings[-2:] == ["mean rank", "published"]
    assert alone.title == "cifar10-lt: one configuration, 3 seeds, 200 epochs"


def test_a_small_p_is_not_printed_in_full() -> None:
    runs = RUNS.copy()
    runs.loc[runs["row"] == "cb", "balanced_accuracy"] = [0.1, 0.1301, 0.1]  # the same spread
    layout = lay_out(table_of(runs), SPACE)
    assert column(layout, "p")[0] == "–" and column(layout, "p")[2] == "<0.001"


# ---- Markdown and LaTeX --------------------------------------------------------------------------


def rendered(text: str) -> str:
    """The words that a reader of the Markdown sees."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    plain = re.sub(r"<[^>]+>", "", html)
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        plain = plain.replace(entity, char)
    return plain


def test_markdown_is_a_table_as_github_renders_it() -> None:
    layout = lay_out(table_of(), SPACE)
    html = MarkdownIt("commonmark").enable("table").render(markdown(layout))
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html)
    assert len(cells) == 3 * len(layout.headings)
    assert cells[0] == "mixup_drw" and "<em>" not in html
    assert cells[1] == "<strong>81.00 ± 1.73</strong>"
    assert re.findall(r"<th[^>]*>(.*?)</th>", html) == list(layout.headings)
    for note in layout.notes:
        assert note in rendered(markdown(layout))


def test_latex_is_a_booktabs_table() -> None:
    text = latex(lay_out(table_of(), SPACE), "cifar10-lt, all of it")
    for rule in ("toprule", "midrule", "bottomrule", "begin{tabular}{lrrrrrrrrrr}"):
        assert text.count(f"\\{rule}") == 1
    assert r"\label{tab:cifar10-lt--all-of-it}" in text
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 4 and {row.count("&") for row in rows} == {10}
    assert rows[1].startswith(r"    mixup\_drw & \textbf{81.00 $\pm$ 1.73} & \textbf{40.50")
    assert "& $-$10.00 &" in rows[2]
    assert text.count("{") == text.count("}") and text.isascii()


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ("mixup_drw", r"mixup\_drw"),
        ("50 % & more #1", r"50 \% \& more \#1"),
        ("a\\b{c}", r"a\textbackslash{}b\{c\}"),
        ("~x^2 $", r"\textasciitilde{}x\textasciicircum{}2 \$"),
        ("3×3 ± 1 – <2", r"3$\times$3 $\pm$ 1 -- $<$2"),
        ("two\nlines", "two lines"),
    ],
)
def test_latex_prints_a_text_as_it_is(plain: str, escaped: str) -> None:
    assert escape_latex(plain) == escaped


@settings(max_examples=100)
@given(st.text("ab_*`[]<>|~\\{}#!-+.1 ", min_size=1))
def test_markdown_prints_a_text_as_it_is(text: str) -> None:
    """Inside a cell, whatever a study is called."""
    line = " ".join(text.split())
    page = f"| x{escape_markdown(text)}x |\n| --- |\n"
    assert rendered(page).strip() == f"x{line}x".replace("  ", " ")
