"""docs/presets.md names every preset and the values of every published space."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imbtune.spaces.presets import PRESETS
from imbtune.spaces.space_file import load_space

PAGE = (Path(__file__).parents[2] / "docs" / "presets.md").read_text(encoding="utf-8")


def test_the_page_has_every_preset() -> None:
    _, _, table = PAGE.partition("## Presets\n")
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named: set[str] = set()
    for cell in rows:
        names = re.findall(r"`(\w+)`", cell)
        if "_drw" in names:  # "`mixup`, `remix`, `mamix` and `_drw`"
            names.remove("_drw")
            names += [f"{name}_drw" for name in names]
        named |= set(names)
    assert named == set(PRESETS)


@pytest.mark.parametrize(
    "name", ["cifar10-lt", "cifar100-lt", "cinic10-lt", "svhn-lt", "tiny_imagenet-lt"]
)
def test_the_page_has_the_published_spaces(name: str) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
    _, _, images, model, epochs, drops, reweighting, _ = (cell.strip() for cell in row.split("|"))
    config = load_space(name).preset("drw")
    assert f"{images} images" in load_space(name).about
    assert model == f"`{config.model.name}`" and int(epochs) == config.epochs
    first, second = map(int, re.findall(r"after (\d+) and (\d+)", drops)[0])
    assert float(drops[1:].split()[0]) == config.schedule.knobs["drop"]
    trunk = config.schedule.shared.trunk_epochs(config.epochs)
    assert first == trunk
    cooldown = config.epochs - trunk
    assert int(reweighting) == trunk + round(config.weights.shared.start * cooldown)
    assert second in (trunk + cooldown // 2, trunk + round(2 / 3 * cooldown))
