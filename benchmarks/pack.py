"""K trials trained as a pack, against one process per trial: the training loop and the bare step.

    python benchmarks/pack.py [--repeats 3] [--pack 1 2 4 8 16]

The training loop is that of `--pack` (measured by imbtune/training/cost/shared_device.py): K trials
of digits-lt's first configuration in one process, in turn on a CPU, each in its own CUDA stream on
a GPU; against one process per trial. Results are image passes per second of wall time. Either way
the trials share all threads of the machine.

The bare step, on CPUs only, shows what a pack could gain at most: the network of digits-lt (three
convolutions, 8×8 images, batch 64), plain cross-entropy and SGD. Here a pack stacks the weights of
K models in one set of tensors: `product` computes each convolution as a batched matrix product over
all models, with the images in the last dimension; `grouped` as a grouped convolution. Results are
steps of one model per second of CPU time, summed over concurrent processes of one thread:
`processes` has one per model, the others one per CPU, with the models divided among them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from queue import Empty
from typing import Any

import torch
import torch.nn.functional as F
from spread import Results, Row, quartiles
from torch import Tensor, nn

from imbtune.data.load import load
from imbtune.data.splits import search_splits
from imbtune.models.networks import build_model
from imbtune.runtime import keep_freed_memory
from imbtune.spaces.space_file import load_space
from imbtune.training.cost.shared_device import measure_shared_device
from imbtune.training.state import pick_device

BATCH, CLASSES, SIDE, WIDTH = 64, 10, 8, 16
LAYERS = [
    (1, WIDTH, 1),
    (WIDTH, 2 * WIDTH, 2),
    (2 * WIDTH, 4 * WIDTH, 2),
]  # channels in, channels out, stride
SECONDS = 2.0  # wall time of one measurement

Step = Callable[[], object]

ABOUT = (
    "`--pack`: the training loop of K trials of digits-lt in one process, against one process per "
    "trial, in image passes per second. Then the bare step of its network for K models at once, in "
    "steps of one model per second of CPU time: what other kinds of packs could gain on CPUs."
)

# Shapes: K models, B images of a batch, C channels in, O channels out, H and W pixels, N classes.


# ---- separate models -----------------------------------------------------------------------------


def in_turn(models: int) -> Step:
    """A step of each of `models` separate networks, one after another."""
    steps = [one_model() for _ in range(models)]
    return lambda: [step() for step in steps]


def one_model() -> Step:
    """A step of one network."""
    made = build_model("small_cnn", {"width": WIDTH, "head": "linear"}, "linear", 1, CLASSES)
    model = made.to(memory_format=torch.channels_last)
    optimizer = sgd(list(model.parameters()))
    images, labels = torch.randn(BATCH, 1, SIDE, SIDE), torch.randint(0, CLASSES, (BATCH,))

    def step() -> None:
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def sgd(weights: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of every kind of step."""
    return torch.optim.SGD(weights, 0.1, momentum=0.9, weight_decay=2e-4, fused=True)


# ---- a pack, as batched matrix products ----------------------------------------------------------


class PackedConvolution(torch.autograd.Function):
    """A 3×3 convolution of K models: (K, C, H, W, B) and weights (K, O, 9C) to (K, O, H', W', B).

    The images are in the last dimension, so windows are copied in contiguous runs of B numbers.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weights: Tensor, stride: int) -> Tensor:
        models, channels, height, width, batch = images.shape
        high, wide = height // stride, width // stride
        padded = F.pad(images, (0, 0, 1, 1, 1, 1))
        k, c, h, w, b = padded.stride()
        windows = padded.as_strided(
            (models, channels, 3, 3, high, wide, batch), (k, c, h, w, h * stride, w * stride, b)
        ).reshape(models, channels * 9, -1)
        ctx.save_for_backward(windows, weights)
        ctx.shape, ctx.stride = images.shape, stride
        return torch.bmm(weights, windows).view(models, -1, high, wide, batch)

    @staticmethod
    def backward(ctx: Any, above: Any) -> Any:
        windows, weights = ctx.saved_tensors
        (models, channels, height, width, batch), stride = ctx.shape, ctx.stride
        high, wide = height // stride, width // stride
        above = above.reshape(models, -1, high * wide * batch)
        to_weights = torch.bmm(above, windows.transpose(1, 2))
        if not ctx.needs_input_grad[0]:
            return None, to_weights, None
        parts = torch.bmm(weights.transpose(1, 2), above)
        parts = parts.view(models, channels, 3, 3, high, wide, batch)
        padded = above.new_zeros(models, channels, height + 2, width + 2, batch)
        for i in range(3):
            for j in range(3):
                rows, columns = slice(i, i + height, stride), slice(j, j + width, stride)
                padded[:, :, rows, columns] += parts[:, :, i, j]
        return padded[:, :, 1:-1, 1:-1], to_weights, None


class PackedNetwork(nn.Module):
    """`models` networks of three convolutions with batch norm; returns logits (K, N, B)."""

    def __init__(self, models: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            torch.randn(models, after, 9 * before) / (3 * before**0.5)
            for before, after, _ in LAYERS
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(models * after) for _, after, _ in LAYERS)
        self.head = nn.Parameter(torch.randn(models, CLASSES, LAYERS[-1][1]) / 8)

    def forward(self, images: Tensor) -> Tensor:
        for weights, norm, (_, _, stride) in zip(self.weights, self.norms, LAYERS, strict=True):
            images = PackedConvolution.apply(images, weights, stride)
            shape = images.shape
            images = norm(images.view(1, shape[0] * shape[1], -1)).relu_().view(shape)
        return torch.bmm(self.head, images.mean((2, 3)))


def product(models: int) -> Step:
    """A step of a pack that computes convolutions as batched matrix products."""
    network = PackedNetwork(models)
    optimizer = sgd(list(network.parameters()))
    images = torch.randn(models, 1, SIDE, SIDE, BATCH)
    labels = torch.randint(0, CLASSES, (models, BATCH))

    def step() -> None:
        F.cross_entropy(network(images).transpose(0, 1)[None], labels[None], reduction="sum").div(
            BATCH
        ).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


# ---- a pack, as grouped convolutions -------------------------------------------------------------


def grouped(models: int) -> Step:
    """A step of a pack that computes convolutions with one group per model."""
    layers: list[nn.Module] = []
    for before, after, stride in LAYERS:
        convolution = nn.Conv2d(
            models * before, models * after, 3, stride, 1, bias=False, groups=models
        )
        layers += [convolution, nn.BatchNorm2d(models * after), nn.ReLU(inplace=True)]
    backbone = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    head = nn.Parameter(torch.randn(models, CLASSES, LAYERS[-1][1]) / 8)
    optimizer = sgd([*backbone.parameters(), head])
    images = torch.randn(BATCH, models, SIDE, SIDE).to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (models, BATCH))

    def step() -> None:
        features = backbone(images).mean((2, 3)).view(BATCH, models, -1).permute(1, 2, 0)
        logits = torch.bmm(head, features)
        F.cross_entropy(logits.transpose(0, 1)[None], labels[None], reduction="sum").div(
            BATCH
        ).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


# ---- the training loop of --pack -----------------------------------------------------------------


def loops(packs: Sequence[int], repeats: int) -> Results:
    """For each K the image passes per second of K processes, and the ratio of a pack to them."""
    config, device = load_space("digits-lt").base(), pick_device()
    splits = search_splits(load(config.data.name, config.data.knobs), config.data.shared)
    threads = len(os.sched_getaffinity(0))

    def rate(models: int, pack: bool) -> float:
        (result,) = measure_shared_device([config], splits, device, [models], threads, pack)
        return result.rate

    results = {}
    for models in packs:
        pairs = [(rate(models, pack=False), rate(models, pack=True)) for _ in range(repeats)]
        results[str(models)] = {
            "rate": quartiles([separate for separate, _ in pairs]),
            "ratio": quartiles([packed / separate for separate, packed in pairs]),
        }
    return results


# ---- the bare step -------------------------------------------------------------------------------

KINDS: dict[str, Callable[[int], Step]] = {
    "processes": in_turn,
    "in_turn": in_turn,
    "product": product,
    "grouped": grouped,
}
LABELS = {
    "in_turn": "one after another",
    "product": "a pack with batched matrix products",
    "grouped": "a pack with grouped convolutions",
}


def rate(kind: str, models: int) -> float:
    """Steps of one model per second of CPU time, while all of `models` are trained at once.

    Raises:
        RuntimeError: a process died.
    """
    at_once = models if kind == "processes" else min(models, len(os.sched_getaffinity(0)))
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(at_once), context.Queue()
    shares = [len(range(i, models, at_once)) for i in range(at_once)]
    children = [
        context.Process(target=run, args=(kind, share, barrier, answers), daemon=True)
        for share in shares
    ]
    for child in children:
        child.start()
    done: list[tuple[int, float]] = []
    while len(done) < at_once:
        try:
            done.append(answers.get(timeout=1))
        except Empty:
            if any(child.exitcode for child in children):
                raise RuntimeError(f"a process of '{kind}' with {models} models died") from None
    for child in children:
        child.join()
    return float(sum(steps for steps, _ in done) / sum(seconds for _, seconds in done))


def run(kind: str, models: int, barrier: Barrier, answers: Any) -> None:
    """Train in a child process; put its steps and CPU seconds into the queue `answers`."""
    torch.set_num_threads(1)
    keep_freed_memory()
    step = KINDS[kind](models)
    for _ in range(3):
        step()
    barrier.wait()
    steps, ends, before = 0, time.monotonic() + SECONDS, time.process_time()
    while time.monotonic() < ends:
        step()
        steps += models
    answers.put((steps, time.process_time() - before))


def measure(packs: Sequence[int] = (1, 2, 4, 8, 16), repeats: int = 3) -> Results:
    """For each K the quartiles of the loop, and on CPUs those of each kind of bare step."""
    on_cpu = pick_device().type == "cpu"
    bare = {str(models): compared(models, repeats) for models in packs} if on_cpu else {}
    command = [sys.executable, __file__, "--loops", "--repeats", str(repeats), "--pack"]
    settings = {"GOMP_SPINCOUNT": "1000"}  # as `imbtune` sets it; read when torch is imported
    done = subprocess.run(
        [*command, *map(str, packs)], env=os.environ | settings, stdout=subprocess.PIPE, check=True
    )
    return {"loop": json.loads(done.stdout), "bare": bare}


def compared(models: int, repeats: int) -> Results:
    """For each kind of step the rate, and its ratio to that of `processes`."""
    rounds = [{kind: rate(kind, models) for kind in KINDS} for _ in range(repeats)]
    return {
        kind: {
            "rate": quartiles([each[kind] for each in rounds]),
            "ratio": quartiles([each[kind] / each["processes"] for each in rounds]),
        }
        for kind in KINDS
    }


def rows(results: Results) -> list[Row]:
    """The rows of the table."""
    table = []
    for models, loop in results["loop"].items():
        table.append(Row(f"K = {models}: image passes/s, one process per trial", loop["rate"]))
        table.append(Row("`--pack`, relative to one process per trial", loop["ratio"]))
    for models, kinds in results["bare"].items():
        processes = kinds["processes"]["rate"]
        table.append(Row(f"K = {models}: bare steps/s, one process per model", processes))
        table += [
            Row(f"{LABELS[kind]}, relative to one process per model", one["ratio"])
            for kind, one in kinds.items()
            if kind in LABELS
        ]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pack", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--loops", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    found = (loops if options.loops else measure)(options.pack, options.repeats)
    print(json.dumps(found, indent=1, allow_nan=False))


if __name__ == "__main__":
    main()
