"""A step's gradient as a CUDA graph: captured once per process, replayed by every trial.

A step launches some hundred kernels, and those of a small network finish faster than Python can
launch the next. A CUDA graph launches all of them at once. But it reads and writes the memory of
its capture, and Python scalars are baked into the graph. Therefore a trial acquires its network,
together with that network's graphs, from the process's :class:`GraphedModelPool`. Whatever else
differs between trials is a tensor (:class:`imbtune.training.step.StepModel`) and is copied to the
memory that the graph reads. The optimiser is not captured: its weight decay and momentum are
Python scalars.

Not captured are user-defined losses and networks, which may branch on values, and networks that
draw random numbers (dropout): a replayed graph draws other numbers than the same step without one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from imbtune.methods.losses import MarginSoftmax
from imbtune.models.networks import Classifier
from imbtune.training.step import Batch, StepModel, gradient

Run = Callable[[], list[Tensor]]
Capture = Callable[[Run], Run]  # the returned function repeats the run on the same tensors
MAX_KEPT = 4  # idle networks of a pool, and captured steps of a network: each holds memory
WARM_UP = 3  # runs before a capture: cuDNN and cuBLAS choose algorithms and allocate workspaces


class CudaGraphs:
    """Captures runs as CUDA graphs in one memory pool; only one of them may run at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Run) -> Run:
        """Capture `run`.

        Returns:
            A function that replays the graph. It returns the tensors of the captured run, which
            every replay overwrites.
        """
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # thread_local: the thread of a DataLoader may pin memory during the capture
        capture = torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local")
        with explain_capture_errors(), capture:
            outputs = run()

        def replay() -> list[Tensor]:
            graph.replay()
            return outputs

        return replay


@contextmanager
def explain_capture_errors() -> Iterator[None]:
    """Add to a failed capture how to train without CUDA graphs.

    The process cannot continue without them: after a failed capture torch leaves its generator,
    its allocator and the current stream in capture mode.

    Raises:
        torch.OutOfMemoryError: the capture ran out of memory.
        torch.AcceleratorError: it failed for another reason; the message names it.
    """
    try:
        yield
    except RuntimeError as error:
        # Ending a failed capture raises a second error; the first one is the cause.
        cause = error.__context__ if isinstance(error.__context__, RuntimeError) else error
        if isinstance(cause, torch.OutOfMemoryError):
            raise cause from None
        reason = str(cause).partition("\n")[0]
        raise torch.AcceleratorError(
            f"this network's step cannot be captured as a CUDA graph ({reason}): "
            "train without graphs, --set cuda_graph=false"
        ) from error


class GraphedModel:
    """A network on the device with its captured steps. One trial at a time uses it.

    Args:
        model: the network; its parameters stay where they are in memory.
        capture: captures a step, as :class:`CudaGraphs` does.
    """

    def __init__(self, model: Classifier, capture: Capture) -> None:
        self.model = model
        self._capture = capture
        self._steps: dict[tuple[Hashable, ...], _CapturedGradient | None] = {}

    def gradient(self, step_model: StepModel, batch: Batch) -> Tensor:
        """As :func:`imbtune.training.step.gradient`; the network must be that of this object.

        The first step with new shapes is captured. Steps that cannot be captured run without a
        graph.
        """
        key = _graph_key(step_model, batch)
        if key not in self._steps:
            while len(self._steps) >= MAX_KEPT:
                del self._steps[next(iter(self._steps))]  # the oldest
            uncaptured = step_model.own_loss is not None or _draws_random_numbers(step_model, batch)
            self._steps[key] = (
                None if uncaptured else _CapturedGradient(step_model, batch, self._capture)
            )
        captured = self._steps[key]
        return captured(step_model, batch) if captured else gradient(step_model, batch)


class GraphedModelPool:
    """The graphed models of a process, grouped by the kind of their networks.

    Args:
        new_capture: makes the capture function of a new :class:`GraphedModel`.
    """

    def __init__(self, new_capture: Callable[[], Capture]) -> None:
        self._new_capture = new_capture
        self._free: list[tuple[str, GraphedModel]] = []  # released most recently last

    def acquire(self, kind: str, fresh: Classifier) -> GraphedModel:
        """Take an idle graphed model of the kind, or make one from `fresh`.

        Args:
            kind: equal for networks of the same architecture and input size.
            fresh: a network of that kind; an idle model gets a copy of its weights and buffers.
        """
        matches = [index for index, (other, _) in enumerate(self._free) if other == kind]
        if not matches:
            return GraphedModel(fresh, self._new_capture())
        _, graphed = self._free.pop(matches[-1])
        if torch.cuda.is_initialized():  # the previous trial's stream may still use the weights
            torch.cuda.synchronize()
        graphed.model.load_state_dict(fresh.state_dict())
        graphed.model.train().requires_grad_(True)
        graphed.model.zero_grad()  # left by a trial that failed during a step
        return graphed

    def release(self, kind: str, graphed: GraphedModel) -> None:
        """Make a graphed model available to other trials; keeps the `MAX_KEPT` latest idle ones."""
        self._free = [*self._free, (kind, graphed)][-MAX_KEPT:]


class _CapturedGradient:
    """A captured :func:`gradient`; a call copies new inputs in and replays it."""

    def __init__(self, step_model: StepModel, batch: Batch, capture: Capture) -> None:
        self._step_model, self._batch = _clone_inputs(step_model, batch)
        self._weights = list(step_model.network.parameters())
        with _restore_buffers_and_generator(step_model.network):
            self._replay = capture(self._run)

    def _run(self) -> list[Tensor]:
        """The loss and the gradient of each weight; leaves no `.grad` behind."""
        loss = gradient(self._step_model, self._batch)
        slopes = [_gradient_of(weight) for weight in self._weights]
        for weight in self._weights:
            weight.grad = None
        return [loss, *slopes]

    def __call__(self, step_model: StepModel, batch: Batch) -> Tensor:
        inputs = _input_tensors(self._step_model, self._batch)
        for own, given in zip(inputs, _input_tensors(step_model, batch), strict=True):
            own.copy_(given)
        loss, *slopes = self._replay()
        for weight, slope in zip(self._weights, slopes, strict=True):
            weight.grad = slope
        return loss


def _graph_key(step_model: StepModel, batch: Batch) -> tuple[Hashable, ...]:
    """What a captured step fixes: which inputs it has, their shapes, and the precision."""
    sharp = step_model.sharpness_aware and step_model.sharpness_aware.has_other_classes
    shapes = tuple(None if each is None else tuple(each.shape) for each in batch)
    return (sharp, step_model.autocast.fast_dtype, step_model.autocast._enabled, *shapes)


def _draws_random_numbers(step_model: StepModel, batch: Batch) -> bool:
    """Whether the network draws random numbers in a step."""
    device = batch.images_BCHW.device
    with _restore_buffers_and_generator(step_model.network):
        before = _generator_state(device)
        gradient(step_model, batch)
        step_model.network.zero_grad()
        return not torch.equal(before, _generator_state(device))


@contextmanager
def _restore_buffers_and_generator(model: nn.Module) -> Iterator[None]:
    """Restore batch norm's statistics and torch's generator on exit."""
    device = next(model.parameters()).device
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    generator_state = _generator_state(device)
    try:
        yield
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
        if device.type == "cuda":
            torch.cuda.set_rng_state(generator_state, device)
        else:
            torch.set_rng_state(generator_state)


def _generator_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _clone_inputs(step_model: StepModel, batch: Batch) -> tuple[StepModel, Batch]:
    """Both with clones of all input tensors; the network is shared."""
    sharp, noise_BK = step_model.sharpness_aware, batch.noise_BK
    if sharp:
        sharp = sharp._replace(classes_K=sharp.classes_K.clone(), rho=sharp.rho.clone())
    vectors = MarginSoftmax(*(vector.clone() for vector in step_model.vectors))
    images_BCHW, labels_LB, shares_LB, norm = (each.clone() for each in batch[:4])
    noise_BK = None if noise_BK is None else noise_BK.clone()
    own_batch = Batch(images_BCHW, labels_LB, shares_LB, norm, noise_BK)
    return step_model._replace(vectors=vectors, sharpness_aware=sharp), own_batch


def _input_tensors(step_model: StepModel, batch: Batch) -> list[Tensor]:
    """The tensors in which one step differs from another, in a fixed order."""
    sharp = step_model.sharpness_aware
    sharpness = [sharp.classes_K, sharp.rho] if sharp else []
    return [*step_model.vectors, *sharpness, *(each for each in batch if each is not None)]


def _gradient_of(weight: Tensor) -> Tensor:
    """The weight's `.grad`; zeros where the loss does not depend on the weight."""
    return torch.zeros_like(weight) if weight.grad is None else weight.grad
