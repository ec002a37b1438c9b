"""The notebook and the script in examples/, run as a reader runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import imbtune

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOK = EXAMPLES / "own_data.ipynb"
GOOD = 0.75  # balanced accuracy; the committed outputs have 0.92, plain training 0.86


def read_notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def texts(notebook: Any) -> str:
    """All that the notebook's outputs say, but for pictures."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found.append(output.get("text", ""))
            found += [str(v) for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return "\n".join(found)


# Its calls are checked against the API in tests/docs; here they are run.
@pytest.mark.slow
# nbclient's and its kernel's own: sockets that are closed when Python exits
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_notebook_ends_with_a_good_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its search, its final training and its predictions are run as they stand."""
    notebook = read_notebook()
    client = NotebookClient(
        notebook, timeout=540, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    monkeypatch.chdir(tmp_path)
    study = imbtune.load_study("runs/own-data")
    assert study.winner and study.evidence
    assert (study.trials["state"] != "FAIL").all()
    assert study.info["data"]["classes"] == sorted(
        path.name for path in Path("my_images/train").iterdir()
    )
    folder = Path(study.path) / "best"
    results = json.loads((folder / "metrics.json").read_text())
    assert len(results["runs"]) == 2
    assert results["test"]["balanced_accuracy"]["mean"] > GOOD
    model = imbtune.load_model(folder)
    assert model.image_shape == (1, 8, 8)
    said = texts(notebook)
    trials = len(study.trials)
    assert f"{trials}/{trials}  trial" in said  # Ray leaves the lines of progress where they are
    assert f"final {len(study.finals)}/{len(study.finals)}" in said


def test_the_outputs_that_are_committed_are_whole_and_name_no_machine() -> None:
    notebook = read_notebook()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    said = texts(notebook)
    for text in ("/home", "/root", "/tmp", "/work", str(Path.home()), "Error", "Warning"):
        assert text not in said, text
    assert "accuracy on 400 test images: 0.9" in said
    assert NOTEBOOK.stat().st_size < 200_000


@pytest.mark.slow
def test_the_script(tmp_path: Path) -> None:
    """Its functions with a search that takes moments: 10 trials of 2 epochs."""
    code = f"""
import functools, runpy, sys
import imbtune
imbtune.search = functools.partial(imbtune.search, epochs=2)
search, train = imbtune.search, imbtune.train
imbtune.search = lambda space, trials: search(space, trials=10, finals=1, final_seeds=1)
imbtune.train = lambda what, seeds: train(what, seeds=2)
runpy.run_path({str(EXAMPLES / "search_from_python.py")!r}, run_name="__main__")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ", mean of 1 fresh seed" in done.stdout
    assert "imbtune.load_model('runs/digits-lt/best')" in done.stdout


def test_every_example_has_its_line() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.suffix in (".py", ".ipynb"):
            assert f"]({path.name})" in listed
