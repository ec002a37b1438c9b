"""What a comparison compares, as its `comparison.yaml` has it.

Reading it loads no torch and runs no plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import yaml

from imbtune.config.yaml_files import parse_yaml
from imbtune.errors import ConfigError, StudyError
from imbtune.registry import Value
from imbtune.storage import Store, join
from imbtune.study.tables.schema import METRICS

if TYPE_CHECKING:  # they load torch
    from imbtune.config.plugin_module import PluginModule
    from imbtune.config.train_config import TrainConfig

FILE = "comparison.yaml"
RUNS = "runs"  # the folder with a file for each finished run
MARGINS = ("margin_train", "margin_test", "probability_margin_train", "probability_margin_test")

RUN_SCHEMA = pa.schema(
    [
        ("row", pa.string()),  # the preset, or a study's name with -winner
        ("preset", pa.string()),  # null for a winner
        ("study", pa.string()),  # that it has won; null for a preset
        ("trial", pa.int32()),  # its number in the study; null for a preset
        ("seed", pa.int64()),
        *METRICS,  # on the test images, after the last epoch
        ("confusion", pa.list_(pa.list_(pa.int64()))),  # images by class and predicted class
        *((name, pa.list_(pa.float64())) for name in MARGINS),  # mean margin of each class
        ("images", pa.int64()),  # image passes of the training
        ("seconds", pa.float64()),  # of the training and the test
        ("threads", pa.int32()),  # CPU threads, on which the last bits depend
        ("node", pa.string()),  # Ray's ID of the machine
    ]
)


@dataclass(frozen=True)
class Row:
    """One configuration of a comparison.

    Attributes:
        name: of the preset, or of the study with `-winner`.
        preset: its name; None for a winner.
        study: folder or URI of the study that it has won; None for a preset.
        trial: its number in that study, if known.
        settings: the complete configuration; each run replaces the seed.
    """

    name: str
    preset: str | None
    study: str | None
    trial: int | None
    settings: Mapping[str, Value]

    def config(self, seed: int) -> TrainConfig:
        """The configuration of a run."""
        from imbtune.config.train_config import TrainConfig  # inside: it loads torch

        return TrainConfig.from_settings({**self.settings, "seed": seed})


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        rows: at least one.
        seeds: the seeds that every row is trained with.
        reference: the row that the others are tested against; None for the best one.
        imports: modules with the user's plugins.
    """

    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    reference: str | None = None
    imports: tuple[PluginModule, ...] = ()

    @property
    def runs(self) -> list[tuple[Row, int]]:
        """Every row with every seed. All rows have the first seed before any has the second."""
        return [(row, seed) for seed in self.seeds for row in self.rows]

    def settings(self) -> dict[str, object]:
        """What tells it from another comparison of the space."""
        return {
            "trials": None,  # the number of runs follows from these
            "rows": [row.name for row in self.rows],
            "seeds": list(self.seeds),
            "seed": self.seeds[0],
            "reference": self.reference,
        }

    def yaml(self) -> str:
        """The content of `comparison.yaml`."""
        content = {
            "seeds": list(self.seeds),
            "reference": self.reference,
            "imports": [module.name for module in self.imports],
            "rows": [{**asdict(row), "settings": dict(row.settings)} for row in self.rows],
        }
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def recorded_comparison(store: Store) -> tuple[Comparison, list[str]]:
    """Read `comparison.yaml`, without the plugins, whose names are returned beside it.

    Raises:
        StudyError: the file is missing or damaged.
    """
    try:
        content = parse_yaml(join(store.path, FILE), store.read(FILE))
        rows = tuple(Row(**entry) for entry in content["rows"])
        seeds = tuple(int(seed) for seed in content["seeds"])
        return Comparison(rows, seeds, content["reference"]), list(content["imports"])
    except (ConfigError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(store, error) from error


def recorded_runs(store: Store) -> pd.DataFrame:
    """A line for each finished run, with the columns of `RUN_SCHEMA`, by row and seed."""
    table = store.table(RUNS) if store.parts(RUNS) else RUN_SCHEMA.empty_table()
    frame: pd.DataFrame = table.to_pandas()
    return frame.sort_values(["row", "seed"], ignore_index=True)


def damaged(store: Store, error: Exception) -> StudyError:
    """The error of a `comparison.yaml` that cannot be read."""
    path = join(store.path, FILE)
    return StudyError(f"cannot read {path} ({error!r}): restore it from a backup")
