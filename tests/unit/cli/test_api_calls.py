"""Every command goes through the Python API, with each of its options under the API's own name."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
from command import invoke

import imbtune.cli
from imbtune import api
from imbtune.errors import ConfigError

SPACE_OPTIONS = (
    "--seed 3 --epochs 9 --cpus-per-trial 2 --max-concurrent 4 "
    "--storage there --data d --skip-corrupt --set mix=mamix --set data.ratio=20 "
    "--trust"
)
SPACE_ARGUMENTS: dict[str, Any] = {
    **{"seed": 3, "epochs": 9, "cpus_per_trial": 2},
    **{
        "max_concurrent": 4,
        "storage": "there",
        "data": "d",
        "skip_corrupt": True,
        "trust": True,
        "settings": {"mix": "mamix", "data.ratio": 20},
    },
}
SEARCH_OPTIONS = (
    "--objective macro_f1 "
    "--sampler random --rungs auto --calibration c --never-prune 0.5 --finals 2 --final-seeds 4"
)
SEARCH_ARGUMENTS: dict[str, Any] = {
    "objective": ["macro_f1"],
    **{"sampler": "random", "rungs": "auto", "calibration": "c", "never_prune": 0.5},
    **{"finals": 2, "final_seeds": 4},
}
COMMANDS: dict[str, tuple[str, dict[str, Any]]] = {
    "search": (
        f"digits-lt --trials 7 --name n --gpus-per-trial auto --pack --address a --wandb offline "
        f"--wandb-project p --wandb-entity e --wandb-tags x,y --tensorboard --mlflow "
        f"--time-budget 2m --progress json --max-failures 5 --trial-timeout 9m "
        f"{SPACE_OPTIONS} {SEARCH_OPTIONS}",
        {
            **{"space": "digits-lt", "trials": 7, "name": "n", "gpus_per_trial": "auto"},
            **{"pack": True, "address": "a", "wandb": "offline", "time_budget": 120.0},
            "progress": "json",
            **{"max_failures": 5, "trial_timeout": 540.0},
            **{"wandb_project": "p", "wandb_entity": "e", "wandb_tags": "x,y"},
            **{"tensorboard": True, "mlflow": True},
            **SPACE_ARGUMENTS,
            **SEARCH_ARGUMENTS,
        },
    ),
    "plan": (
        f"digits-lt --trials 7 --gpus 8 --cpus 64 --study s --gpus-per-trial 0.5 --price 2 "
        f"{SPACE_OPTIONS} {SEARCH_OPTIONS}",
        {
            **{"space": "digits-lt", "trials": 7, "gpus": 8, "cpus": 64, "study": "s"},
            **{"gpus_per_trial": 0.5},
            **SPACE_ARGUMENTS,
            **SEARCH_ARGUMENTS,
        },
    ),
    "calibrate": (
        f"digits-lt --trials 9 --name n --gpus-per-trial 0.5 --pack --address a "
        f"--wandb offline --wandb-project p --wandb-entity e --wandb-tags x,y --tensorboard "
        f"--mlflow --objective macro_f1 --progress plain --max-failures 5 --trial-timeout 9m "
        f"{SPACE_OPTIONS}",
        {
            **{"wandb": "offline", "wandb_project": "p", "wandb_entity": "e"},
            **{"wandb_tags": "x,y", "tensorboard": True, "mlflow": True},
            **{"space": "digits-lt", "trials": 9, "name": "n", "gpus_per_trial": 0.5},
            **{"pack": True, "address": "a", "objective": ["macro_f1"]},
            "progress": "plain",
            **{"max_failures": 5, "trial_timeout": 540.0},
            **SPACE_ARGUMENTS,
        },
    ),
    "compare": (
        f"digits-lt --presets erm,cb --study runs/a --study runs/b --seeds 2 --reference cb "
        f"--objective mcc --objective auroc "
        f"--name n --gpus-per-trial 0.5 --address a --progress json --max-failures 5 "
        f"--trial-timeout 9m {SPACE_OPTIONS}",
        {
            **{"max_failures": 5, "trial_timeout": 540.0},
            **{"space": "digits-lt", "presets": "erm,cb", "study": ["runs/a", "runs/b"]},
            "objective": ["mcc", "auroc"],
            **{"seeds": 2, "reference": "cb", "name": "n", "gpus_per_trial": 0.5, "address": "a"},
            "progress": "json",
            **SPACE_ARGUMENTS,
        },
    ),
    "resume": (
        "runs/n --trials 7 --finals 3 --gpus-per-trial 0.5 --cpus-per-trial 2 --max-concurrent 4 "
        "--no-pack --address a --time-budget 30m --data d --trust --max-failures 5 "
        "--trial-timeout 9m --retry-failed --progress plain",
        {
            **{"study": "runs/n", "trials": 7, "finals": 3},
            **{"gpus_per_trial": 0.5, "cpus_per_trial": 2},
            **{"max_concurrent": 4, "pack": False, "address": "a", "time_budget": 1800.0},
            **{"data": "d", "trust": True, "progress": "plain"},
            **{"max_failures": 5, "trial_timeout": 540.0, "retry_failed": True},
        },
    ),
    "train": (
        "best.yaml --preset erm --space digits-lt --seeds 5 --epochs 9 --out o --data d "
        "--skip-corrupt --set mix=mamix --objective mcc --baselines --trust --workers 2 "
        "--address a --progress json --ema 0.9 --calibrate 0.1 --ensemble --max-concurrent 3",
        {
            **{"ema": 0.9, "calibrate": 0.1, "ensemble": True, "max_concurrent": 3},
            **{"what": "best.yaml", "preset": "erm", "space": "digits-lt", "seeds": 5},
            **{"epochs": 9, "out": "o", "data": "d", "skip_corrupt": True},
            **{"settings": {"mix": "mamix"}, "baselines": True, "trust": True},
            **{"objective": ["mcc"]},
            **{"workers": 2, "address": "a", "progress": "json"},
        },
    ),
}
ONLY_COMMAND = {"price"}  # is multiplied by what `plan` returns


class CalledError(ConfigError):
    """Ends a command where it called the API, as any expected failure does."""


def recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command `name` calls the API with; it is filled when it does."""
    signature, arguments = inspect.signature(getattr(api, name)), dict[str, Any]()

    def record(*args: Any, **options: Any) -> None:
        arguments.update(signature.bind(*args, **options).arguments)
        raise CalledError("called")

    monkeypatch.setattr(api, name, record)
    return arguments


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_passes_every_option_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, arguments = COMMANDS[name]
    called = recorded(name, monkeypatch)
    assert invoke(name, *options.split()) == (2, "", "error: called\n")
    assert called == arguments


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_above_has_every_argument(name: str) -> None:
    """A new argument of the API must get an option, and a line in this test."""
    assert set(inspect.signature(getattr(api, name)).parameters) == set(COMMANDS[name][1])


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_those_of_the_api(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command without options does what the function does without arguments."""
    parameters = inspect.signature(getattr(api, name)).parameters
    called = recorded(name, monkeypatch)
    given = {"resume": {"study": "s"}, "train": {}}.get(name, {"space": "digits-lt"})
    invoke(name, *given.values())
    assert called
    for argument, value in called.items():
        if argument in given:
            assert value == given[argument]
        elif argument == "settings":
            assert value == {}
        else:
            assert value == parameters[argument].default, argument


def test_no_command_does_the_work_itself() -> None:
    """The command line has no other way to start a search or a training."""
    forbidden = {"run_search", "resume_search", "run_calibration", "resume_calibration"}
    forbidden |= {"run_comparison", "resume_comparison"}
    forbidden |= {"forecast_search", "train_final", "search_request", "from_settings"}
    for path in Path(imbtune.cli.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func).rpartition(".")[2] not in forbidden, path
