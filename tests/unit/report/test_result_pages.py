"""The pages of comparisons and calibrations: complete, running, with little, with hostile names."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from made_results import SCORES_OF, made_calibration, made_comparison
from made_study import make_study

from imbtune.errors import ImbtuneError, StudyError
from imbtune.report.write import page_of
from imbtune.storage import Store
from imbtune.study.lock import study_lock
from imbtune.study.view import Study


def text_of(path: str) -> str:
    """The words of a study's page, in one line."""
    page = page_of(Study(path)._reported())
    assert "<script" not in page and "https://" not in re.sub(r'xmlns\S*="\S*"', "", page)
    body = page.partition("<body>")[2]
    return unescape(" ".join(re.sub(r"<svg.*?</svg>|<[^>]*>", " ", body, flags=re.S).split()))


def test_a_comparison_says_which_is_best_and_whether_that_is_chance(tmp_path: Path) -> None:
    """By hand: 81 - 70 = 11 points; three equal differences of 0.10, 0.11, 0.12 have t = 19.05,
    p = 0.0027 with 2 degrees of freedom."""
    text = text_of(made_comparison(str(tmp_path / "c")))
    assert "mamix_drw has the best balanced accuracy on the test images: 81.00 ± 1.00 %." in text
    assert "+11.00 points over erm" in text and "p = 0.0027" in text
    assert "Better than erm" in text and "6 of 6 runs" in text
    assert "mamix_drw 81.00 ± 1.00" in text  # the table, with its notes
    assert "paired t-test of the balanced accuracy against mamix_drw" in text
    assert "276 / 400" in text and "resume" not in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scores": {"erm": ()}}, ["No run has finished yet.", "0 of 3 runs", "imbtune resume"]),
        ({"scores": {"erm": (0.5, 0.6, 0.7)}}, ["Nothing to test against", "60.00 ± 10.00 %"]),
        (
            {"scores": {"erm": (0.5,), "drw": (0.6,)}, "seeds": 1},
            ["One seed: not tested", "drw has the best balanced accuracy", "60.00 %."],
        ),
        (
            {"scores": {"erm": (0.5, 0.6), "drw": (0.6, 0.5)}, "seeds": 2},
            ["The lead may be chance", "that may be chance"],
        ),
        (
            {"scores": {"erm": (0.5, 0.6), "drw": (0.6,)}},
            ["No test yet", "3 of 6 runs", "drw: 1 of 3 seeds", "is not complete"],
        ),
        (
            {"scores": {"a": (1.5, 1.6), "b": (2.5, 2.4)}, "objective": "log_loss", "seeds": 2},
            ["a has the best log loss on the test images: 1.5500", "log loss − a", "+0.9000"],
        ),
        ({"reference": "erm"}, ["+11.00 points over erm", "against erm over the seeds"]),
        ({"scores": {"<b>&": (0.5, 0.6), "</script>": (0.6, 0.6)}, "seeds": 2}, ["<b>& 55.00"]),
    ],
)
def test_a_comparison_with_little_or_with_other_scores(
    tmp_path: Path, options: dict[str, object], said: list[str]
) -> None:
    text = text_of(made_comparison(str(tmp_path / "c"), **options))  # type: ignore[arg-type]
    for words in said:
        assert words in text


def test_a_comparison_that_runs_is_not_to_be_resumed(tmp_path: Path) -> None:
    path = made_comparison(str(tmp_path / "c"), {"erm": (0.5,)})
    with study_lock(Store(path)):
        text = text_of(path)
    assert "The comparison is running: 1 of 3 runs has ended." in text and "resume" not in text


def test_a_calibration_says_its_advice_and_draws_each_rung(tmp_path: Path) -> None:
    path = made_calibration(str(tmp_path / "c"))
    text = text_of(path)
    assert "Scores after 3 of 27 epochs predict the finished model: ρ = 0.90" in text
    assert "Advice: --rungs cooldown from 3 epochs (3 rungs), because it is <so>." in text
    assert "cooldown 9 0.90 0.80 to 0.95 80% 0.60" in text and "(noise floor) 27 0.90" in text
    assert "varies by ±1.20 points from seed to seed" in text
    page = page_of(Study(path)._reported())
    assert page.count("<svg ") == 4 and "usable from 0.63" in page
    none = text_of(made_calibration(str(tmp_path / "none"), rho=0.1))
    assert "No rung is proven to predict the finished model." in none


def test_a_calibration_without_a_result_and_one_without_a_correlation(tmp_path: Path) -> None:
    text = text_of(made_calibration(str(tmp_path / "c"), rho=None, done=5))
    assert "The result is computed when all runs have ended." in text
    assert "5 of 16 runs have ended" in text and "imbtune resume" in text
    path = made_calibration(str(tmp_path / "nan"), rho=float("nan"))
    assert "No rung is proven to predict" in text_of(path)  # not "NaN"
    (tmp_path / "nan/calibration.yaml").write_text("trials: 3")
    with pytest.raises(ImbtuneError, match=r"calibration\.yaml") as raised:
        text_of(path)
    assert "\n" not in str(raised.value)


def test_report_and_figures_are_files_of_the_folder(tmp_path: Path) -> None:
    one = Study(made_comparison(str(tmp_path / "c"), SCORES_OF))
    assert one.report() == str(tmp_path / "c/report.html")
    assert {"seeds.svg", "lead.png", "groups.png"} <= set(one.figures(tmp_path / "figures"))
    other = Study(made_calibration(str(tmp_path / "d")))
    assert {"budget.png", "cost.svg"} <= set(other.figures(tmp_path / "others"))
    make_study(str(tmp_path / "search"))
    with pytest.raises(StudyError, match="is a comparison, which has a report of its own"):
        Study(str(tmp_path / "search")).report(tmp_path / "r.html", others=[one])
    with pytest.raises(StudyError, match="is a calibration: give the folder of a search"):
        _ = other.plot
