"""The long-tailed subset of the published benchmarks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbtune.data.imbalance import Imbalance
from imbtune.data.splits import Dataset, Images, Preprocessing, final_splits, search_splits


def numbered(labels: list[int], classes: int) -> Dataset:
    """Images whose only pixel values are their own number."""
    numbers = np.arange(len(labels), dtype=np.uint32)
    pixels = numbers.view(np.uint8).reshape(-1, 4, 1, 1)[:, :3].copy()
    images = Images(pixels, np.array(labels, dtype=np.int64))
    names = tuple(map(str, range(classes)))
    return Dataset(images, images, names, Preprocessing((0.5,) * 3, (0.5,) * 3))


def numbers_of(images: Images) -> list[int]:
    pixels = np.asarray(images.pixels)[:, :, 0, 0].astype(np.int64)
    return [int(n) for n in pixels @ np.array([1, 256, 65536])]


def imbalanced_cifar(labels: list[int], counts: list[int], rand_number: int) -> list[int]:
    """`IMBALANCECIFAR10.__init__` and `gen_imbalanced_data` of kaidic/LDAM-DRW."""
    state = np.random.get_state()
    np.random.seed(rand_number)
    targets = np.array(labels, dtype=np.int64)
    selected = []
    for the_class, the_img_num in zip(np.unique(targets), counts, strict=True):
        idx = np.where(targets == the_class)[0]
        np.random.shuffle(idx)
        selected.extend(idx[:the_img_num].tolist())
    np.random.set_state(state)
    return selected


@given(st.integers(2, 6), st.integers(8, 40), st.integers(0, 3), st.integers(0, 99))
def test_it_is_ldam_drws(classes: int, head: int, rand_number: int, order: int) -> None:
    labels = np.random.default_rng(order).permutation(np.repeat(np.arange(classes), head)).tolist()
    imbalance = Imbalance(ratio=4, val_per_class=1, subset="standard", subset_seed=rand_number)
    splits = final_splits(numbered(labels, classes), imbalance)
    published = imbalanced_cifar(labels, splits.counts().tolist(), rand_number)
    assert numbers_of(splits.train) == published


@pytest.mark.parametrize("subset", ["standard", "drawn"])
def test_a_search_trains_on_the_same_images_less_those_held_out(subset: str) -> None:
    labels = [k for k in range(4) for _ in range(30)]
    imbalance = Imbalance(ratio=10, val_per_class=3, subset=subset)
    final = set(numbers_of(final_splits(numbered(labels, 4), imbalance).train))
    split = search_splits(numbered(labels, 4), imbalance)
    train, held_out = set(numbers_of(split.train)), set(numbers_of(split.held_out))
    assert train <= final and not train & held_out
    assert final - train <= held_out


def test_the_drawn_subset_is_another_one() -> None:
    labels = [k for k in range(4) for _ in range(30)]
    one, other = (
        numbers_of(final_splits(numbered(labels, 4), imbalance).train)
        for imbalance in (
            Imbalance(ratio=10, val_per_class=3, subset=subset) for subset in ("standard", "drawn")
        )
    )
    assert one != other and len(one) == len(other)
