"""Plugin files with the names of an earlier layout run as they are."""

from __future__ import annotations

import ast
import importlib
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch

from imbtune.config.moved_names import MODULES, NAMES, with_current_names
from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugins import register
from imbtune.config.slots import SLOTS
from imbtune.data.load import DataSource, load
from imbtune.errors import ConfigError
from imbtune.spaces.space_file import load_space

# The example of docs/own-parts.md at the last commit with the earlier layout
PLUGIN = """
# my_parts.py
from typing import Annotated

import numpy as np
from torch import Tensor, nn

from imbtune.data.datasets import Reading, datasets
from imbtune.data.splits import Dataset, Images, Look
from imbtune.methods.labelling import label_rules
from imbtune.methods.losses import MarginSoftmax, ce, losses
from imbtune.models.networks import Backbone, models
from imbtune.registry import Knob


@losses.register("rank_margin", help="margins that grow with the rank of a class's size")
def rank_margin(
    counts_K: Tensor,
    *,
    reach: Annotated[float, Knob("margin of the rarest class", 0, 10, search=(0, 3))] = 1.0,
) -> MarginSoftmax:
    rank_K = counts_K.argsort(descending=True).argsort().float()  # 0 is the largest class
    return ce(counts_K)._replace(margin_K=reach * rank_K / rank_K.max())


@label_rules.register("sharp", help="more of the label to the image that has more")
def sharp(
    lam_B: Tensor,
    n_i_B: Tensor,
    n_j_B: Tensor,
    *,
    sharpness: Annotated[float, Knob("p; 1 is linear", 0.1, 10, search=(1, 4))] = 2.0,
) -> Tensor:
    own_B, others_B = lam_B**sharpness, (1 - lam_B) ** sharpness
    return own_B / (own_B + others_B)


@models.register("mlp", help="one hidden layer on a coarse grid of the image")
def mlp(
    channels: int,
    *,
    width: Annotated[int, Knob("hidden units", 1, 1024, search=(16, 128), scale="log")] = 64,
) -> Backbone:
    layers = nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(channels * 64, width), nn.ReLU()
    return Backbone(nn.Sequential(*layers), width)


@datasets.register("stripes", help="noisy stripes in six directions, made up on the spot")
def stripes(
    reading: Reading,
    *,
    noise: Annotated[float, Knob("standard deviation of the noise, in grey values", 0, 255)] = 40.0,
) -> Dataset:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 150)
    y, x = np.mgrid[:12, :12]
    angle, phase = labels * np.pi / 6, rng.uniform(0, 2 * np.pi, len(labels))
    along = np.multiply.outer(np.cos(angle), x) + np.multiply.outer(np.sin(angle), y)
    grey = 128 + 60 * np.sin(along * 1.5 + phase[:, None, None])
    pixels = (grey + rng.normal(0, noise, grey.shape)).clip(0, 255).astype(np.uint8)[:, None]
    held = np.arange(len(labels)) % 3 == 0
    train, test = (Images(pixels[part], labels[part]) for part in (~held, held))
    names = tuple(f"{30 * k}°" for k in range(6))
    return Dataset(train, test, names, Look(mean=(0.5,), std=(0.2,), pad=1))
"""
SPACE = """
# mine.yaml
about: "noisy stripes, 20:1, with parts of our own"
imports: [my_parts] # my_parts.py beside this file
data: {name: stripes, noise: 60, profile: exp, head: 80, ratio: 20, val_per_class: 10}
train: {model: mlp, epochs: 6, batch_size: 32}
rungs: {eta: 2, count: 2}
presets: [mixup] # the first trial; left out, every preset that fits
knobs:
  model.width: # nothing: the knob's own search range
  mix: [mixup, shuffle+linear+sharp]
  mix.sharpness:
  loss: [ce, rank_margin]
  loss.reach: {low: 0, high: 2}
  optimizer.lr: {low: 0.01, high: 0.3, scale: log}
"""


def run(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(with_current_names(ast.parse(source)), "old.py", "exec"), names)
    return names


def test_the_documented_example_of_the_earlier_layout_runs(tmp_path: Path) -> None:
    (tmp_path / "my_parts.py").write_text(PLUGIN, encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(SPACE, encoding="utf-8")
    space = load_space(str(path))
    assert {part.name for part in space.plugin_parts()} == {
        "rank_margin", "sharp", "mlp", "stripes"
    }  # fmt: skip
    assert space.imports[0].source == PLUGIN.encode()  # the study's copy stays as it was written
    dataset = load("stripes", {"noise": 60.0}, DataSource())
    assert dataset.preprocessing.pad == 1
    assert len(dataset.train) == 600
    vectors = SLOTS["loss"]["rank_margin"].make(torch.tensor([30.0, 20.0, 10.0]), reach=2.0)
    assert vectors.margin_K.tolist() == [0.0, 1.0, 2.0]


def test_every_current_name_exists() -> None:
    for module in MODULES.values():
        importlib.import_module(module)
    for module, name in NAMES.values():
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def test_no_module_with_an_old_name_is_left() -> None:
    for module in MODULES:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(module)


@pytest.mark.parametrize(
    "source",
    [
        "from imbtune.methods.labelling import label_rules as found",
        "from imbtune.methods import labelling\nfound = labelling.label_rules",
        "import imbtune.methods.labelling as rules\nfound = rules.label_rules",
        "import imbtune.methods.labelling\nfound = imbtune.methods.labelling.label_rules",
        "def inside():\n    from imbtune.methods.labelling import label_rules\n"
        "    return label_rules\nfound = inside()",
        "from imbtune.methods.labelling import *\nfound = label_rules",
        "from imbtune.methods.mixing.label_rules import label_rules as found",
        "from imbtune.methods.mixing import label_rules\nfound = label_rules.label_rules",
    ],
)
def test_each_way_to_import(source: str) -> None:
    assert run(source)["found"].slot == "label"


@pytest.mark.parametrize(
    "source",
    [
        "from imbtune.methods.finishing import finishers as found, Adjustment",
        "import imbtune.methods.finishing as f\nfound = f.finishers",
        "import imbtune.methods.finishing\nfound = imbtune.methods.finishing.finishers",
        "from imbtune import methods\nfound = methods.finishing.finishers",
        "from imbtune.methods.finishing import *\nfound = finishers",
    ],
)
def test_each_way_to_use_a_renamed_name(source: str) -> None:
    assert run(source)["found"] is SLOTS["after"]


@pytest.mark.parametrize(
    "source",
    [
        "from imbtune.data.reading import datasets as found",
        "import imbtune.data.reading as r\nfound = r.datasets",
        "from imbtune.data import reading\nfound = reading.datasets",
        "import imbtune.data.reading\nfound = imbtune.data.reading.datasets",
        "from imbtune.data.reading import *\nfound = datasets",
    ],
)
def test_a_name_that_left_its_module(source: str) -> None:
    """`datasets` went to another module than the other names of `reading`."""
    assert run(source)["found"] is SLOTS["data"]


@pytest.mark.parametrize(
    "source",
    [
        "from imbtune.data.splits import Dataset, Look\n"
        "found = Dataset(None, None, (), look=Look((0.5,), (0.2,)))",
        "from imbtune.data.splits import Dataset as Images, Look\n"
        "found = Images(None, None, (), look=Look((0.5,), (0.2,)))",
        "import imbtune.data.splits as s\n"
        "found = s.Dataset(None, None, (), look=s.Look((0.5,), (0.2,)))",
        "from imbtune.data import splits\n"
        "found = splits.Dataset(None, None, (), look=splits.Look((0.5,), (0.2,)))",
        "from imbtune.data.splits import *\n"
        "found = Dataset(None, None, (), look=Look((0.5,), (0.2,)))",
    ],
)
def test_an_argument_that_was_renamed(source: str) -> None:
    assert run(source)["found"].preprocessing.std == (0.2,)


def test_a_class_of_the_users_with_the_same_name_is_left_alone() -> None:
    source = "def Dataset(look):\n    return look\nfound = Dataset(look=3)"
    assert run(source)["found"] == 3


def test_tracebacks_have_the_lines_of_the_file() -> None:
    source = b"from imbtune.methods.labelling import (\n    MAMIX,\n    label_rules,\n)\n\n1 / 0\n"
    with pytest.raises(ConfigError, match="line 6: ZeroDivisionError") as caught:
        register([PluginModule("my_loss", "/nowhere/my_loss.py", source)])
    assert "1 / 0" in "".join(traceback.format_exception(caught.value.__cause__))
