"""A step's gradient as one CUDA graph, captured once a process and replayed by every trial.

A step launches some hundred kernels, and those of a small network are over sooner than Python has
launched the next. A CUDA graph launches all at once, but reads and writes where it did when it was
captured, and with the constants of then. So a trial leases its network, with the graphs of it, from
the process's :class:`GraphedModelPool`; whatever else trials differ in are tensors
(:class:`imbtune.training.step.Learner`), and is copied to where the graph reads it. The optimiser
stays outside: its decay and momentum are numbers, which a graph would keep.

Not captured are a loss or a network of the user's own, which may look at its values, and networks
that draw random numbers (dropout), since a graph draws others than the same step without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from imbtune.methods.losses import MarginSoftmax
from imbtune.models.networks import Classifier
from imbtune.training.step import Batch, Learner, gradient

Run = Callable[[], list[Tensor]]
Record = Callable[[Run], Run]  # of what works on tensors: what does it again, on the same tensors
KEPT = 4  # networks that no trial has, and recorded steps of a network: each holds memory
WARM_UP = 3  # runs before a capture, in which libraries choose and allocate what they keep


class CudaGraphs:
    """Records runs that follow one another, never at the same time: they share their memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Run) -> Run:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # thread_local: a DataLoader's thread that pins memory meanwhile is none of the graph's
        recorded = torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local")
        with recording_explained(), recorded:
            made = run()

        def replay() -> list[Tensor]:
            graph.replay()
            return made

        return replay


@contextmanager
def recording_explained() -> Iterator[None]:
    """Say what to do about a step that cannot be recorded.

    Not to train on without: torch leaves its generator, its allocator and the current stream as
    they are in a recording, so this process is of no more use.
    """
    try:
        yield
    except RuntimeError as error:
        # the end of a recording that failed fails too: what failed first is the reason
        cause = error.__context__ if isinstance(error.__context__, RuntimeError) else error
        if isinstance(cause, torch.OutOfMemoryError):
            raise cause from None
        said = str(cause).partition("\n")[0]
        raise torch.AcceleratorError(
            f"this network's step cannot be recorded as a CUDA graph ({said}): "
            "give --set cuda_graph=false"
        ) from error


class GraphedModel:
    """A network on the device, and its recorded steps; one trial at a time leases it."""

    def __init__(self, model: Classifier, record: Record) -> None:
        self.model = model
        self._record = record
        self._steps: dict[tuple[Any, ...], _Recorded | None] = {}

    def gradient(self, learner: Learner, batch: Batch) -> Tensor:
        """:func:`imbtune.training.step.gradient`, of this bench's network."""
        key = _shape(learner, batch)
        if key not in self._steps:
            while len(self._steps) >= KEPT:
                del self._steps[next(iter(self._steps))]  # the oldest
            alone = learner.own_loss is not None or _draws(learner, batch)
            self._steps[key] = None if alone else _Recorded(learner, batch, self._record)
        recorded = self._steps[key]
        return recorded(learner, batch) if recorded else gradient(learner, batch)


class GraphedModelPool:
    """The graphed_models of a process, by the kind of their networks.

    Args:
        recorder: makes the `Record` of a bench.
    """

    def __init__(self, recorder: Callable[[], Record]) -> None:
        self._recorder = recorder
        self._free: list[tuple[str, GraphedModel]] = []  # the last ones last

    def lease(self, kind: str, fresh: Classifier) -> GraphedModel:
        """A free bench of the kind, or a new one, with the weights of the network `fresh`."""
        places = [place for place, (other, _) in enumerate(self._free) if other == kind]
        if not places:
            return GraphedModel(fresh, self._recorder())
        _, bench = self._free.pop(places[-1])
        if torch.cuda.is_initialized():  # the last trial's stream may not have come to its end
            torch.cuda.synchronize()
        bench.model.load_state_dict(fresh.state_dict())
        bench.model.train().requires_grad_(True)
        bench.model.zero_grad()  # of a trial that failed in the middle of a step
        return bench

    def give_back(self, kind: str, bench: GraphedModel) -> None:
        """Let another trial have it; of those that none has, the oldest is forgotten."""
        self._free = [*self._free, (kind, bench)][-KEPT:]


class _Recorded:
    """A recorded gradient; called with other values, it works out theirs."""

    def __init__(self, learner: Learner, batch: Batch, record: Record) -> None:
        self._learner, self._batch = _own(learner, batch)
        self._weights = list(learner.model.parameters())
        with _unchanged(learner.model):
            self._replay = record(self._run)

    def _run(self) -> list[Tensor]:
        """The loss, and the slope of each weight, on none of which it is left."""
        loss = gradient(self._learner, self._batch)
        slopes = [_slope(weight) for weight in self._weights]
        for weight in self._weights:
            weight.grad = None
        return [loss, *slopes]

    def __call__(self, learner: Learner, batch: Batch) -> Tensor:
        mine = _tensors(self._learner, self._batch)
        for kept, given in zip(mine, _tensors(learner, batch), strict=True):
            kept.copy_(given)
        loss, *slopes = self._replay()
        for weight, slope in zip(self._weights, slopes, strict=True):
            weight.grad = slope
        return loss


def _shape(learner: Learner, batch: Batch) -> tuple[Any, ...]:
    """All that is fixed in a recorded step: what is there, and its shapes; no value of a knob."""
    sharp = learner.sharp and learner.sharp.has_rest
    shapes = tuple(None if each is None else tuple(each.shape) for each in batch)
    return (sharp, learner.autocast.fast_dtype, learner.autocast._enabled, *shapes)


def _draws(learner: Learner, batch: Batch) -> bool:
    """Whether the network draws random numbers in a step."""
    device = batch.images_BCHW.device
    with _unchanged(learner.model):
        before = _random_state(device)
        gradient(learner, batch)
        learner.model.zero_grad()
        return not torch.equal(before, _random_state(device))


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Batch norm's statistics and torch's generator afterwards are those of before."""
    device = next(model.parameters()).device
    statistics = [(buffer, buffer.clone()) for buffer in model.buffers()]
    random = _random_state(device)
    try:
        yield
    finally:
        for buffer, was in statistics:
            buffer.copy_(was)
        if device.type == "cuda":
            torch.cuda.set_rng_state(random, device)
        else:
            torch.set_rng_state(random)


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _own(learner: Learner, batch: Batch) -> tuple[Learner, Batch]:
    """Both with tensors of their own."""
    sharp, noise_BK = learner.sharp, batch.noise_BK
    if sharp:
        sharp = sharp._replace(classes_K=sharp.classes_K.clone(), rho=sharp.rho.clone())
    vectors = MarginSoftmax(*(vector.clone() for vector in learner.vectors))
    images_BCHW, labels_LB, shares_LB, norm = (each.clone() for each in batch[:4])
    noise_BK = None if noise_BK is None else noise_BK.clone()
    mine = Batch(images_BCHW, labels_LB, shares_LB, norm, noise_BK)
    return learner._replace(vectors=vectors, sharp=sharp), mine


def _tensors(learner: Learner, batch: Batch) -> list[Tensor]:
    """All in which one step differs from another."""
    sharp = [learner.sharp.classes_K, learner.sharp.rho] if learner.sharp else []
    return [*learner.vectors, *sharp, *(each for each in batch if each is not None)]


def _slope(weight: Tensor) -> Tensor:
    """The gradient that a backward pass left; zeros where the loss does not depend on it."""
    return torch.zeros_like(weight) if weight.grad is None else weight.grad
