"""A search whose output cannot be written, as a user's shell starts it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from command import IMBTUNE, clean_environment

import imbtune

SEARCH = f"{IMBTUNE} search digits-lt --trials 2 --epochs 3 --rungs none --max-concurrent 1"
WITHOUT_A_READER = "2>&1 | { read -r line; }; exit ${PIPESTATUS[0]}"


@pytest.mark.slow  # tests/unit/cli/test_output.py has the streams alone
@pytest.mark.parametrize("output", [WITHOUT_A_READER, ">&- 2>&-"], ids=["head", "closed"])
def test_a_search_goes_on_without_its_output(output: str, tmp_path: Path) -> None:
    """With another encoding, too, and with a temporary folder too deep for Ray's sockets.

    Nothing of the study is written to a closed descriptor.
    """
    (deep := tmp_path / "deep" / ("x" * 90)).mkdir(parents=True)
    environment = {**clean_environment(), "PYTHONIOENCODING": "ascii", "TMPDIR": str(deep)}
    command = ["bash", "-c", f"{SEARCH} {output}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, timeout=300, check=False)
    assert done.returncode == 0
    study = imbtune.load_study(tmp_path / "runs/digits-lt")
    assert study.trials["state"].tolist() == ["COMPLETE"] * 2
    assert len(study.epochs) == 6 and study.best
    assert len(study.optuna.trials) == 2
