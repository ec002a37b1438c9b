"""A trial that diverges: what its worker reports, and what Optuna, ASHA and the study record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from diverging import FROM_THE_FIRST, IN_THE_COOLDOWN, ONLY_SCORED, bad_parts
from optuna.trial import TrialState
from rung_runs import SMALL
from scripted import BUDGETS, next_spec, rung_result, scored_rung, tiny_space, trial_report
from short_runs import CPU, DATA

from imbtune.comparison.final_runner import FinalReport
from imbtune.config.train_config import TrainConfig
from imbtune.data.images import Images
from imbtune.errors import StudyError
from imbtune.metrics.metric import metric_from
from imbtune.progress.reporter import to_lines
from imbtune.progress.run_events import FINALS, StageStarted
from imbtune.storage import Store
from imbtune.study.journal import (
    DIVERGED,
    apply_pending_states,
    common_rungs,
    open_journal,
    recorded_rungs,
    trial_record,
)
from imbtune.study.records import FAIL, FinalRecord, Machine
from imbtune.study.request import EVERY, TEST, SearchRequest
from imbtune.tuning.calibration.run_calibration import CalibrationWriter
from imbtune.tuning.execution.common_failure import CommonFailure
from imbtune.tuning.execution.failures import failure_of
from imbtune.tuning.finals import FinalsWriter
from imbtune.tuning.messages import EpochReport, TrialReport, TrialSpec, TuneDict
from imbtune.tuning.optuna_searcher import OptunaSearcher
from imbtune.tuning.packing.packed_worker import PackedWorker
from imbtune.tuning.worker.trial_runner import TrialRunner, WorkerSettings

SETTINGS = WorkerSettings("cooldown", [3, 9], 3, [metric_from("balanced_accuracy")])
REASON = "epoch 2: the loss is not finite (nan)"
HEALTHY = {"weights": "inverse"}


@pytest.fixture
def _parts() -> Iterator[None]:
    with bad_parts():
        yield


# ---- the worker --------------------------------------------------------------------------------


def spec_of(*variants: dict[str, Any]) -> TrialSpec:
    count, small = len(variants), dict[str, Any](SMALL)
    return replace(
        TrialSpec.single_run(4, {}, without_rungs=False),
        trials=list(range(4, 4 + count)),
        settings=[{**small, **variant} for variant in variants],
        images=[0] * count,
        seconds=[0.0] * count,
    )


def new_runner(spec: TrialSpec) -> TrialRunner:
    return TrialRunner(SETTINGS, DATA, Machine("here"), spec)


def reports_of(spec: TrialSpec) -> list[TrialReport]:
    runner = new_runner(spec)
    reports = [runner.step()]
    while not reports[-1].is_last:
        reports.append(runner.step())
    return reports


def test_a_trial_that_fails_at_its_start_first_reports_where() -> None:
    with bad_parts():
        runner = new_runner(spec_of({"loss": "raising_loss"}))
        report = runner.step()
        assert report.machine.node == "here" and report.started > 0
        assert not (report.epochs or report.rung or report.is_last)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="no loss"):
                runner.step()


def rungs_in(reports: list[TrialReport]) -> list[tuple[int, int, float]]:
    return [(rung.trial, rung.budget, rung.score) for r in reports for rung in r.rung]


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (FROM_THE_FIRST, "epoch 1: the loss is not finite (inf)"),
        (IN_THE_COOLDOWN, "epoch 3 (cool-down of 3 epochs): the loss is not finite (nan)"),
        (ONLY_SCORED, "epoch 3: after=bad_after: the logits' scale or bias is not finite"),
    ],
)
def test_a_trial_that_diverges_has_no_score_and_says_why(bad: dict[str, Any], reason: str) -> None:
    """Its last report is the last: the worker takes the next trial, and no exception is printed."""
    reports = reports_of(spec_of(bad))
    assert rungs_in(reports) == []
    assert [r.diverged for r in reports if r.diverged] == [{4: reason}]
    assert reports[-1].is_last and reports[-1].diverged
    assert all(epoch.loss < 1e6 for r in reports for epoch in r.epochs)
    assert reports[-1].to_tune(3).keys() == {"report", "done"}  # nothing for ASHA


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize("first", [True, False])
def test_a_healthy_variant_is_scored_as_if_it_were_alone(first: bool) -> None:
    """A trunk's epochs keep the trunk's number, also when its first variant has ended."""
    variants = [IN_THE_COOLDOWN, HEALTHY] if first else [HEALTHY, IN_THE_COOLDOWN]
    good, bad = (5, 4) if first else (4, 5)
    reports = reports_of(spec_of(*variants))
    alone = reports_of(spec_of(HEALTHY))
    assert rungs_in(reports) == [(good, b, score) for _, b, score in rungs_in(alone)]
    (diverged,) = [r.diverged for r in reports if r.diverged]
    assert list(diverged) == [bad]
    trunk = {epoch.trial for r in reports for epoch in r.epochs if epoch.phase == "trunk"}
    assert trunk == {4}
    top = [rung for r in reports for rung in r.rung if rung.budget == 9]
    passes = {rung.trial: rung.images for rung in top}
    assert passes[good] >= 9 * 60  # the trunk's are counted for a trial that has a score


@pytest.mark.usefixtures("_parts")
def test_two_rungs_that_one_divergence_completes_are_two_reports() -> None:
    """The short cool-down of the first leaves the trunk at its second rung before the other's
    first: rungs are reported one by one, in rising order."""
    variants = [
        {"schedule.cooldown": 0.9, **HEALTHY},
        {"schedule.cooldown": 0.1, **IN_THE_COOLDOWN},
    ]
    settings = replace(SETTINGS, budgets=[6, 9])
    runner = TrialRunner(settings, DATA, Machine("here"), spec_of(*variants))
    reports = [runner.step()]
    while not reports[-1].is_last:
        reports.append(runner.step())
    indices = [r.rung_index for r in reports if r.rung_index is not None]
    assert indices == [0, 1]
    assert [(t, b) for t, b, _ in rungs_in(reports)] == [(4, 6), (4, 9)]


@pytest.mark.usefixtures("_parts")
def test_packed_trials_go_on_beside_one_that_diverges() -> None:
    pack = PackedWorker(new_runner, CPU)
    bad = pack.step(1, spec_of(FROM_THE_FIRST)).result(60)
    assert bad.is_last and bad.diverged == {4: "epoch 1: the loss is not finite (inf)"}
    after = pack.step(1, spec_of(HEALTHY)).result(60)  # the same slot takes the next
    assert after.epochs and not after.diverged


# ---- the study ---------------------------------------------------------------------------------


def message(spec: TrialSpec, budget: int, bad: tuple[int, ...], is_last: bool = False) -> TuneDict:
    """A rung at which the trials `bad` diverge, and the others are scored."""
    rung = [
        scored_rung(number, budget, 0.1 * number + 0.01 * budget)
        for number in spec.trials
        if number not in bad
    ]
    index = BUDGETS.index(budget) if rung else None
    report = trial_report(rung, index, is_last)
    return replace(report, diverged=dict.fromkeys(bad, REASON)).to_tune(3)


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize")


def new_searcher(study: optuna.Study, trials: int = 3) -> OptunaSearcher:
    space = tiny_space(late=3, presets=[])
    return OptunaSearcher(study, space, trials, seed=1, full_budget=9, sampler="random")


def states_of(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials()]


def test_optuna_has_it_as_failed_with_the_reason(study: optuna.Study) -> None:
    searcher = new_searcher(study)
    spec = next_spec(searcher, 0)
    assert spec.trials == [0, 1, 2]
    searcher.on_trial_result("t0", message(spec, 1, bad=(0,)))
    assert states_of(study)[0] == TrialState.FAIL
    assert study.trials[0].user_attrs[DIVERGED] == REASON
    rest = replace(spec, trials=[1, 2])
    searcher.on_trial_result("t0", message(rest, 3, bad=(2,)))
    searcher.on_trial_complete("t0", message(replace(spec, trials=[1]), 9, bad=(), is_last=True))
    assert states_of(study) == [TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL]
    record = trial_record(study.trials[2], tiny_space(late=3, presets=[]), 1, {})
    assert (record.state, record.budget, record.diverged) == (FAIL, 1, REASON)
    assert record.row()["error"] == REASON


def test_a_trunk_that_diverges_fails_whole_without_an_exception(study: optuna.Study) -> None:
    searcher = new_searcher(study)
    spec = next_spec(searcher, 0)
    searcher.on_trial_result("t0", message(spec, 1, bad=()))
    searcher.on_trial_complete("t0", message(spec, 3, bad=(0, 1, 2), is_last=True))
    assert states_of(study) == [TrialState.FAIL] * 3
    assert [rung.budget for rung in recorded_rungs(study)] == [1]


def test_asha_is_told_again_what_it_was_told(study: optuna.Study) -> None:
    """A rung's score is the best of the trials that reached it, those included that diverged
    later."""
    searcher = new_searcher(study)
    spec = next_spec(searcher, 0)
    told = [message(spec, 1, bad=()), message(replace(spec, trials=[0, 1, 2]), 3, bad=(2,))]
    for result in told:
        searcher.on_trial_result("t0", result)
    recorded = [(rung.budget, rung.score) for rung in recorded_rungs(study)]
    assert recorded == [(1, told[0]["score"]), (3, told[1]["score"])]
    assert recorded[0][1] == pytest.approx(0.21) and recorded[1][1] == pytest.approx(0.13)


@pytest.mark.parametrize("cut", ["before the state", "after it"])
def test_a_search_that_is_killed_goes_on_with_the_healthy_variants(
    cut: str, tmp_path: Path
) -> None:
    """Also where it was killed between the reason and the state of the one that diverged."""
    store = Store(str(tmp_path))
    with open_journal(store, "tiny") as journal:
        searcher = new_searcher(journal.study)
        spec = next_spec(searcher, 0)
        searcher.on_trial_result("t0", message(spec, 1, bad=()))
        if cut == "after it":
            searcher.on_trial_result("t0", message(spec, 3, bad=(1,)))
        else:
            searcher.on_trial_result("t0", message(replace(spec, trials=[0, 2]), 3, bad=()))
            trial_id = journal.study.trials[1]._trial_id
            journal.study._storage.set_trial_user_attr(trial_id, DIVERGED, REASON)
    with open_journal(store, "tiny") as journal:
        apply_pending_states(journal.study, stopped=(), full_budget=9)
        running, fail = TrialState.RUNNING, TrialState.FAIL
        assert states_of(journal.study) == [running, fail, running]
        assert [sorted(r) for r in common_rungs(journal.study.trials)] == [[0, 1, 2], [0, 2]]
        searcher = new_searcher(journal.study)
        again = next_spec(searcher, 0)
        assert (again.number, again.trials, again.reached_budget) == (0, [0, 2], 3)
        assert again.settings == [spec.settings[0], spec.settings[2]]
        assert again.images == [300, 300]
        assert searcher.next_spec() is None  # all three trials have begun
        searcher.on_trial_complete("t0", message(again, 9, bad=(), is_last=True))
        assert states_of(journal.study) == [TrialState.COMPLETE, fail, TrialState.COMPLETE]


def test_an_exception_still_fails_the_whole_trunk(study: optuna.Study) -> None:
    searcher = new_searcher(study)
    spec = next_spec(searcher, 0)
    searcher.on_trial_result("t0", message(spec, 1, bad=(1,)))
    trial = study.trials[0]
    study.tell(trial.number, state=TrialState.FAIL)  # killed after the first of the trunk
    apply_pending_states(study, stopped=(), full_budget=9)
    assert states_of(study) == [TrialState.FAIL] * 3


def test_the_next_trials_do_not_depend_on_a_trial_that_diverged(study: optuna.Study) -> None:
    """Samplers of Optuna ignore FAIL: the suggestion is that of a study without the trial's end."""
    searcher = new_searcher(study, trials=6)
    spec = next_spec(searcher, 0)
    searcher.on_trial_complete("t0", message(spec, 1, bad=(0, 1, 2), is_last=True))
    other = optuna.create_study(direction="maximize")
    same = new_searcher(other, trials=6)
    next_spec(same, 0)
    same.on_trial_complete("t0", None, error=True)
    same.give_up("t0", "ValueError: bad")
    assert next_spec(searcher, 1).settings == next_spec(same, 1).settings


# ---- finals and calibrations -------------------------------------------------------------------


def final_report(score: float | None) -> TrialReport:
    if score is None:
        return replace(trial_report([], None, True), diverged={7: REASON})
    return trial_report([scored_rung(7, 9, score)], 0, True)


def test_a_final_run_that_diverges_is_a_failed_one(tmp_path: Path) -> None:
    lines: list[str] = []
    done: list[FinalRecord] = []
    reporter = to_lines(lines.append)
    reporter.tell(StageStarted(0.0, FINALS, 2))
    images = Images(np.zeros((2, 1, 1, 1), np.uint8), np.array([0, 1]))
    writer = FinalsWriter(Store(str(tmp_path)), images, done, 9, reporter)
    settings = TrainConfig.from_settings({"seed": 11}).flat()
    spec = TrialSpec.single_run(7, settings, without_rungs=True)
    writer.reported(spec, final_report(None))
    writer.reported(spec, final_report(0.5))
    assert writer.failures == [7]
    (final,) = done
    assert (final.trial, final.seed, final.score) == (7, 11, 0.5)
    assert final.metrics["accuracy"] == 0.5
    assert lines[0] == f"final 1/2  trial 7, seed 11: failed: {REASON}"


def test_a_calibration_run_that_diverges_is_a_failed_one(tmp_path: Path) -> None:
    lines: list[str] = []
    configs = [tiny_space().base()] * 8
    writer = CalibrationWriter(Store(str(tmp_path)), configs, to_lines(lines.append))
    spec = TrialSpec.single_run(7, {}, without_rungs=False)
    writer.reported(spec, trial_report([scored_rung(7, 3, 0.4)], 0, False))
    writer.reported(spec, final_report(None))
    assert writer.errors == {(7, 0): REASON}
    assert not writer.done and not writer.scores
    assert not Store(str(tmp_path)).exists("scores")


# ---- one reason for all ------------------------------------------------------------------------


def reported(watch: CommonFailure, number: int, epochs: int, *bad: str) -> None:
    """A trial has been trained for so many more epochs; with a reason, it diverges and ends."""
    epoch = EpochReport(number, 1, "trunk", 9, 0.1, 1.0, {}, [], 0.0)
    report = replace(
        trial_report([], None, bool(bad)),
        epochs=[epoch] * epochs,
        diverged=dict.fromkeys([number], *bad) if bad else {},
    )
    watch.reported(single(number), report)
    if bad:
        watch.completed(single(number))


def finished(watch: CommonFailure, number: int) -> None:
    watch.reported(single(number), trial_report([scored_rung(number, 9, 0.5)], 2, True))
    watch.completed(single(number))


def request(rungs: str = "cooldown") -> SearchRequest:
    return SearchRequest(tiny_space(), 12, "bad", rungs=rungs)


def single(number: int) -> TrialSpec:
    return TrialSpec.single_run(number, {}, without_rungs=False)


def raised(watch: CommonFailure, folder: Path, error: str) -> None:
    file = folder / "error.txt"
    file.write_text(f"Traceback (most recent call last):\n  File x\n{error}\n")
    trial: Any = SimpleNamespace(trial_id="t0", error_file=str(file))
    watch.failed(single(0), failure_of(trial))


def test_five_divergences_and_no_healthy_trial_end_a_search() -> None:
    """Also where each had a score at its first rung, and another trial is on its way."""
    watch = CommonFailure(17)
    for number in range(4):
        reported(watch, number, 3)
        reported(watch, number, 0, f"epoch {number + 4}: the loss is not finite (nan)")
        assert not watch.stop_all()
        watch.check(request())
    reported(watch, 8, 3)
    reported(watch, 4, 0, "epoch 1: the logits of 3 of 9 images are not finite")
    assert watch.stop_all()
    with pytest.raises(StudyError, match=r"all 5 trials of runs/bad .* \(epoch 4: the l") as error:
        watch.check(request())
    assert "lower optimizer.lr" in str(error.value) and "resume runs/bad" in str(error.value)


def test_a_short_search_trains_all_of_its_trials() -> None:
    """Nothing would be left to resume."""
    watch = CommonFailure(5)
    for number in range(5):
        reported(watch, number, 0, REASON)
    assert not watch.stop_all()
    watch.check(request())


@pytest.mark.parametrize("when", [0, 3, 5])
@pytest.mark.parametrize("ends", [True, False])
def test_one_healthy_trial_lets_a_search_go_on(when: int, ends: bool) -> None:
    """One that has ended, or that has come further than all that failed."""
    watch = CommonFailure(17)
    for number in range(8):
        if number == when:
            finished(watch, 20) if ends else reported(watch, 20, 2)
        reported(watch, number, 1, REASON)
    assert not watch.stop_all()


def test_a_trial_that_came_far_and_failed_too_keeps_nothing_going() -> None:
    watch = CommonFailure(17)
    reported(watch, 20, 7)
    for number in range(6):
        reported(watch, number, 1, REASON)
    assert not watch.stop_all()
    reported(watch, 20, 0, REASON)
    assert watch.stop_all()


CHANCE = 0.1


def at_rung(watch: CommonFailure, number: int, score: float, is_last: bool = False) -> None:
    watch.reported(single(number), trial_report([scored_rung(number, 3, score)], 0, is_last))


def fail_after(watch: CommonFailure, trials: int, score: float = CHANCE) -> None:
    """Trials that are trained for three epochs, have a score, and then diverge."""
    for number in range(trials):
        reported(watch, number, 3)
        at_rung(watch, number, score)
        reported(watch, number, 0, "epoch 5: the loss is not finite (nan)")


@pytest.mark.parametrize("is_last", [True, False])
@pytest.mark.parametrize(("score", "stops"), [(0.097, True), (CHANCE, True), (0.11, False)])
def test_only_a_score_above_chance_lets_a_search_go_on(
    score: float, stops: bool, is_last: bool
) -> None:
    """Whether ASHA stopped the trial or it was trained to the end, also where it ran for longer
    than those that failed."""
    watch = CommonFailure(12, CHANCE)
    reported(watch, 20, 7)
    at_rung(watch, 20, score, is_last)
    fail_after(watch, 5)
    assert not watch.stop_all()
    watch.completed(single(20))
    assert watch.stop_all() == stops
    if stops:
        message = r"^of the 6 trials of runs/bad that ended, 1 scored no better .* 5 failed, .*nan"
        with pytest.raises(StudyError, match=message):
            watch.check(request())


def test_a_trial_at_chance_changes_no_message_of_a_search_that_goes_on() -> None:
    watch = CommonFailure(12, CHANCE)
    at_rung(watch, 20, 0.097)
    watch.completed(single(20))
    fail_after(watch, 4)
    assert not watch.stop_all()
    watch.check(request())


def test_two_reasons_and_a_trial_at_chance_do_not_end_a_search(tmp_path: Path) -> None:
    watch = CommonFailure(12, CHANCE)
    at_rung(watch, 20, 0.097)
    watch.completed(single(20))
    fail_after(watch, 6)
    assert watch.stop_all()
    raised(watch, tmp_path, "imbtune.errors.ConfigError: out of memory")
    assert not watch.stop_all()


@pytest.mark.parametrize(("of_failed", "stops"), [(CHANCE, False), (0.3, True)])
def test_a_running_trial_above_chance_counts_where_no_failed_one_was(
    of_failed: float, stops: bool
) -> None:
    watch = CommonFailure(12, CHANCE)
    at_rung(watch, 20, 0.3)
    fail_after(watch, 5, of_failed)
    assert watch.stop_all() == stops


def test_one_trial_of_a_trunk_above_chance_lets_a_search_go_on() -> None:
    for better, stops in ((0.3, False), (0.05, True)):
        watch = CommonFailure(12, CHANCE)
        trunk = replace(single(20), trials=[20, 21])
        rung = [scored_rung(20, 3, CHANCE), scored_rung(21, 3, better)]
        watch.reported(trunk, trial_report(rung, 0, is_last=False))
        watch.completed(trunk)
        fail_after(watch, 5)
        assert watch.stop_all() == stops


def test_a_trial_that_is_interrupted_between_rungs_is_not_at_chance() -> None:
    """By Ctrl-C or the time budget: the search ends as it does with healthy trials."""
    watch = CommonFailure(12, CHANCE)
    at_rung(watch, 20, CHANCE)
    reported(watch, 20, 7)
    fail_after(watch, 5)
    watch.completed(single(20))
    assert not watch.stop_all()


def test_a_resumed_search_with_a_trial_above_chance_goes_on() -> None:
    for has_healthy in (False, True):
        watch = CommonFailure(12, CHANCE, has_healthy)
        fail_after(watch, 6)
        assert watch.stop_all() != has_healthy


def test_the_same_exception_ends_a_search_and_is_printed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = CommonFailure(17)
    for i in range(5):
        assert not watch.stop_all()
        raised(watch, tmp_path, f"ValueError: boom after {i} images")
    assert watch.stop_all()
    assert capsys.readouterr().err.count("Traceback") == 1
    with pytest.raises(StudyError, match=r"\(ValueError: boom after 0 images\): fix the cause"):
        watch.check(request())


def test_different_reasons_do_not_end_a_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = CommonFailure(17)
    for i in range(6):
        raised(watch, tmp_path, f"ValueError: boom {'abcdef'[i]}")
    assert not watch.stop_all()
    assert capsys.readouterr().err.count("Traceback") == 6


def test_an_expected_error_has_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = CommonFailure(17)
    for _ in range(5):
        raised(watch, tmp_path, "imbtune.errors.ConfigError: out of memory with 0.25 of a GPU")
    assert watch.stop_all() and capsys.readouterr().err == ""


def test_the_rungs_of_a_healthy_search_are_as_before(study: optuna.Study) -> None:
    searcher = new_searcher(study)
    spec = next_spec(searcher, 0)
    searcher.on_trial_result("t0", rung_result(spec, 1, scored=2))  # killed while it is told
    assert recorded_rungs(study) == []
    searcher.on_trial_result("t0", rung_result(spec, 1))
    assert [rung.budget for rung in recorded_rungs(study)] == [1]


@pytest.mark.parametrize(
    ("rungs", "retry", "diverged"),
    [
        ("cooldown", "imbtune resume runs/bad --retry-failed$", "try other trials with .*resume"),
        (EVERY, "imbtune resume runs/bad$", "calibrate with a lower .* resume runs/bad$"),
        (TEST, "imbtune resume runs/bad$", "compare with a lower .* resume runs/bad$"),
    ],
)
def test_searches_calibrations_and_comparisons_stop_alike(
    rungs: str, retry: str, diverged: str, tmp_path: Path
) -> None:
    watch = CommonFailure(12, CHANCE)
    for _ in range(5):
        raised(watch, tmp_path, "RuntimeError: broken")
    with pytest.raises(StudyError, match=rf"^all 5 \w+ of runs/bad that ended .*{retry}") as error:
        watch.check(request(rungs))
    assert ("5 trials" if rungs == "cooldown" else "5 runs") in str(error.value)
    watch = CommonFailure(12, CHANCE)
    fail_after(watch, 5)
    with pytest.raises(StudyError, match=diverged):
        watch.check(request(rungs))


@pytest.mark.parametrize("healthy", [False, True])
def test_the_two_runs_of_a_trial_of_a_calibration_are_told_apart(healthy: bool) -> None:
    """One fails while the other is healthy."""
    watch, other = CommonFailure(24, CHANCE), replace(single(0), without_rungs=True)
    score = 0.4 if healthy else CHANCE
    watch.reported(other, trial_report([scored_rung(0, 9, score)], 2, is_last=True))
    fail_after(watch, 5)
    watch.completed(other)
    assert watch.stop_all() != healthy


def final_run(number: int, score: float | None, trained: int = 0, reason: str = "") -> FinalReport:
    return FinalReport(
        epochs=(),
        rung=(),
        rung_index=None,
        is_last=not trained,
        machine=Machine("here"),
        started=0.0,
        diverged={number: reason} if reason else {},
        trained=trained,
        run=None,
        images=0,
        threads=1,
        score=score,
    )


@pytest.mark.parametrize(("score", "stops"), [(CHANCE, True), (0.3, False), (None, False)])
def test_a_run_of_a_comparison_at_chance_is_not_healthy(score: float | None, stops: bool) -> None:
    """One whose objective is undefined may be."""
    watch = CommonFailure(12, CHANCE)
    watch.reported(single(20), final_run(20, score))
    watch.completed(single(20))
    for number in range(5):
        watch.reported(single(number), final_run(number, None, reason=REASON))
        watch.completed(single(number))
    assert watch.stop_all() == stops


def test_a_run_of_a_comparison_that_came_further_is_healthy() -> None:
    watch = CommonFailure(12, CHANCE)
    watch.reported(single(20), final_run(20, None, trained=7))
    for number in range(5):
        watch.reported(single(number), final_run(number, None, trained=3))
        watch.reported(single(number), final_run(number, None, reason=REASON))
    assert not watch.stop_all()
