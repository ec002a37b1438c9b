"""The real optuna-dashboard opens a study's journal, and shows the knobs by the tables' names."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna_dashboard import wsgi

from imbtune.spaces.space_file import load_space
from imbtune.storage import Store
from imbtune.study.journal import open_journal, trial_records
from imbtune.tuning.optuna_searcher import OptunaSearcher


class Quiet(WSGIRequestHandler):
    def log_message(self, *words: object) -> None:
        return


@contextmanager
def dashboard(journal: Path) -> Iterator[str]:
    """The address of optuna-dashboard on a journal."""
    app = wsgi(JournalStorage(JournalFileBackend(str(journal))))
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def get(address: str) -> Any:
    with urllib.request.urlopen(address) as answer:
        return json.loads(answer.read())


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_dashboard_shows_knobs_by_the_names_of_the_tables(tmp_path: Path) -> None:
    space = load_space("digits-lt")
    renamed = {knob.optuna_name: knob.key for knob in space.knobs if knob.optuna_name != knob.key}
    assert renamed == {"1-weights.beta": "weights.beta"}
    with open_journal(Store(str(tmp_path)), "s") as journal:
        searcher = OptunaSearcher(journal.study, space, 20, 0, 81, "random")
        specs = [searcher.next_spec() for _ in range(20)]
        settings = {spec.number: spec.settings[0] for spec in specs if spec}
        records = trial_records(journal.study, space, 0, {})
    assert {record.number: record.settings for record in records} == settings
    with dashboard(tmp_path / "journal.log") as address:
        (study,) = get(f"{address}/api/studies")["study_summaries"]
        detail = get(f"{address}/api/studies/{study['study_id']}?after=0")
    shown = 0
    for trial in detail["trials"]:
        mine = settings[trial["number"]]
        params = {p["name"]: p["param_internal_value"] for p in trial["params"]}
        attributes = {a["key"]: a["value"] for a in trial["user_attrs"]}
        for name, internal in params.items():
            key = renamed.get(name, name)
            assert key in mine
            if name != key:
                shown += 1
                assert float(attributes[key]) == mine[key] == pytest.approx(1 - internal)
    assert shown > 3
    assert "weights.beta" in {a["key"] for a in detail["union_user_attrs"] if a["sortable"]}


def test_a_journal_without_these_names_gets_them_when_it_is_resumed(tmp_path: Path) -> None:
    """A journal of an older version; its values are the same afterwards."""
    space = load_space("digits-lt")
    with open_journal(Store(str(tmp_path)), "s") as journal:
        study = journal.study
        study.sampler = optuna.samplers.RandomSampler(seed=0)
        study.enqueue_trial({"weights": "effective_number"})
        old = space.suggest(study.ask(), 0).flat()
        assert "weights.beta" in old
        searcher = OptunaSearcher(study, space, 1, 0, 81)
        spec = searcher.next_spec()
        assert spec and spec.settings[0]["weights.beta"] == old["weights.beta"]
        assert study.trials[0].user_attrs == {"weights.beta": old["weights.beta"]}
