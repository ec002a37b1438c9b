"""A search space with parts of its own, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

HEAD = """
from typing import Annotated
import numpy as np
import torch
from torch import nn
from imbtune.data.load import DataSource, datasets
from imbtune.data.splits import Dataset, Images, Preprocessing
from imbtune.methods.mixing.blending import Blend, blends
from imbtune.methods.posthoc import Adjustment, posthoc_methods
from imbtune.methods.optimizers import optimizers
from imbtune.methods.mixing.label_rules import label_rules
from imbtune.methods.losses import ce, losses
from imbtune.methods.mixing.pairing import pairings
from imbtune.methods.class_sampling import samplers
from imbtune.methods.lr_schedules import schedules
from imbtune.methods.class_weights import weights
from imbtune.models.networks import Backbone, models
from imbtune.registry import Knob
"""


def loss(name: str = "steep", knob: str = "steepness", factor: str = "1") -> str:
    return f"""{HEAD}
@losses.register("{name}", help="for this test")
def part(counts_K, *, {knob}: Annotated[float, Knob("how much", 0, 9, search=(0, 2))] = 1):
    return ce(counts_K)._replace(bias_K={factor} * {knob} * counts_K.log())
"""


RULE = """
@label_rules.register("sharp", help="for this test")
def sharp(lam_B, n_i_B, n_j_B, *, sharpness: Annotated[float, Knob("p", 0.1, 9, (1, 4))] = 2):
    return lam_B**sharpness / (lam_B**sharpness + (1 - lam_B) ** sharpness)
"""
MODEL = """
class Tiny(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        self.inner = nn.Linear(channels * 16, width)

    def forward(self, images_BCHW):
        pooled = nn.functional.adaptive_avg_pool2d(images_BCHW, 4)
        return self.inner(pooled.flatten(1)).relu()

@models.register("tiny", help="for this test")
def tiny(channels, *, width: Annotated[int, Knob("units", 1, 1024)] = 8):
    return Backbone(Tiny(channels, width), width)
"""
SPACE: dict[str, Any] = {
    "imports": ["my_parts"],
    "data": {"name": "digits", "head": 60, "ratio": 10, "val_per_class": 5},
    "train": {"model": "tiny", "epochs": 2},
    "rungs": {"count": 1},
    "presets": [],
    "knobs": {
        "mix": ["shuffle+linear+sharp"],
        "mix.sharpness": None,
        "loss": ["steep"],
        "loss.steepness": None,
        "model.width": {"low": 4, "high": 12},
    },
}


def write_space(folder: Path, source: str = "", **changes: Any) -> Path:
    """`mine.yaml` and `my_parts.py` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "my_parts.py").write_text(source or loss() + RULE + MODEL, encoding="utf-8")
    (folder / "mine.yaml").write_text(yaml.safe_dump(SPACE | changes), encoding="utf-8")
    return folder / "mine.yaml"
