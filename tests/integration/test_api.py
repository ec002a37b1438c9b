"""The Python API on real Ray: a search, its resume, what follows from it, and Ray Tune's order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from command import in_new_process, run
from made_study import RECORDS, make_study
from ray import tune
from ray.tune.schedulers import FIFOScheduler

import imbtune
from imbtune.data.load import DataSource, load
from imbtune.errors import StudyError
from imbtune.storage import join
from imbtune.study.records import Machine
from imbtune.study.view import Study
from imbtune.training.phases import RUNG_KINDS
from imbtune.tuning.cluster.connection import connected
from imbtune.tuning.cluster.resources import Resources
from imbtune.tuning.execution import run_trials as imbtune_tune
from imbtune.tuning.execution.events import FailureLimits, TrialCallback
from imbtune.tuning.execution.failures import Failure
from imbtune.tuning.execution.spec_searcher import ListSearcher
from imbtune.tuning.messages import TrialReport, TrialSpec

ONE_AT_A_TIME = "--cpus-per-trial 1 --max-concurrent 1"
OF_THE_MACHINE = ("seconds", "started", "ended", "time", "node")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder of this file's searches."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """The lines of progress of the search below."""
    return []


@pytest.fixture(scope="module")
def searched(home: Path, lines: list[str]) -> Study:
    """Four trials of three epochs, and the finals of two of them."""
    return imbtune.search(
        "digits-lt", trials=4, epochs=3, name="first", seed=5, cpus_per_trial=1, max_concurrent=1,
        finals=2, final_seeds=2, progress=lines.append,
    )  # fmt: skip


def rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the columns that no seed fixes."""
    return frame.drop(columns=[name for name in OF_THE_MACHINE if name in frame])


@pytest.mark.slow
def test_the_rows_are_those_of_the_command(searched: Study, home: Path) -> None:
    """One trial at a time, so that the sampler sees the same results in the same order."""
    options = f"--trials 4 --epochs 3 --seed 5 --finals 2 --final-seeds 2 {ONE_AT_A_TIME}"
    done = run("search", "digits-lt", "--name", "again", *options.split(), cwd=home)
    assert done.returncode == 0, done.stderr
    again = imbtune.load_study("runs/again")
    for table in ("trials", "epochs", "finals"):
        pd.testing.assert_frame_equal(
            rows(getattr(again, table)), rows(getattr(searched, table)), obj=table
        )
    assert again.winner and searched.winner
    assert again.winner.settings == searched.winner.settings
    assert again.evidence == searched.evidence


def test_progress_goes_line_by_line_to_the_log(
    searched: Study, lines: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    found = "\n".join(lines)
    for text in ("4 trials, 1 at a time", "1/4  trial 0", "4/4  trial 3", "final 4/4"):
        assert text in found
    assert capfd.readouterr() == ("", "")


def test_the_study_that_a_search_returns(searched: Study, home: Path) -> None:
    assert searched.path == "runs/first"
    outcome = searched.outcome
    assert outcome and outcome.winner and not outcome.interrupted
    assert searched.winner and searched.winner.number == outcome.winner.number
    assert searched.evidence == outcome.evidence
    started, ended = (dt.datetime.fromisoformat(searched.info[k]) for k in ("started", "ended"))
    assert outcome.seconds == (ended - started).total_seconds()  # the report's wall time
    assert len(searched.trials) == 4
    assert len(searched.finals) == 2 * searched.trials["finalist"].sum()
    assert repr(searched).startswith("Study('runs/first'): 4 of 4 trials (")
    assert not searched.info["command"].startswith("imbtune ")  # it was no command


def test_scores_follow_from_the_predictions_of_the_finals(searched: Study) -> None:
    """The score of each final run, and its score without each group of the images."""
    predictions, finals = searched.predictions, searched.finals
    assert searched.evidence and searched.evidence.images
    assert searched.evidence.mean_corrected is not None
    assert (searched.trials["score_error"] > 0).all()
    for final in finals.to_dict("records"):
        is_own = (predictions["trial"] == final["trial"]) & (predictions["seed"] == final["seed"])
        own = predictions[is_own]
        hit = own["label"] == own["predicted"]
        assert hit.groupby(own["label"]).mean().mean() == pytest.approx(final["score"])
        assert (np.stack(own["logits"].tolist()).argmax(1) == own["predicted"]).all()
        for group, score in enumerate(final["scores_without_groups"]):
            kept = own["group"] != group
            assert hit[kept].groupby(own["label"][kept]).mean().mean() == pytest.approx(score)
    names = predictions.groupby("image").size()
    assert len(names) == 300 and (names == len(finals)).all()
    found = searched.sql("select count(*) as n from predictions where label = predicted")
    assert found["n"][0] == (predictions["label"] == predictions["predicted"]).sum()


def test_its_optuna_study(searched: Study) -> None:
    """A copy: what is changed in it is not written back."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        study = searched.optuna
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG  # as the caller set it
    finally:
        optuna.logging.set_verbosity(level)
    values = [trial.values[0] if trial.values else None for trial in study.trials]
    trials = searched.trials
    finished = trials["state"] == "COMPLETE"
    assert [v is not None for v in values] == finished.tolist()
    assert [v for v in values if v is not None] == trials["score"][finished].tolist()
    study.enqueue_trial({})
    assert len(searched.optuna.trials) == 4


def test_training_its_winner_and_using_the_model(searched: Study) -> None:
    """The model's accuracy on the test images is the one that was measured."""
    result = imbtune.train(searched.winner, seeds=2, progress=None)
    assert str(result.path) == "runs/first/best"
    model = imbtune.load_model(result.path, seed=1)
    test = load("digits", result.config.data.knobs, DataSource(None, False)).test
    names = np.array(model.classes)[test.labels]
    accuracy = (model.predict(test.array()) == names).mean()
    assert accuracy == pytest.approx(result.runs[1].metrics["accuracy"])
    file = imbtune.train(searched, out="again", progress=None)
    assert file.config == result.config
    assert file.runs[0].metrics == result.runs[0].metrics


def test_a_search_is_not_overwritten(searched: Study) -> None:
    with pytest.raises(StudyError, match=r"runs/first exists already.* --name first-2"):
        imbtune.search("digits-lt", trials=4, name="first")


def test_resuming_with_more_trials(searched: Study) -> None:
    """The last test of this study: it has more trials from here on."""
    before = searched.trials
    resumed = imbtune.resume(searched.path, trials=6, progress=None)
    assert isinstance(resumed, Study)
    assert resumed.outcome and not resumed.outcome.interrupted
    columns = [name for name in before.columns if name != "finalist"]
    pd.testing.assert_frame_equal(resumed.trials[columns][:4], before[columns])
    assert searched.trials["trial"].tolist() == list(range(6))


def test_a_plan(home: Path) -> None:
    forecast = imbtune.plan("digits-lt", trials=8, epochs=9, cpus=4, finals=1, final_seeds=2)
    assert forecast.request.trials == sum(forecast.plan.reached.values()) - forecast.plan.reached[9]
    assert forecast.fleet.cpus == 4
    assert 0 < forecast.machine_hours < 1
    assert not (home / "runs" / "digits-lt").exists()


@pytest.mark.slow
def test_a_calibration_and_what_follows_it(home: Path) -> None:
    space = imbtune.space("short", like="digits-lt", rungs={"eta": 3, "count": 2})
    outcome = imbtune.calibrate(space, trials=8, epochs=3, max_concurrent=1, progress=None)
    assert (outcome.path, outcome.done, outcome.runs) == ("runs/short-calibration", 16, 16)
    assert outcome.found
    assert {report.kind for report in outcome.found.reports} == set(RUNG_KINDS)
    again = imbtune.resume(outcome.path, progress=None)
    assert isinstance(again, imbtune.CalibrationOutcome)
    assert again.found == outcome.found
    study = imbtune.load_study(outcome.path)
    assert repr(study) == "Study('runs/short-calibration'): a calibration of 8 trials"
    request = imbtune.plan(space, trials=8, epochs=3, rungs="auto").request
    assert request.rungs in RUNG_KINDS


def test_a_study_in_a_bucket(bucket: str) -> None:
    path = join(bucket, "tiny")
    make_study(path)
    study = imbtune.load_study(path)
    assert study.trials["trial"].tolist() == [record.number for record in RECORDS]
    assert study.winner and study.winner.number == 3
    assert study.evidence and study.evidence.seeds == 2
    assert len(study.finals) == 6
    with pytest.raises(StudyError, match="is not a study"):
        imbtune.load_study(join(bucket, "nothing"))


# ---- Ray Tune's order

Event = tuple[str, str, int]  # who is told what, of which trial
STOPPED, BROKEN = 1, 2  # trials that the scheduler stops, and that fail


class Told(ListSearcher):
    """Three trials; notes what it is told."""

    def __init__(self, events: list[Event]) -> None:
        super().__init__(TrialSpec.single_run(n, {}, without_rungs=False) for n in range(3))
        self.events = events

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        self.events.append(("searcher", "result", spec.number))

    def completed(self, spec: TrialSpec) -> None:
        self.events.append(("searcher", "complete", spec.number))

    def failed(self, spec: TrialSpec, error: str) -> None:
        assert error == "ValueError: on purpose"
        self.events.append(("searcher", "error", spec.number))


class TellingCallback(TrialCallback):
    def __init__(self, events: list[Event]) -> None:
        self.events = events

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        self.events.append(("callback", "result", spec.number))

    def completed(self, spec: TrialSpec) -> None:
        self.events.append(("callback", "complete", spec.number))

    def failed(self, spec: TrialSpec, failure: Failure) -> None:
        self.events.append(("callback", "error", spec.number))


class TellingScheduler(FIFOScheduler):
    """Stops the trial STOPPED at its first result."""

    def __init__(self, events: list[Event]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events = events

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Any) -> str:
        number = TrialSpec.from_tune(trial.config).number
        self.events.append(("scheduler", "result", number))
        return str(self.STOP if number == STOPPED else self.CONTINUE)


def test_ray_tune_tells_the_searcher_before_it_calls_callbacks(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study writer's callback reads from the journal what the searcher has written to it.

    It does so at the end of a trial: for a last result, callbacks are called before the searcher.
    """

    class Scripted(tune.Trainable):  # here: it is sent to workers by value
        def setup(self, config: dict[str, Any]) -> None:
            self.config = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.config = new_config
            return True

        def step(self) -> dict[str, Any]:
            if TrialSpec.from_tune(self.config).number == BROKEN and self.iteration == 1:
                raise ValueError("on purpose")
            report = TrialReport((), (), None, self.iteration == 1, Machine("here"), 0.0)
            return {**report.to_tune(3), "score": 0.5, "done": self.iteration == 1}

    events: list[Event] = []
    monkeypatch.setattr(imbtune_tune, "_trainable", lambda *_: nullcontext((Scripted, None)))
    with connected(None):
        imbtune_tune.run_trials(
            None, None, Resources(1, 0, 1), Told(events), 3,  # type: ignore[arg-type]
            TellingCallback(events), FailureLimits(), TellingScheduler(events),
        )  # fmt: skip
    told = {n: [f"{who}: {what}" for who, what, number in events if number == n] for n in range(3)}
    goes_on = ["scheduler: result", "searcher: result", "callback: result"]
    end = ["callback: result", "searcher: result", "searcher: complete", "callback: complete"]
    assert told[0] == [*goes_on, *end]
    assert told[STOPPED] == ["scheduler: result", *end]
    assert told[BROKEN] == [*goes_on, "searcher: error", "callback: error"]


def test_parts_of_yours_go_with_a_configuration_made_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the model can be loaded in another process."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_weights.py").write_text(
        "import numpy as np\n"
        "from imbtune.methods.class_weights import weights\n"
        "@weights.register('my_flat', help='1 for each class')\n"
        "def my_flat(counts_K):\n"
        "    return counts_K * 0 + 1.0\n"
    )
    space = imbtune.space("mine", tmp_path, imports=["my_weights"], train={"weights": "my_flat"})
    small = space.pin({"data.head": 60, "data.ratio": 10, "data.val_per_class": 9, "epochs": 1})
    result = imbtune.train(small.base(), progress=None)
    assert (result.path / "my_weights.py").is_file()
    code = (
        "import imbtune, json\n"
        "print(json.dumps(imbtune.load_model('runs/trained').config.weights.name))"
    )
    assert in_new_process(code, tmp_path) == "my_flat"
