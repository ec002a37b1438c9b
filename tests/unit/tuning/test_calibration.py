"""The figures of a calibration, and the advice and the search that follow from them."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from parsed import parsed_request
from rich.console import Console
from scipy import stats
from small_data import make_splits

from imbtune.cli.calibrate import print_calibration
from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError, StudyError
from imbtune.search_options import search_request
from imbtune.spaces.space_file import load_space, parse_space
from imbtune.storage import Store
from imbtune.study.files import write_study
from imbtune.study.hints import program
from imbtune.study.request import AUTO, EVERY, SearchRequest
from imbtune.study.results.calibration_result import (
    FILE,
    Basis,
    Calibration,
    RungQuality,
    Score,
    cautions,
)
from imbtune.tuning.calibration.follow import (
    basis_of,
    check_calibration,
    describe_differences,
    with_calibration,
)
from imbtune.tuning.calibration.rank_statistics import interval, recall_of_best, spearman
from imbtune.tuning.calibration.run_calibration import _check_failed, random_configs
from imbtune.tuning.calibration.rung_quality import advise, calibrate, mean_costs
from imbtune.tuning.cluster.resources import Resources

TRIALS, BUDGETS, ETA = 24, [3, 9, 27], 3
KINDS = ("compressed", "cooldown", "prefix")
BASIS = Basis({"epochs": 27}, {"mix": "none | mixup"}, "0" * 64)


def costs(budgets: list[int]) -> dict[tuple[str, int], float]:
    """As with a cool-down of 0.3 at every rung, whatever whole epochs that is."""
    found = {}
    for kind in KINDS:
        for i, budget in enumerate(budgets):
            lower = sum(budgets[:i])
            more = {"compressed": lower, "cooldown": 0.3 * lower, "prefix": 0.0}[kind]
            found[kind, budget] = (budget + more) / budgets[-1]
    return found


pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=12)


# ---- ranks -------------------------------------------------------------------------------------


def literal_ranks(values: list[int]) -> list[float]:
    """The mean place, from 1, of all that are equal."""
    return [
        sum(other < value for other in values) + (values.count(value) + 1) / 2 for value in values
    ]


@given(pairs)
def test_spearman_is_the_correlation_of_mean_ranks(drawn: list[tuple[int, int]]) -> None:
    one, other = [a for a, _ in drawn], [b for _, b in drawn]
    rho = spearman(one, other)
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert math.isnan(rho)
        return
    assert rho == pytest.approx(stats.spearmanr(one, other).statistic)
    a, b = (np.array(literal_ranks(x)) - (len(x) + 1) / 2 for x in (one, other))
    assert rho == pytest.approx((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))
    assert spearman(other, one) == pytest.approx(rho)
    assert spearman(np.exp(one), other) == pytest.approx(rho)


@given(st.permutations(range(7)))
def test_without_ties_spearman_is_the_textbook_formula(order: list[int]) -> None:
    squares = sum((i - x) ** 2 for i, x in enumerate(order))
    assert spearman(range(7), order) == pytest.approx(1 - 6 * squares / (7 * 48))


@given(pairs, st.data())
def test_recall_counts_the_best_that_are_found(
    drawn: list[tuple[int, int]], data: st.DataObject
) -> None:
    scores, truth = [a for a, _ in drawn], [b for _, b in drawn]
    k = data.draw(st.integers(1, len(drawn)))

    def best(values: list[int]) -> set[int]:
        return set(sorted(range(len(values)), key=lambda i: (-values[i], i))[:k])

    assert recall_of_best(scores, truth, k) == len(best(scores) & best(truth)) / k
    assert recall_of_best(truth, truth, k) == 1


def test_recall_by_hand() -> None:
    assert recall_of_best([0.9, 0.8, 0.1, 0.2], [0.1, 0.7, 0.9, 0.2], 2) == 0.5
    assert recall_of_best([0.9, 0.8, 0.1, 0.2], [0.1, 0.2, 0.9, 0.7], 2) == 0


# ---- costs -------------------------------------------------------------------------------------


def test_costs_by_hand() -> None:
    """Cool-downs of 0.2 and 0.6 of 3, 9 and 27 epochs: 1, 2, 5 and 2, 5, 16 epochs."""
    configs = [
        TrainConfig.from_settings({"schedule.cooldown": share, "epochs": 27})
        for share in (0.2, 0.6)
    ]
    trunks = {0.2: (2, 7, 22), 0.6: (1, 4, 11)}
    cools = {0.2: (1, 2, 5), 0.6: (2, 5, 16)}
    literal: dict[str, list[Any]] = {
        "prefix": [3, 9, 27],
        "compressed": [3, 3 + 9, 3 + 9 + 27],
        "cooldown": [
            sum(trunks[s][i] + sum(cools[s][: i + 1]) for s in (0.2, 0.6)) / 2 for i in range(3)
        ],
    }
    found = mean_costs(configs, BUDGETS)
    assert set(found) == {(kind, budget) for kind in KINDS for budget in BUDGETS}
    for kind, epochs in literal.items():
        assert [found[kind, b] for b in BUDGETS] == pytest.approx([e / 27 for e in epochs])


# ---- figures and advice ------------------------------------------------------------------------


def scores_of(lower: dict[tuple[str, int], Any], noise: float = 0.0) -> list[Score]:
    """Scores of trials whose truth is their number; `lower`: what rungs below the top say."""
    rng = np.random.default_rng(2)
    numbers = np.arange(TRIALS)
    columns = {(0, kind, budget): column for (kind, budget), column in lower.items()}
    columns[0, "cooldown", 27] = numbers + noise * rng.normal(size=TRIALS)
    columns[1, "cooldown", 27] = numbers
    return [
        Score(trial, seed, kind, budget, float(column[trial]) / 100)
        for (seed, kind, budget), column in columns.items()
        for trial in range(TRIALS)
    ]


def noise_everywhere() -> dict[tuple[str, int], Any]:
    rng = np.random.default_rng(0)
    return {(kind, budget): rng.permutation(TRIALS) for kind in KINDS for budget in BUDGETS[:-1]}


def calibrated(lower: dict[tuple[str, int], Any], **options: Any) -> Calibration:
    return calibrate(scores_of(lower, **options), costs, ETA, BASIS)


PERFECT = np.arange(TRIALS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_that_predicts_is_advised(kind: str) -> None:
    perfect = {(kind, budget): PERFECT for budget in BUDGETS[:-1]}
    found = calibrated({**noise_everywhere(), **perfect})
    assert (found.advice.rungs, found.advice.eta, found.advice.count) == (kind, ETA, 3)
    assert found.advice.start == 3
    assert found.floor == pytest.approx(1) and found.spread == 0
    for report in found.reports:
        assert (report.rho == pytest.approx(1)) == (report.kind == kind)
        assert report.low <= report.rho + 1e-9 and report.rho <= report.high + 1e-9
        used = [b for b in BUDGETS if b >= report.budget]
        shares = [costs(used)[report.kind, b] for b in used]
        literal = shares[0] + sum((b - a) / ETA**i for i, (a, b) in enumerate(pairwise(shares), 1))
        assert report.cost == pytest.approx(literal)
        assert report.recall == 1 or report.kind != kind
    assert [(r.kind, r.budget) for r in found.reports] == [(k, b) for k in KINDS for b in (3, 9)]


def test_rungs_below_the_lowest_usable_one_are_left_out() -> None:
    found = calibrated({**noise_everywhere(), ("cooldown", 9): PERFECT})
    assert (found.advice.rungs, found.advice.count, found.advice.start) == ("cooldown", 2, 9)
    below = calibrated({**noise_everywhere(), ("cooldown", 3): PERFECT})  # noise comes after it
    assert (below.advice.rungs, below.advice.count) == ("none", 1)


def test_noise_advises_no_rungs() -> None:
    found = calibrated(noise_everywhere())
    assert (found.advice.rungs, found.advice.count) == ("none", 1)
    assert found.advice.text.startswith("--rungs none, because no rung is proven to predict ")


def test_the_cost_is_that_of_the_rungs_in_use() -> None:
    """A kind is not charged the rungs that are left out: rungs at 9 and 27 of 3, 9 and 27."""
    for kind, literal in (
        ("compressed", (9 + 27 / 3) / 27),
        ("cooldown", (9 + (18 + 2.7) / 3) / 27),
    ):
        found = calibrated({**noise_everywhere(), (kind, 9): PERFECT})
        assert found.advice.text == (
            f"--rungs {kind} from 9 epochs (2 rungs), because these rungs predict the finished "
            "model (ρ 1.00 at 9 epochs; 1.00 between two full runs), and a trial "
            f"costs {literal:.2f} full runs on average"
        )


def test_the_kind_with_the_highest_rho_is_advised_not_the_cheapest() -> None:
    """As the table shows it: prefix rungs cost 0.52 runs a trial, but predict less."""
    rung = {kind: np.arange(TRIALS) + 0.0 for kind in ("compressed", "prefix")}
    rung["prefix"][:4] = rung["prefix"][3::-1]  # a little worse
    found = calibrated({**noise_everywhere(), **{(k, 9): column for k, column in rung.items()}})
    rows = {report.kind: report for report in found.reports if report.budget == 9}
    assert rows["prefix"].cost < rows["compressed"].cost
    assert found.advice.rungs == "compressed"
    assert "(ρ 1.00 at 9 epochs, the highest of the usable kinds; " in found.advice.text


shares = st.sampled_from([-0.2, 0.0, 0.3, 0.55, 0.6, 0.63, 0.634, 0.7, 0.95])


@given(st.data())
def test_the_advice_follows_from_the_rows_of_the_table(data: st.DataObject) -> None:
    """Literally: the lowest usable rung, there the highest ρ, at the same ρ the lowest cost."""
    rows = [
        RungQuality(kind, budget, rho, rho - data.draw(shares), 1.0, 0.5, data.draw(shares))
        for kind in KINDS
        for budget in (3, 9)
        for rho in [data.draw(shares)]
    ]
    floor = data.draw(shares)
    advice = advise(data.draw(st.permutations(rows)), 27, floor, ETA)
    fits = {(r.kind, r.budget): floor > 0 and r.rho >= 0.7 * floor and r.low > 0 for r in rows}
    usable = [r for r in rows if fits[r.kind, r.budget] and fits[r.kind, 9]]
    if not usable:
        assert (advice.rungs, advice.count) == ("none", 1)
        return
    lowest = [r for r in usable if r.budget == min(r.budget for r in usable)]
    (advised,) = (r for r in lowest if r.kind == advice.rungs)
    assert advice.start == advised.budget
    assert advice.count == sum(r.kind == advised.kind for r in usable) + 1
    for other in lowest:
        rho, best = round(other.rho, 2), round(advised.rho, 2)
        assert rho < best or (rho == best and other.cost >= advised.cost)
    assert f"ρ {advised.rho:.2f} at {advised.budget} epochs" in advice.text
    assert f"costs {advised.cost:.2f} full runs" in advice.text


def test_every_figure_of_the_advice_is_in_the_printed_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At 80 columns, too, where the figures of a row stand in one line."""
    perfect = {("cooldown", budget): PERFECT for budget in BUDGETS[:-1]}
    found = calibrated({**noise_everywhere(), **perfect}, noise=3.0)
    print_calibration(request_in(Path()), found, Console(width=80))
    out = capsys.readouterr().out
    (row,) = (r for r in found.reports if (r.kind, r.budget) == (found.advice.rungs, 3))
    (line,) = (x for x in out.splitlines() if x.startswith("│ cooldown") and " 3 │" in x)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[2] == f"{row.rho:.2f}" and cells[5] == f"{row.cost:.2f}"
    assert f"(ρ {cells[2]} at {cells[1]} epochs" in out and f"costs {cells[5]} full runs" in out
    assert "…" not in out


def test_a_rung_where_all_trials_score_the_same_says_nothing() -> None:
    """As one inside the warm-up may: every trial at chance."""
    found = calibrated({**noise_everywhere(), ("prefix", 3): np.full(TRIALS, 10)})
    (report,) = (r for r in found.reports if (r.kind, r.budget) == ("prefix", 3))
    assert all(map(math.isnan, (report.rho, report.low, report.high)))
    assert found.advice.rungs == "none"


def literal_interval(one: Any, other: Any) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    drawn = []
    for pick in rng.integers(0, len(one), (2000, len(one))):
        if np.ptp(one[pick]) and np.ptp(other[pick]):
            drawn.append(stats.spearmanr(one[pick], other[pick]).statistic)
    return float(np.percentile(drawn, 5)), float(np.percentile(drawn, 95))


def test_the_interval_is_that_of_resampled_trials() -> None:
    """Resamples of few trials with ties may be constant; those say nothing."""
    one, other = np.array([0.1, 0.1, 0.2, 0.2]), np.array([1.0, 2.0, 2.0, 3.0])
    assert interval(one, other) == pytest.approx(literal_interval(one, other))


def test_without_a_floor_nothing_is_usable() -> None:
    """Two full runs that say nothing of each other: no rung can be trusted."""
    reports = [RungQuality("cooldown", 9, 0.1, 0, 0.2, 0.3, 0.4)]
    for floor, said in ((0.0, "0.00"), (-0.2, "−0.20"), (float("nan"), "–")):
        advice = advise(reports, 27, floor, ETA)
        assert advice.rungs == "none"
        assert (
            f"the scores of two full runs of the same configurations do not correlate (ρ {said})"
            in advice.why
        )
    reports = [replace(reports[0], low=0.01)]
    assert advise(reports, 27, 0.1, ETA).rungs == "cooldown"


def test_a_rung_whose_interval_holds_0_is_not_advised() -> None:
    """It may predict by chance; the caution names it, since more trials may show that it does."""
    rung = RungQuality("prefix", 9, 0.7, -0.01, 0.95, 0.5, 0.3)
    found = with_reports(0.9, [rung])
    assert found.advice.rungs == "none"
    assert (
        "no rung is proven to predict the finished model: none reaches ρ = 0.63, i.e. 0.7 of"
        in found.advice.why
    )
    (caution,) = cautions(found)
    assert "the intervals of prefix at 9 epochs allow it" in caution
    shown = with_reports(0.9, [replace(rung, low=0.01)])
    assert shown.advice.rungs == "prefix"


def with_reports(floor: float, reports: list[RungQuality]) -> Calibration:
    advice = advise(reports, 27, floor, ETA)
    return Calibration(16, 27, floor, floor, floor, 0.01, reports, advice, BASIS)


def test_kinds_that_cannot_be_told_apart_are_named() -> None:
    """At the lowest rung in use; a kind whose interval lies apart is not named."""
    reports = [
        RungQuality("compressed", 9, 0.8, 0.7, 0.85, 0.5, 0.3),
        RungQuality("cooldown", 9, 0.9, 0.8, 0.95, 0.5, 0.3),
        RungQuality("prefix", 9, 0.3, 0.1, 0.5, 0.5, 0.3),
    ]
    (caution,) = cautions(with_reports(0.95, reports))
    assert caution == (
        "16 trials are too few to be sure which kind of rung is best: at 9 epochs, the interval of "
        "cooldown overlaps that of compressed; give more --trials for a clear result"
    )
    apart = replace(reports[0], low=0.6, high=0.79)
    assert cautions(with_reports(0.95, [apart, *reports[1:]])) == []


def test_no_rungs_is_no_sure_advice_where_an_interval_reaches_further() -> None:
    reports = [
        RungQuality("cooldown", 9, 0.5, 0.2, 0.8, 0.5, 0.3),
        RungQuality("prefix", 9, 0.1, -0.3, 0.4, 0.5, 0.3),
    ]
    (caution,) = cautions(with_reports(0.9, reports))
    assert "no rung is usable: the intervals of cooldown at 9 epochs allow it" in caution
    assert cautions(with_reports(0.9, reports[1:])) == []


@pytest.mark.parametrize("floor", [0.49, -0.3, float("nan")])
def test_seeds_that_agree_too_little_are_said(floor: float) -> None:
    (caution,) = cautions(with_reports(floor, [RungQuality("cooldown", 9, 0.4, 0.2, 1, 0.5, 0.3)]))
    assert caution.startswith("Two runs of the same configuration score too differently")
    assert "nan" not in caution


def test_full_runs_that_all_score_the_same_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """No figure of them is a number: dashes, no traceback."""
    constant = dict.fromkeys(noise_everywhere(), np.zeros(TRIALS))
    scores = [replace(score, score=0.1) for score in scores_of(constant)]
    found = calibrate(scores, costs, ETA, BASIS)
    print_calibration(request_in(Path()), found, Console(width=160))
    out = capsys.readouterr().out
    assert "nan" not in out and "– to –" in out
    assert "Advice: --rungs none, because the scores of two full runs of the same" in out


def test_the_best_third_that_chance_finds() -> None:
    rng = np.random.default_rng(0)
    found = calibrated(noise_everywhere())
    drawn = [
        recall_of_best(rng.permutation(TRIALS), PERFECT, math.ceil(TRIALS / 3)) for _ in range(4000)
    ]
    assert found.chance == 8 / 24 and np.mean(drawn) == pytest.approx(found.chance, abs=0.01)


def test_a_trial_without_all_scores_is_left_out() -> None:
    scores = scores_of({**noise_everywhere(), ("cooldown", 9): PERFECT}, noise=3.0)
    partial = [
        s for s in scores
        if not (s.trial == 3 and s.seed == 1) and not (s.trial == 5 and s.kind == "prefix")
    ]  # fmt: skip
    whole = [s for s in scores if s.trial not in (3, 5)]
    one, other = (calibrate(drawn, costs, ETA, BASIS) for drawn in (partial, whole))
    assert one.trials == TRIALS - 2
    assert one == other


def test_spread_is_a_runs_deviation_about_its_configurations_mean() -> None:
    found = calibrated(noise_everywhere(), noise=3.0)
    again = np.arange(TRIALS) + 3.0 * np.random.default_rng(2).normal(size=TRIALS)
    means = (again + np.arange(TRIALS)) / 2
    variance = ((again - means) ** 2 + (np.arange(TRIALS) - means) ** 2).mean()  # of two: n - 1 = 1
    assert found.spread == pytest.approx(math.sqrt(variance) / 100)
    assert found.floor == pytest.approx(stats.spearmanr(again, np.arange(TRIALS)).statistic)


# ---- how many must be whole ---------------------------------------------------------------------


@pytest.mark.parametrize(("trials", "may"), [(8, 2), (9, 2), (11, 2), (12, 3), (16, 4)])
def test_a_quarter_of_the_trials_may_fail(trials: int, may: int, tmp_path: Path) -> None:
    request = replace(request_in(tmp_path), trials=trials)
    _check_failed(request, {(n, seed): "MemoryError" for n in range(may) for seed in (0, 1)})
    with pytest.raises(StudyError) as error:
        _check_failed(request, {(n, 1): f"ValueError: {n}" for n in range(may + 1)})
    said = str(error.value)
    assert said.startswith(f"{may + 1} of {trials} trials of {request.path} failed")
    assert "(trial 0: ValueError: 0)" in said and f"resume {request.path}" in said


# ---- a search that follows it ------------------------------------------------------------------


def request_in(folder: Path, **options: Any) -> SearchRequest:
    space = options.pop("space", None) or load_space("digits-lt").pin({"epochs": 27})
    return SearchRequest(space, 10, "s", storage=str(folder), rungs=AUTO, **options)


def store_calibration(
    folder: Path, lower: dict[tuple[str, int], Any], name: str = "digits-lt-calibration"
) -> Calibration:
    """As `imbtune calibrate digits-lt --epochs 27` leaves it."""
    basis = basis_of(request_in(folder).space, "f" * 64)
    found = calibrate(scores_of(lower), costs, ETA, basis)
    place = folder / name
    place.mkdir()
    (place / FILE).write_text(yaml.safe_dump(found.to_dict(), sort_keys=False, allow_unicode=True))
    return found


@pytest.mark.parametrize(
    ("objective", "recorded"),
    [
        ("balanced_accuracy", "balanced_accuracy"),
        ("log_loss", "negative log_loss"),
        (
            {"name": "recall_at_precision", "precision": 0.8, "of": "7"},
            "recall_at_precision (precision 0.8, of 7)",
        ),
        (
            {"name": "expected_cost", "costs": {"7": {"1": 20}}},
            'negative expected_cost (costs {"7": {"1": 20}})',
        ),
    ],
)
def test_how_a_calibration_records_its_objective(objective: object, recorded: str) -> None:
    space = parse_space("mine", {"data": {"name": "digits"}, "objective": objective})
    assert basis_of(space, "f" * 64).settings["objective"] == recorded


def test_a_stored_calibration_sets_the_rungs(tmp_path: Path) -> None:
    before = request_in(tmp_path)
    assert before.space.rungs.count == 2
    perfect = {("compressed", budget): PERFECT for budget in BUDGETS[:-1]}
    found = store_calibration(tmp_path, {**noise_everywhere(), **perfect})
    request = with_calibration(before)
    assert request.rungs == "compressed" == found.advice.rungs
    assert (request.space.rungs.eta, request.space.rungs.count) == (3, 3)
    assert request.budgets == [3, 9, 27]
    assert request.space.source["rungs"] == {"eta": 3, "count": 3}
    assert request.calibration == {
        "place": str(tmp_path / "digits-lt-calibration"),
        "sha256": sha256((tmp_path / "digits-lt-calibration" / FILE).read_bytes()).hexdigest(),
        "data": "f" * 64,
        "differs": "",
    }
    assert replace(request, rungs=AUTO, space=before.space, calibration=None) == before


def test_a_calibration_that_found_no_usable_rung_stops_nothing(tmp_path: Path) -> None:
    store_calibration(tmp_path, noise_everywhere())
    request = with_calibration(request_in(tmp_path))
    assert request.rungs == "none" and request.budgets == [27]


def test_a_search_without_a_calibration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no calibration in") as error:
        with_calibration(request_in(tmp_path))
    assert shlex.split(str(error.value).partition("run ")[2]) == [
        program(), "calibrate", "digits-lt", "--epochs", "27", "--storage", str(tmp_path),
    ]  # fmt: skip


def test_a_calibration_by_its_name(tmp_path: Path) -> None:
    store_calibration(tmp_path, noise_everywhere(), "other")
    assert with_calibration(request_in(tmp_path), "other").rungs == "none"
    with pytest.raises(ConfigError, match="there is no calibration in"):
        with_calibration(request_in(tmp_path))


def test_a_calibration_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another storage than the search's; as a path from here too."""
    elsewhere = tmp_path / "else"
    elsewhere.mkdir()
    store_calibration(elsewhere, noise_everywhere(), "other")
    monkeypatch.chdir(elsewhere)
    for place in (str(elsewhere / "other"), "./other", f"{elsewhere}/other/"):
        followed = with_calibration(request_in(tmp_path), place).calibration
        assert followed and followed["place"] == place


def test_what_is_no_whole_calibration(tmp_path: Path) -> None:
    """One that was cut off is to be resumed; a search is none."""
    resources, request = Resources(1, 0, 1), request_in(tmp_path)
    for name, rungs in (("digits-lt-calibration", EVERY), ("search", "cooldown")):
        asked = replace(request, name=name, rungs=rungs)
        write_study(Store(asked.path), asked, make_splits([20, 4]), vars(resources))
    with pytest.raises(ConfigError, match=r"is not complete: run .* resume .*-calibration$"):
        with_calibration(request)
    with pytest.raises(StudyError, match="search is a search: give the folder of a calibration"):
        with_calibration(request, "search")


def test_other_images_of_the_same_settings_are_refused(tmp_path: Path) -> None:
    """A folder of images may have changed, or be another one of the same name."""
    splits = make_splits([20, 4])
    store_calibration(tmp_path, noise_everywhere())
    request = with_calibration(request_in(tmp_path))
    assert request.calibration
    said: list[str] = []
    same = {**request.calibration, "data": splits.fingerprint()}
    check_calibration(replace(request, calibration=same), splits, said.append)
    check_calibration(request_in(tmp_path), splits, said.append)
    assert said == []
    with pytest.raises(ConfigError, match="the images differ from those of the calib") as error:
        check_calibration(request, splits, said.append)
    line = str(error.value)
    assert f"in {tmp_path}/digits-lt-calibration, though" in line and "\n" not in line
    assert "--name digits-lt-calibration-2" in line
    assert line.endswith("search with --calibration digits-lt-calibration-2")


def test_other_knobs_are_said(tmp_path: Path) -> None:
    """Fixed, searched otherwise, or not at all; a calibration may still serve."""
    store_calibration(tmp_path, noise_everywhere())
    path = tmp_path / "digits-lt.yaml"
    path.write_text("like: digits-lt\nknobs: {optimizer.lr: {low: 0.01, high: 0.5}}\n")
    space = load_space(str(path)).pin({"epochs": 27, "mix": "smote"})
    request = with_calibration(request_in(tmp_path, space=space))
    assert request.calibration
    assert request.calibration["differs"] == (
        "mix (none | smote | soft_smote | mixup | remix | mamix there, smote here), "
        "optimizer.lr (0.02 to 0.5, log there, 0.01 to 0.5, log here)"
    )
    splits, said = make_splits([20, 4]), list[str]()
    followed = {**request.calibration, "data": splits.fingerprint()}
    check_calibration(replace(request, calibration=followed), splits, said.append)
    (line,) = said
    assert line.startswith(
        f"The calibration in {tmp_path}/digits-lt-calibration differs from this search in mix ("
    )


def test_many_differences_are_counted() -> None:
    there, here = dict.fromkeys("abcdef", 1), dict.fromkeys("bcdefg", 2)
    assert describe_differences(there, there) == ""
    assert describe_differences(there, here) == (
        "a (1 there, none here), b (1 there, 2 here), c (1 there, 2 here), 4 more"
    )


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("epochs", 81, "has epochs=27, this search has 81"),
        ("data.ratio", 20, "has data.ratio=50.0, this search has 20"),
        ("model.width", 8, "has model.width="),
    ],
)
def test_a_calibration_of_something_else(
    tmp_path: Path, setting: str, value: int, said: str
) -> None:
    store_calibration(tmp_path, noise_everywhere())
    space = request_in(tmp_path).space.pin({setting: value})
    with pytest.raises(ConfigError) as error:
        with_calibration(request_in(tmp_path, space=space))
    assert said in str(error.value) and "\n" not in str(error.value)
    words = shlex.split(str(error.value).partition(": run ")[2].partition(" and search")[0])
    name = "digits-lt-calibration-2"
    again = parsed_request(words[1:])
    assert again.space == space and again.name == name and again.storage == str(tmp_path)
    assert str(error.value).endswith(f" and search with --calibration {name}")


@given(st.data())
def test_a_calibration_goes_through_yaml(data: st.DataObject) -> None:
    drawn = st.floats(allow_nan=False)
    reports = [RungQuality("prefix", 3, *data.draw(st.tuples(*[drawn] * 5)))]
    advice = advise(reports, 27, data.draw(drawn), ETA)
    floor, low, high, spread = (data.draw(drawn) for _ in range(4))
    found = Calibration(8, 27, floor, low, high, spread, reports, advice, BASIS)
    assert Calibration.from_dict(yaml.safe_load(yaml.safe_dump(found.to_dict()))) == found


BREAKS: list[Any] = [
    lambda content: content.pop("advice"),
    lambda content: content.pop("basis"),
    lambda content: content["basis"].pop("data"),
    lambda content: content["basis"].update(settings=None),
    lambda content: content.update(advice="cooldown"),
    lambda content: content["advice"].pop("eta"),
    lambda content: content["advice"].update(eta=True),
    lambda content: content["advice"].update(count="two"),
    lambda content: content["advice"].update(rungs="cooldwn"),
    lambda content: content["reports"].append(3),
    lambda content: content.clear(),
]


@pytest.mark.parametrize("broken", range(len(BREAKS)))
def test_a_broken_calibration_is_one_line(broken: int, tmp_path: Path) -> None:
    found = store_calibration(tmp_path, noise_everywhere()).to_dict()
    path = tmp_path / "digits-lt-calibration" / FILE
    BREAKS[broken](found)
    path.write_text(yaml.safe_dump(found))
    with pytest.raises(ConfigError, match="cannot read the calibration") as error:
        with_calibration(request_in(tmp_path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"- 3", b"{", b"\xff\xfe\x00"])
def test_a_file_that_is_no_calibration_is_one_line(content: bytes, tmp_path: Path) -> None:
    store_calibration(tmp_path, noise_everywhere())
    (tmp_path / "digits-lt-calibration" / FILE).write_bytes(content)
    with pytest.raises(ConfigError, match="cannot read the calibration") as error:
        with_calibration(request_in(tmp_path))
    assert "calibrate digits-lt --name digits-lt-calibration-2" in str(error.value)


def test_prefix_rungs_are_not_taken_for_late_variants(tmp_path: Path) -> None:
    """Nor from a calibration: prefixes cannot tell them apart."""
    perfect = {("prefix", budget): PERFECT for budget in BUDGETS[:-1]}
    assert store_calibration(tmp_path, {**noise_everywhere(), **perfect}).advice.rungs == "prefix"
    path = tmp_path / "digits-lt.yaml"
    path.write_text("like: digits-lt\nlate_variants: 3\n")
    options: dict[str, Any] = {
        "space": str(path),
        "epochs": 27,
        "trials": 10,
        "storage": str(tmp_path),
    }
    for rungs in ("prefix", AUTO):
        with pytest.raises(ConfigError, match="cannot tell late_variants: 3 apart"):
            search_request(**options, rungs=rungs)


def test_a_calibrations_configurations_are_random_ones_of_the_space(tmp_path: Path) -> None:
    request = replace(request_in(tmp_path, seed=4), trials=40)
    configs = random_configs(request)
    assert [c.flat() for c in random_configs(request)] == [c.flat() for c in configs]
    assert len({config.seed for config in configs}) == 40
    assert {config.mix.name for config in configs} == set(request.space.possible("mix"))
