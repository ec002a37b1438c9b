"""The check of a cluster's address, before `ray.init` is called with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.scripts.scripts import cli
from typer.testing import CliRunner

from imbtune.cli.main import app


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
