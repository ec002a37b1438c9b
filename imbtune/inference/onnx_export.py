"""`imbtune export`: a model as one ONNX file, which any runtime uses without imbtune.

The graph takes uint8 pixels and has everything after resizing in it: normalisation, network, scale,
temperature, softmax, and the predicted class, which a threshold may decide. Resizing stays outside:
libraries resize differently, and the file's metadata says how imbtune does.

Shapes: N images, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import imbtune
from imbtune import strict_json
from imbtune.data.augment import normalise
from imbtune.errors import ConfigError, first_line
from imbtune.inference.decisions.decision import Decision, check_finite, decision
from imbtune.inference.evaluating.images_at_hand import ImagesToCheck
from imbtune.inference.predicting.prediction_file import new_file
from imbtune.inference.trained_model import EnsembleNetwork, TrainedModel

if TYPE_CHECKING:
    import onnxruntime

Bytes = NDArray[np.uint8]

FORMATS = ("onnx",)
INPUT, OUTPUTS = "images", ("probabilities", "label")
NEEDED = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20
BATCH = 2  # of the export; 1 would become a constant of the graph
CHECKED_BATCHES = (1, 3)  # sizes that the check begins with; the rest comes in blocks of the last
BLOCK = 64
TOLERANCE = 1e-4  # of a probability
LOGIT_TOLERANCE = 4 * TOLERANCE  # of a difference of logits, which moves no probability by more
RANDOM_IMAGES = 16


@dataclass(frozen=True)
class ExportedModel:
    """A file that was written and checked.

    Attributes:
        path: the file.
        size: its bytes.
        checked_on: the images of the check, in words, with their path.
        difference: the largest difference of a probability to the original's.
        metadata: what the file says of itself.
        outdated: other exports in the model's folder that have another threshold.
        notes: messages for the user.
    """

    path: Path
    size: int
    checked_on: str
    difference: float
    metadata: dict[str, str]
    outdated: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"ExportedModel({str(self.path)!r}): {self.size / 1e6:.3g} MB, compared on "
            f"{self.checked_on}"
        )


def export_onnx(
    model: TrainedModel, path: Path, images: ImagesToCheck | None = None
) -> ExportedModel:
    """Write a model as ONNX, and compare it with the original before the file gets its name.

    Args:
        model: the model.
        path: a new file.
        images: for the comparison; None for random pixels. The file does not tell their place.

    Raises:
        ConfigError: the file cannot be written, the network cannot be exported,
            or the file does not give what the original gives; then no file is left.
        DivergenceError: the model's weights are not finite.
    """
    if model.image_shape is None:
        raise ConfigError(
            "the model does not say the size of its images, as an older version wrote it: train "
            "it again to export it"
        )
    check_finite(model.network)
    if images is None:
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (RANDOM_IMAGES, *model.image_shape), dtype=np.uint8)
        images = ImagesToCheck(pixels, f"{RANDOM_IMAGES} images of random pixels")
    graph = _Graph(model, decision(model)).eval()
    graph.to(next(model.network.parameters()).device)
    with new_file(path) as hidden:
        metadata = {**metadata_of(model), "checked_on": images.kind}
        content = _exported(graph, model.image_shape, metadata)
        hidden.write_bytes(content)
        difference = _check(hidden, graph, images.pixels)
    return ExportedModel(path, len(content), images.what, difference, metadata)


def check_libraries() -> None:
    """ConfigError where a library of the extra `onnx` is missing."""
    missing = [name for name in NEEDED if not _is_installed(name)]
    if missing:
        raise ConfigError(
            f"an export to ONNX needs {', '.join(missing)}: pip install 'imbtune[onnx]'"
        )


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # ValueError: a module that another one took the place of
        return False


def metadata_of(model: TrainedModel) -> dict[str, str]:
    """What the file says of itself: text by key; values that are not words are JSON."""
    assert model.image_shape
    channels, height, width = model.image_shape
    content: dict[str, object] = {
        "classes": model.classes,
        "input": f"uint8 (N, {channels}, {height}, {width}), {_colour(channels)}, 0 to 255",
        "resize": _resize(model),
        "preprocess": model.preprocess.to_json(),
        "height": height,
        "width": width,
        "channels": _colour(channels),
        "temperature": model.temperature,
        "label_shift": None if (shift := model.label_shift) is None else shift.to_json(),
        "training_images": None if model.train_K is None else [int(n) for n in model.train_K],
        "threshold": None if model.threshold is None else model.threshold.to_metadata(),
        "seed": None if isinstance(model.network, EnsembleNetwork) else model.config.seed,
        "network": model.config.model.name,
        "imbtune_version": imbtune.__version__,
        "torch_version": str(torch.__version__),
    }
    return {
        key: value if isinstance(value, str) else strict_json.dumps(value)
        for key, value in content.items()
    }


def _resize(model: TrainedModel) -> str:
    """What is to be done to an image of another size, which the graph does not do."""
    assert model.image_shape
    _, height, width = model.image_shape
    size = f"{width}×{height}"
    if not model.preprocess.crop:
        return f"not in the graph, and not in training, whose images all had {size} pixels"
    return (
        f"not in the graph: take the largest centred square and scale it to {size} pixels with "
        "antialiased bilinear filtering, as Pillow's ImageOps.fit does"
    )


def _colour(channels: int) -> str:
    return {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")


class _Graph(nn.Module):
    """What the file computes: (N, C, H, W) uint8 to probabilities (N, K) and classes (N,)."""

    mean_C: Tensor
    std_C: Tensor

    def __init__(self, model: TrainedModel, chosen: Decision) -> None:
        super().__init__()
        self.network, self.chosen = model.network, chosen
        self.factor = model.scale / chosen.temperature
        self.register_buffer("mean_C", torch.tensor(model.preprocess.mean))
        self.register_buffer("std_C", torch.tensor(model.preprocess.std))
        self.name = model.config.model.name

    def logits(self, images: Tensor) -> Tensor:
        """Those whose softmax are the probabilities, in single precision, as runtimes have it."""
        logits_NK: Tensor = self.network(normalise(images, self.mean_C, self.std_C)).float()
        return self.factor * logits_NK

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits_NK = self.logits(images)
        return logits_NK.softmax(1), self.chosen.classes(logits_NK)

    def undecided(self, logits_NK: Tensor) -> Tensor:
        """Of which images a difference within the tolerance changes the class, (N,).

        Logits are compared, and not probabilities, which round to 0 and 1.
        """
        if (positive := self.chosen.positive) is None:
            best_N2 = logits_NK.topk(2, dim=1).values
            lead_N = best_N2[:, 0] - best_N2[:, 1]
        else:
            lead_N = logits_NK[:, positive] - logits_NK[:, 1 - positive] - self.chosen.log_odds
        size_N = logits_NK.abs().amax(1).clamp(min=1)  # an error of float32 grows with them
        return lead_N.abs() < LOGIT_TOLERANCE * size_N


def _exported(graph: _Graph, shape: tuple[int, int, int], metadata: dict[str, str]) -> bytes:
    """The content of the file."""
    example = torch.zeros((BATCH, *shape), dtype=torch.uint8)
    device = next(graph.network.parameters()).device
    dynamic = {INPUT: {0: torch.export.Dim("batch")}}
    try:
        with _silence():
            program = torch.onnx.export(
                graph,
                (example.to(device),),
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes=dynamic,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        proto = program.model_proto
        for key, value in metadata.items():
            entry = proto.metadata_props.add()
            entry.key, entry.value = key, value
        proto.producer_name, proto.producer_version = "imbtune", imbtune.__version__
        content: bytes = proto.SerializeToString()
    except Exception as error:  # torch.export and onnxscript raise all kinds of exceptions
        raise ConfigError(
            f"the network '{graph.name}' cannot be exported to ONNX "
            f"({type(error).__name__}: {first_line(error)}): train another one, or change yours so "
            "that torch.export takes it"
        ) from error
    return content


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the progress and the warnings of torch's exporter, which are not about the model."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _check(path: Path, graph: _Graph, images: Bytes) -> float:
    """The largest difference of a probability between the file in onnxruntime and the original.

    Raises:
        ConfigError: it is larger than the tolerance, or another class is predicted where the
            original is not undecided within it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions have no base class of their own
        raise ConfigError(f"onnxruntime cannot load the export: {first_line(error)}") from error
    largest = 0.0
    for block in _check_blocks(images):
        largest = max(largest, _difference(session, graph, block))
    return largest


def _check_blocks(images: Bytes) -> Iterator[Bytes]:
    """The images in batches of several sizes."""
    start = 0
    for size in CHECKED_BATCHES:  # of fewer images some are taken twice
        yield images[np.arange(start, start + size) % len(images)]
        start += size
    for begin in range(start, len(images), BLOCK):
        yield images[begin : begin + BLOCK]


def _difference(session: onnxruntime.InferenceSession, graph: _Graph, block: Bytes) -> float:
    try:
        p_NK, label_N = session.run(list(OUTPUTS), {INPUT: np.ascontiguousarray(block)})
    except Exception as error:
        raise ConfigError(
            f"the export fails in onnxruntime with {len(block)} images: {first_line(error)}"
        ) from error
    device = next(graph.network.parameters()).device
    with torch.inference_mode():
        logits_NK = graph.logits(torch.from_numpy(np.array(block)).to(device))
    wanted_NK = logits_NK.softmax(1).cpu().numpy()
    wanted_N = graph.chosen.classes(logits_NK).cpu().numpy()
    shapes = (p_NK.shape, label_N.shape)
    if shapes != (wanted_NK.shape, wanted_N.shape):
        raise ConfigError(f"the export gives shapes {shapes} for {len(block)} images")
    difference = float(np.abs(p_NK.astype(np.float64) - wanted_NK).max())
    undecided_N = graph.undecided(logits_NK).cpu().numpy()
    others = int(((label_N != wanted_N) & ~undecided_N).sum())
    if not difference <= TOLERANCE or others:  # NaN is no number below it either
        raise ConfigError(
            f"the export differs from the model: by {difference:.2g} in a probability (allowed: "
            f"{TOLERANCE:g}), and in the class of {others} of {len(block)} images"
        )
    return difference
