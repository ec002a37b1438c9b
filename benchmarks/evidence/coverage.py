"""How often the evidence of a search is right, over many draws of its validation images.

    python benchmarks/evidence/record_predictions.py --out FOLDER
    python benchmarks/evidence/coverage.py --recorded FOLDER --draws 1000

Each draw is a search: a validation set is drawn from the population, every configuration is scored
by one run, the best five and the best preset are trained with three more seeds, and the winner and
its evidence are what imbtune makes of these. The true scores are known. Prints a row of a table for
each population: in how many of 100 searches the 95 % interval holds the true value, and in how many
a winner that is not better is called "better than the best preset" (the interval of its lead is
above 0). `before` counts seeds alone, as imbtune did without the images. Finished rows are kept in
`--out`, and not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from populations import (
    Drawn,
    Recorded,
    Score,
    Simulated,
    average_precision,
    balanced_accuracy,
    geometric_mean,
    negative_log_loss,
    worst_class,
)

from imbtune.metrics.metric import objective_from
from imbtune.metrics.score_error import image_groups
from imbtune.study.data_size import class_counts, score_scale
from imbtune.study.evidence import Evidence, decide, evidence_of
from imbtune.study.records import FinalRecord

FINALISTS, SEEDS = 5, 3
OBJECTIVES: dict[Score, str | dict[str, str]] = {
    balanced_accuracy: "balanced_accuracy",
    worst_class: "worst_class",
    geometric_mean: "g_mean",
    negative_log_loss: "log_loss",
    average_precision: {"name": "average_precision", "of": "1"},
}


def search(
    drawn: Drawn, score: Score, presets: int, rng: np.random.Generator
) -> tuple[int, int | None, list[Evidence]]:
    """The winner, the best preset, and the evidence after and before."""
    labels_M = drawn.labels_M
    finished = dict(enumerate(score(drawn.trials_CM, labels_M).tolist()))
    ranked = sorted(finished, key=lambda n: (-finished[n], n))
    best_preset = next(n for n in ranked if n < presets)
    finalists = sorted({*ranked[:FINALISTS], best_preset})
    values_FSM = drawn.runs(np.array(finalists), SEEDS)
    scores_FS = score(values_FSM, labels_M)
    groups_M = image_groups(labels_M)
    without_FSG = np.stack(
        [
            score(values_FSM[..., groups_M != group], labels_M[groups_M != group])
            for group in range(groups_M.max() + 1)
        ],
        -1,
    )
    with_images = [
        FinalRecord(n, s, float(scores_FS[i, s]), scores_without_groups=without_FSG[i, s].tolist())
        for i, n in enumerate(finalists)
        for s in range(SEEDS)
    ]
    seeds_alone = [FinalRecord(final.trial, final.seed, final.score) for final in with_images]
    winner, baseline = decide(finished, range(presets), with_images)
    assert winner is not None
    objective = objective_from(OBJECTIVES[score])
    count_K = np.bincount(labels_M)
    counts = class_counts([str(k) for k in range(len(count_K))], count_K, count_K)
    bounds, scale = objective.bounds, score_scale(objective, counts)
    found = [
        evidence_of(finals, winner, baseline, bounds, finished, range(presets), scale)
        for finals in (with_images, seeds_alone)
    ]
    assert found[0] and found[1]
    return winner, baseline, [found[0], found[1]]


def measure(population: Recorded | Simulated, draws: int, seed: int = 0) -> dict[str, float]:
    """The shares of searches in which the evidence is right, and wrong."""
    rng = np.random.default_rng(seed)
    held: dict[str, list[float]] = {}
    for _ in range(draws):
        drawn = population.draw(rng)
        winner, baseline, both = search(drawn, population.score, population.presets, rng)
        truth_C = drawn.truth_C
        for when, evidence in zip(("after", "before"), both, strict=True):

            def add(name: str, value: float, when: str = when) -> None:
                held.setdefault(f"{name}, {when}", []).append(value)

            assert evidence.low is not None and evidence.high is not None
            add("mean", evidence.low <= truth_C[winner] <= evidence.high)
            if evidence.images and evidence.mean_corrected is not None:
                add("bias of the mean", evidence.mean_corrected - truth_C[winner])
            else:
                add("bias of the mean", evidence.mean - truth_C[winner])
            if evidence.lead is None or baseline is None:
                add("wrong", 0.0)
                continue
            assert evidence.lead_low is not None and evidence.lead_high is not None
            lead = truth_C[winner] - truth_C[baseline]
            add("lead", evidence.lead_low <= lead <= evidence.lead_high)
            if not evidence.failed_runs:
                add("lead without failed runs", evidence.lead_low <= lead <= evidence.lead_high)
            add("wrong", lead <= 1e-12 and evidence.is_better)
            add("found", lead > 1e-12 and evidence.is_better)
            add("bias of the lead", (evidence.lead_corrected or evidence.lead) - lead)
            add("length of the lead's interval", evidence.lead_high - evidence.lead_low)
    return {name: float(np.mean(values)) for name, values in held.items()} | {
        "leads": len(held.get("lead, after", ()))
    }


def populations(folder: Path | None) -> Iterator[tuple[str, Recorded | Simulated]]:
    """The rows of the table."""
    if folder is not None:
        runs = [path.stem.rpartition("-") for path in folder.glob("*-*.npy")]
        found: dict[str, set[int]] = {}
        for name, _, seed in runs:
            found.setdefault(name, set()).add(int(seed))
        configs = sorted(found, key=lambda name: (name.isdigit(), name))
        presets = sum(not name.isdigit() for name in configs)
        seeds = min(len(seeds) for seeds in found.values())
        null = max(found, key=lambda name: len(found[name]))
        for score in (balanced_accuracy, worst_class):
            yield (
                f"digits-lt, {score.__name__}",
                Recorded(folder, configs, presets, seeds, score),
            )
        for trials in (24, 300):
            yield (
                f"digits-lt, balanced_accuracy, {trials} equal trials",
                Recorded(
                    folder, [null], presets, len(found[null]), balanced_accuracy,
                    is_null=True, configs=trials,
                ),
            )  # fmt: skip
        for name, metric, per_class in (
            ("balanced_accuracy, 12 images a class", balanced_accuracy, 12),
            ("g_mean", geometric_mean, 30),
            ("log_loss", negative_log_loss, 30),
        ):
            yield (
                f"digits-lt, {name}",
                Recorded(folder, configs, presets, seeds, metric, per_class),
            )
        yield (
            "digits-lt, balanced_accuracy, 12 images a class, 100 equal trials",
            Recorded(
                folder, [null], presets, len(found[null]), balanced_accuracy, 12,
                is_null=True, configs=100,
            ),
        )  # fmt: skip
    ten, rare, many = (30,) * 10, (500, 25), (10,) * 100
    yield "10 classes, nothing differs, 24 trials", Simulated(ten, 24, balanced_accuracy, 0)
    yield "10 classes, nothing differs, 300 trials", Simulated(ten, 300, balanced_accuracy, 0)
    yield "10 classes, 24 trials", Simulated(ten, 24, balanced_accuracy, 0.1)
    yield "10 classes, 300 trials", Simulated(ten, 300, balanced_accuracy, 0.1)
    yield "10 classes, worst_class, 24 trials", Simulated(ten, 24, worst_class, 0.1)
    yield "100 classes of 10 images, 40 trials", Simulated(many, 40, balanced_accuracy, 0.05)
    for spread, text in ((0.0, "nothing differs"), (0.2, "24 trials")):
        yield (
            f"25 of 525 positive, average_precision, {text}",
            Simulated(rare, 24, average_precision, spread, ease=1.5),
        )
    five, uneven, thousand = (12,) * 5, tuple(range(8, 68, 3)), (5,) * 1000
    yield "5 classes of 12 images, 40 trials", Simulated(five, 40, balanced_accuracy, 0.15)
    for of, shared, own in (("shared", 0.8, 0.1), ("of the run", 0.2, 0.2)):
        yield (
            f"20 classes of 8 to 65 images, 60 trials, noise mostly {of}",
            Simulated(uneven, 60, balanced_accuracy, 0.08, shared=shared, own=own),
        )
    yield (
        "10 classes, 40 trials, seeds that vary much",
        Simulated(ten, 40, balanced_accuracy, 0.1, seed_spread=0.2),
    )
    yield (
        "10 classes, nothing differs, 40 trials, few errors",
        Simulated(ten, 40, balanced_accuracy, 0, ease=2.2),
    )
    yield (
        "60 of 2,060 positive, average_precision, 80 trials",
        Simulated((2000, 60), 80, average_precision, 0.15, ease=1.5),
    )
    yield (
        "1,000 classes of 5 images, 30 trials",
        Simulated(thousand, 30, balanced_accuracy, 0.04),
    )
    # These were first drawn when the method was final: it was not chosen by them.
    for title, population in (
        (
            "3 classes of 15, 60 and 200 images, 50 trials",
            Simulated((15, 60, 200), 50, balanced_accuracy, 0.1),
        ),
        (
            "30 classes of 20 images, 100 trials, noise mostly of the configuration",
            Simulated((20,) * 30, 100, balanced_accuracy, 0.06, shared=0.2, own=0.6),
        ),
        (
            "10 classes of 100 images, 200 trials",
            Simulated((100,) * 10, 200, balanced_accuracy, 0.05),
        ),
        (
            "2 classes of 40 and 300 images, nothing differs, 150 trials",
            Simulated((300, 40), 150, balanced_accuracy, 0),
        ),
        (
            "150 of 1,050 positive, average_precision, 40 trials",
            Simulated((900, 150), 40, average_precision, 0.1, ease=1.0),
        ),
        (
            "15 of 1,015 positive, average_precision, nothing differs, 30 trials",
            Simulated((1000, 15), 30, average_precision, 0, ease=2.0),
        ),
        (
            "12 classes of 25 images, 30 trials, few are correct",
            Simulated((25,) * 12, 30, balanced_accuracy, 0.2, ease=-0.3),
        ),
    ):
        yield f"unseen: {title}", population


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recorded", type=Path)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/evidence/coverage.json"))
    options = parser.parse_args()
    rows = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name, population in populations(options.recorded):
        if name in rows or options.only not in name:
            continue
        rows[name] = {"draws": options.draws} | measure(population, options.draws)
        options.out.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")
        print(line(name, rows[name]), flush=True)


def line(name: str, row: dict[str, float]) -> str:
    """A row of the table in Markdown."""
    cells = [
        f"{100 * row[f'{what}, {when}']:.1f}"
        for what in ("mean", "lead", "wrong")
        for when in ("before", "after")
    ]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
