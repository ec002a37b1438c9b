"""Real CIFAR-10 in Hugging Face Parquet, where a checkout has it beside it."""

from __future__ import annotations

import numpy as np
import pytest
from data_files import REAL_CIFAR10, read

from imbtune.data.imbalance import Imbalance
from imbtune.data.splits import Dataset, final_splits, search_splits


@pytest.fixture(scope="module")
def real() -> Dataset:
    """Real CIFAR-10, decoded once: it takes seconds."""
    if not REAL_CIFAR10.is_dir():
        pytest.skip("no real CIFAR-10 beside this checkout")
    return read("cifar10", REAL_CIFAR10)


def test_real_cifar10(real: Dataset) -> None:
    assert real.train.counts(10).tolist() == [5000] * 10
    assert real.test.counts(10).tolist() == [1000] * 10
    assert real.train.pixels.shape == (50_000, 3, 32, 32)
    means = real.train.array().mean(axis=(0, 2, 3), dtype=np.float64) / 255
    assert [round(mean, 4) for mean in means.tolist()] == [0.4914, 0.4822, 0.4465]
    assert [round(mean, 4) for mean in real.preprocessing.mean] == [0.4914, 0.4822, 0.4465]
    assert " ".join(real.classes) == ("airplane automobile bird cat deer dog frog horse ship truck")


@pytest.mark.parametrize(
    ("ratio", "total"),
    [(10, 20431), (50, 13996), (100, 12406), (200, 11203)],
)
def test_real_cifar10_lt(real: Dataset, ratio: float, total: int) -> None:
    imbalance = Imbalance(ratio=ratio)
    assert len(final_splits(real, imbalance).train) == total
    search = search_splits(real, imbalance)
    # the head lends its 100 validation images, and only the head has none left over
    assert len(search.train) == total - 100
    assert search.held_out.counts(10).tolist() == [100] * 10
