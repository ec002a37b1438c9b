"""Everything that needs a GPU, in one command with a time limit; `gpu.sh` starts it.

    python benchmarks/gpu.py --out FOLDER [--minutes 9]

Parts, in this order; each writes its results to FOLDER/gpu.json as soon as it has them:

    tests    the tests that are skipped without a GPU, and those that compare CPU and GPU
    step     imbtune's training step against a plain loop, with and without its CUDA graph
    trials   1, 2, 4 and 8 trials of a ResNet-32 on one GPU, in one process and in several
    rows     ERM, Mixup-DRW and MAMix-DRW on CIFAR-10-LT at full length, four runs at a time; needs
             $IMBTUNE_DATA

It needs torch, torchvision, NumPy, PyArrow, PyYAML and pytest with Hypothesis, but neither Ray nor
Optuna. A part that fails is recorded with its error, and the next one runs.

    python benchmarks/gpu.py --subset FOLDER_WITH_CIFAR10 --out FOLDER

writes the 12,406 training images of CIFAR-10-LT and the test images to FOLDER/cifar10-lt, which
$IMBTUNE_DATA may name, for a machine to which the whole data set cannot be copied: 50 MB of PNG.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import step
import torch
from machine import here_and_now
from numpy.typing import NDArray
from PIL import Image

from imbtune.config.train_config import TrainConfig
from imbtune.data.data_source import DataSource, data_root
from imbtune.data.load import load
from imbtune.data.splits import Preprocessing, Splits, final_splits
from imbtune.metrics.metric import compute
from imbtune.metrics.predictions import Confusion
from imbtune.spaces.space_file import load_space
from imbtune.training.cost.shared_device import measure_shared_device
from imbtune.training.device.device_data import DeviceData
from imbtune.training.loop import train_epoch
from imbtune.training.phases import whole_run
from imbtune.training.state import TrainState, pick_device

TESTS = [
    "tests/unit/training/test_cuda_graphs.py",
    "tests/unit/methods/test_methods.py",
    "tests/unit/training/test_published_steps.py",
    "tests/unit/training/test_step.py",
]
TEST_SECONDS = 150
COUNTS = (1, 2, 4, 8)
PRESETS = ("erm", "mixup_drw", "mamix_drw")
PUBLISHED = {"erm": 0.7123, "mixup_drw": 0.8211, "mamix_drw": 0.8229}  # best epoch on the test set
SUBSET_IMAGES = 12406
AT_ONCE = 4  # rows that are trained at the same time
HERE = Path(__file__).resolve().parent


# ---- parts ---------------------------------------------------------------------------------------


def tests(deadline: float) -> dict[str, Any]:
    """Exit status and last lines of pytest."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *TESTS]
    limit = min(TEST_SECONDS, deadline - time.monotonic())
    try:
        done = subprocess.run(
            command, cwd=HERE.parent, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired as late:
        output = (late.stdout or b"").decode(errors="replace")
        return {"status": None, "seconds": limit, "output": output[-4000:]}
    return {"status": done.returncode, "output": done.stdout[-8000:] + done.stderr[-2000:]}


def steps(deadline: float) -> dict[str, Any]:
    """Images per second of both loops, as `step.py` measures them."""
    return step.measure(repeats=3)


def trials(deadline: float) -> dict[str, Any]:
    """Image passes per second and memory of several trials on the device."""
    config = TrainConfig.from_settings({**_cifar_preset("mamix_drw", 0).flat(), "data": "digits"})
    images, names = step.noise(), tuple(map(str, range(step.CLASSES)))
    splits = Splits(images, images, names, Preprocessing(step.MEAN, step.STD, pad=4, flip=True))
    device, threads, found = pick_device(), len(os.sched_getaffinity(0)), {}
    for kind in ("processes", "pack"):
        results = measure_shared_device(
            [config], splits, device, COUNTS, threads, pack=kind == "pack"
        )
        found[kind] = [asdict(result) for result in results]
    return found


def rows(deadline: float) -> dict[str, Any]:
    """The rows that were finished before the deadline, seed by seed, and how many were not.

    Raises:
        RuntimeError: a row failed; the message has the end of its output.
    """
    if data_root(None) is None:
        raise FileNotFoundError("set $IMBTUNE_DATA to a folder with CIFAR-10")
    waiting = [(preset, seed) for seed in range(5) for preset in PRESETS]
    running: list[subprocess.Popen[str]] = []
    results: list[dict[str, Any]] = []
    failed = ""
    longest = 0.0
    while waiting or running:
        left = deadline - time.monotonic()
        while waiting and not failed and len(running) < AT_ONCE and left > 1.2 * longest:
            preset, seed = waiting.pop(0)
            command = [sys.executable, __file__, "--row", preset, str(seed)]
            pipe = subprocess.PIPE
            running.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True))
        for process in [p for p in running if p.poll() is not None]:
            running.remove(process)
            output, errors = process.communicate()
            if process.returncode:
                failed = errors[-2000:]
                continue
            results.append(json.loads(output.splitlines()[-1]))
            longest = max(longest, results[-1]["seconds"])
        if left <= 0 or not running:
            break
        time.sleep(0.2)
    for process in running:
        process.kill()
        process.communicate()
    if failed and not results:
        raise RuntimeError(f"a row failed: {failed}")
    return {"finished": results, "cut_off": len(running), "error": failed or None}


# ---- one row -------------------------------------------------------------------------------------


def _cifar_preset(preset: str, seed: int) -> TrainConfig:
    return load_space("cifar10-lt").preset(preset).replace(seed=seed)


def row(preset: str, seed: int, epochs: int | None) -> dict[str, Any]:
    """Train and test a preset of `cifar10-lt`.

    The test set is also evaluated after each epoch, because the published figures are those of the
    best epoch on it. imbtune's own figure is that of the last epoch.
    """
    config = _cifar_preset(preset, seed)
    if epochs:
        config = config.replace(epochs=epochs)
    started = time.monotonic()
    data = DeviceData(_cifar_splits(config), pick_device())
    state = TrainState(config, data)
    by_epoch = []
    for epoch in whole_run(config.epochs, config.schedule.shared):
        train_epoch(state, data, epoch)
        by_epoch.append(state.evaluation(data))
    accuracies = [
        compute(Confusion.of(e.confusion_KK, data.counts_K))["accuracy"] for e in by_epoch
    ]
    return {
        "preset": preset,
        "seed": seed,
        "epochs": config.epochs,
        "last": compute(Confusion.of(by_epoch[-1].confusion_KK, data.counts_K)),
        "best_epoch_on_test": max(a for a in accuracies if a is not None),
        "published_best_epoch": PUBLISHED[preset],
        "seconds": time.monotonic() - started,
    }


def _cifar_splits(config: TrainConfig) -> Splits:
    root = data_root(None)
    dataset = load("cifar10", config.data.knobs, DataSource(root))
    if len(dataset.train) == SUBSET_IMAGES:  # what `--subset` wrote
        return Splits(dataset.train, dataset.test, dataset.classes, dataset.preprocessing)
    return final_splits(dataset, config.data.shared)


def write_subset(folder: Path, out: Path) -> Path:
    """Write the training images of CIFAR-10-LT and the test images to `out`/cifar10-lt."""
    config = _cifar_preset("erm", 0)
    dataset = load("cifar10", config.data.knobs, DataSource(folder))
    splits = final_splits(dataset, config.data.shared)
    target = out / "cifar10-lt"
    target.mkdir(parents=True, exist_ok=True)
    for name, images in (("train", splits.train), ("test", splits.held_out)):
        pixels_NHWC = np.asarray(images.pixels).transpose(0, 2, 3, 1)
        encoded = [{"bytes": _png(pixels_HWC), "path": None} for pixels_HWC in pixels_NHWC]
        table = pa.table({"img": encoded, "label": images.labels})
        pq.write_table(table, target / f"{name}-00000-of-00001.parquet")
    return target


def _png(pixels_HWC: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


# ---- the command ---------------------------------------------------------------------------------

PARTS: dict[str, Callable[[float], Any]] = {
    "tests": tests,
    "step": steps,
    "trials": trials,
    "rows": rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--subset", type=Path, metavar="FOLDER", help="write the subset")
    parser.add_argument("--row", nargs=2, metavar=("PRESET", "SEED"), help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        found = row(options.row[0], int(options.row[1]), options.epochs)
        print(json.dumps(found, allow_nan=False))
        return
    if options.subset:
        print(write_subset(options.subset, options.out))
        return
    # Reserved: the time in which Python starts and the last results are written.
    deadline = time.monotonic() + 60 * options.minutes - 15
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": here_and_now()}
    for name in options.parts:
        started = time.monotonic()
        try:
            results[name] = PARTS[name](deadline)
        except Exception:  # the other parts must still run
            results[name] = {"error": traceback.format_exc()}
        results[f"{name}_seconds"] = round(time.monotonic() - started, 1)
        text = json.dumps(results, indent=1, allow_nan=False)
        (options.out / "gpu.json").write_text(text + "\n", encoding="utf-8")
        print(f"{name}: {results[f'{name}_seconds']} s", file=sys.stderr)
    print(text)
    if not torch.cuda.is_available():
        sys.exit("error: PyTorch finds no GPU: the results are those of the CPU")


if __name__ == "__main__":
    main()
