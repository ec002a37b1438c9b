"""The slots of a training run, in the order of a configuration, with their default parts.

Apart from :mod:`imbtune.config.train_config`, since this module imports no torch.
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
