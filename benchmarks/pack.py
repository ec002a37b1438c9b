"""K trials trained as one pack, against K processes: the training loop, and the bare step.

    python benchmarks/pack.py [--repeats 3] [--pack 1 2 4 8 16]

The loop is that of `--pack` (imbtune/training/sharing.py measures it for `--gpus-per-trial auto`
too): K trials of digits-lt's first configuration in one process, in turn on a CPU and in a CUDA
stream each on a GPU, against a process each; image passes a second of wall time, all threads of
the machine shared out.

The bare step, on CPUs alone, is where a pack could gain most: the network of digits-lt (three
convolutions, 8×8 images, batch 64), plain cross-entropy and SGD. There a pack holds K sets of
weights in one set of tensors: `product` makes each convolution one batched matrix product over all
models, images last in memory; `grouped` makes it a grouped convolution. Figures are steps of one
model for a second of CPU time, summed over the processes that run at once, one thread each:
`processes` is one a model, the others are one a CPU with an even share of the models.
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
from spread import Row, quartiles
from torch import Tensor, nn

from imbtune.data.load import load
from imbtune.data.splits import search_splits
from imbtune.models.networks import build_model
from imbtune.runtime import keep_freed_memory
from imbtune.spaces.space_file import load_space
from imbtune.training.cost.shared_device import measure_shared_device
from imbtune.training.state import pick_device

BATCH, CLASSES, SIDE, WIDTH = 64, 10, 8, 16
LAYERS = [(1, WIDTH, 1), (WIDTH, 2 * WIDTH, 2), (2 * WIDTH, 4 * WIDTH, 2)]  # from, to, stride
SECONDS = 2.0  # of one measurement

Step = Callable[[], object]

ABOUT = (
    "`--pack`: the training loop of K trials of digits-lt in one process, against a process each, "
    "in image passes a second. And the bare step of its network for K models at once, in steps of "
    "one model for a second of CPU time: what other kinds of packs could gain on CPUs."
)

# Shapes: K models, B a batch, C, O channels, H, W pixels, N classes.


# ---- one model after another ---------------------------------------------------------------------


def in_turn(models: int) -> Step:
    """A step of each of `models` separate networks."""
    steps = [one_model() for _ in range(models)]
    return lambda: [step() for step in steps]


def one_model() -> Step:
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
    return torch.optim.SGD(weights, 0.1, momentum=0.9, weight_decay=2e-4, fused=True)


# ---- a pack, as batched matrix products ----------------------------------------------------------


class PackedConvolution(torch.autograd.Function):
    """A 3×3 convolution of K models: (K, C, H, W, B) and weights (K, O, 9C) to (K, O, H', W', B).

    With the images last, the windows are copied in runs of B numbers.
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
    """`models` networks of three convolutions with batch norm; logits (K, N, B)."""

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
    """A step of a pack whose convolutions are batched matrix products."""
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
    """A step of a pack whose convolutions have one group a model."""
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


def loops(packs: Sequence[int], repeats: int) -> dict[str, Any]:
    """For each K the image passes a second of K processes, and the ratio of a pack to them."""
    config, device = load_space("digits-lt").base(), pick_device()
    splits = search_splits(load(config.data.name, config.data.knobs), config.data.shared)
    threads = len(os.sched_getaffinity(0))

    def rate(models: int, pack: bool) -> float:
        (found,) = measure_shared_device([config], splits, device, [models], threads, pack)
        return found.rate

    figures = {}
    for models in packs:
        pairs = [(rate(models, pack=False), rate(models, pack=True)) for _ in range(repeats)]
        figures[str(models)] = {
            "rate": quartiles([apart for apart, _ in pairs]),
            "ratio": quartiles([packed / apart for apart, packed in pairs]),
        }
    return figures


# ---- the bare step, at once and in turn ----------------------------------------------------------

KINDS: dict[str, Callable[[int], Step]] = {
    "processes": in_turn,
    "in_turn": in_turn,
    "product": product,
    "grouped": grouped,
}
WORDS = {
    "in_turn": "one after another",
    "product": "a pack by batched matrix products",
    "grouped": "a pack by grouped convolutions",
}


def rate(kind: str, models: int) -> float:
    """Steps of one model for a second of CPU time, with all of `models` trained at once."""
    at_once = models if kind == "processes" else min(models, len(os.sched_getaffinity(0)))
    context = multiprocessing.get_context("fork")
    together, answers = context.Barrier(at_once), context.Queue()
    shares = [len(range(i, models, at_once)) for i in range(at_once)]
    children = [
        context.Process(target=run, args=(kind, share, together, answers), daemon=True)
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
                raise RuntimeError(f"a process of {kind} with {models} models died") from None
    for child in children:
        child.join()
    return float(sum(steps for steps, _ in done) / sum(seconds for _, seconds in done))


def run(kind: str, models: int, together: Barrier, answers: Any) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    step = KINDS[kind](models)
    for _ in range(3):
        step()
    together.wait()
    steps, ends, before = 0, time.monotonic() + SECONDS, time.process_time()
    while time.monotonic() < ends:
        step()
        steps += models
    answers.put((steps, time.process_time() - before))


def measure(packs: Sequence[int] = (1, 2, 4, 8, 16), repeats: int = 3) -> dict[str, Any]:
    """For each K medians and quartiles: of the loop, and on CPUs of each kind of bare step."""
    on_cpu = pick_device().type == "cpu"
    bare = {str(models): compared(models, repeats) for models in packs} if on_cpu else {}
    command = [sys.executable, __file__, "--loops", "--repeats", str(repeats), "--pack"]
    settings = {"GOMP_SPINCOUNT": "1000"}  # as `imbtune` has it; read when torch is imported
    done = subprocess.run(
        [*command, *map(str, packs)], env=os.environ | settings, stdout=subprocess.PIPE, check=True
    )
    return {"loop": json.loads(done.stdout), "bare": bare}


def compared(models: int, repeats: int) -> dict[str, Any]:
    """For each kind the rate, and its ratio to `processes`."""
    rounds = [{kind: rate(kind, models) for kind in KINDS} for _ in range(repeats)]
    return {
        kind: {
            "rate": quartiles([each[kind] for each in rounds]),
            "ratio": quartiles([each[kind] / each["processes"] for each in rounds]),
        }
        for kind in KINDS
    }


def rows(figures: dict[str, Any]) -> list[Row]:
    """The table."""
    table = []
    for models, loop in figures["loop"].items():
        table.append(Row(f"K = {models}: image passes/s of the loop, a process each", loop["rate"]))
        table.append(Row("`--pack`, times that", loop["ratio"]))
    for models, kinds in figures["bare"].items():
        processes = kinds["processes"]["rate"]
        table.append(Row(f"K = {models}: bare steps/s, a process each", processes))
        table += [
            Row(f"{WORDS[kind]}, times that", one["ratio"])
            for kind, one in kinds.items()
            if kind in WORDS
        ]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pack", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--loops", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    found = (loops if options.loops else measure)(options.pack, options.repeats)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
