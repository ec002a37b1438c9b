"""The documents: their commands run, their code runs, and what they name exists."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
import typer
from command import run
from made_results import made_calibration, made_comparison
from made_study import make_study
from typer.testing import CliRunner

import imbtune
from imbtune import api
from imbtune.cli.main import app
from imbtune.spaces.space_file import load_space
from imbtune.study.request import SearchRequest

ROOT = Path(__file__).resolve().parents[2]
OWN_PARTS = ROOT / "docs" / "own-parts.md"
OWN_KNOBS = ("loss.reach", "mix.sharpness", "model.width", "data.noise")
README = ROOT / "README.md"
DOCS = [README, *sorted((ROOT / "docs").glob("*.md"))]


def code_blocks(path: Path, *languages: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for language, block in fenced if language in languages]


@dataclass(frozen=True)
class Step:
    """What a reader does at one place of a page: save a file, type a command, or run Python."""

    kind: str  # file, command or python
    text: str
    name: str = ""  # of the file


def steps_of(path: Path) -> list[Step]:
    """The code blocks of a page from top to bottom.

    A block whose first line is `# NAME.yaml` or `# NAME.py` is a file; the line may go on with a
    command that uses it (`# NAME.yaml:  imbtune …`).
    """
    found = []
    text = path.read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        named = re.match(
            r"# ([\w.-]+\.(?:yaml|py))(?::\s+(imbtune .*))?$", block.partition("\n")[0]
        )
        if named:
            found.append(Step("file", block, named[1]))
            found += [Step("command", named[2])] if named[2] else []
        elif language == "python":
            found.append(Step("python", block))
        elif language in ("bash", "sh", ""):
            lines = block.replace("\\\n", " ").splitlines()
            found += [
                Step("command", line.split(" #")[0].strip())
                for line in lines
                if line.startswith(("imbtune ", "make "))
            ]
    return found


def commands_of(path: Path) -> list[str]:
    """Every command of a page, in its order."""
    steps = [step for step in steps_of(path) if step.kind == "command"]
    return [step.text for step in steps if step.text.startswith("imbtune ")]


def commands() -> list[str]:
    return sorted({command for path in DOCS for command in commands_of(path)})


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 7


STUDIES = ("digits-lt", "mine")  # that the commands train from


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages show, and the studies that commands train from."""
    folder = tmp_path_factory.mktemp("before")
    for path in DOCS:
        for step in steps_of(path):
            if step.kind == "file":
                (folder / step.name).write_text(step.text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in STUDIES:
            make_study(f"runs/{name}").close()
    return folder


@pytest.fixture
def reader(before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A folder as a reader of the docs has it, in which no command runs anything.

    Returns:
        What the commands would make: the kind (search, calibrate, train), and the folder.
    """
    made: list[tuple[str, str]] = []

    def take_search(request: SearchRequest, log: object) -> None:
        made.append(("search", request.path))
        raise typer.Exit

    def take_calibration(request: SearchRequest, log: object) -> None:
        made.append(("calibrate", request.path))
        raise typer.Exit

    def take_comparison(request: SearchRequest, *given: object, **options: object) -> None:
        made.append(("compare", request.path))
        raise typer.Exit

    def take_training(config: object, seeds: int, out: Path, *given: object) -> None:
        made.append(("train", str(out)))
        raise typer.Exit

    def take(*given: object, **options: object) -> None:
        raise typer.Exit

    def take_resume(*given: object, **options: object) -> None:
        resume.bind(*given, **options)
        raise typer.Exit

    shutil.copytree(before, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    resume = inspect.signature(api.resume)
    monkeypatch.setattr("imbtune.api.resume", take_resume)  # there is no such study to read
    monkeypatch.setattr("imbtune.tuning.run_search.run_search", take_search)
    monkeypatch.setattr(
        "imbtune.tuning.calibration.run_calibration.run_calibration", take_calibration
    )
    monkeypatch.setattr(  # a command before it made the calibration
        "imbtune.tuning.calibration.follow.with_calibration",
        lambda request, _calibration: replace(request, rungs="none"),
    )
    monkeypatch.setattr("imbtune.final_training.retrain.train_final", take_training)
    monkeypatch.setattr("imbtune.comparison.run_comparison.run_comparison", take_comparison)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://localhost:8265")  # the pages export it
    monkeypatch.setattr("imbtune.tuning.jobs.job_client.Jobs", take)
    monkeypatch.setattr("imbtune.study.trackers.offline.sync_offline", take)
    monkeypatch.setattr("imbtune.serving.run_server.open_server", take)
    for function in ("predict", "evaluate", "export"):
        monkeypatch.setattr(f"imbtune.inference.use_model.{function}", take)
    monkeypatch.setattr("imbtune.inference.use_threshold.change_threshold", take)
    for function in ("tuning.forecast.forecast.forecast_search", "tuning.reproduce.repeat_trial"):
        monkeypatch.setattr(f"imbtune.{function}", take)
    return made


@pytest.mark.parametrize("command", commands())
def test_imbtune_takes_the_commands_of_the_docs(
    command: str, reader: list[tuple[str, str]]
) -> None:
    """Parsed by the command line, and their options checked; only the run itself is left out."""
    if command.startswith("imbtune report"):  # of what commands before it made
        made_calibration("runs/digits-lt-calibration")
        made_comparison("runs/digits-lt-comparison")
    result = CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    verb = command.split()[1]
    makes = verb in ("search", "calibrate", "compare") or (
        verb == "train" and "--trial" not in command
    )
    assert [kind for kind, _ in reader] == ([verb] if makes else [])


def test_no_two_commands_of_the_docs_make_the_same_folder(reader: list[tuple[str, str]]) -> None:
    """A reader who types all commands of all pages gets no 'exists already'."""
    for path in DOCS:
        for command in commands_of(path):
            if command.split()[1] == "report":  # which replaces what it wrote
                continue
            CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
    folders = [folder for _, folder in reader] + ["runs/digits-lt"]  # of `make search`
    assert [folder for folder in folders if folders.count(folder) > 1] == []


# Commands that `walk` does not run, each with the reason
NOT_RUN = {
    "imbtune predict runs/digits-lt/best PHOTOS --out photos.parquet": "needs a folder of images",
    "imbtune predict runs/digits-model PHOTOS --out predictions.parquet --top 3": (
        "needs a folder of images"
    ),
    "imbtune predict runs/digits-model PHOTOS --out balanced.csv --prior balanced": (
        "needs a folder of images"
    ),
    "imbtune evaluate runs/digits-model --data NEW_PHOTOS --split all": "needs a folder of images",
    "imbtune threshold runs/fraud-model --metric "
    "'{name: expected_cost, costs: {fraud: {normal: 20}}}'": "needs a model of two classes",
    "imbtune threshold runs/fraud-model --metric '{name: recall_at_precision, precision: 0.9}'": (
        "needs a model of two classes"
    ),
    "imbtune sync runs/watched": "needs an account of W&B",
    "imbtune serve runs/": "a server, which does not end",
    "make test": "it runs these tests",
    "imbtune search cifar10-lt --trials 200 --gpus-per-trial auto": "downloads CIFAR-10",
    "imbtune search cifar10-lt --trials 200 --address auto --storage s3://bucket/studies": (
        "needs a cluster and a bucket"
    ),
    "imbtune search cifar10-lt --trials 50 --set data.ratio=50 --set mix=mamix --name only-mamix": (
        "downloads CIFAR-10"
    ),
    "imbtune search parts.yaml --data FOLDER --trials 100": "needs a folder of images",
    "imbtune search cifar10-50.yaml --trials 100": "downloads CIFAR-10",
    "imbtune plan cifar10-lt --trials 10000 --gpus 64 --price 2.5 --study runs/cifar10-lt": (
        "needs a study of CIFAR-10"
    ),
    "imbtune search svhn-lt --data /data/svhn": "needs SVHN",
    "imbtune search fashion_mnist-lt": "downloads Fashion-MNIST",
    "imbtune search xrays.yaml --data /data/xrays": "needs a folder of images",
    "imbtune search cifar10-lt --trials 200 --address auto --name two-machines": "needs a cluster",
    **dict.fromkeys(
        (
            "imbtune submit cifar10-lt --trials 200 --storage /data/studies",
            "imbtune list",
            "imbtune status cifar10-lt",
            "imbtune logs -f cifar10-lt",
            "imbtune stop cifar10-lt",
            "imbtune submit --resume cifar10-lt",
            "imbtune fetch cifar10-lt",
            "imbtune train runs/digits-lt --seeds 3 --workers 8 --out eight --address auto",
            "imbtune submit cifar10-lt --trials 200 --gpus-per-trial 0.25 --max-concurrent 16 "
            "--storage s3://BUCKET/studies",
            "imbtune submit cifar10-lt --trials 200 --gpus-per-trial 0.25 --max-concurrent 16 "
            "--storage gs://BUCKET/studies",
            "imbtune submit cifar10-lt --address http://localhost:8265 --trials 200 "
            "--gpus-per-trial 0.25 --cpus-per-trial 1 --max-concurrent 16 --storage /studies",
        ),
        "needs a cluster",
    ),
    "imbtune compare cifar10-lt --presets all --seeds 5 --gpus-per-trial auto": "needs CIFAR-10",
    "imbtune compare cifar10-lt --presets erm,mixup_drw,mamix_drw --reference mixup_drw --name "
    "three": "needs CIFAR-10",
}


def quick(command: str, trials: int = 18, epochs: int = 3) -> list[str]:
    """The words of a command, with fewer trials, epochs and seeds than a reader gives.

    Args:
        trials: of `make search`; a page speaks of trial 17.
        epochs: of `make search`.
    """
    if command == "make search":  # what it does after the installation
        return ["search", "digits-lt", "--trials", str(trials), "--epochs", str(epochs)]
    words = shlex.split(command)[1:]
    verb = words[0]
    for option, most in (("--trials", 8), ("--seeds", 2)):
        if option in words and verb != "plan":
            i = words.index(option) + 1
            words[i] = str(min(int(words[i]), most))
    if "--ema" in words:  # for so few steps
        words[words.index("--ema") + 1] = "0.5"
    if verb in ("search", "calibrate") and "mine.yaml" not in words:  # that one is small
        words += ["--epochs", "3"] + ([] if "--trials" in words else ["--trials", "8"])
    if verb == "compare":
        words += ["--seeds", "2"] if "--seeds" not in words else []
    if verb == "compare" or (verb == "train" and "--preset" in words):
        words += ["--epochs", "3"]
    if verb == "plan" and "--study" not in words:
        words += ["--study", "runs/digits-lt"]  # instead of measuring for half a minute
    return words


def walk(path: Path, folder: Path) -> dict[str, str]:
    """Do everything that a page says, from top to bottom, as a reader does.

    Returns:
        What the commands printed, and under "python" what the blocks of Python did.
    """
    printed: dict[str, str] = {}
    waiting: list[str] = []  # blocks of Python without a command in between are one process

    def run_waiting() -> None:
        if waiting:
            printed["python"] = printed.get("python", "") + run_python("\n".join(waiting), folder)
            waiting.clear()

    for step in steps_of(path):
        if step.kind == "python":
            waiting.append(step.text)
            continue
        run_waiting()
        if step.kind == "file":
            (folder / step.name).write_text(step.text, encoding="utf-8")
        elif step.text not in NOT_RUN:
            done = run(*quick(step.text), cwd=folder)
            assert done.returncode == 0, f"{step.text}: {done.stderr}"
            printed[step.text] = done.stdout
    run_waiting()
    return printed


def test_every_command_that_is_not_run_is_one_of_the_docs() -> None:
    typed = {step.text for path in DOCS for step in steps_of(path) if step.kind == "command"}
    assert NOT_RUN.keys() <= typed
    ran = [c for c in typed - NOT_RUN.keys() if c.startswith("make ")]
    assert ran == ["make search"]


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Walked:
    return Walked(tmp_path_factory.mktemp("reader"))


class Walked:
    """The pages that were walked through so far, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._printed: dict[Path, dict[str, str]] = {}

    def printed(self, path: Path) -> dict[str, str]:
        """What a page printed; the README comes before any other page."""
        for page in (README, path):
            if page not in self._printed:
                self._printed[page] = walk(page, self.folder)
        return self._printed[path]


def check_next_command(printed: dict[str, str], folder: Path) -> None:
    """A search prints what to type next; the README has typed it already."""
    next_command = printed["make search"].partition("fresh seeds:\n")[2].splitlines()[0]
    again = run(*shlex.split(next_command)[1:], cwd=folder)
    assert again.returncode == 2 and "--out runs/digits-lt/best-2, or delete it" in again.stderr


def check_baselines_and_plan(printed: dict[str, str]) -> None:
    assert "Winner: trial" in printed["make search"]
    baselines = printed["imbtune train runs/digits-lt --seeds 5 --baselines"]
    assert re.search(r"metric +┃ +this model ┃.* erm ┃", baselines)
    plan = printed["imbtune plan digits-lt --trials 1000"]
    suggested = shlex.split(plan.partition("Next: run this search:\n")[2])
    assert suggested[1:3] == ["search", "digits-lt"] and "digits-lt-2" in suggested


def test_the_first_commands_of_the_readme_run_in_order(tmp_path: Path) -> None:
    """The search, what it prints to type next, and the commands that follow it without Ray.

    Searches as the others of the README are in tests/integration; the slow test below runs all.
    """
    chosen = [
        "make search",
        "imbtune train runs/digits-lt --seeds 5 --baselines",
        "imbtune plan digits-lt --trials 1000",
    ]
    steps = [step.text for step in steps_of(README) if step.text in chosen]
    assert steps == chosen
    small = ["--max-concurrent", "1", "--finals", "1", "--final-seeds", "2"]
    printed = {}
    for text in steps:
        words = [*quick(text, trials=4, epochs=9), *(small if text == "make search" else [])]
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0, f"{text}: {done.stderr}"
        printed[text] = done.stdout
    check_baselines_and_plan(printed)
    check_next_command(printed, tmp_path)


@pytest.mark.slow
def test_all_commands_of_the_readme_run_in_order(walked: Walked) -> None:
    """From `make search` on, in one folder; the commands that they print as next run, too."""
    printed = walked.printed(README)
    check_baselines_and_plan(printed)
    check_next_command(printed, walked.folder)
    assert re.search(r"\['\d'(, '\d'){15}\]", printed["python"])
    assert (walked.folder / "runs/from-python/best.yaml").exists()


@pytest.mark.slow
def test_the_python_page_runs(walked: Walked) -> None:
    """All of its blocks, in order, in one process: a small search, and what follows it."""
    out = walked.printed(ROOT / "docs" / "python.md")["python"]
    assert "Study('runs/quick'): 12 of 12 trials (" in out
    assert "unknown knob 'mix.alfa': did you mean 'mix.alpha'?" in out
    assert "the study runs/quick exists already" in out
    assert {path.name for path in (walked.folder / "runs").iterdir()} >= {
        "quick", "tau", "digits-lt-ldam_drw", "mixup", "quick-calibration", "logged", "silent",
        "quick-comparison",
    }  # fmt: skip


@pytest.mark.slow
def test_the_example_of_own_parts_runs(walked: Walked) -> None:
    """Its file and space, its commands in order, and its model in a fresh process."""
    printed = walked.printed(OWN_PARTS)
    knobs = printed["imbtune show knobs --space mine.yaml --trust"]
    assert [name for name in OWN_KNOBS if f" {name} " not in knobs] == []
    trials = pd.read_parquet(walked.folder / "runs/mine/trials")
    assert set(trials["state"]) <= {"COMPLETE", "PRUNED"}
    used = trials[(trials["loss"] == "rank_margin") & (trials["mix"] == "shuffle+linear+sharp")]
    assert len(used) and used[["loss.reach", "mix.sharpness", "model.width"]].notna().all(axis=None)
    assert printed["python"] == "['0°', '30°', '60°', '90°', '120°', '150°'] Linear\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({path.name for path in DOCS} - {"README.md"}))
def test_all_commands_of_a_page_run_in_order(name: str, walked: Walked) -> None:
    """After the README and all pages before it, in the same folder."""
    path = ROOT / "docs" / name
    printed = walked.printed(path)
    assert printed.keys() >= {*commands_of(path)} - NOT_RUN.keys()


def test_the_spaces_in_the_readme_are_spaces(tmp_path: Path) -> None:
    parts, mine = code_blocks(ROOT / "README.md", "yaml")
    path = tmp_path / "mine.yaml"
    path.write_text(parts, encoding="utf-8")
    assert load_space(str(path)).base().flat()["data.size"] == 64
    path.write_text(mine, encoding="utf-8")
    space = load_space(str(path))
    assert space.rungs.budgets(space.base().epochs) == [10, 30, 90]
    assert {"erm", "drw", "ldam_drw", "mixup_drw", "mamix_drw"} <= set(space.presets())


def run_python(code: str, cwd: Path) -> str:
    """What Python code prints in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", code]
    environment = os.environ | {"GOMP_SPINCOUNT": "1000"}  # the machine may be busy
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pythons() -> dict[str, str]:
    """The Python of every page, of the notebook and of the scripts, by file."""
    found = {path.name: "\n".join(code_blocks(path, "python")) for path in DOCS}
    found = {name: code for name, code in found.items() if code}
    cells = json.loads((ROOT / "examples/own_data.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    found["own_data.ipynb"] = "\n".join(code)
    scripts = (ROOT / "examples").glob("*.py")
    return found | {path.name: path.read_text(encoding="utf-8") for path in scripts}


def wrong_calls(code: str) -> list[str]:
    """The names of imbtune in `code` that do not exist, and calls that do not fit a signature."""
    wrong = []
    for node in ast.walk(ast.parse(code)):
        name = ast.unparse(node.func if isinstance(node, ast.Call) else node)
        if not re.fullmatch(r"imbtune\.\w+", name):
            continue
        if not hasattr(imbtune, name.partition(".")[2]):
            wrong.append(name)
        elif isinstance(node, ast.Call) and inspect.isfunction(
            called := getattr(imbtune, name.partition(".")[2])
        ):
            given = [arg for arg in node.args if not isinstance(arg, ast.Starred)]
            names = {word.arg: word.value for word in node.keywords if word.arg}
            whole = len(given) == len(node.args) and len(names) == len(node.keywords)
            signature = inspect.signature(called)
            try:
                (signature.bind if whole else signature.bind_partial)(*given, **names)
            except TypeError as error:
                wrong.append(f"{ast.unparse(node)}: {error}")
    return wrong


@pytest.mark.parametrize("name", pythons())
def test_the_calls_of_the_documents_fit_the_api(name: str) -> None:
    """Without running them, which takes minutes: the slow tests do that."""
    code = pythons()[name]
    assert "import imbtune" in code or "from imbtune" in code
    assert wrong_calls(code) == []


def test_a_wrong_call_is_found() -> None:
    assert wrong_calls("imbtune.serch('a')") == ["imbtune.serch", "imbtune.serch"]
    assert "'trails'" in wrong_calls("imbtune.search('digits-lt', trails=3)")[0]
    assert wrong_calls("imbtune.search('digits-lt', **more)") == []


def test_the_python_page_names_everything_public() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    public = [name for name in imbtune.__all__ if not name.startswith("_")]
    assert [name for name in public if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#:]*)#?([^)#:]*)\)", path.read_text("utf-8")):
        there = path.parent / target if target else path
        assert there.exists(), target
        assert not heading or heading in headings(there), f"{target}#{heading}"


def headings(path: Path) -> list[str]:
    """The headings of a document as links write them."""
    found = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in found]


def test_make_targets_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", readme, re.MULTILINE)
    assert {"search", "test"} <= set(targets)
    for target in targets:
        assert f"\n{target}:" in makefile


def make_lines(*words: str) -> str:
    """What `make` would run in a folder without an environment."""
    done = subprocess.run(
        ["make", "-n", *words, "VENV=/nowhere/venv"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout if done.returncode == 0 else done.stderr


def test_make_installs_the_cpu_only_pytorch_when_asked() -> None:
    line = "pip install --quiet --index-url https://download.pytorch.org/whl/cpu torch torchvision"
    for target in ("search", "test"):
        found = make_lines(target, "TORCH=cpu")
        assert found.index(line) < found.index("pip install --quiet -e .")
        assert "about 2 GB" in found
        usual = make_lines(target)
        assert "download.pytorch.org" not in usual
        assert "6.3 GB" in usual and f"make {target} TORCH=cpu" in usual
    assert "TORCH=gpu: give TORCH=cpu, or leave it out" in make_lines("search", "TORCH=gpu")
    readme = README.read_text(encoding="utf-8")
    assert "make search TORCH=cpu" in readme and "6.3 GB" in readme
    assert "pip install --index-url https://download.pytorch.org/whl/cpu torch" in readme


def test_make_search_takes_another_number_of_trials() -> None:
    """`imbtune` refuses an option that is given twice."""
    assert "search digits-lt --trials 30 --name again" in make_lines("search", "ARGS=--name again")
    assert make_lines("search", "ARGS=--trials 5").count("--trials") == 1
