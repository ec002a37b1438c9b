"""Addresses that are no cluster: each is one line, before anything is sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import http_site
import pytest
from command import invoke
from http_site import Handler, serving

from imbtune.errors import ClusterError
from imbtune.tuning.jobs import bounded_http, job_client, job_log
from imbtune.tuning.jobs.study_transfer import to_text

COMMANDS = (
    "submit digits-lt --storage /data",
    "submit --resume digits-lt",
    "status digits-lt",
    "logs digits-lt",
    "stop digits-lt",
    "list",
    "fetch digits-lt",
)


def said(*args: str) -> str:
    code, out, err = invoke(*args)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("command", COMMANDS)
def test_no_address(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert "give --address http://HOST:8265" in said(*command.split())


@pytest.mark.parametrize("address", ["auto", "head:6379", "ray://head:10001", "http://", "x"])
def test_another_kind_of_address(address: str) -> None:
    assert f"--address {address}: give http://HOST:8265" in said("list", "--address", address)


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_listens(command: str) -> None:
    assert "Connection refused" in said(*command.split(), "--address", "http://127.0.0.1:9")


def hello(handler: Handler) -> None:
    handler.send(5, b"hello")


@pytest.mark.parametrize("reply", [hello, http_site.not_found, http_site.foreign, http_site.silent])
def test_another_server(reply: http_site.Reply) -> None:
    with serving() as site:
        site.reply = reply
        message = said("list", "--address", f"http://127.0.0.1:{site.server_address[1]}/")
    assert "not the dashboard" in message or "no Ray cluster answers" in message


@pytest.mark.parametrize("body", [b"null", b"5", b"[" * 200_000, b'"ray_version"', bytes(2**21)])
def test_an_answer_that_is_no_version(body: bytes) -> None:
    with serving() as site:
        site.reply = lambda handler: handler.send(len(body), body)
        message = said("list", "--address", f"http://127.0.0.1:{site.server_address[1]}/")
    assert "not the dashboard" in message


@pytest.mark.parametrize("name", ["a\x1b[2J", "a/b", "", ".a", 5, None, "a\n"])
def test_jobs_with_names_that_imbtune_does_not_give_are_not_listed(name: object) -> None:
    assert job_client._is_ours("imbtune-a", {"study": "a", "storage": "/data"})
    assert not job_client._is_ours("imbtune-a", {"study": name, "storage": "/data"})
    assert not job_client._is_ours(name, {"study": "a", "storage": "/data"})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("digits-lt", "--storage is missing"),
        ("digits-lt --storage runs", "absolute folder"),
        ("digits-lt --storage /d --trials 0", "--trials"),
        ("digits-lt --storage /d --set mix=nosuch", "nosuch"),
        ("digits-lt --storage /d --gpus-per-trial x", "--gpus-per-trial"),
        ("nosuch --storage /d", "unknown space"),
        ("digits-lt --storage /d --env NOT_SET_HERE", "not set"),
        ("digits-lt --resume x --storage /d", "give a space to search, or --resume"),
        ("", "give a space to search, or --resume"),
        ("digits-lt --storage /d --gpus-per-trial 0.25 --trial-timeout 2h", "refused"),
        ("--resume x --trust --retry-failed --max-failures 5 --trial-timeout 2h", "refused"),
        ("--resume x --trial-timeout never", "--trial-timeout"),
        ("--resume x --sampler tpe", "--sampler goes with a new search"),
    ],
)
def test_options_are_checked_before_the_cluster_is_asked(options: str, reason: str) -> None:
    assert reason in said("submit", *options.split(), "--address", "http://127.0.0.1:9")


def test_submit_has_every_option_of_search() -> None:
    """Those of the address and the storage are its own."""
    from imbtune.cli.main import search, submit

    assert set(search.__annotations__) - {"return"} < set(submit.__annotations__)


def test_submit_has_every_option_of_resume() -> None:
    from imbtune.cli.main import resume, submit

    assert set(resume.__annotations__) - {"return", "study"} < set(submit.__annotations__)


JOB = {
    "type": "SUBMISSION",
    "submission_id": "imbtune-a",
    "status": "RUNNING",
    "entrypoint": "imbtune search",
    "metadata": {"study": "a", "storage": "/data"},
    "driver_node_id": "00",
}
LOG = b"Running entrypoint for job imbtune-a\n3 trials, 1 at a time on 1 CPU each\n" + (
    b"1/3  trial 0  finished  0.500 at   2 epochs  erm\n"
)
PATHS = {
    "list": "/api/jobs/",
    "status a": "/api/v0/logs/file",
    "logs a": "/api/v0/logs/file",
    "stop a": "/api/jobs/imbtune-a/stop",
}


@contextmanager
def dashboard(bad_path: str = "", bad: http_site.Reply = http_site.silent) -> Iterator[list[str]]:
    """A server like that of a cluster with one job, which answers one path badly."""
    good: dict[str, bytes] = {
        "/api/version": json.dumps({"ray_version": "2.60.0", "version": "4"}).encode(),
        "/api/jobs/": json.dumps([JOB]).encode(),
        "/api/jobs/imbtune-a": json.dumps(JOB).encode(),
        "/api/v0/logs/file": LOG,
    }

    def reply(handler: Handler) -> None:
        path = handler.path.partition("?")[0]
        if path == bad_path:
            bad(handler)
        else:
            handler.send(len(good[path]), good[path])

    with serving() as site:
        site.reply = reply
        yield ["--address", f"http://127.0.0.1:{site.server_address[1]}"]


def drops(start: bytes, over: threading.Event) -> http_site.Reply:
    """A byte now and then, for as long as the client waits."""

    def reply(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + start)
        while not over.wait(0.05):
            handler.wfile.write(b"x")

    return reply


def test_a_cluster_that_answers_well() -> None:
    with dashboard() as address:
        assert "imbtune-a" in invoke("list", *address)[1]
        code, out, err = invoke("status", "a", *address)
        assert (code, err) == (0, "")
        assert "1 of 3 trials: 1 finished" in out
        code, out, _ = invoke("logs", "a", *address)
        assert (code, out) == (0, LOG.decode().partition("\n")[2])


@pytest.mark.parametrize(
    ("command", "start"),
    [
        *((command, b"\r\n") for command in PATHS),
        ("list", b"X-Slow: "),
        ("list", b"Content-Length: 9999\r\n\r\n"),
    ],
)
def test_an_answer_in_drops_ends_the_command(
    command: str, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the header, in a body of known length, and in one that ends with the connection."""
    monkeypatch.setattr(bounded_http, "CALL_SECONDS", 0.3)
    monkeypatch.setattr(job_client, "CALL_SECONDS", 0.3)
    over = threading.Event()
    with dashboard(PATHS[command], drops(start, over)) as address:
        try:
            code, _, err = invoke(*command.split(), *address)
        finally:
            over.set()
    assert code == 2
    assert err.startswith("error: the Ray cluster at http://127.0.0.1")
    assert err.count("\n") == 1
    assert "no complete answer" in err


def endless(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        handler.wfile.write(bytes(2**16))


def refused(handler: Handler) -> None:
    handler.send_error(500)


@pytest.mark.parametrize("command", ["list", "stop a"])
def test_an_answer_without_an_end_is_not_read(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_http, "MOST_BYTES", 10**6)
    with dashboard(PATHS[command], endless) as address:
        code, _, err = invoke(*command.split(), *address)
    assert (code, err.count("\n")) == (2, 1)
    assert "more than 1 MiB" in err


def test_status_reads_the_end_of_a_log_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_log, "TAIL_BYTES", 10**5)
    with dashboard(PATHS["status a"], endless) as address:
        code, out, err = invoke("status", "a", *address)
    assert (code, err) == (0, "")
    assert "no trial has started" in out


@pytest.mark.parametrize("bad", [refused, http_site.silent, http_site.foreign, http_site.not_found])
@pytest.mark.parametrize("command", PATHS)
def test_a_cluster_that_fails_meanwhile(command: str, bad: http_site.Reply) -> None:
    with dashboard(PATHS[command], bad) as address:
        code, _, err = invoke(*command.split(), *address)
    assert (code, err.count("\n")) == (2, 1)


# Ray's client passes it to aiohttp
@pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")
def test_a_log_that_cannot_be_followed() -> None:
    with dashboard("/api/jobs/imbtune-a/logs/tail", http_site.not_found) as address:
        code, _, err = invoke("logs", "-f", "a", *address)
    assert (code, err.count("\n")) == (2, 1)
    assert "404" in err


@pytest.mark.parametrize(("refusals", "seconds", "is_sent"), [(2, 60.0, True), (9, 0.0, False)])
def test_a_head_that_has_just_started_is_waited_for(
    refusals: int, seconds: float, is_sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_client, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(job_client, "START_SECONDS", seconds)
    asked = []

    def submitted(handler: Handler) -> None:
        if handler.command == "GET":
            handler.send(2, b"[]")
            return
        asked.append(handler.rfile.read(int(handler.headers["Content-Length"])))
        if len(asked) <= refusals:
            text = b"No available agent to submit job, please try again later."
            handler.send_response(500)
            handler.send_header("Content-Length", str(len(text)))
            handler.end_headers()
            handler.wfile.write(text)
            return
        answer = json.dumps({"job_id": "imbtune-b", "submission_id": "imbtune-b"}).encode()
        handler.send(len(answer), answer)

    with dashboard("/api/jobs/", submitted) as (_, address):
        jobs = job_client.Jobs(address)
        if is_sent:
            jobs.submit("imbtune-b", "true", {})
            assert len(asked) == refusals + 1
            jobs.submit("imbtune-b", "true", {})
            first, *_, again = [json.loads(body)["submission_id"] for body in asked]
            assert first != again
            assert first.startswith("imbtune-b-")
        else:
            with pytest.raises(ClusterError, match="No available agent"):
                jobs.submit("imbtune-b", "true", {})


def test_a_study_that_is_fetched_again_is_the_present_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray keeps the log of a job that was deleted, and appends to it if its ID is used again."""
    monkeypatch.chdir(tmp_path)
    logs: dict[str, bytes] = {}
    study = {"study.yaml": b"a: 1", "journal.log": b"1"}

    def reply(handler: Handler) -> None:
        url = urlsplit(handler.path)
        if handler.command == "POST":
            body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
            name = body["submission_id"]
            logs[name] = logs.get(name, b"") + to_text(study).encode() + b"\n"
            answer = json.dumps({"job_id": name, "submission_id": name}).encode()
        elif url.path == "/api/version":
            answer = json.dumps({"ray_version": "2.60.0", "version": "4"}).encode()
        elif url.path == "/api/jobs/":
            answer = json.dumps([JOB]).encode()
        elif url.path == "/api/v0/logs/file":
            answer = logs[parse_qs(url.query)["submission_id"][0]]
        else:
            name = url.path.rpartition("/")[2]
            job = {**JOB, "submission_id": name, "status": "SUCCEEDED"}
            answer = b"true" if handler.command == "DELETE" else json.dumps(job).encode()
        handler.send(len(answer), answer)

    with serving() as site:
        site.reply = reply
        address = f"http://127.0.0.1:{site.server_address[1]}"
        for files in ({}, {"journal.log": b"12", "best.yaml": b"b: 2"}):
            study |= files
            code, _, err = invoke("fetch", "a", "--address", address)
            assert (code, err) == (0, "")
            fetched = tmp_path / "runs/a"
            assert {path.name: path.read_bytes() for path in fetched.iterdir()} == study
