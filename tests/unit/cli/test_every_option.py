"""Every option of every command: a hostile value is one line, before anything starts."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from command import invoke

from imbtune.cli import main

BASE = {  # what a command needs besides, up to where it would start; there is no study to resume
    "search": ["digits-lt"],
    "plan": ["digits-lt"],
    "calibrate": ["digits-lt"],
    "compare": ["digits-lt"],
    "resume": ["runs/none"],
    "train": ["runs/none.yaml"],
}
NUMBERS = ["", "abc", "-1", "1.5", "nan", "1e9", "1000000000000000000001", "9" * 5000, "1/3"]
SHARES = ["", "abc", "-1", "nan", "inf", "1e999", "9" * 5000]
TEXTS = [
    "",
    "x" * 5000,
    "a\0b",
    "\x1b[31m",
    "\udcff",
    "abfs://c/x",
    "s3//b",
    "C:\\runs",
    "~nobody-x",
]
# Options that take any word: what they mean is found out later, by the study that is missing
FREE = {"wandb_project", "wandb_entity", "wandb_tags", "address", "reference", "presets"}


def options() -> list[tuple[str, str, list[str]]]:
    found = []
    for command in BASE:
        function = getattr(main, command)
        hints = get_type_hints(function, include_extras=True)
        for name in inspect.signature(function).parameters:
            if name == "ctx":
                continue
            kind, *declared = get_args(hints[name])
            info: Any = declared[0]
            if isinstance(info, typer.models.ArgumentInfo) or bool in (kind, *get_args(kind)):
                continue
            types = (kind, *get_args(kind))
            values = NUMBERS if int in types else SHARES if float in types else TEXTS
            values = values[:1] if name in FREE else values
            if name == "trial":  # two values; below
                continue
            flag = (info.param_decls or (f"--{name.replace('_', '-')}",))[0]
            found.append((command, flag, values))
    return found


OPTIONS = options()


def test_all_options_are_found() -> None:
    assert len(OPTIONS) > 60
    assert {command for command, _, _ in OPTIONS} == set(BASE)


@pytest.mark.parametrize(("command", "flag", "values"), OPTIONS)
def test_a_hostile_value_is_one_line(
    command: str, flag: str, values: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in values:
        if value == "1.5" and flag == "--epochs":
            continue
        code, out, err = invoke(command, *BASE[command], flag, value)
        assert (code, out) == (2, ""), (value, err)
        assert err.startswith("error: ") and err.count("\n") == 1
        assert err[:-1].isprintable() and len(err) < 2500
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "search digits-lt --trials 1000000000",
            " 1000000000: give a number of at most 100,000",
        ),
        (
            "plan digits-lt --epochs 1000000000",
            " 1000000000: give a number of at most 100,000",
        ),
        ("calibrate digits-lt --trials 10001", "--trials 10001: give a number of at most 10,000"),
        (
            "train --preset erm --space digits-lt --seeds 1001",
            "--seeds 1001: give a number of at most 1,000",
        ),
        ("train --trial runs/none abc", "--trial runs/none abc: give STUDY N, in this order"),
        ("train --trial s3//b 0", "it looks like a mistyped URI"),
        ("search digits-lt --time-budget 99999999999d", "up to ten years"),
        ("search digits-lt --gpus-per-trial nan", "--gpus-per-trial nan: give 1/n"),
        (f"search digits-lt --name {'a' * 181}", "has 181 bytes: give at most 180"),
        (
            f"search digits-lt --wandb offline --name {'a' * 129}",
            "129 characters, and W&B takes 128",
        ),
        (f"search digits-lt --set {'x' * 5000}=1", "unknown"),
        ("search digits-lt --set optimizer.lr=1e999", "optimizer.lr=inf is out of range"),
        ("search digits-lt --set mix=2024-01-01", "YAML reads 2024-01-01 as a date"),
        (f"search digits-lt --set mix={'[' * 3000}", "--set mix: '[[["),
        ("search digits-lt --set epochs=!!int", "the tag !!int: leave it out"),
        (f"show {'x' * 5000}", "is not one of"),
    ],
    ids=lambda text: text[:60],
)
def test_what_each_bound_says(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = invoke(*line.split(" "))
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1 and len(err) < 1000
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("columns", ["", "0", "5", "²", "-3", "9" * 30, "abc"])
def test_any_width_of_the_terminal(columns: str) -> None:
    with pytest.MonkeyPatch.context() as patch:  # pytest reads it when it reports the test
        patch.setenv("COLUMNS", columns)
        code, out, _ = invoke("show", "objectives")
    assert code == 0 and "balanced_accuracy" in out.replace("\n", "")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("nan", "a finite number"), ("2", "a number of at most 1"), ("x", "a number")],
)
def test_what_a_probability_must_be(value: str, wanted: str) -> None:
    code, _, error = invoke("predict", "model", "images", "--out", "p.csv", "--threshold", value)
    assert (code, error) == (2, f"error: --threshold {value}: give {wanted}\n")
