"""What is done to a finished model's head: an adjustment, or a second training stage.

The second stage is the ordinary loop on another configuration: class-balanced batches without
mixing, cross-entropy at the loss's scale, and only the head, or a factor for each logit, moves.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from imbtune.methods.losses import plain_cross_entropy
from imbtune.methods.posthoc import Adjustment, Retraining
from imbtune.registry import Value
from imbtune.training.device.device_data import DeviceData
from imbtune.training.loop import train_epoch
from imbtune.training.phases import Epoch
from imbtune.training.run_methods import RunMethods
from imbtune.training.state import HEAD, TrainState, seed_torch


def apply_posthoc(state: TrainState, data: DeviceData, budget: int) -> None:
    """Change `state.model` as `config.after` says.

    Args:
        budget: epochs of the run that made the model; a second stage takes a share of it.
    """
    model = state.model
    made = state.config.after.make(
        data.train_counts_K, model.head.norms(), state.methods.vectors.scale
    )
    if isinstance(made, Adjustment):
        model.scale_K.copy_(made.scale_K)
        model.bias_K.copy_(made.bias_K)
    elif isinstance(made, Retraining):
        _retrain(state, data, budget, made)
    elif made is not None:
        raise TypeError(f"after '{state.config.after.name}' returned {made!r}")


def _retrain(state: TrainState, data: DeviceData, budget: int, asked: Retraining) -> None:
    model, epochs = state.model, max(1, round(asked.share * budget))
    if asked.head:
        seed_torch(state.config.seed, HEAD)
        model.head.reset_parameters()
    learnt = list(model.head.parameters()) if asked.head else [model.scale_K]
    model.requires_grad_(False)  # a gradient left on any weight would go into the trunk's next step
    for tensor in learnt:
        tensor.requires_grad_(True)
    model.backbone.eval()
    stage = _second_stage(state, data, asked)
    stage.optimizer = stage.config.optimizer.make(learnt)
    try:
        for i in range(epochs):
            train_epoch(stage, data, Epoch(budget + i, budget, budget, 0.0, i, epochs))
    finally:
        state.passes = stage.passes
        model.scale_K.requires_grad_(False)
        model.requires_grad_(True).train()


def _second_stage(state: TrainState, data: DeviceData, asked: Retraining) -> TrainState:
    stage = copy.copy(state)
    changes: dict[str, Value] = {
        "sampler": "class_balanced",
        "optimizer": "sgd",
        "optimizer.lr": asked.lr,
        "optimizer.weight_decay": 2e-4,  # its own: AdamW's would be a hundred times too much here
        "optimizer.momentum": 0.9,
        "schedule": "cosine",
        "schedule.warmup": 0.0,
    }
    methods = RunMethods.from_config(state.config.baseline(**changes), data.train_counts_K)
    stage.methods = replace(methods, vectors=plain_cross_entropy(state.methods.vectors))
    stage.sharp, stage.graphed = None, None
    return stage
