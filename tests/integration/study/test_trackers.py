"""W&B, TensorBoard and MLflow for real: their files, their databases, a server that misbehaves."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
import wandb
from command import invoke
from table_rows import epoch_row, trial_row
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from wandb.proto import wandb_internal_pb2 as pb
from wandb_server import WandbServer, wandb_server

import imbtune
from imbtune.registry import Value
from imbtune.search_options import search_request
from imbtune.storage import Store
from imbtune.study.request import SearchRequest
from imbtune.study.tables.parquet import Row
from imbtune.study.trackers import offline
from imbtune.study.trackers import wandb as wandb_tracker
from imbtune.study.trackers.runs import Kind, Run
from imbtune.study.trackers.tracking import TrialTracking, check_trackers, open_tracking

CONTENT = {
    "name": "study",
    "started": "2026-01-01T00:00:00Z",
    "seed": 0,
    "data": {"classes": ["cat", "a/b"]},
}
CONFIGS: dict[int, dict[str, Value | None]] = {
    0: {"mix": "mamix", "mix.omega": 0.25, "preset": "mamix_drw"},
    1: {"mix": "none", "mix.omega": None, "preset": None},
}
FINAL = Run(Kind.FINAL, 0, {"mix": "mamix", "mix.omega": 0.25, "seed": 17}, "mamix_drw", 17)


class Search:
    """A search that shows its trials and finals, without training any."""

    def __init__(
        self,
        request: SearchRequest,
        folder: Path,
        before: Sequence[Row] = (),
        configs: dict[int, dict[str, Value | None]] = CONFIGS,
        content: dict[str, Any] = CONTENT,
    ) -> None:
        self.lines: list[str] = []
        self.tracking = open_tracking(request, content, Store(str(folder)), self.lines.append)
        self.tracking.resumed(before)
        self.trials = TrialTracking(self.tracking, configs, before)

    def end(self, trial: int, **changes: object) -> None:
        self.trials.trial({**trial_row(trial), **changes})


def warnings_of(search: Search) -> list[str]:
    """What the user was told, but for where each tracker writes, and that the end waits: the
    machine of a test may be busy."""
    where = ("W&B: ", "TensorBoard: tensorboard --logdir ", "MLflow: ")
    told = [line for line in search.lines if not line.startswith(where)]
    assert len(told) < len(search.lines)
    return [line for line in told if "left to take" not in line]


def request_for(**options: Any) -> SearchRequest:
    return search_request("digits-lt", trials=2, name="one", epochs=9, **options)


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: W&B's protobufs in LevelDB's log format."""
    content, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        block_left = 32768 - at % 32768
        if block_left < 7:
            at += block_left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            yield pb.Record.FromString(record)  # type: ignore[attr-defined]
            record = b""


def whole_run_of(path: Path) -> list[Any]:
    """All records of a run that has ended; W&B's own process may still be writing them."""
    deadline = time.monotonic() + 60
    while not any(record.HasField("exit") for record in wandb_records(path)):
        assert time.monotonic() < deadline, f"{path} never ended"
        time.sleep(0.05)
    return list(wandb_records(path))


def runs_in(folder: Path) -> list[dict[str, Any]]:
    """What each .wandb file below a folder says of its run, by the runs' names."""
    found = []
    for path in folder.glob("wandb/offline-run-*/run-*.wandb"):
        records = whole_run_of(path)
        (run,) = [r.run for r in records if r.HasField("run")]
        history = [r.history.item for r in records if r.HasField("history")]
        values = [{(i.key or ".".join(i.nested_key)): i.value_json for i in h} for h in history]
        (end,) = [r.exit.exit_code for r in records if r.HasField("exit")]
        found.append(
            {
                "id": run.run_id,
                "name": run.display_name,
                "place": (run.entity, run.project, run.run_group, list(run.tags)),
                "config": {i.key: i.value_json for i in run.config.update},
                "epochs": [(int(v["_step"]), int(v["epoch"]), float(v["loss"])) for v in values],
                "end": end,
            }
        )
    return sorted(found, key=lambda run: str(run["name"]))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """W&B's server, to which this process is logged in."""
    with wandb_server() as found:
        monkeypatch.setenv("WANDB_BASE_URL", found.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        wandb.teardown()  # what W&B has read from the environment for another test
        yield found
        wandb.teardown()


def test_wandb_has_one_run_a_trial_and_no_row_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trials at a time, an interruption, and a resumption under another folder's name."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    request = request_for(
        wandb="offline", wandb_project="tails", wandb_entity="team", wandb_tags=["night", "a b"]
    )
    first = Search(request, tmp_path)
    rows = [epoch_row(trial, epoch) for epoch in range(3) for trial in (0, 1)]
    for row in rows:
        first.trials.epoch(row)
    first.end(0)
    first.end(1, state="STOPPED")
    first.tracking.close()
    before = runs_in(tmp_path)
    for path in tmp_path.glob("wandb/offline-run-*"):  # runs of one second would share a folder
        path.rename(path.with_name(f"offline-run-20260101_000000-{path.name.split('-', 3)[3]}"))
    rows = [*rows, epoch_row(1, 3)]  # W&B may lack what it was told last before a kill
    renamed = replace(request, name="another")
    second = Search(renamed, tmp_path, rows, {1: CONFIGS[1]})
    for epoch in range(1, 6):  # some of them again
        second.trials.epoch(epoch_row(1, epoch))
    second.end(0, state="STOPPED")  # not begun again in this process
    second.end(1, state="FAIL")
    second.tracking.close()
    after = runs_in(tmp_path)
    assert [(run["name"], run["end"]) for run in before] == [("study-0", 0), ("study-1", 1)]
    assert [(run["name"], run["end"]) for run in after] == [("study-0", 0), ("study-1", 1)]
    assert [run["id"] for run in after] == [run["id"] for run in before]
    assert before[0]["id"] != before[1]["id"]
    assert {tuple(map(str, run["place"])) for run in before + after} == {
        ("team", "tails", "study", "['night', 'a b']")
    }
    config = before[0]["config"]
    assert json.loads(config["mix"]) == {"name": "mamix", "omega": 0.25}
    assert config["preset"] == '"mamix_drw"' and "preset" not in before[1]["config"]
    assert before[1]["epochs"] == [(0, 0, 1.5), (1, 1, 1.5), (2, 2, 1.5)]
    assert after[1]["epochs"] == [(n, n, 1.5) for n in range(6)]
    assert warnings_of(first) == warnings_of(second) == []
    other = Search(request, tmp_path, content={**CONTENT, "started": "2026-01-02T00:00:00Z"})
    other.trials.epoch(epoch_row(0, 0))
    other.tracking.close()
    ids = {run["id"] for run in runs_in(tmp_path)}
    assert len(ids) == 3  # a later study of the same name has runs of its own


def test_wandb_shows_finals_by_epoch_with_the_classes_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    search = Search(request_for(wandb="offline"), tmp_path)
    for row in (epoch_row(0, 1), {**epoch_row(0, 1), "budget": 3, "phase": "cooldown"}):
        search.tracking.epoch(FINAL, row)
    search.tracking.end(FINAL, "COMPLETE", {**trial_row(0), "seed": 17})
    search.tracking.report(lambda: tmp_path / "missing.html")
    search.tracking.close()
    (line,) = warnings_of(search)
    assert line.startswith("W&B is left out from now on: ")
    (path,) = tmp_path.glob("wandb/offline-run-*-final-0-17/run-*.wandb")
    records = whole_run_of(path)
    (run,) = [r.run for r in records if r.HasField("run")]
    assert (run.display_name, run.job_type) == ("study-final-0-17", "final")
    metrics = {r.metric.glob_name: r.metric for r in records if r.HasField("metric")}
    assert metrics["*"].step_metric == "epoch"
    history = [r.history.item for r in records if r.HasField("history")]
    keys = [{item.key or ".".join(item.nested_key) for item in items} for items in history]
    assert {"recall/cat", "recall/a_b", "epoch", "loss"} <= keys[0]
    assert {"rung-3/recall/cat", "rung-3/loss", "epoch"} <= keys[1] and "loss" not in keys[1]
    assert any(key.startswith("recall by class") for key in keys[-1])
    summaries = [i.key for r in records if r.HasField("summary") for i in r.summary.update]
    assert {"score", "state"} <= set(summaries)


@pytest.mark.parametrize("name", ["a/b:c?%#\\d", "x" * 300, "ünï [red]", "???"])
def test_wandb_takes_the_names_of_any_space(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    space = imbtune.space(name, like="digits-lt")
    request = search_request(space, trials=2, epochs=9, name="n" * 128, wandb="offline")
    check_trackers(request)
    content = {**CONTENT, "name": request.name}
    search = Search(request, tmp_path, [], {12: {"mix": "none"}}, content)
    search.trials.epoch(epoch_row(12, 0))
    search.end(12)
    search.tracking.close()
    (run,) = runs_in(tmp_path)
    assert run["place"][1] and len(run["place"][1]) <= 128 and len(run["place"][2]) == 128
    assert run["name"].endswith("n-12") and len(run["name"]) == 128


def test_wandb_online_goes_on_where_it_was(tmp_path: Path, server: WandbServer) -> None:
    request = request_for(wandb="online")
    server.mode = "hang"
    check_trackers(request)  # asks no server
    server.mode = "ok"
    first = Search(request, tmp_path)
    for epoch in (1, 2, 3):
        first.trials.epoch(epoch_row(1, epoch))
    first.tracking.close()
    before = [epoch_row(1, epoch) for epoch in (1, 2, 3, 4)]
    second = Search(request, tmp_path, before)
    for epoch in (4, 5):
        second.trials.epoch(epoch_row(1, epoch))
    second.end(1, state="PRUNED")
    report = tmp_path / "report.html"
    report.write_text("<p>")
    second.tracking.report(lambda: report)
    second.tracking.close()
    assert warnings_of(first) == warnings_of(second) == []
    trial, report_run = sorted(server.runs.values(), key=lambda run: str(run["name"]))
    assert (trial["name"], trial["group"]) == ("study-1", "study")
    assert [row["epoch"] for row in trial["rows"]] == [1, 2, 3, 4, 5]
    assert report_run["name"] == "study-report"
    assert [name for name in server.artifacts if name.startswith("report-")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # W&B's own
@pytest.mark.parametrize("mode", ["500", "hang"])
@pytest.mark.parametrize("late", [False, True])
def test_a_server_that_fails_costs_a_line_and_no_row(
    mode: str, late: bool, tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start, or after the first rows."""
    monkeypatch.setattr(wandb_tracker, "SECONDS", 3.0)
    search = Search(request_for(wandb="online", tensorboard=True), tmp_path)
    server.mode = "ok" if late else mode
    search.trials.epoch(epoch_row(0, 1))
    while late and not server.runs:
        time.sleep(0.05)
    server.mode = mode
    search.trials.epoch(epoch_row(0, 2))
    search.end(0, state="PRUNED")
    search.trials.epoch(epoch_row(1, 1))
    search.end(1, state="PRUNED")
    search.tracking.close()
    lines = warnings_of(search)
    assert len(lines) == 1 and lines[0].startswith("W&B does not answer (")
    assert lines[0].endswith("imbtune sync runs/one uploads them")
    assert scalars(tmp_path, "0")["loss"] == [(1, 1.5), (2, 1.5)]  # the other one is complete
    left = list(tmp_path.glob("wandb/*run-*/*.wandb"))
    assert len(left) == 2 and not list(tmp_path.glob("wandb/*/*.synced"))
    for path in left:
        rows = [r for r in whole_run_of(path) if r.HasField("history")]
        assert len(rows) == (1 if path.name.endswith("-1.wandb") else 2)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["500", "hang", "refuse"])
def test_sync_ends_soon_where_the_server_fails(
    mode: str, tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_content(tmp_path)
    search = Search(request_for(wandb="offline"), tmp_path)
    search.trials.epoch(epoch_row(0, 1))
    search.end(0)
    search.tracking.close()
    monkeypatch.setattr(wandb_tracker, "SECONDS", 1.0)
    monkeypatch.setattr(offline, "_wandb_sync", lambda _: pytest.fail("it was asked for"))
    server.mode = mode
    if mode == "refuse":
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        wandb.teardown()
    code, _, err = invoke("sync", str(tmp_path))
    said = {"500": "answers 500", "hang": "timed out", "refuse": "Connection refused"}[mode]
    last = err.splitlines()[-1]
    assert code == 2 and last.startswith("error: 1 of 1 runs of ") and said in last


def test_runs_that_were_sent_whole_are_not_uploaded_again(
    tmp_path: Path, server: WandbServer
) -> None:
    write_content(tmp_path)
    search = Search(request_for(wandb="online"), tmp_path)
    search.trials.epoch(epoch_row(0, 1))
    search.end(0)
    search.tracking.close()
    assert warnings_of(search) == [] and len(list(tmp_path.glob("wandb/run-*/*.synced"))) == 1
    requests = server.requests
    code, out, _ = invoke("sync", str(tmp_path))
    assert code == 0 and "0 of 1 runs" in out and server.requests == requests


def write_content(folder: Path) -> None:
    """The study.yaml of `CONTENT`, which `imbtune sync` reads."""
    content = {**CONTENT, "resources": dict.fromkeys(("cpus", "gpus", "concurrent"), 1)}
    content["data"] = {"train": 1, "validation": 1, "counts": [1, 1], "sha256": "x"}
    (folder / "study.yaml").write_text(json.dumps(content))


@pytest.mark.slow
def test_offline_runs_are_uploaded_once(
    tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_content(tmp_path)
    code, _, err = invoke("sync", str(tmp_path))
    assert code == 2 and "has no runs of W&B in" in err and err.count("\n") == 1
    search = Search(request_for(wandb="offline"), tmp_path)
    for trial in (0, 1):
        for epoch in (1, 2):
            search.trials.epoch(epoch_row(trial, epoch))
        search.end(trial)
    search.tracking.close()
    server.mode = "500"
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()
    code, _, err = invoke("sync", str(tmp_path))
    assert code == 2 and err.startswith("error: imbtune sync needs an API key of W&B: set $WANDB_")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    server.mode = "ok"
    code, out, _ = invoke("sync", str(tmp_path))
    assert (code, out) == (0, f"2 of 2 runs of {tmp_path} uploaded to W&B.\n")
    sent = {run["name"]: [row["epoch"] for row in run["rows"]] for run in server.runs.values()}
    assert sent == {"study-0": [1, 2], "study-1": [1, 2]}
    requests = server.requests
    code, out, _ = invoke("sync", str(tmp_path))
    assert out == f"0 of 2 runs of {tmp_path} uploaded to W&B; 2 were there already.\n"
    assert server.requests == requests


def scalars(folder: Path, run: str) -> dict[str, list[tuple[int, float]]]:
    """The curves of a run, as TensorBoard reads them."""
    found = EventMultiplexer().AddRunsFromDirectory(str(folder / "tensorboard"))
    found.Reload()
    data = found.GetAccumulator(run)
    tags = [tag for tag, about in data.summary_metadata.items() if about.data_class == 1]
    return {tag: [(e.step, e.tensor_proto.float_val[0]) for e in data.Tensors(tag)] for tag in tags}


def test_tensorboard_shows_curves_and_hyperparameters(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import (
        api_pb2,
        backend_context,
        get_experiment,
        list_session_groups,
    )

    search = Search(request_for(tensorboard=True), tmp_path)
    for trial in (0, 1):
        for epoch in (1, 2):
            search.trials.epoch(epoch_row(trial, epoch))
    search.trials.epoch({**epoch_row(0, 2), "budget": 3, "phase": "cooldown"})
    search.end(0)
    search.end(1, state="STOPPED")
    search.tracking.end(FINAL, "COMPLETE", {**trial_row(0), "seed": 17})
    search.tracking.close()
    assert warnings_of(search) == []
    resumed = Search(
        request_for(tensorboard=True), tmp_path, [epoch_row(1, 1), epoch_row(1, 2)], {1: CONFIGS[1]}
    )
    resumed.trials.epoch(epoch_row(1, 3))
    resumed.end(1)
    resumed.tracking.close()
    first, second = scalars(tmp_path, "0"), scalars(tmp_path, "1")
    assert first["loss"] == [(1, 1.5), (2, 1.5)] and first["rung-3/loss"] == [(2, 1.5)]
    assert [round(value, 6) for _, value in first["recall/cat"]] == [0.1, 0.1]
    assert "recall/a_b" in first
    assert second["loss"] == [(1, 1.5), (2, 1.5), (3, 1.5)]  # no row twice
    assert first["result/score"] == [(9, 0.5)]

    found = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "tensorboard"))
    found.Reload()
    provider = MultiplexerDataProvider(found, str(tmp_path))
    context = backend_context.Context(TBContext(data_provider=provider))
    asked = RequestContext()
    experiment = get_experiment.Handler(asked, context, "", api_pb2.GetExperimentRequest()).run()
    knobs = {info.name: info for info in experiment.hparam_infos}
    assert {"mix", "mix.omega", "kind", "preset"} <= knobs.keys()
    column = api_pb2.ColParams(hparam="mix.omega", order=api_pb2.ORDER_ASC)
    status = [api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE]
    groups = list_session_groups.Handler(
        asked,
        context,
        "",
        api_pb2.ListSessionGroupsRequest(
            col_params=[column], allowed_statuses=status, start_index=0, slice_size=10
        ),
    ).run()
    assert groups.total_size == 3  # also the run without the knob
    assert sum("mix.omega" in group.hparams for group in groups.session_groups) == 2


# MLflow's own query; in a test, a warning is an exception
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
@pytest.mark.parametrize("place", ["sqlite:///{here}/runs.db", "{here}/folder"])
def test_mlflow_has_a_run_in_the_studys_run_for_each_training(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = place.format(here=tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # for the folder
    monkeypatch.chdir(tmp_path)  # where MLflow writes the artifacts of a database
    request = request_for(mlflow=True)
    first = Search(request, tmp_path)
    for epoch in (1, 2):
        for trial in (0, 1):
            first.trials.epoch(epoch_row(trial, epoch))
    first.end(0)
    first.tracking.epoch(FINAL, epoch_row(0, 1))
    first.tracking.end(FINAL, "COMPLETE", {**trial_row(0), "seed": 17})
    first.tracking.close()
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("digits-lt")
    assert experiment
    (killed,) = (  # as a process that was killed leaves them: trial 0 had ended in the study
        run.info.run_id
        for run in client.search_runs([experiment.experiment_id])
        if run.info.run_name == "study-0"
    )
    client.update_run(killed, "RUNNING")
    before = [epoch_row(1, 1), epoch_row(1, 2)]
    second = Search(request, tmp_path, before, {1: CONFIGS[1]})
    second.trials.epoch(epoch_row(1, 2))
    second.trials.epoch(epoch_row(1, 3))
    second.end(1, state="FAIL")
    report = tmp_path / "report.html"
    report.write_text("<p>")
    second.tracking.report(lambda: report)
    second.tracking.close()
    assert warnings_of(first) == warnings_of(second) == []
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in runs.items()} == {
        "study": "FINISHED",
        "study-0": "KILLED",
        "study-1": "FAILED",
        "study-final-0-17": "FINISHED",
    }
    parent = runs.pop("study").info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent}
    assert runs["study-0"].data.params["mix.omega"] == "0.25"
    assert "mix.omega" not in runs["study-1"].data.params
    history = client.get_metric_history(runs["study-1"].info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.5), (2, 1.5), (3, 1.5)]
    assert runs["study-0"].data.metrics["recall/a_b"] == 0.9
    assert [file.path for file in client.list_artifacts(parent)] == ["report.html"]


def test_mlflow_without_its_server_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hidden@127.0.0.1:9")  # nothing listens
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    search = Search(request_for(mlflow=True), tmp_path)
    search.trials.epoch(epoch_row(0, 1))
    search.end(0)
    search.tracking.close()
    (line,) = warnings_of(search)
    assert line.startswith("MLflow is left out from now on: ") and "hidden" not in line
