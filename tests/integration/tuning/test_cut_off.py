"""A search that is cut off and resumed: with scripted scores, it ends as one that was not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from scripted import BUDGETS, ScriptedSearch, tiny_space, told

from imbtune.config.train_config import TrainConfig
from imbtune.spaces.search_space import SearchSpace
from imbtune.storage import Store
from imbtune.study.journal import FILE, open_journal, rungs_of

FAST = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # a journal is synced at every line


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


Searched = tuple[bytes, list[list[Any]], ScriptedSearch]


def searched(content: bytes, late: int, sampler: str, trials: int) -> Searched:
    """A search to its end on a journal that begins with `content`: the journal and its trials."""
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        (Path(folder) / FILE).write_bytes(content)
        with open_journal(Store(folder), "s") as journal:
            search = ScriptedSearch(journal.study, tiny_space(late), trials, sampler)
            search.run()
            found = [told(trial) for trial in journal.study.get_trials()]
            return (Path(folder) / FILE).read_bytes(), found, search


def ends_of_lines(content: bytes) -> list[int]:
    return [0, *(i + 1 for i, byte in enumerate(content) if byte == ord("\n"))]


@pytest.mark.parametrize("late", [1, 3])
def test_a_search_cut_off_at_any_write_ends_as_one_that_was_not(late: int) -> None:
    """In the middle of asking, of a rung's scores, of telling: the journal holds whole writes."""
    content, trials, search = searched(b"", late, "random", 11)
    assert {row[1] for row in trials} == {"COMPLETE", "PRUNED", "FAIL"}
    for end in ends_of_lines(content):
        _, again, resumed = searched(content[:end], late, "random", 11)
        assert again == trials
        assert resumed.scheduler.never_pruned == search.scheduler.never_pruned


@pytest.fixture(scope="module", params=[1, 4], ids=["alone", "late"])
def by_tpe(request: pytest.FixtureRequest) -> tuple[int, Searched]:
    """More trials than TPE begins at random with."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return request.param, searched(b"", request.param, "tpe", 26)


@settings(max_examples=25)
@given(data=st.data())
def test_a_search_by_tpe_cut_off_twice_ends_as_one_that_was_not(
    by_tpe: tuple[int, Searched], data: st.DataObject
) -> None:
    """At any byte: half a line is no line."""
    late, (content, trials, search) = by_tpe
    first = data.draw(st.integers(0, len(content)))
    second, again, _ = searched(content[:first], late, "tpe", 26)
    assert again == trials
    end = data.draw(st.integers(0, len(second)))
    _, again, resumed = searched(second[:end], late, "tpe", 26)
    assert again == trials
    assert resumed.scheduler.never_pruned == search.scheduler.never_pruned


class CutOffError(Exception):
    """Stands for a kill."""


class CutSpace(SearchSpace):
    """A space that is cut off in the middle of asking for a trial."""

    asked = 0

    def suggest(self, trial: Any, seed: int) -> TrainConfig:
        """All settings; of the fourth trial, the first ones."""
        CutSpace.asked += 1
        if CutSpace.asked == 4:
            for knob in self.knobs[:3]:
                knob.suggest(trial)
            raise CutOffError
        return super().suggest(trial, seed)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_unfinished_trials_are_handed_out_first(sampler: str, tmp_path: Path) -> None:
    whole = ScriptedSearch(optuna.create_study(direction="maximize"), tiny_space(), 8, sampler)
    whole.run()
    CutSpace.asked = 0
    with open_journal(Store(str(tmp_path)), "s") as journal:
        search = ScriptedSearch(journal.study, CutSpace(**vars(tiny_space())), 8, sampler)
        with pytest.raises(CutOffError):
            search.run()
        running = [t.number for t in journal.study.trials if t.state == TrialState.RUNNING]
        reached = {t.number: len(rungs_of(t)) for t in journal.study.trials}
    assert running[-1] == 3
    with open_journal(Store(str(tmp_path)), "s") as journal:
        resumed = ScriptedSearch(journal.study, tiny_space(), 8, sampler)
        resumed.run()
        assert [told(t) for t in journal.study.trials] == [told(t) for t in whole.study.trials]
    first = resumed.given[: len(running)]
    assert [given.number for given in first] == running
    assert [given.number for given in resumed.given[len(running) :]] == [4, 5, 6, 7]
    for handed in first:
        assert handed.reached_budget == [0, *BUDGETS][reached[handed.number]]
        assert handed.images == [100 * handed.reached_budget]
