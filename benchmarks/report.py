"""Size of the report and the time that it takes, for a study of 10,000 trials.

python benchmarks/report.py [--repeats 3]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from spread import Results, Row, print_results, quartiles

from imbtune.report.pages.study_page import study_page
from imbtune.report.study_data import StudyData
from imbtune.study.evidence import decide, evidence_of
from imbtune.study.records import COMPLETE, FinalRecord

ABOUT = (
    "The report of a made-up study in memory: 10,000 trials, 100 classes, 19 searched knobs, rungs "
    "at 10, 30 and 90 epochs, 6 finalists with 3 seeds. Browser: Debian's Chromium, from opening "
    "the file until the first figures that can be dragged over are drawn."
)
BUDGETS = (10, 30, 90)
SLOTS = {
    "mix": ["none", "mixup", "mamix", "smote", "cutmix"],
    "loss": ["ce", "ldam", "logit_adjustment", "vs"],
    "weights": ["none", "effective_number", "inverse"],
    "sampler": ["instance", "class_balanced"],
    "weights.schedule": ["always", "deferred", "linear"],
}
NUMBERS = {  # knobs by the slot's value with which they act; "" for always
    **{f"mix.knob_{i}": "mamix" if i % 2 else "mixup" for i in range(5)},
    **{f"loss.knob_{i}": "vs" if i % 2 else "ldam" for i in range(4)},
    "weights.beta": "effective_number",
    "optimizer.lr": "",
    "optimizer.weight_decay": "",
    "optimizer.momentum": "",
    "schedule.cooldown": "",
}


def made_study(trials: int = 10_000, classes: int = 100, seed: int = 0) -> StudyData:
    """A study that no search made: a third of its trials pass each rung, one in 50 fails."""
    rng = np.random.default_rng(seed)
    counts = np.maximum(1, (500 * 0.01 ** (np.arange(classes) / max(1, classes - 1))).astype(int))
    columns = {name: rng.choice(values, trials) for name, values in SLOTS.items()}
    quality = 0.5 + 0.05 * (columns["mix"] == "mamix") + 0.04 * (columns["loss"] == "ldam")
    quality = quality + 0.05 * rng.standard_normal(trials)
    frame = pd.DataFrame({"trial": range(trials), **columns})
    for name, part in NUMBERS.items():
        values = 10 ** rng.uniform(-3, 0, trials)
        slot = name.partition(".")[0]
        frame[name] = np.where(frame[slot] == part, values, np.nan) if part else values
        quality = quality - 0.01 * np.nan_to_num(np.log10(values) + 1.5) ** 2
    reached = rng.choice([0, 1, 2, 3], trials, p=[0.02, 0.65, 0.22, 0.11])
    scores = np.stack(
        [quality + 0.1 * i + 0.02 * rng.standard_normal(trials) for i in range(3)]
    ).clip(0, 1)
    last = np.maximum(reached - 1, 0)
    failed = reached == 0
    recall = (scores[last, range(trials)][:, None] * counts**0.05 / counts.mean() ** 0.05).clip(
        0, 1
    )
    start = pd.Timestamp("2026-01-01", tz="UTC")
    seconds = 60.0 * np.array(BUDGETS)[last]
    began = start + pd.to_timedelta(np.arange(trials) // 16 * 900.0, unit="s")
    more: dict[str, Any] = {
        "trunk": range(trials),
        "preset": [f"preset_{i}" if i < 7 else None for i in range(trials)],
        "state": np.select([failed, reached == 3], ["FAIL", COMPLETE], "PRUNED"),
        "score": np.where(failed, np.nan, scores[last, range(trials)]),
        "budget": np.where(failed, 0, np.array(BUDGETS)[last]),
        "rung_budgets": [list(BUDGETS[:n]) for n in reached],
        "rung_scores": [scores[:n, i].tolist() for i, n in enumerate(reached)],
        "rescued": np.where((reached == 3) & (rng.random(trials) < 0.05), 10.0, np.nan),
        "cutoff": np.where((reached > 0) & (reached < 3), 0.55 + 0.1 * last, np.nan),
        "recall": list(recall),
        "images": 1e6 * np.where(failed, 0, np.array(BUDGETS)[last]),
        "seconds": np.where(failed, np.nan, seconds),
        "started": began,
        "ended": began + pd.to_timedelta(seconds, unit="s"),
        "host": [f"node-{i % 4}" for i in range(trials)],
        "gpu": pd.array([i % 4 for i in range(trials)], dtype="Int64"),
        "error": [f"CUDA out of memory: {i} MiB" if bad else None for i, bad in enumerate(failed)],
    }
    frame = frame.assign(**more)
    frame["recall"] = frame["recall"].where(~failed, None)
    best = frame[frame["state"] == COMPLETE].nlargest(5, "score")["trial"].tolist()
    presets = frame[frame["preset"].notna() & (frame["state"] == COMPLETE)]["trial"].tolist()
    finalists = [*best, *presets[:1]]
    frame["finalist"] = frame["trial"].isin(finalists)
    finals = [
        FinalRecord(n, s, float(quality[n] + 0.2 + 0.01 * rng.standard_normal()))
        for n in finalists
        for s in (1, 2, 3)
    ]
    winner, baseline = decide({}, presets, finals)
    rows_of = [
        {
            **vars(final),
            "images": 9e7,
            "recall": recall[final.trial],
            "confusion": _confusion(classes, rng),
        }
        for final in finals
    ]
    runs = pd.DataFrame(rows_of)
    epochs = np.tile(np.arange(1, 91), 60)
    curves = pd.DataFrame(
        {
            "trial": np.repeat([*finalists, *range(60 - len(finalists))], 90),
            "epoch": epochs,
            "phase": "trunk",
            "budget": 90,
            "balanced_accuracy": 0.7 * (1 - np.exp(-epochs / 20)),
        }
    )
    knobs = {name: " | ".join(values) for name, values in SLOTS.items()}
    knobs |= dict.fromkeys(NUMBERS, "0.001 to 1, log")
    info = {
        "name": "made-up",
        "started": "2026-01-01T00:00:00Z",
        "trials": trials,
        "end": "finished",
        "command": "imbtune search made-up",
        "rungs": {"kind": "cooldown", "budgets": list(BUDGETS)},
        "data": {
            "counts": counts.tolist(),
            "validation_counts": [50] * classes,
            "classes": [f"class {i}" for i in range(classes)],
        },
        "space": {"name": "made-up", "objective": "balanced_accuracy", "knobs": knobs},
    }
    return StudyData(
        path="runs/made-up",
        info=info,
        trials=frame,
        curves=curves,
        finals=runs,
        winner=winner,
        baseline=baseline,
        evidence=evidence_of(finals, winner, baseline),
    )


def _confusion(classes: int, rng: np.random.Generator) -> list[dict[str, int]]:
    """Most images of each class predicted correctly, some as another one."""
    found = []
    for label in range(classes):
        other = int(rng.integers(classes))
        found.append({"label": label, "predicted": label, "count": 40})
        if other != label:
            found.append({"label": label, "predicted": other, "count": 10})
    return found


def in_browser(path: Path) -> float | None:
    """Seconds until the first interactive figures are drawn; None without Chromium."""
    from playwright.sync_api import sync_playwright

    if not Path("/usr/bin/chromium").exists():
        return None
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        started = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        page.locator("#figure-scores [data-figure]").scroll_into_view_if_needed()
        page.wait_for_selector("#figure-scores [data-drawn=yes]")
        seconds = time.perf_counter() - started
        browser.close()
    return seconds


def measure(repeats: int = 3) -> Results:
    """Quartiles of the seconds and the size."""
    study = made_study()
    seconds, sizes, browser = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.html")
        for _ in range(repeats + 1):  # the first one loads libraries
            started = time.perf_counter()
            page = study_page(study)
            seconds.append(time.perf_counter() - started)
            path.write_text(page, encoding="utf-8")
            sizes.append(path.stat().st_size / 1e6)
        for _ in range(repeats):
            if (drawn := in_browser(path)) is not None:
                browser.append(drawn)
    found = {"seconds": quartiles(seconds[1:]), "size": quartiles(sizes)}
    return found | ({"browser": quartiles(browser)} if browser else {})


def rows(results: Results) -> list[Row]:
    """The rows of the table."""
    found = [
        Row("writing the report, s", results["seconds"]),
        Row("the file, MB", results["size"], "< 2"),
    ]
    if "browser" in results:
        found.append(Row("in the browser until a figure can be used, s", results["browser"]))
    return found


if __name__ == "__main__":
    print_results(measure, __doc__, repeats=3)
