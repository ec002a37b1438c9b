"""A run of a comparison goes on from its checkpoint, to the same result to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from diverging import FROM_THE_FIRST, bad_parts
from short_runs import DATA, everything, preset_config, same

from imbtune.comparison.final_runner import FinalReport, FinalRunner, FinalWorkerSettings
from imbtune.final_training.final_run import FinalRun, Progress, train_seed
from imbtune.metrics.metric import metric_from
from imbtune.study.records import Machine
from imbtune.tuning.messages import TrialSpec

# what a state in training may hold: momentum, DRW, a head trained anew, generated images, SAM
PRESETS = ("mamix_drw", "crt", "m2m", "sam_drw")


def figures(run: FinalRun) -> dict[str, Any]:
    """All but the time. As text, since NaN is not equal to itself."""
    return {key: repr(value) for key, value in run.to_dict().items() if key != "seconds"}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_goes_on_from_any_epoch_as_if_it_had_not_ended(preset: str) -> None:
    config = preset_config(preset, epochs=4, seed=3)
    checkpoints: list[bytes] = []
    epochs: list[int] = []
    whole = train_seed(config, DATA, lambda progress: checkpoints.append(progress.checkpoint()))
    assert len(checkpoints) == 4
    for trained in (1, 3, 4):
        checkpoint = checkpoints[trained - 1]
        epochs.clear()
        again = train_seed(config, DATA, lambda p: epochs.append(p.trained), checkpoint)
        assert epochs == list(range(trained + 1, 5))
        assert figures(again.run) == figures(whole.run)
        assert same(everything(again.state), everything(whole.state))
        assert again.state.passes == whole.state.passes


def test_the_time_before_an_interruption_counts() -> None:
    config = preset_config("erm", epochs=2)
    late: list[bytes] = []
    train_seed(config, DATA, lambda progress: late.append(dated(progress, 1000.0)))
    assert train_seed(config, DATA, lambda _: None, late[0]).run.seconds > 1000


def dated(progress: Progress, seconds: float) -> bytes:
    return Progress(
        progress.trained, progress.epochs, progress.epoch_log, progress.state, seconds
    ).checkpoint()


def runner(folder: Path | None, seconds: float = 0.0, number: int = 5) -> FinalRunner:
    settings = preset_config("mixup_drw", epochs=3, seed=1).flat()
    worker = FinalWorkerSettings(
        "none",
        [3],
        3,
        [metric_from("balanced_accuracy")],
        checkpoints=None if folder is None else str(folder),
        threads=2,
        checkpoint_seconds=seconds,
    )
    return FinalRunner(worker, DATA, Machine("here"), TrialSpec.single_run(number, settings, True))


def to_its_end(runner: FinalRunner) -> list[FinalReport]:
    reports = [runner.step()]
    while not reports[-1].is_last:
        reports.append(runner.step())
    return reports


def test_a_worker_writes_checkpoints_and_reports_losses_and_a_result(tmp_path: Path) -> None:
    """Of three epochs, each is a tenth of the run that a user reads of, but for the last."""
    *trained, report = to_its_end(runner(tmp_path))
    assert [r.trained for r in trained] == [1, 2] and all(r.loss for r in trained)
    assert report.loss is None and report.trained == 3
    assert report.is_last and (report.machine.node, report.threads) == ("here", 2)
    assert report.run and report.run.seed == 1 and report.images > 0
    assert "score" not in report.to_tune(3)  # nothing that a scheduler could compare
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["5-3.pt"]


def test_no_checkpoint_is_written_before_its_time_or_without_a_folder(tmp_path: Path) -> None:
    to_its_end(runner(tmp_path, seconds=3600))
    to_its_end(runner(None))
    to_its_end(runner(tmp_path / "not here"))  # a machine that does not see the study
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_diverges_is_reported_with_its_epoch() -> None:
    settings = preset_config("erm", epochs=3).flat() | FROM_THE_FIRST
    worker = FinalWorkerSettings("none", [3], 3, [metric_from("balanced_accuracy")], threads=2)
    with bad_parts():
        spec = TrialSpec.single_run(4, settings, True)
        report = FinalRunner(worker, DATA, Machine("here"), spec).step()
    assert report.run is None and report.is_last
    assert report.diverged == {4: "epoch 1: the loss is not finite (nan)"}


class CutError(Exception):
    pass


def test_a_worker_goes_on_from_the_newest_checkpoint_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = to_its_end(runner(None))[-1]
    cut = runner(tmp_path)
    save = cut._after_epoch

    def save_and_end(progress: Progress) -> None:
        save(progress)
        if progress.trained == 2:
            raise CutError

    monkeypatch.setattr(cut, "_after_epoch", save_and_end)
    with pytest.raises(CutError):
        to_its_end(cut)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["5-2.pt"]
    epochs: list[int] = []
    resumed = runner(tmp_path)
    monkeypatch.setattr(resumed, "_after_epoch", lambda progress: epochs.append(progress.trained))
    again = to_its_end(resumed)[-1]
    assert again.run and whole.run and figures(again.run) == figures(whole.run)
    assert epochs == [3]
    other = runner(tmp_path, number=6)  # the checkpoint is not its own
    monkeypatch.setattr(other, "_after_epoch", lambda progress: epochs.append(progress.trained))
    to_its_end(other)
    assert epochs == [3, 1, 2, 3]
