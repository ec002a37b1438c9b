"""Apply the post-hoc method to a finished model: adjust its logits or retrain its head.

Retraining is a second training stage in the ordinary loop (decoupled training, Kang et al. 2020,
arXiv 1910.09217): class-balanced batches, with the loss that the method names. It trains the head,
one factor per logit, or both.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from imbtune.errors import DivergenceError, diverging_at
from imbtune.methods.losses import plain_cross_entropy
from imbtune.methods.posthoc import Adjustment, Retraining
from imbtune.registry import Value
from imbtune.training.device.device_data import DeviceData
from imbtune.training.loop import train_epoch
from imbtune.training.phases import Epoch
from imbtune.training.run_methods import RunMethods
from imbtune.training.state import HEAD, TrainState, seed_torch


def apply_posthoc(state: TrainState, data: DeviceData, budget: int) -> None:
    """Apply the method of `config.after` to `state.model`, in place.

    Args:
        state: the finished model; its passes grow by those of a second stage.
        data: the images of a second stage.
        budget: training length of the model in epochs; a second stage lasts a share of it.

    Raises:
        TypeError: the method returned no Adjustment, Retraining or None.
        DivergenceError: the scale or bias of the logits, or the loss of the second stage, is not
            finite.
    """
    model = state.model
    result = state.config.after.make(
        data.train_counts_K, model.head.norms(), state.methods.vectors.scale
    )
    if isinstance(result, Adjustment):
        if not (result.scale_K.isfinite().all() and result.bias_K.isfinite().all()):
            raise DivergenceError(
                f"after={state.config.after.name}: the logits' scale or bias is not finite"
            )
        model.scale_K.copy_(result.scale_K)
        model.bias_K.copy_(result.bias_K)
    elif isinstance(result, Retraining):
        _retrain(state, data, budget, result)
    elif result is not None:
        raise TypeError(
            f"after '{state.config.after.name}' must return an Adjustment, a Retraining or None, "
            f"got {result!r}"
        )


def _retrain(state: TrainState, data: DeviceData, budget: int, stage: Retraining) -> None:
    """Train the head, the factors `scale_K`, or both, with the backbone frozen."""
    model, epochs = state.model, max(1, round(stage.share * budget))
    name = state.config.after.name
    if stage.head == "new":
        seed_torch(state.config.seed, HEAD)
        model.head.reset_parameters()
    head = [] if stage.head == "frozen" else list(model.head.parameters())
    factors = [model.scale_K] if stage.factors else []
    # No other weight may get a gradient: the trunk's next step would add it to its own.
    model.requires_grad_(False)
    for tensor in head + factors:
        tensor.requires_grad_(True)
    model.backbone.train(stage.batch_norm == "adapting")
    stage_state = _second_stage(state, data, stage)
    optimizer = stage_state.config.optimizer.make(head + factors)
    if stage.head_lr != 1:
        (group,) = optimizer.param_groups
        group["params"] = factors
        rate = group["lr"].clone()
        optimizer.add_param_group({**group, "params": head, "lr": rate, "lr_factor": stage.head_lr})
    stage_state.optimizer = optimizer
    try:
        for i in range(epochs):
            with diverging_at(f"after={name}: epoch {i + 1} of the second stage"):
                epoch = Epoch(budget + i, budget, budget, 0.0, i, epochs)
                train_epoch(stage_state, data, epoch).check()
    finally:
        state.passes = stage_state.passes
        model.scale_K.requires_grad_(False)
        model.requires_grad_(True).train()


def _second_stage(state: TrainState, data: DeviceData, stage: Retraining) -> TrainState:
    """A copy of the state that shares its network and has the second stage's methods."""
    stage_state = copy.copy(state)
    changes: dict[str, Value] = {
        "sampler": "class_balanced",
        "optimizer": "sgd",
        "optimizer.lr": stage.lr,
        "optimizer.weight_decay": 2e-4,  # not the run's: AdamW's is about a hundred times larger
        "optimizer.momentum": 0.9,
        "schedule": "cosine",
        "schedule.warmup": 0.0,
        **({"mix": "mixup"} if stage.mixup else {}),
    }
    methods = RunMethods.from_config(state.config.baseline(**changes), data.train_counts_K)
    vectors = stage.loss or plain_cross_entropy(state.methods.vectors)
    stage_state.methods = replace(methods, vectors=vectors, rate_by_epoch=stage.rate_by_epoch)
    stage_state.sharpness_aware, stage_state.graphed, stage_state.average = None, None, None
    return stage_state
