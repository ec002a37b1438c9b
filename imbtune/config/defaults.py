"""The slots of a training run, in the order of a configuration, with their default parts.

They are not in :mod:`imbtune.config.train_config`, because importing this module must not import
torch.
"""

from __future__ import annotations

DEFAULTS = {
    "data": "digits",
    "model": "small_cnn",
    "mix": "none",
    "generate": "none",
    "loss": "ce",
    "weights": "none",
    "sampler": "instance",
    "optimizer": "sgd",
    "schedule": "step",
    "after": "none",
}
