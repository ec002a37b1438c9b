"""The benchmarks: what they compute from what they measured, and what the documents show of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import bench
import driver
import memory
import optuna
import overhead
import pandas as pd
import plain_search
import pytest
import torch
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from searches import Searched
from spread import Row, quartiles

from imbtune.config.train_config import TrainConfig
from imbtune.methods.class_weights import effective_number, inverse
from imbtune.methods.losses import margin_softmax
from imbtune.methods.mixing.label_rules import margin_aware_label, remix_label
from imbtune.spaces.space_file import load_space
from imbtune.tuning.messages import TrialSpec

COUNTS = torch.tensor([100.0, 64, 41, 27, 17, 11, 7, 4, 3, 2])
MACHINE = {
    **{"cpu": "a processor", "cores": 2, "gpu": None, "date": "2026-01-02"},
    "versions": {"python": "3.11.1", "torch": "2.11"},
}
STARTUP = {"python": [0.01, 0.01, 0.02], "import": [0.02, 0.02, 0.03], "help": [0.1, 0.1, 0.2]}


# ---- what the documents show ---------------------------------------------------------------------


def keep(folder: Path, name: str, figures: Any, **machine: Any) -> None:
    content = json.dumps({"machine": {**MACHINE, **machine}, "figures": figures})
    (folder / f"{name}.json").write_text(content)


def test_each_machine_has_a_table_the_cpu_first(tmp_path: Path) -> None:
    keep(tmp_path, "startup-a100", STARTUP, gpu="A100")
    keep(tmp_path, "startup-cpu", STARTUP)
    lines = bench.section(tmp_path).splitlines()
    machines = [line for line in lines if line.endswith(":")]
    assert machines == [
        "2 cores of a processor, no GPU; python 3.11.1, torch 2.11; 2026-01-02:",
        "2 cores of a processor, A100; python 3.11.1, torch 2.11; 2026-01-02:",
    ]
    assert lines.count("| `imbtune --help`, s | 0.100 | 0.100–0.200 | < 0.3 |") == 2


def test_only_what_is_between_the_marks_is_replaced() -> None:
    document = f"before\n{bench.BEGIN}\nold\n{bench.END}\nafter\n"
    assert bench.written(document, "new") == f"before\n{bench.BEGIN}\n\nnew\n\n{bench.END}\nafter\n"
    with pytest.raises(ValueError, match="lacks its marks"):
        bench.written("before\nafter\n", "new")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([1234.6, 999.4, 2e6], "| x | 1,235 | 999–2,000,000 | 4 |"),
        ([0.04567, 0.5, 12.0], "| x | 0.0457 | 0.500–12.0 | 4 |"),
        ([100.0, 0.0, 404.2], "| x | 100 | 0.00–404 | 4 |"),
        ([0.5, 0.5, 0.5], "| x | 0.500 | 0.500–0.500 | 4 |"),
        ([0.5], "| x | 0.500 | one run | 4 |"),
    ],
)
def test_figures_have_three_digits(values: list[float], line: str) -> None:
    assert Row("x", values, "4").line() == line


def test_quartiles() -> None:
    assert quartiles([4, 1, 3, 2, 5]) == [3, 2, 4]
    assert quartiles([7]) == [7]


# ---- what they compute ---------------------------------------------------------------------------


def test_overhead_is_the_time_of_the_actors_that_no_trial_has() -> None:
    """Two actors, literally: 0.1 s between trials on one, 0.3 s on the other; no idle end."""
    rows, gaps = [], (0.1, 0.3)
    for actor, trials in enumerate(([0, 2, 3, 4], [1, 5])):
        now = 10.0 + actor
        for n in trials:
            now += gaps[actor] + n + 1
            rows.append({"trial": n, "ended": now, "seconds": n + 1.0})
    done = Searched(0.0, 99.0, 2, pd.DataFrame(rows).sort_values("ended"), pd.DataFrame())
    assert overhead.between(done) == pytest.approx(1000 * (3 * 0.1 + 0.3) / 4)


def test_a_driver_of_instant_trials_records_every_trial() -> None:
    figures = driver.search(40, "tpe", driver.simulated)
    assert {name: len(tenths) for name, tenths in figures.items()} == dict.fromkeys(
        ("sampler", "rest", "wall", "memory"), driver.TENTHS
    )
    assert all(value > 0 for value in figures["rest"] + figures["memory"])
    twice = driver.over_repeats([figures, figures])
    assert [middle for middle, _, _ in twice["wall"]] == figures["wall"]


def test_instant_trials_report_as_actors_do() -> None:
    """Every epoch once, the rungs of the space, and an end."""
    space = load_space("digits-lt")
    spec = TrialSpec.single_run(3, space.base().flat(), without_rungs=False)
    found = driver.reports(spec, space)
    assert [epoch.epoch for report in found for epoch in report.epochs] == list(range(1, 82))
    assert [(r.rung[0].budget, r.is_last) for r in found] == [(27, False), (81, True)]


def test_memory_knows_the_processes_below_a_search() -> None:
    me = Path(f"/proc/{os.getpid()}")
    assert memory._is_below(me, os.getppid())
    assert not memory._is_below(Path(f"/proc/{os.getppid()}"), os.getpid())


# ---- the plain search is the same search ---------------------------------------------------------


def test_the_plain_space_is_that_of_digits_lt() -> None:
    """The same parameters with the same ranges, and active together as often."""
    space = load_space("digits-lt")
    found = []
    for suggest in (plain_search.space, lambda trial: space.suggest(trial, 0)):
        study = optuna.create_study(sampler=RandomSampler(seed=0))
        ranges: dict[str, int] = {}
        for _ in range(400):
            trial = study.ask()
            suggest(trial)
            for distribution in trial.distributions.values():
                name = str(distribution)
                if isinstance(distribution, FloatDistribution):  # 1 - 0.99999 is not 1e-5
                    name = f"{distribution.low:.6g} {distribution.high:.6g} {distribution.log}"
                ranges[name] = ranges.get(name, 0) + 1
        found.append(ranges)
    assert set(found[0]) == set(found[1])
    for name, times in found[0].items():
        assert abs(times - found[1][name]) < 80, name


@pytest.mark.parametrize("lam", [0.0, 0.1, 0.4, 0.7, 1.0])
@pytest.mark.parametrize(("n_i", "n_j"), [(100.0, 2.0), (2.0, 100.0), (4.0, 3.0)])
def test_the_plain_label_rules_are_ours(lam: float, n_i: float, n_j: float) -> None:
    config = {"mix": "mamix", "omega": 0.3, "kappa": 3.0, "remix_tau": 0.5}
    given = [torch.tensor([value]) for value in (lam, n_i, n_j)]
    expected = margin_aware_label(*given, omega=0.3).item()
    assert plain_search.label_share(config, lam, n_i, n_j) == pytest.approx(expected, abs=1e-6)
    remix = plain_search.label_share({**config, "mix": "remix"}, lam, n_i, n_j)
    assert remix == pytest.approx(remix_label(*given, kappa=3.0, tau=0.5).item())


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "ce"},
        {"loss": "ldam", "loss.margin": 0.4, "loss.scale": 20.0},
        {"loss": "logit_adjustment", "loss.tau": 1.5},
        {"loss": "vs", "loss.tau": 0.5, "loss.slope": 0.2},
    ],
)
def test_the_plain_losses_are_ours(settings: dict[str, Any]) -> None:
    logits, labels = torch.randn(30, 10).tanh(), torch.randint(0, 10, (30,))
    config = {name.removeprefix("loss."): value for name, value in settings.items()}
    plain = plain_search.margin_loss(config, logits, labels, COUNTS)
    vectors = TrainConfig.from_settings(settings).loss.make(COUNTS)
    torch.testing.assert_close(plain, margin_softmax(logits, labels, vectors))


def test_the_plain_weights_are_ours() -> None:
    config: dict[str, Any] = {"weights": "inverse", "power": 0.7, "schedule": "always"}
    torch.testing.assert_close(
        plain_search.class_weights(config, COUNTS, 0.0), inverse(COUNTS, power=0.7)
    )
    config |= {"weights": "effective_number", "one_less_beta": 1e-3, "schedule": "linear"}
    full = effective_number(COUNTS, beta=1 - 1e-3)
    plain = plain_search.class_weights(config, COUNTS, 1.0)
    torch.testing.assert_close(plain, full, rtol=1e-4, atol=1e-4)
    half = plain_search.class_weights(config, COUNTS, 0.5)
    torch.testing.assert_close(half, (full + 1) / 2, rtol=1e-4, atol=1e-4)
