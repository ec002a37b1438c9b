"""A training that is interrupted, at each of its writes, and the same command again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
from data_files import raises_one_line

import imbtune
from imbtune.config.train_config import TrainConfig
from imbtune.errors import DamagedFileError, StudyError
from imbtune.final_training import seed_training
from imbtune.storage import Store
from imbtune.study.lock import study_lock

TINY: dict[str, Any] = {
    **{"data": "digits", "data.head": 20, "data.ratio": 5.0, "model.width": 2},
    **{"epochs": 2, "batch_size": 100, "precision": "float32"},
}
CONFIG = TrainConfig.from_settings(TINY)


class KilledError(Exception):
    """The process dies before a write."""


@pytest.fixture(autouse=True)
def checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """After every epoch."""
    monkeypatch.setattr(seed_training, "CHECKPOINT_SECONDS", 0.0)


def train(out: Path, **options: Any) -> imbtune.TrainResult:
    return imbtune.train(CONFIG, **{"out": out, "seeds": 2, "progress": None, **options})


def contents(out: Path) -> dict[str, object]:
    """The files of a training: of those without times, what they hold."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    found: dict[str, object] = {str(path.relative_to(out)): "" for path in files}
    for name in ("model.safetensors", "seed1/model.safetensors"):
        weights = safetensors.numpy.load_file(out / name)
        found[name] = {key: value.tobytes() for key, value in weights.items()}
    for name in ("predictions.parquet", "seed1/margins.parquet", "calibration.json"):
        found[name] = (out / name).read_bytes()
    metrics = json.loads((out / "metrics.json").read_text())
    for run in metrics["runs"]:
        del run["seconds"]
    return found | {"metrics.json": metrics}


def write_until(at: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The storage takes `at` files, then the process dies."""
    written, whole = list[str](), Store.write

    def write(self: Store, name: str, content: bytes) -> None:
        if len(written) == at:
            raise KilledError
        written.append(name)
        whole(self, name, content)

    monkeypatch.setattr(Store, "write", write)
    return written


@pytest.mark.parametrize(
    "writes",
    [
        pytest.param((2, 14, 33), id="some"),
        pytest.param(range(41), id="all", marks=pytest.mark.slow),
    ],
)
def test_the_same_call_goes_on_at_whichever_write_it_was_killed(
    writes: Sequence[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record, checkpoints, files of both seeds, manifests, the summary, the ensemble."""
    options = {"ema": 0.1, "calibrate": 0.3, "ensemble": True}
    train(tmp_path / "whole", **options)
    wanted, killed = contents(tmp_path / "whole"), 0
    for at in writes:
        out = tmp_path / str(at)
        with monkeypatch.context() as patched, contextlib.suppress(KilledError):
            write_until(at, patched)
            train(out, **options)
        if (out / "manifest.json").exists():  # then it is a whole model
            assert imbtune.load_model(out).config == CONFIG
        if (out / "training.json").exists() or not (out / "manifest.json").exists():
            killed += 1
            train(out, **options)
        assert contents(out) == wanted, at
    assert killed > 2


def test_it_says_that_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        write_until(16, patched)  # a checkpoint of the second seed
        with pytest.raises(KilledError):
            train(tmp_path / "out")
    lines = list[str]()
    result = train(tmp_path / "out", progress=lines.append)
    assert "has an unfinished training, which goes on: 1 of 2 seeds done" in lines[0]
    assert any("seed 1: goes on after epoch" in line for line in lines)
    assert not any("seed 0: epoch" in line for line in lines)
    assert [run.seed for run in result.runs] == [0, 1]
    assert not list((tmp_path / "out").glob(".*")) and not (tmp_path / "out/checkpoints").exists()


@pytest.fixture
def unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patched:
        write_until(3, patched)
        with pytest.raises(KilledError):
            train(tmp_path / "the out")
    return tmp_path / "the out"


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"seeds": 3}, "with other settings (seeds: 2 there, 3 now)"),
        (
            {"settings": {"loss": "ldam"}},
            "with other settings (loss: 'ce' there, 'ldam' now, loss.",
        ),
        ({"epochs": 3}, "with other settings (epochs: 2 there, 3 now)"),
        ({"ema": 0.1}, "with other settings (--ema: None there, 0.1 now)"),
        ({"settings": {"data.ratio": 4.0}}, "data.ratio: 5.0 there, 4.0 now"),
        (
            {"epochs": 3, "seeds": 3, "settings": {"optimizer.lr": 0.5}},
            "(optimizer.lr: 0.1 there, 0.5 now, epochs: 2 there, 3 now, seeds: 2 there, 3 now)",
        ),
    ],
)
def test_another_training_does_not_go_on_there(
    changed: dict[str, Any], line: str, unfinished: Path
) -> None:
    before = sorted(unfinished.rglob("*"))
    fix = f"give another folder, such as --out '{unfinished}-2', or delete it"
    with raises_one_line(f"--out {unfinished} has an", line, fix, kind=StudyError):
        train(unfinished, **changed)
    assert sorted(path for path in unfinished.rglob("*") if path.name != ".lock") == [
        path for path in before if path.name != ".lock"
    ]


def test_a_finished_training_is_not_begun_again(tmp_path: Path) -> None:
    train(tmp_path / "out", seeds=1)
    line = f"--out {tmp_path / 'out'} exists already and is not empty: give another folder"
    with raises_one_line(line, kind=StudyError):
        train(tmp_path / "out", seeds=1)


def test_a_damaged_checkpoint_is_left_out(unfinished: Path) -> None:
    for path in (unfinished / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-1])
    lines = list[str]()
    train(unfinished, progress=lines.append)
    assert any("is damaged" in line and "it is trained from its start" in line for line in lines)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_damaged_record(text: str, unfinished: Path) -> None:
    (unfinished / "training.json").write_text(text)
    with raises_one_line("training.json is not what imbtune wrote", kind=DamagedFileError):
        train(unfinished)


def test_another_process_trains_there(unfinished: Path) -> None:
    with (
        study_lock(Store(str(unfinished))),
        raises_one_line(f"the folder {unfinished} is in use by another process", kind=StudyError),
    ):
        train(unfinished)


@pytest.mark.parametrize("last", ["checkpoints", ".lock", "training.json"])
def test_a_kill_while_it_tidies_up_leaves_nothing_in_the_end(
    last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies before it removes a file; the same command removes what it left."""
    out = tmp_path / "out"

    def dying(whole: Any, name_of: Any) -> Any:
        def remove(*args: Any, **options: Any) -> Any:
            if name_of(*args) == last:
                raise KilledError
            return whole(*args, **options)

        return remove

    with monkeypatch.context() as patch:
        for method in ("unlink", "rmdir"):
            patch.setattr(Path, method, dying(getattr(Path, method), lambda path: path.name))
        patch.setattr(Store, "delete", dying(Store.delete, lambda _, name: name))
        with pytest.raises(KilledError):
            train(out)
    assert (out / "training.json").exists()
    train(out)
    train(tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")
