"""Addresses that are no cluster: each is one line, before anything is sent."""

from __future__ import annotations

import http_site
import pytest
from command import invoke
from http_site import Handler, serving

from imbtune.tuning.jobs import job_client

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
