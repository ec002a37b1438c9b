"""The check of a cluster's address and of the temporary folder, before `ray.init` is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ray._private import services
from ray._private.utils import validate_socket_filepath
from ray.scripts.scripts import cli
from typer.testing import CliRunner

from imbtune.cli.main import app
from imbtune.errors import ClusterError
from imbtune.tuning.cluster import connection
from imbtune.tuning.cluster.address import check_address, resolved
from imbtune.tuning.cluster.local_ray import private_ray


def test_ray_has_the_status_command() -> None:
    status = cli.commands["status"].make_context("status", ["--address", "127.0.0.1:6379"])
    assert status.params["address"] == "127.0.0.1:6379"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--gpus-per-trial 0.3", "--gpus-per-trial 0.3 is not possible"),
        ("--address ray://127.0.0.1:10001", "a search cannot run through Ray Client"),
    ],
)
def test_what_cannot_run_is_said_in_one_line(
    args: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["search", "digits-lt", *args.split()], catch_exceptions=False)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


LONG = "/tmp/" + "x" * 60


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({}, {}),
        ({"TMPDIR": "/var/tmp"}, {"TMPDIR": "/var/tmp"}),
        ({"TMPDIR": LONG}, {"TMPDIR": "/tmp"}),
        ({"TMPDIR": ""}, {"TMPDIR": "/tmp"}),
        ({"TMPDIR": "/tmp/" + "ü" * 20}, {"TMPDIR": "/tmp"}),
        ({"RAY_TMPDIR": LONG, "TMPDIR": "/var/tmp"}, {"RAY_TMPDIR": "/tmp", "TMPDIR": "/var/tmp"}),
        ({"RAY_TMPDIR": "/var/tmp", "TMPDIR": LONG}, {"RAY_TMPDIR": "/var/tmp", "TMPDIR": "/tmp"}),
    ],
)
def test_a_temporary_folder_too_long_for_sockets_is_not_used(
    given: dict[str, str], used: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with connection._short_temporary_folder():
        assert {name: os.environ[name] for name in given} == used
        with private_ray() as folder:
            longest = len(folder)
    assert {name: os.environ[name] for name in given} == given
    validate_socket_filepath("x" * longest + f"/{connection.SESSION}1234567/sockets/plasma_store")


def test_no_short_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", LONG)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(connection, "SHORT_FOLDER", str(tmp_path / "missing"))
    with (
        pytest.raises(ClusterError, match=r"^\$TMPDIR /tmp/x+ is too long for the sockets of Ray"),
        connection._short_temporary_folder(),
    ):
        pass


def test_auto_is_checked_as_the_address_that_it_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself would try for half a minute, with the warnings of its C++ code."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with (
        pytest.raises(ClusterError, match=r"cluster at '127.0.0.1:1' \(.*refused"),
        connection.connected("auto"),
    ):
        pass
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr(services, "find_gcs_addresses", set)  # other Rays on this machine
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:2\n")
    assert resolved("auto") == "127.0.0.1:2"
    assert resolved("host:6379") == "host:6379"


def test_auto_does_not_stand_for_ray_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:10001")
    with pytest.raises(ClusterError, match=r"^\$RAY_ADDRESS ray://127.0.0.1:10001: a search"):
        check_address("auto")
    check_address("127.0.0.1:6379")
