"""Addresses that are no cluster: each is one line, before anything is sent."""

from __future__ import annotations

import http_site
import pytest
from command import invoke
from http_site import Handler, serving

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
        ("--resume x --sampler tpe", "--sampler goes with a new search"),
    ],
)
def test_options_are_checked_before_the_cluster_is_asked(options: str, reason: str) -> None:
    assert reason in said("submit", *options.split(), "--address", "http://127.0.0.1:9")


def test_submit_has_every_option_of_search() -> None:
    """Those of the address and the storage are its own."""
    from imbtune.cli.main import search, submit

    assert set(search.__annotations__) - {"return"} < set(submit.__annotations__)
