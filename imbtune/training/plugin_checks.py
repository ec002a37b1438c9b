"""Checks of user-defined parts, run before any training starts.

Each part is called with its knobs at their defaults, on the data's shapes and class counts, and its
return value is checked: type, shape, dtype, range.

Shapes: B samples of a batch, S steps of an epoch, C channels, K classes, D features.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imbtune.data.splits import Splits
from imbtune.errors import ConfigError, ImbtuneError
from imbtune.methods.losses import LossFunction, MarginSoftmax
from imbtune.methods.mixing.blending import Blend, Pairs
from imbtune.methods.mixing.pairing import Ints
from imbtune.methods.posthoc import Adjustment, Retraining
from imbtune.models.networks import Backbone
from imbtune.registry import Part

STEPS, BATCH = 2, 4


def check_plugins(entries: Iterable[Part], splits: Splits) -> None:
    """Check all parts that the run uses.

    Args:
        entries: the parts; those of slots without a check are skipped.
        splits: the data of the run.

    Raises:
        ConfigError: a part raised an exception, or its slot cannot use what it returned.
    """
    for entry in entries:
        check = _CHECKS.get(entry.slot)
        if not check:
            continue
        try:
            check(entry, splits)
        except ImbtuneError:
            raise
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            raise ConfigError(
                f"{entry.slot} '{entry.name}' fails on this data: {type(error).__name__}: {error} "
                f"({frame.filename}, line {frame.lineno})"
            ) from error


def _check_data(entry: Part, splits: Splits) -> None:
    preprocessing = splits.preprocessing
    for images in (splits.train, splits.held_out):
        sample = images.pixels[np.arange(min(2, len(images)))]
        shape = (len(sample), len(preprocessing.mean), None, None)
        _check(entry, "pixels", sample, shape, dtype="uint8")
        _check(entry, "labels", images.labels, (len(images.pixels),), dtype="int64")
    std_C = np.array(preprocessing.std)
    _check(entry, "the std of the preprocessing", std_C, (len(preprocessing.mean),), low=1e-6)


def _check_model(entry: Part, splits: Splits) -> None:
    shape = splits.train.pixels.shape[1:]
    backbone = entry.make(shape[0])
    if not isinstance(backbone, Backbone):
        raise _wrong_type(entry, "a Backbone", backbone)
    with torch.no_grad():
        features_BD = backbone.module.eval()(torch.zeros(2, *shape))
    _check(entry, "features", features_BD, (2, backbone.features))


def _check_loss(entry: Part, splits: Splits) -> None:
    loss = entry.make(_counts(splits))
    if callable(loss):
        _check_loss_function(entry, loss, len(splits.classes))
        return
    if not isinstance(loss, MarginSoftmax):
        raise _wrong_type(entry, "a MarginSoftmax or a function of logits and labels", loss)
    for name, value in loss._asdict().items():
        _check(entry, name, value, (len(splits.classes),) if name.endswith("_K") else ())


def _check_loss_function(entry: Part, loss: LossFunction, classes: int) -> None:
    labels_B = torch.arange(BATCH) % classes
    logits_BK = torch.linspace(-1, 1, BATCH * classes).view(BATCH, classes).requires_grad_()
    loss_B = loss(logits_BK, labels_B)
    _check(entry, "the loss of each sample", loss_B, (BATCH,))
    if not loss_B.requires_grad:
        problem = "the loss must be differentiable in the logits"
        raise _error(entry, problem, "a tensor without a gradient")
    (slope_BK,) = torch.autograd.grad(loss_B.sum(), logits_BK)
    _check(entry, "its gradient", slope_BK, (BATCH, classes))


def _check_weights(entry: Part, splits: Splits) -> None:
    _check(entry, "weights", entry.make(_counts(splits)), (len(splits.classes),), low=0)


def _check_sampler(entry: Part, splits: Splits) -> None:
    for progress in (0.0, 1.0):
        drawn_K = entry.make(splits.counts(), progress)
        if drawn_K is not None:
            _check(entry, "probabilities", drawn_K, (len(splits.classes),), low=0, high=1)
            if abs(float(drawn_K.sum()) - 1) > 1e-6:
                raise _error(entry, "the sum of probabilities must be 1", f"{drawn_K.sum():g}")


def _check_schedule(entry: Part, splits: Splits) -> None:
    for share in (0.0, 0.5, 1.0):
        _check(entry, f"the factor at {share:g}", np.asarray(entry.make(share)), (), low=0)


def _check_optimizer(entry: Part, splits: Splits) -> None:
    if "lr" not in entry.knobs:
        problem = "its knobs must include `lr`, the peak learning rate"
        raise _error(entry, problem, ", ".join(entry.knobs) or "none")
    optimizer = entry.make([torch.nn.Parameter(torch.ones(2))])
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise _wrong_type(entry, "a torch.optim.Optimizer", optimizer)
    rates = {id(group["lr"]): group["lr"] for group in optimizer.param_groups}
    if len(rates) != 1:
        problem = "all parameter groups must share one `lr` tensor"
        raise _error(entry, problem, f"{len(rates)} different ones")
    (rate,) = rates.values()
    _check(entry, "its `lr`", rate, ())


def _check_posthoc(entry: Part, splits: Splits) -> None:
    K = len(splits.classes)
    result = entry.make(_counts(splits), torch.ones(K), torch.ones(()))
    if isinstance(result, Adjustment):
        _check(entry, "scale_K", result.scale_K, (K,))
        _check(entry, "bias_K", result.bias_K, (K,))
    elif result is not None and not isinstance(result, Retraining):
        raise _wrong_type(entry, "an Adjustment, a Retraining or None", result)


def _check_pairing(entry: Part, splits: Splits) -> None:
    images, rng = _OwnNeighbours(splits), np.random.default_rng(0)
    index_SB = rng.integers(0, len(splits.train), (STEPS, BATCH))
    partner_SB = entry.make(index_SB, images, rng)
    high = len(splits.train) - 1
    _check(entry, "partners", partner_SB, (STEPS, BATCH), low=0, high=high, dtype="int64")


def _check_blend(entry: Part, splits: Splits) -> None:
    rng = np.random.default_rng(0)
    height, width = splits.train.pixels.shape[2:]
    n_i_SB, n_j_SB = rng.choice(splits.counts().astype(float), (2, STEPS, BATCH))
    for shape in ((STEPS, BATCH), (STEPS, 1)):
        blend = entry.make(shape, Pairs((height, width), n_i_SB, n_j_SB), rng)
        if not isinstance(blend, Blend):
            raise _wrong_type(entry, "a Blend", blend)
        lam_SB = np.broadcast_to(blend.lam_SB, (STEPS, BATCH)) if shape[1] == 1 else blend.lam_SB
        _check(entry, "lam_SB", lam_SB, (STEPS, BATCH), low=0, high=1)


def _check_label(entry: Part, splits: Splits) -> None:
    counts_K = _counts(splits)
    lam_B = torch.linspace(0, 1, 11)
    for n_i, n_j in ((counts_K.max(), counts_K.min()), (counts_K.min(), counts_K.max())):
        g_B = entry.make(lam_B, n_i.expand(len(lam_B)), n_j.expand(len(lam_B)))
        _check(entry, "g_B", g_B, (len(lam_B),), low=0, high=1)


_CHECKS: dict[str, Callable[[Part, Splits], None]] = {
    "data": _check_data,
    "model": _check_model,
    "loss": _check_loss,
    "weights": _check_weights,
    "sampler": _check_sampler,
    "schedule": _check_schedule,
    "optimizer": _check_optimizer,
    "after": _check_posthoc,
    "pairing": _check_pairing,
    "blend": _check_blend,
    "label": _check_label,
}


class _OwnNeighbours:
    """Training images of which each is its own nearest neighbour: no search is needed."""

    def __init__(self, splits: Splits) -> None:
        self.host_labels_N = splits.train.labels

    def nearest(self, k: int, same_class: bool, space: str) -> tuple[Ints, Ints]:
        images = len(self.host_labels_N)
        return np.arange(images)[:, None].repeat(k, axis=1), np.ones(images, dtype=np.int64)


def _counts(splits: Splits) -> Tensor:
    """Training images of each class, (K,) float32."""
    return torch.from_numpy(splits.counts()).float()


def _check(
    entry: Part,
    what: str,
    value: Any,
    shape: tuple[int | None, ...],
    low: float = -np.inf,
    high: float = np.inf,
    dtype: str = "",
) -> None:
    """Check an array or tensor that a part returned.

    Args:
        entry: the part.
        what: names the value in the message.
        value: what the part returned.
        shape: the required shape; None for a dimension of any size.
        low: the smallest allowed value.
        high: the largest allowed value.
        dtype: the required dtype; empty for any.

    Raises:
        ConfigError: the value is no array or tensor, or violates a requirement, or is not finite.
    """
    if not hasattr(value, "shape"):
        raise _error(entry, f"{what} must be an array or tensor", repr(value))
    sizes = zip(value.shape, shape, strict=False)
    if len(value.shape) != len(shape) or any(want not in (None, size) for size, want in sizes):
        problem = f"the shape of {what} must be {_shape_text(shape)}"
        raise _error(entry, problem, _shape_text(value.shape))
    if dtype and str(value.dtype) != dtype:
        raise _error(entry, f"{what} must be {dtype}", str(value.dtype))
    values = np.asarray(value.detach() if isinstance(value, Tensor) else value, dtype=float)
    if not np.isfinite(values).all():
        raise _error(entry, f"{what} must be finite", str(values[~np.isfinite(values)][0]))
    if values.size and (values.min() < low or values.max() > high):
        allowed = f"at least {low:g}" if high == np.inf else f"between {low:g} and {high:g}"
        raise _error(entry, f"{what} must be {allowed}", f"{values.min():g} to {values.max():g}")


def _shape_text(shape: Iterable[int | None]) -> str:
    sizes = ["any" if size is None else str(size) for size in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def _wrong_type(entry: Part, wanted: str, value: object) -> ConfigError:
    return _error(entry, f"the return value must be {wanted}", type(value).__name__)


def _error(entry: Part, problem: str, got: str) -> ConfigError:
    return ConfigError(
        f"{entry.slot} '{entry.name}': {problem}, got {got}: see docs/own-parts.md for what each "
        "part must return"
    )
