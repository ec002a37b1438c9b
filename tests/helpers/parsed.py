"""What a command line asks for, stopped before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import typer
from typer.testing import CliRunner

from imbtune.cli.main import app
from imbtune.study.request import SearchRequest


def parsed_request(words: Sequence[str]) -> SearchRequest:
    """The request of a `search` or `calibrate` command, through the command line and the API."""
    taken: list[SearchRequest] = []

    def take(request: SearchRequest, log: object) -> None:
        taken.append(request)
        raise typer.Exit

    with pytest.MonkeyPatch.context() as patch:  # Hypothesis allows no fixture
        patch.setattr("imbtune.tuning.run_search.run_search", take)
        patch.setattr("imbtune.tuning.calibration.run_calibration.run_calibration", take)
        done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return taken[0]
