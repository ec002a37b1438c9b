"""The registry of data sets."""

from __future__ import annotations

from imbtune.data.imbalance import Imbalance
from imbtune.registry import Registry

datasets = Registry("data", "the data set, its imbalance profile and validation split", Imbalance)
