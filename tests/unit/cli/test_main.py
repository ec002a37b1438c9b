"""The command line: help, listings, error lines with exit code 2 and nothing left on disk."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer.models
import wandb
from command import invoke
from rich.cells import cell_len

from imbtune import __version__
from imbtune.cli.error_boundary import OnceCommand, _check_words
from imbtune.cli.main import Topic, app
from imbtune.cli.settings import parse_duration, parse_settings
from imbtune.config.slots import SLOTS, all_knobs
from imbtune.errors import ConfigError
from imbtune.inference import use_model
from imbtune.metrics.metric import metric_from, metrics, objectives
from imbtune.metrics.metric_registry import GROUPS
from imbtune.spaces.presets import PRESETS

COMMANDS = (
    *("search", "plan", "resume", "calibrate", "compare", "train", "show"),
    *("submit", "status", "logs", "stop", "list", "fetch", "query", "sync", "report", "serve"),
    *("predict", "evaluate", "threshold", "export"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    code, out, _ = invoke(command, "--help")
    assert code == 0
    assert f"imbtune {command}" in out


def test_the_commands_are_these() -> None:
    assert {
        command.name or command.callback.__name__
        for command in app.registered_commands
        if command.callback and not command.hidden
    } == {*COMMANDS}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "interrupted: nothing was written: give the same command again\n"),
        (KeyboardInterrupt("it goes on"), "interrupted: it goes on\n"),
    ],
)
def test_ctrl_c_says_what_is_left(
    error: KeyboardInterrupt, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(use_model, "predict", interrupted)
    assert invoke("predict", "model", "images", "--out", "p.csv") == (130, "", said)


def test_version() -> None:
    assert invoke("--version")[:2] == (0, f"imbtune {__version__}\n")


def test_search_has_the_options_that_users_script_against() -> None:
    out = invoke("search", "--help")[1]
    options = (
        "trials name seed epochs gpus-per-trial cpus-per-trial max-concurrent address storage "
        "sampler rungs time-budget wandb data set"
    )
    for option in options.split():
        assert f"--{option}" in out, option


def test_help_imports_nothing_heavy() -> None:
    """`imbtune --help` is instant as long as no command's own imports are loaded."""
    code = (
        "import sys; from imbtune.cli.main import app\n"
        "heavy = {'torch', 'ray', 'optuna', 'numpy', 'pyarrow', 'wandb'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_show_methods_names_every_part_and_preset() -> None:
    code, out, _ = invoke("show", "methods")
    assert code == 0
    for slot, registry in SLOTS.items():
        for entry in registry:
            if slot != "data":
                assert f" {entry.name} " in out, entry.name
                assert entry.source.split(",")[0] in out
    assert all(f" {name} " in out for name in PRESETS)


def test_show_knobs_names_every_knob_with_its_default() -> None:
    out = invoke("show", "knobs")[1]
    for key in all_knobs():
        lines = [line for line in out.splitlines() if f" {key} " in line]
        slot, _, name = key.partition(".")
        owners = [entry for entry in SLOTS[slot] if name in entry.knobs]
        defaults = [str(p.default) for p in {entry.knobs[name] for entry in owners}]
        assert sorted(line.split("│")[2].strip() for line in lines) == sorted(defaults), key


def test_show_spaces_and_datasets() -> None:
    spaces, datasets = invoke("show", "spaces")[1], invoke("show", "datasets")[1]
    assert all(f" {name} " in spaces for name in ("digits-lt", "cifar10-lt", "cifar100-lt"))
    assert all(f" {entry.name} " in datasets for entry in SLOTS["data"])


ARGUMENTS = {  # that a command needs, besides the option that is tried
    "search": ["digits-lt"],
    "plan": ["digits-lt"],
    "resume": ["study"],
    "submit": ["digits-lt", "--storage", "/data"],
    "status": ["study"],
    "logs": ["study"],
    "stop": ["study"],
    "list": [],
    "fetch": ["study"],
    "send-study": ["study"],
    "calibrate": ["digits-lt"],
    "compare": ["digits-lt"],
    "train": ["--preset", "erm", "--space", "digits-lt"],
    "show": ["spaces"],
    "sync": ["study"],
    "query": ["study", "select 1"],
    "report": ["study"],
    "serve": [],
    "predict": ["model", "images", "--out", "p.csv"],
    "evaluate": ["model"],
    "threshold": ["model", "--metric", "f_beta"],
    "export": ["model"],
}


def empty_arguments() -> list[tuple[str, ...]]:
    """Every command line in which one option or argument that takes text is empty."""
    found: list[tuple[str, ...]] = [("train", ""), ("train", "--trial", "", "0")]
    for command in app.registered_commands:
        assert command.callback
        name, hints = command.name or command.callback.__name__, get_type_hints(command.callback)
        for parameter in inspect.signature(command.callback, eval_str=True).parameters.values():
            hint = hints[parameter.name]
            if not {hint, *get_args(hint)} & {str, list[str]}:
                continue
            declared = parameter.annotation.__metadata__[0]
            if isinstance(declared, typer.models.OptionInfo):
                option = (declared.param_decls or (f"--{parameter.name.replace('_', '-')}",))[0]
                if (name, option) == ("submit", "--storage"):
                    found.append((name, "digits-lt", option, ""))
                    continue
                found.append((name, *ARGUMENTS[name], option, ""))
            elif name == "query":  # it has two arguments
                both = {"studies": ("", "select 1"), "sql": ("study", "")}
                found.append((name, *both[parameter.name]))
            elif name in ("predict", "threshold"):  # they need more
                words = ["" if word == parameter.name else word for word in ARGUMENTS[name]]
                found.append((name, *words))
            elif name != "train":
                found.append((name, ""))
    return found


def test_paths_are_among_the_arguments_that_are_tried_empty() -> None:
    tried = {(line[0], line[-2]) for line in empty_arguments()}
    commands = ("search", "plan", "resume", "calibrate", "compare", "train")
    assert {("train", "--out"), *((name, "--data") for name in commands)} <= tried


@pytest.mark.parametrize("line", empty_arguments(), ids=" ".join)
def test_an_empty_argument_is_one_line(
    line: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell makes it of an unset variable. It is neither a default nor this folder."""
    monkeypatch.chdir(tmp_path)
    code, _, err = invoke(*line)
    assert code == 2, err
    assert len(err.splitlines()) == 1
    assert "''" in err or "--set" in err
    assert not list(tmp_path.iterdir())


WRONG_SEARCHES = [
    ("digit-lt", "unknown space 'digit-lt': did you mean 'digits-lt'?"),
    ("digits-lt --set mix.alfa=1", "unknown knob 'mix.alfa': did you mean 'mix.alpha'?"),
    ("digits-lt --set mix=mamx", "unknown mix 'mamx': did you mean 'mamix'?"),
    ("digits-lt --set mix.omega=9", "mix.omega=9.0 is out of range: from 0 to 4"),
    ("digits-lt --set mix", "--set mix: give KNOB=VALUE, such as mix=mamix"),
    ("digits-lt --sampler tpee", "unknown sampler 'tpee': did you mean 'tpe'?"),
    (
        "digits-lt --gpus-per-trial 0.3",
        "--gpus-per-trial 0.3 is not possible, 3 trials",
    ),
    ("digits-lt --gpus-per-trial 99", "--gpus-per-trial 99: "),
    ("digits-lt --gpus-per-trial -1", "--gpus-per-trial -1 is not possible"),
    ("digits-lt --cpus-per-trial 999", "--cpus-per-trial 999: give 1 to "),
    ("digits-lt --time-budget soon", "--time-budget 'soon': give a time such as 90s, 30m or 2h"),
    ("digits-lt --name a/b", "--name 'a/b': use letters, digits"),
    ("digits-lt --storage foo://x", "--storage foo://x: give a folder, s3://BUCKET/… or gs://"),
    ("digits-lt --storage /proc/nothing", "cannot write to /proc (No such file or directory): use"),
    ("digits-lt --storage /sys/nothing", "cannot write to /sys ("),
    ("digits-lt --storage /dev/null/studies", "cannot write to /dev/null (Not a directory): use"),
    ("cifar10-lt --data nowhere", "no data folder nowhere"),
    ("digits-lt --data nowhere", "--data nowhere: the data set 'digits' reads no files: leave it"),
    ("cifar10-lt --data .", "{here} has no complete cifar10"),
    ("digits-lt --set data.ratio=1000", "data.ratio=1000 leaves class '7' without an image"),
    ("digits-lt --set data.head=5000", "class '0' has 138 images, but the profile needs 5000"),
    ("digits-lt --set data.val_per_class=999", "data.val_per_class=999 takes every image"),
    ("digits-lt --set model=resnet31", "unknown model 'resnet31': did you mean 'resnet32'?"),
    ("digits-lt --set model=inception_v3", "model 'inception_v3' cannot take 1×8×8 images"),
    ("digits-lt --address 127.0.0.1:1", "cannot connect to a Ray cluster at '127.0.0.1:1'"),
    ("digits-lt --address=", "--address '': it is empty: give a value, or leave it out"),
    ("digits-lt --name=", "--name '': it is empty"),
    ("digits-lt --time-budget=", "--time-budget '': give a time such as 90s"),
    ("digits-lt --rungs prefixes", "unknown value for --rungs 'prefixes': did you mean 'prefix'?"),
    ("digits-lt --wandb on", "unknown value for --wandb 'on'"),
    ("digits-lt --wandb-project p", "--wandb-project p goes with --wandb offline or online"),
    ("digits-lt --wandb-entity e", "--wandb-entity e goes with --wandb offline or online"),
    ("digits-lt --wandb-tags a,b", "--wandb-tags a,b goes with --wandb offline or online"),
    ("digits-lt --wandb offline --wandb-project a/b", "--wandb-project 'a/b': give 1 to 128"),
    ("digits-lt --wandb offline --wandb-project " + "x" * 129, "--wandb-project 'xxx"),
    ("digits-lt --wandb offline --wandb-entity a/b", "--wandb-entity 'a/b': give the name of a"),
    ("digits-lt --wandb offline --wandb-tags a,,b", "--wandb-tags 'a,,b': a tag is empty"),
    ("digits-lt --wandb offline --wandb-tags " + "x" * 65, "--wandb-tags 'xxx"),
    ("digits-lt --set seed=7", "--set seed=7: give --seed"),
    ("digits-lt --set epoch=7", "unknown setting 'epoch': did you mean 'epochs'?"),
    ("digits-lt --set losss=ldam", "unknown setting 'losss': did you mean 'loss'?"),
    ("digits-lt --set data=cifar10", "data=cifar10 cannot be set: a space belongs to one data set"),
    ("digits-lt --set mix=none --set mix.omega=0.3", "mix 'none' has no knob 'omega'"),
    ("digits-lt --trials 0", "--trials 0: give a number of at least 1"),
    ("digits-lt --trails 5", "No such option"),
    (". --trials 5", "the space . is a folder: give the path of a YAML file"),
]


@pytest.mark.filterwarnings("ignore:The default weight initialization of inception_v3")
@pytest.mark.parametrize(("args", "line"), WRONG_SEARCHES)
def test_a_search_that_cannot_be_is_one_line_and_leaves_nothing(
    args: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = invoke("search", *args.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: " + line.replace("{here}", str(tmp_path)))
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


WRONG_COMPARISONS = [
    ("digits-lt --presets mixup_drv", "unknown preset 'mixup_drv': did you mean 'mixup_drw'?"),
    ("digits-lt --presets erm,", "--presets 'erm,': it has an empty name: leave it out"),
    ("digits-lt --presets all,erm", "--presets all,erm: give 'all' alone"),
    ("digits-lt --presets erm,erm", "'erm' is compared twice: give it once"),
    ("digits-lt --presets none", "nothing to compare, neither a preset nor a study"),
    ("digits-lt --study runs/none", "runs/none is not a study, it has no study.yaml"),
    ("digits-lt --reference vs", "unknown row for --reference 'vs': "),
    ("digits-lt --set mix=mixup --presets erm", "--set mix=mixup contradicts the preset 'erm'"),
    ("digits-lt --set seed=7", "--set seed=7: give --seed"),
    ("digits-lt --seeds 0", "--seeds 0: give a number of at least 1"),
    ("digits-lt --gpus-per-trial 0.3", "--gpus-per-trial 0.3 is not possible, 3 trials"),
    ("digits-lt --cpus-per-trial 999", "--cpus-per-trial 999: give 1 to "),
    ("digits-lt --name a/b", "--name 'a/b': use letters, digits"),
    ("cifar10-lt --data nowhere", "no data folder nowhere"),
    ("digits-lt --data nowhere", "--data nowhere: the data set 'digits' reads no files: leave it"),
    ("digits-lt --set model=resnet31", "unknown model 'resnet31': did you mean 'resnet32'?"),
    ("digits-lt --set data.ratio=1000", "data.ratio=1000 leaves class '7' without an image"),
]


@pytest.mark.parametrize(("args", "line"), WRONG_COMPARISONS)
def test_a_comparison_that_cannot_be_is_one_line_and_leaves_nothing(
    args: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = invoke("compare", *args.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {line}") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_online_wandb_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    code, _, err = invoke("search", "digits-lt", "--wandb", "online")
    assert code == 2
    assert "--wandb online needs an API key" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("args", ["--trials 3", "-x", "--seed=1 search digits-lt"])
def test_an_option_before_the_command_is_one_line(args: str) -> None:
    code, out, err = invoke(*args.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: No such option: -") and err.endswith(": give a command first\n")
    assert err.count("\n") == 1


WRONG_TRAININGS = [
    (
        "",
        "nothing to train: give a configuration, such as runs/NAME/best.yaml, or --preset",
    ),
    ("nope.yaml", "cannot read nope.yaml"),
    ("--preset mamx --space digits-lt", "unknown preset 'mamx': did you mean 'mamix'?"),
    ("--preset mamix", "--preset mamix needs --space"),
    ("good.yaml --preset mamix", "good.yaml and --preset mamix: give one of them"),
    ("good.yaml --space digits-lt", "--space digits-lt goes with --preset"),
    ("broken.yaml", "broken.yaml is not YAML"),
    ("empty.yaml", "empty.yaml is not a configuration"),
    ("wrong.yaml", "wrong.yaml: unknown knob 'mix.alfa': did you mean 'mix.alpha'?"),
    ("good.yaml --set epochs=0", "epochs=0 is out of range: at least 1"),
    ("good.yaml --out good.yaml", "--out good.yaml is a file: give another folder, such as --out "),
    ("good.yaml --set data=cifar10 --data nowhere", "no data folder nowhere"),
    ("good.yaml --data nowhere", "--data nowhere: the data set 'digits' reads no files: leave it"),
    ("good.yaml --set mix=mamx", "unknown mix 'mamx'"),
    ("good.yaml --set mix=mixup --set mix.omega=1", "mix 'mixup' has no knob 'omega'"),
    ("--preset mixup --space digits-lt --set mix.omega=1", "mix 'mixup' has no knob 'omega'"),
    ("good.yaml --out /proc/nothing", "cannot write to --out /proc/nothing"),
    ("provenance.yaml", "provenance.yaml: provenance: 'hello' is not a mapping"),
    ("digits-lt", "digits-lt is a search space: give the folder of a search of it, or train one"),
    (
        "li'ke.yaml",
        "li'ke.yaml is a search space: give the folder of a search of it, or train one of its "
        "presets with --preset NAME --space 'li'\"'\"'ke.yaml'\n",
    ),
]


@pytest.mark.parametrize(("args", "line"), WRONG_TRAININGS)
def test_a_training_that_cannot_be_is_one_line_and_leaves_nothing(
    args: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text("data: {name: digits, ratio: 10}\nmix: mamix\n")
    (tmp_path / "broken.yaml").write_text("mix: [")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "wrong.yaml").write_text("mix: {name: mixup, alfa: 1}")
    (tmp_path / "provenance.yaml").write_text("mix: mixup\nprovenance: hello\n")
    (tmp_path / "li'ke.yaml").write_text("like: digits-lt\n")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = invoke("train", *args.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything that is not an expected failure comes through as it is."""

    def bug(topic: str, *_: object) -> None:
        raise ZeroDivisionError(topic)

    monkeypatch.setattr("imbtune.cli.show.show_command", bug)
    with pytest.raises(ZeroDivisionError, match="knobs"):
        invoke("show", "knobs")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("1h30m", 5400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-3s", "0", "0m", "3 weeks", "1e3", "60", "1h30"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_duration(text)


def test_settings_are_read_as_yaml_reads_them() -> None:
    assert parse_settings(
        ["mix=mamix", "mix.omega=0.5", "optimizer.nesterov=true", "epochs=3"]
    ) == {
        "mix": "mamix",
        "mix.omega": 0.5,
        "optimizer.nesterov": True,
        "epochs": 3,
    }


DOUBLED = [
    ("train --preset mixup --preset mamix", "--preset is given 2 times, as mixup and mamix"),
    ("train --trial a 1 --trial b 2", "--trial is given 2 times, as a 1 and b 2"),
    ("search digits-lt --epochs 3 --epochs=4", "--epochs is given 2 times, as 3 and 4"),
    ("search digits-lt --name a --name a", "--name is given 2 times, as a and a"),
    ("search digits-lt --pack --no-pack", "--pack is given 2 times"),
    ("search digits-lt --skip-corrupt --skip-corrupt", "--skip-corrupt is given 2 times"),
    ("resume runs/s --trials 3 --trials 4 --trials 5", "--trials is given 3 times, as 3 and 4 and"),
    ("plan digits-lt --seed 1 --seed 2", "--seed is given 2 times, as 1 and 2"),
    ("calibrate digits-lt --data a --data b", "--data is given 2 times, as a and b"),
    ("show spaces --space a --space b", "--space is given 2 times, as a and b"),
    ("search digits-lt --set mix=mamix --set mix=none", "--set mix is given twice, as mamix and "),
    ("train --preset erm --set after=crt --set after=lws", "--set after is given twice"),
    ("search digits-lt --epochs 3 --set epochs=4", "--epochs 3 and --set epochs=4: give one"),
    ("train a.yaml --epochs 3 --set epochs=3", "--epochs 3 and --set epochs=3: give one"),
]


@pytest.mark.parametrize(("args", "line"), DOUBLED)
def test_an_option_given_twice_is_never_the_last_one_in_silence(
    args: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = invoke(*args.split())
    assert (code, out) == (2, "") and err.startswith(f"error: {line}") and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_option_that_takes_one_value_is_checked() -> None:
    """No command is left out, whoever adds it."""
    for command in app.registered_commands:
        assert command.cls is not None and issubclass(command.cls, OnceCommand)


@pytest.mark.parametrize("topic", list(Topic))
@pytest.mark.parametrize("width", [80, 100, 160])
def test_listings_are_whole_on_a_narrow_terminal(
    topic: Topic, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is longer, and every word of a cell is there uncut: rich cuts what does not fit."""
    wide = words_of(topic, 1000, monkeypatch)[0]
    words, lines = words_of(topic, width, monkeypatch)
    assert [line for line in lines if cell_len(line) > width] == []
    assert wide - words == Counter()


def words_of(
    topic: Topic, width: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Counter[str], list[str]]:
    """The words of the rows that `imbtune show` prints, without headings, and its lines."""
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = invoke("show", topic.value)
    assert code == 0
    headings = [line for line in out.splitlines() if "┃" in line]
    rows = [line for line in out.splitlines() if line not in headings]
    return Counter(re.findall(r"[^\s│┃━─┏┡└┓┩┘┳╇┴]+", "\n".join(rows))), out.splitlines()


def test_show_metrics_defines_every_metric() -> None:
    out = " ".join(invoke("show", "metrics")[1].split())
    assert all(f"│ {name} " in out for name in metrics.names())
    assert "mean recall of the classes with more than 100 training images" in out
    assert "mean recall of the classes with 20 to 100 training images" in out
    assert "mean recall of the classes with fewer than 20 training images" in out
    # A true minus sign, as everywhere, and no "inf"
    ranges = dict(re.findall(r"│ (\w+) │ [^│]+ │ (?:higher|lower) │ ([^│]+) │", out))
    assert ranges["mcc"] == ranges["cohen_kappa"] == "−1 to 1"
    assert ranges["log_loss"] == ranges["expected_cost"] == "from 0"
    assert ranges["brier"] == "0 to 2"
    assert metrics["brier"].help.endswith("for two classes half of it, 0 to 1")


def test_show_objectives_says_what_the_option_takes() -> None:
    out = " ".join(invoke("show", "objectives")[1].split())
    first, knobs = out.split("knobs of objectives")
    assert [name for name in objectives() if f"│ {name} " not in first] == []
    assert [name for name in GROUPS if f"│ {name} " in out] == []
    assert "'{name: recall_at_precision, precision: 0.9, of: CLASS}'" in first
    assert "│ log_loss │ │ its negative │ at rungs and in finals │" in first
    assert "│ f_beta │ beta │ 2.0 │ weight β of recall against precision, from 0.01 to " in knobs
    declared = [(m.name, knob) for m in map(metric_from, objectives()) for knob in m.knobs]
    assert [pair for pair in declared if f"│ {pair[0]} │ {pair[1]} │" not in knobs] == []


def test_show_presets_names_every_preset() -> None:
    out = invoke("show", "presets")[1]
    assert [name for name in PRESETS if f"│ {name} " not in out] == []


MINIO = "s3://studies/x?endpoint_override=http://127.0.0.1:9000&region=us-east-1"


@pytest.mark.parametrize(
    "words", [["search", "--storage", MINIO], ["search", f"--storage={MINIO}"], ["resume", MINIO]]
)
def test_the_options_of_an_address_are_no_keys(words: list[str]) -> None:
    _check_words(words)


@pytest.mark.parametrize("words", [["--set", "data=s3://K:hidden@b"], ["--data=s3://K:hidden@b"]])
def test_keys_behind_an_equals_sign_are_found(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="a key or a password") as caught:
        _check_words(words)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(("variable", "value"), [("WANDB_MODE", "nope"), ("WANDB_BASE_URL", "::")])
def test_settings_that_wandb_does_not_accept(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    wandb.teardown()  # what W&B has read from the environment for another test
    code, _, err = invoke("search", "digits-lt", "--wandb", "online")
    assert code == 2 and err.count("\n") == 1
    assert err.startswith(f"error: --wandb online: W&B does not accept the value of ${variable}")
    assert not list(tmp_path.iterdir())
