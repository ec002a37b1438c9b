"""Images per second in training, against a plain loop and against the machine's peak FLOP rate.

    python benchmarks/step.py [--repeats 5] [--model resnet32] [--precision auto]

The plain loop has a DataLoader whose workers augment with PIL, float32, and, as the reference
package of arXiv 2308.15457, a second forward pass for the running accuracy and a label rule in
Python. Both loops train margin-aware Mixup at batch 128 on random images of CIFAR's size, with all
threads of the machine. Each measurement runs in a new process and follows three warm-up epochs: the
first epochs of a process are slower, since it still allocates memory. On a GPU our step is also
measured without its CUDA graph. The peak is that of a 2048×2048 matrix product in the precision of
the step.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from spread import Results, Row, quartiles
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Images, Preprocessing, Splits
from imbtune.runtime import keep_freed_memory
from imbtune.training.device.device_data import DeviceData
from imbtune.training.loop import train_epoch
from imbtune.training.model import new_model
from imbtune.training.phases import whole_run
from imbtune.training.state import TrainState, pick_device

BATCH, CLASSES = 128, 10
STEPS = 200 if torch.cuda.is_available() else 8  # of an epoch
MEAN, STD = (0.5,) * 3, (0.25,) * 3
WARM_UP = 3  # epochs before the timed one
SIDE = 2048  # rows and columns of the matrices whose product gives the peak

ABOUT = (
    "Margin-aware Mixup at batch 128 on random images of CIFAR's size, against a plain loop: "
    "DataLoader workers that augment with PIL, float32, a second forward pass for the running "
    "accuracy, a label rule in Python. The peak is the FLOP rate of a 2048×2048 matrix product in "
    "the step's precision."
)


def config_of(model: str, precision: str) -> TrainConfig:
    """The configuration of both loops."""
    settings = {"model": model, "precision": precision, "mix": "mamix", "epochs": 1 + WARM_UP}
    return TrainConfig.from_settings({**settings, "batch_size": BATCH})


def noise() -> Images:
    """Random images of CIFAR's size, for an epoch of `STEPS` steps."""
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH * STEPS, 3, 32, 32), dtype=np.uint8)
    return Images(pixels, np.arange(len(pixels), dtype=np.int64) % CLASSES)


# ---- imbtune -------------------------------------------------------------------------------------


def ours(model: str, precision: str, cuda_graph: bool = True) -> Results:
    """Images per second of imbtune's loop, the peak in FLOP per second, and the share of it."""
    keep_freed_memory()
    images, device = noise(), pick_device()
    names = tuple(map(str, range(CLASSES)))
    data = DeviceData(
        Splits(images, images, names, Preprocessing(MEAN, STD, pad=4, flip=True)), device
    )
    config = config_of(model, precision).replace(cuda_graph=cuda_graph)
    state = TrainState(config, data)
    *first, last = whole_run(config.epochs, config.schedule.shared)
    for epoch in first:
        train_epoch(state, data, epoch)
    seconds = timed(lambda: train_epoch(state, data, last))
    rate = BATCH * STEPS / seconds
    kind = torch.bfloat16 if state.autocast._enabled else torch.float32
    peak, flops = matrix_product(device, kind), flops_per_image(state)
    return {"rate": rate, "peak": peak, "share": rate * flops / peak, "kind": str(kind)}


def flops_per_image(state: TrainState) -> float:
    """Floating-point operations of a forward and a backward pass of one image."""
    images_BCHW = torch.zeros(2, 3, 32, 32, device=state.device)
    with FlopCounterMode(display=False) as counter:
        state.logits(images_BCHW).sum().backward()
    return float(counter.get_total_flops()) / 2


def matrix_product(device: torch.device, kind: torch.dtype) -> float:
    """FLOP per second of a matrix product, the best of ten."""
    a, b = (torch.randn(SIDE, SIDE, device=device).to(kind) for _ in range(2))
    return 2 * SIDE**3 / min(timed(lambda: a @ b) for _ in range(10))


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call, until the device has finished."""

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    wait()
    started = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - started


# ---- the plain loop ------------------------------------------------------------------------------


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images that a DataLoader's workers augment one by one."""

    def __init__(self, images: Images) -> None:
        from torchvision import transforms

        self.images = images
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        pixels_HWC = np.asarray(self.images.pixels)[index].transpose(1, 2, 0)
        image: Tensor = self.transform(Image.fromarray(pixels_HWC))
        return image, int(self.images.labels[index])


def plain(model_name: str, precision: str) -> Results:
    """Images per second of the plain loop; its precision is always float32."""
    device = pick_device()
    model = new_model(config_of(model_name, "float32"), 3, CLASSES).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)
    workers = len(os.sched_getaffinity(0))
    loader = DataLoader(
        PilImages(noise()), BATCH, shuffle=True, num_workers=workers, persistent_workers=True
    )
    counts = [100.0 / (1 + k) for k in range(CLASSES)]
    for _ in range(WARM_UP):
        plain_epoch(model, optimizer, loader, counts, device)
    seconds = timed(lambda: plain_epoch(model, optimizer, loader, counts, device))
    return {"rate": BATCH * STEPS / seconds}


def plain_epoch(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[tuple[Tensor, int]],
    counts: list[float],
    device: torch.device,
) -> float:
    """Train one epoch; the sum of the losses of its steps."""
    total_loss, correct = 0.0, 0.0
    for images, labels in loader:
        x, y = images.to(device), labels.to(device)
        lam, order = np.random.beta(1, 1), torch.randperm(len(x), device=device)
        correct += (model(x).argmax(1) == y).sum().item()  # the second forward pass
        shares = [label_share(lam, counts[a], counts[b]) for a, b in zip(y, y[order], strict=True)]
        g = torch.tensor(shares, device=device)
        logits = model(lam * x + (1 - lam) * x[order])
        loss_i = F.cross_entropy(logits, y, reduction="none")
        loss_j = F.cross_entropy(logits, y[order], reduction="none")
        loss = (g * loss_i + (1 - g) * loss_j).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
    return total_loss


def label_share(lam: float, n_i: float, n_j: float) -> float:
    """The label rule of margin-aware Mixup for one pair, ω = ¼: the share of y_i."""
    m = math.pow(n_i, -0.25) / (math.pow(n_i, -0.25) + math.pow(n_j, -0.25))
    x = 1 - lam
    return 1 - x / (2 * m) if x <= m else (1 - x) / (2 * (1 - m))


KINDS: dict[str, Callable[[str, str], Results]] = {
    "plain": plain,
    "ours": ours,
    "launched": partial(ours, cuda_graph=False),
}

# ---- alternating measurements --------------------------------------------------------------------


def measure(repeats: int = 5, model: str = "resnet32", precision: str = "auto") -> Results:
    """Quartiles: images per second of both loops, their ratio, peak in FLOP/s, share of it."""
    pairs = [
        (in_process("plain", model, precision), in_process("ours", model, precision))
        for _ in range(repeats)
    ]
    found = {
        "model": model,
        "device": pick_device().type,
        "precision": pairs[0][1]["kind"],
        "plain": quartiles([theirs["rate"] for theirs, _ in pairs]),
        "ours": quartiles([mine["rate"] for _, mine in pairs]),
        "ratio": quartiles([mine["rate"] / theirs["rate"] for theirs, mine in pairs]),
        "peak": quartiles([mine["peak"] for _, mine in pairs]),
        "share": quartiles([mine["share"] for _, mine in pairs]),
    }
    if found["device"] == "cuda":
        without = [in_process("launched", model, precision)["rate"] for _ in range(repeats)]
        found["launched"] = quartiles(without)
    return found


def in_process(kind: str, model: str, precision: str) -> Results:
    """One measurement in a new process; for imbtune's loop with the environment of `imbtune`."""
    settings = {} if kind == "plain" else {"GOMP_SPINCOUNT": "1000"}
    command = [sys.executable, __file__, "--one", kind, "--model", model, "--precision", precision]
    done = subprocess.run(command, env=os.environ | settings, stdout=subprocess.PIPE, check=True)
    results: Results = json.loads(done.stdout)
    return results


def rows(results: Results) -> list[Row]:
    """The rows of the table."""
    kind = results["precision"].removeprefix("torch.")
    peak = [value / 1e9 for value in results["peak"]]
    on_gpu = results["device"] == "cuda"
    graph = [Row("images/s without the CUDA graph", results["launched"])] if on_gpu else []
    return [
        Row(f"images/s of {results['model']}, plain loop, float32", results["plain"]),
        Row(f"images/s of {results['model']}, imbtune, {kind}", results["ours"]),
        *graph,
        Row("ratio", results["ratio"], "30" if on_gpu else "4"),
        Row(f"peak, GFLOP/s, {kind}", peak),
        Row("share of the peak", results["share"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", default="resnet32")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(KINDS[options.one](options.model, options.precision), allow_nan=False))
    else:
        found = measure(options.repeats, options.model, options.precision)
        print(json.dumps(found, indent=1, allow_nan=False))


if __name__ == "__main__":
    main()
