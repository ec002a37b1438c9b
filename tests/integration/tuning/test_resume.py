"""Searches that are killed and resumed end as they would have, and trials can be repeated."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
import pandas as pd
import pytest
import ray
import yaml
from command import invoke, invoke_in, run, start
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from imbtune.errors import StudyError
from imbtune.progress.reporter import to_lines
from imbtune.storage import Store, join
from imbtune.study.files import read_study
from imbtune.study.journal import read_trials
from imbtune.tuning.reproduce import repeat_trial
from imbtune.tuning.run_search import resume_search

# a row is one of these; and what depends on the clock or on the process
KEYS = {
    "trials": (["trial"], ["seconds", "started", "ended", "node"]),
    "epochs": (["trial", "phase", "budget", "epoch"], ["time"]),
    "finals": (["trial", "seed"], ["seconds", "started", "ended", "node"]),
}
SPACE = "like: digits-lt\nlate_variants: 2\npresets: [smote, erm]\n"
SEARCH = "search space.yaml --trials 13 --epochs 9 --seed 5 --never-prune 0.3 --finals 2"
SEARCH += " --final-seeds 2"
ALONE = "--max-concurrent 1"  # the order in which trials end is then always the same


def home(folder: Path) -> Path:
    (folder / "space.yaml").write_text(SPACE)
    return folder


def read(study: Path, table: str) -> pd.DataFrame:
    """A table without what depends on the clock; each row once."""
    key, clock = KEYS[table]
    rows = pd.read_parquet(study / table).sort_values(key).reset_index(drop=True)
    assert not rows.duplicated(key).any(), table
    return rows.drop(columns=clock)


def check_same(one: Path, other: Path) -> None:
    """Two studies with the same rows, to the last bit, and the same winner."""
    for table in KEYS:
        pd.testing.assert_frame_equal(read(one, table), read(other, table))
    best = [yaml.safe_load((study / "best.yaml").read_text()) for study in (one, other)]
    for content in best:
        del content["provenance"]["study"]
    assert best[0] == best[1]


def check_whole(study: Path, trials: int) -> None:
    """Every trial once in the table and in Optuna, presets once, nothing left behind."""
    rows = read(study, "trials").set_index("trial")
    assert list(rows.index) == list(range(trials))
    assert set(rows["state"]) <= {"COMPLETE", "PRUNED"}
    presets = rows["preset"].dropna()
    assert len(set(presets)) == len(presets)
    storage = JournalStorage(JournalFileBackend(str(study / "journal.log")))
    known = optuna.load_study(study_name=study.name, storage=storage).trials
    assert [t.state.name for t in known] == rows["state"].tolist()
    for trial, (_, row) in zip(known, rows.iterrows(), strict=True):
        assert list(trial.intermediate_values) == list(row["rung_budgets"])
        assert list(trial.intermediate_values.values()) == list(row["rung_scores"])
    for table in ("epochs", "finals"):
        assert len(read(study, table))
    epochs = read(study, "epochs")
    for number, row in rows.iterrows():
        mine = epochs[(epochs["trial"] == number) & (epochs["phase"] == "cooldown")]
        for budget, score in zip(row["rung_budgets"], row["rung_scores"], strict=True):
            assert mine[mine["budget"] == budget]["balanced_accuracy"].iloc[-1] == score
    assert not list((study / "checkpoints").glob("*"))
    assert not list(study.rglob(".*part-*"))


Kill = Callable[[subprocess.Popen[str]], object]
Moment = Callable[[], bool]


def by(how: signal.Signals) -> Kill:
    """A signal to the command alone."""
    return lambda search: os.kill(search.pid, how)


def cut(search: subprocess.Popen[str], moment: Moment, kill: Kill) -> str | None:
    """Kill the search at a moment; what it printed, or None if it ended before."""
    try:
        while search.poll() is None and not moment():
            time.sleep(0.2)
        if search.poll() is None:
            kill(search)
        output, _ = search.communicate(timeout=120)
    finally:
        search.kill()
    assert "Traceback" not in output, output
    if search.returncode == 0:
        return None
    return output


def search_with_kills(folder: Path, args: str, kills: Sequence[tuple[Moment, Kill]]) -> list[str]:
    """Run a search to its end, cutting it off again and again; what each part of it printed."""
    said: list[str] = []
    study = folder / "runs/cut"
    command = [*args.split(), "--name", "cut"]
    for moment, kill in kills:
        if (output := cut(start(*command, cwd=folder), moment, kill)) is None:
            return said
        said.append(output)
        if (study / "study.yaml").exists():
            command = ["resume", "runs/cut"]
    ended = run(*command, cwd=folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return said


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that nothing interrupts, one trial at a time."""
    folder = home(tmp_path_factory.mktemp("straight"))
    invoke_in(folder, *SEARCH.split(), *ALONE.split(), "--name", "straight")
    check_whole(folder / "runs/straight", 13)
    rows = read(folder / "runs/straight", "trials")
    assert set(rows["state"]) == {"COMPLETE", "PRUNED"} and rows["rescued"].notna().any()
    return folder / "runs/straight"


def ended_in(study: Path) -> int:
    """How many trials of a study that may be running have ended; the journal has each at once."""
    if not (study / "study.yaml").exists():
        return 0
    return sum(trial.state.is_finished() for trial in read_trials(Store(str(study)), study.name))


def test_a_search_that_was_killed_ends_as_if_it_never_had_been(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With cool-down variants, never-pruned trials and finals. While it runs, no other process may
    resume it. A kill by SIGTERM is in test_failures.py."""
    folder, study = home(tmp_path), tmp_path / "runs/cut"
    monkeypatch.chdir(folder)
    refused: list[tuple[int, str, str]] = []

    def first_end() -> bool:
        if not refused and (study / "study.yaml").exists():
            refused.append(invoke("resume", "runs/cut"))
        return ended_in(study) > 1

    search_with_kills(folder, f"{SEARCH} {ALONE}", [(first_end, by(signal.SIGKILL))])
    check_whole(study, 13)
    check_same(straight, study)
    line = "error: the study runs/cut is in use by another process: wait, or stop it\n"
    assert refused == [(2, "", line)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", [ALONE, "", "--rungs compressed", "--sampler random"])
def test_kills_at_random_moments(straight: Path, tmp_path: Path, options: str, seed: int) -> None:
    rng = random.Random(f"{options} {seed}")
    signals = [signal.SIGKILL] * 3 + [signal.SIGINT, signal.SIGTERM]

    def after(seconds: float) -> Moment:
        ends: list[float] = []  # of the wait, which begins when the search is started

        def reached() -> bool:
            ends.append(time.monotonic() + seconds)
            return time.monotonic() >= ends[0]

        return reached

    kills = [(after(rng.uniform(5, 16)), by(rng.choice(signals))) for _ in range(6)]
    said = search_with_kills(home(tmp_path), f"{SEARCH} {options}", kills)
    print(f"cut off {len(said)} times")
    check_whole(tmp_path / "runs/cut", 13)
    if options == ALONE:
        check_same(straight, tmp_path / "runs/cut")


def test_a_finished_study_has_nothing_to_resume(straight: Path) -> None:
    before = {table: read(straight, table) for table in KEYS}
    code, said, error = invoke("resume", str(straight))
    assert code == 0, error
    assert "Winner: " in said
    for table, rows in before.items():
        pd.testing.assert_frame_equal(rows, read(straight, table))


def test_a_finished_study_needs_no_ray(straight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is a table of it written again."""
    times = {path: path.stat().st_mtime_ns for path in straight.rglob("*.parquet")}
    outcome = resume_search(str(straight), {}, to_lines(print))
    assert "All 13 trials and the finals" in capsys.readouterr().out
    assert not ray.is_initialized()
    assert len(outcome.records) == 13 and outcome.winner and outcome.finals
    assert {path: path.stat().st_mtime_ns for path in straight.rglob("*.parquet")} == times


@pytest.mark.slow  # tests/integration/test_api.py asks for more trials in Python
def test_more_trials_go_on_where_a_finished_study_ended(straight: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(straight, tmp_path / "runs/straight"))
    options = ["--trials", "16", "--finals", "3", *ALONE.split()]
    invoke_in(tmp_path, "resume", "runs/straight", *options)
    finished = read(study, "trials").query("state == 'COMPLETE'").sort_values("score")
    assert set(finished["trial"].tail(3)) <= set(read(study, "finals")["trial"])
    assert read_study(str(study))[0].finals == 3
    check_whole(study, 16)
    kept = ["trial", "state", "score", "rung_scores"]
    before, after = (read(folder, "trials")[kept] for folder in (straight, study))
    pd.testing.assert_frame_equal(before, after.head(13))
    assert read_study(str(study))[0].trials == 16
    with pytest.raises(StudyError, match="16 trials have started already: give 16 or more"):
        resume_search(str(study), {"trials": 15}, to_lines(print))
    assert read_study(str(study))[0].trials == 16


def test_a_study_is_resumed_from_inside_its_folder(
    straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(straight)
    outcome = resume_search(".", {}, to_lines(print))
    assert outcome.path == str(straight)


def test_a_renamed_study_goes_on_as_itself(straight: Path, tmp_path: Path) -> None:
    """Not as the one beside it that has its old name, of which it is a copy."""
    old = Path(shutil.copytree(straight, tmp_path / "straight"))
    study = Path(shutil.copytree(straight, tmp_path / "renamed"))
    shutil.rmtree(old / "trials")
    outcome = resume_search(str(study), {}, to_lines(print))
    assert (outcome.request.name, outcome.path) == ("renamed", str(study))
    assert len(outcome.records) == len(read_trials(Store(str(study)), "renamed")) == 13
    assert not (old / "trials").exists()


Break = Callable[[Path], object]


def rewrite(name: str, old: str, new: str) -> Break:
    def change(study: Path) -> None:
        text = (study / name).read_text()
        assert text.count(old) == 1
        (study / name).write_text(text.replace(old, new))

    return change


def first_lines(study: Path) -> None:
    """A journal from an earlier backup, with two trials less."""
    lines = (study / "journal.log").read_text().splitlines(keepends=True)
    begun = [i for i, line in enumerate(lines) if json.loads(line)["op_code"] == 4]
    (study / "journal.log").write_text("".join(lines[: begun[-2]]))


def other_data(study: Path) -> None:
    content = yaml.safe_load((study / "study.yaml").read_text())
    content["data"]["sha256"] = "0" * 64
    (study / "study.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (lambda s: shutil.rmtree(s), "is not a study, it has no study.yaml: give a study's folder"),
        (lambda s: (s / "study.yaml").unlink(), "has no study.yaml"),
        (lambda s: (s / "space.yaml").unlink(), "space.yaml"),
        (
            rewrite("study.yaml", "  sampler: tpe", "  smapler: tpe"),
            "smapler='tpe' is not an option",
        ),
        (rewrite("study.yaml", "  trials: 13", "  trials: many"), "trials='many' is not an option"),
        (rewrite("study.yaml", "request:", "asked:"), "KeyError('request')"),
        (rewrite("study.yaml", "request:", "request:\nasked:"), "study.yaml ("),
        (rewrite("study.yaml", "\ndata:", "\nimages:"), "KeyError('data')"),
        (rewrite("study.yaml", "  gpus:", "  gpu:"), "KeyError('resources: gpus')"),
        (lambda s: (s / "journal.log").unlink(), "has trials and no journal.log: restore the file"),
        (lambda s: (s / "journal.log").write_text("a\nb\n"), "journal.log ("),
        (first_lines, "from a backup, or start a new search with another --name"),
        (other_data, "the data differs from the data that the study straight began with"),
    ],
    ids=lambda value: value if isinstance(value, str) else "study",
)
def test_a_broken_study_is_one_line(
    straight: Path, tmp_path: Path, broken: Break, line: str
) -> None:
    """And nothing that is left of it is lost."""
    study = Path(shutil.copytree(straight, tmp_path / "straight"))
    broken(study)
    before = {path: path.read_bytes() for path in study.rglob("*.parquet")}
    with pytest.raises(StudyError) as error:
        resume_search(str(study), {}, to_lines(print))
    assert line in str(error.value) and "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in study.rglob("*.parquet")} == before


def test_no_study_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = "error: runs/none is not a study, it has no study.yaml: give a study's folder\n"
    assert invoke("resume", "runs/none") == (2, "", line)


def test_a_trial_again_to_the_last_bit(straight: Path) -> None:
    """One that finished, and one that was stopped; a late variant by itself."""
    rows = read(straight, "trials")
    late = rows["trunk"] != rows["trial"]
    finished, stopped = rows["state"] == "COMPLETE", rows["state"] == "PRUNED"
    for chosen in (late & finished, stopped):
        number = rows[chosen]["trial"].tolist()[0]
        code, said, error = invoke("train", "--trial", str(straight), str(number))
        assert code == 0, said + error
        assert "Every loss and score equals the recorded one, to the last bit." in said
        row = rows[rows["trial"] == number].iloc[0]
        assert said.count("as recorded") == len(row["rung_scores"])


def test_a_repeated_trial_that_differs_says_so(straight: Path) -> None:
    path = straight / "space.yaml"
    text = path.read_text()
    path.write_text(text.replace("batch_size: 64", "batch_size: 32"))
    try:
        code, said, _ = invoke("train", "--trial", str(straight), "0")
    finally:
        path.write_text(text)
    assert code == 1
    assert "recorded was" in said and "The trial differs from the record" in said


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["99"], "has no trial 99: give one of 0 to 12"),
        (
            ["0", "--preset", "erm", "--seeds", "2"],
            "0 trains the trial exactly as its search did: leave --preset, --seeds out",
        ),
    ],
)
def test_no_trial_to_repeat(straight: Path, args: list[str], line: str) -> None:
    code, _, error = invoke("train", "--trial", str(straight), *args)
    assert code == 2
    assert line in error and error.count("\n") == 1


def test_a_trial_without_its_epochs_is_compared_by_its_rungs(
    straight: Path, tmp_path: Path
) -> None:
    study = Path(shutil.copytree(straight, tmp_path / "straight"))
    shutil.rmtree(study / "epochs")
    said: list[str] = []
    assert repeat_trial(str(study), 0, None, said.append)
    assert any("only the scores of its rungs are compared" in line for line in said)


def test_a_study_in_a_bucket_is_resumed(bucket: str, tmp_path: Path) -> None:
    """Killed once its first trials have reached the bucket; every row is there once at the end."""
    options = ["--trials", "4", "--epochs", "9", "--finals", "0", "--storage", bucket]
    options += ALONE.split()
    search = start("search", "digits-lt", *options, cwd=tmp_path)
    store = Store(join(bucket, "digits-lt"))
    try:
        deadline = time.monotonic() + 120
        while not (store.exists("trials") and store.table("trials").num_rows):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        os.kill(search.pid, signal.SIGKILL)
        search.communicate()
    before = store.table("trials")
    invoke_in(tmp_path, "resume", store.path, *ALONE.split())
    trials = store.table("trials").to_pandas()
    assert sorted(trials["trial"]) == list(range(4))
    assert set(trials["state"]) <= {"COMPLETE", "PRUNED"}
    again = trials.set_index("trial")["score"]
    for row in before.to_pylist():
        assert again[row["trial"]] == row["score"]
    epochs = store.table("epochs").to_pandas()
    assert not epochs.duplicated(KEYS["epochs"][0]).any()
    assert store.exists("best.yaml") and not store.names("checkpoints")
