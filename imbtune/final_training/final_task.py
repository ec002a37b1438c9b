"""What a final training trains, and the options that are not part of a configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from imbtune.config.plugin_module import PluginModule
from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.errors import ConfigError, shown
from imbtune.final_training.origin import SEARCHED
from imbtune.limits import flag
from imbtune.metrics.defined import check_telling, undefined_lines
from imbtune.metrics.metric import Metric, all_metrics, objectives_of
from imbtune.metrics.predictions import ClassCounts
from imbtune.training.phases import steps_per_epoch
from imbtune.training.weight_average import check_decay


@dataclass(frozen=True)
class TrainOptions:
    """What `imbtune train` does beyond its configuration; by default nothing.

    Attributes:
        ema: decay of a moving average of the weights, in (0, 1), which then is the model; None for
            the weights of the last step.
        calibrate: share of each class's training images, in (0, 1), that trains nothing and fits
            the temperature; None to train on all images, without a temperature.
        ensemble: test the mean of the seeds' probabilities, too.
    """

    ema: float | None = None
    calibrate: float | None = None
    ensemble: bool = False

    def check(self, seeds: int) -> None:
        """ConfigError for values that cannot be, or an ensemble of one seed."""
        for name in ("ema", "calibrate"):
            value = getattr(self, name)
            if value is None:
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or not 0 < value < 1:
                raise ConfigError(f"{flag(name)} {shown(value)}: give a number between 0 and 1")
        if self.ensemble and seeds < 2:
            raise ConfigError("--ensemble needs several seeds: give --seeds, such as --seeds 5")

    def lines(self) -> list[str]:
        """What they do, in one line each, for the model card."""
        found = []
        if self.ema is not None:
            found.append(
                f"The weights are an exponential moving average over the training (decay "
                f"{self.ema:g}), batch norm's statistics too."
            )
        if self.calibrate is not None:
            found.append(
                f"A share of {self.calibrate:g} of each class's training images trained nothing, "
                "and is kept for the temperature."
            )
        return found


@dataclass(frozen=True, eq=False)
class FinalTask:
    """A configuration to train with several seeds, and where its models go.

    Attributes:
        out: the folder of the first seed's model.
        config: with the first seed.
        seeds: number of runs, with consecutive seeds.
        splits: all training images and, held out, the test images.
        imports: modules with the user's plugins.
        provenance: where the configuration comes from.
        options: what is done beyond the configuration.
        data: absolute path of the folder or file with the data; None for a download.
    """

    out: Path
    config: TrainConfig
    seeds: int
    splits: Splits = field(repr=False)
    imports: tuple[PluginModule, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    options: TrainOptions = field(default_factory=TrainOptions)
    data: Path | None = None

    @property
    def objectives(self) -> tuple[Metric, ...]:
        """Those of the search that the configuration comes from; empty without one.

        Their knobs count for the metrics of their names.

        Raises:
            ConfigError: the provenance names a metric or knob that there is not.
        """
        return objectives_of(self.provenance)

    @property
    def counts(self) -> ClassCounts:
        """The training and test images of each class."""
        splits = self.splits
        held_out_K = splits.held_out.counts(len(splits.classes))
        return ClassCounts(splits.classes, splits.counts(), held_out_K)

    @property
    def titles(self) -> dict[str, str]:
        """Each metric by its name, with its knobs in words."""
        return {metric.name: metric.title(self.counts) for metric in self.measured}

    def check_objectives(self) -> None:
        """ConfigError where an objective names a class that the data do not have, or is 1 for every
        model of them."""
        for metric in self.objectives:
            try:
                metric.chance(self.counts)
            except ConfigError as error:
                origin = self.provenance.get("file") or self.provenance.get("study")
                if SEARCHED in self.provenance or origin is None:
                    raise  # it was given for this training
                raise ConfigError(
                    f"{origin}: the objective {metric} does not fit these images, which may not be "
                    f"those of its search: {error}"
                ) from error
            check_telling(metric, len(self.counts.names), "--objective")

    def undefined(self) -> list[str]:
        """Which metrics are undefined on the test images, and why."""
        return undefined_lines(self.measured, self.counts, "test images")

    @property
    def measured(self) -> list[Metric]:
        """The metrics of the test images: all that can tell models of these classes apart."""
        classes = len(self.counts.names)
        return [metric for metric in all_metrics(self.objectives) if metric.tells_of(classes)]

    @property
    def configs(self) -> list[TrainConfig]:
        """The configuration of each seed."""
        first = self.config.seed
        return [self.config.replace(seed=seed) for seed in range(first, first + self.seeds)]

    @cached_property
    def fingerprint(self) -> str:
        """Of the images; computed once, since it reads all of them."""
        return self.splits.fingerprint()

    def folder(self, seed: int) -> Path:
        """The folder of a seed's model."""
        return self.out if seed == self.config.seed else self.out / f"seed{seed}"

    def check_average(self) -> None:
        """ConfigError where the run is too short for the average of its weights."""
        if self.options.ema is not None:
            steps, _ = steps_per_epoch(len(self.splits.train), self.config.batch_size)
            check_decay(self.options.ema, steps * self.config.epochs)
