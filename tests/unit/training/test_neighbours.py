"""Who is mixed in: nearest neighbours against a brute-force search, and the draws among them."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from points import Located, located
from small_data import make_splits

from imbtune.methods.mixing.pairing import (
    any_class_knn,
    pairings,
    same_class_knn,
    shuffle,
    tail_weighted,
)
from imbtune.training.device import neighbours
from imbtune.training.device.device_data import DeviceData
from imbtune.training.device.neighbours import Neighbours

Ints = NDArray[np.int64]


class Points(NamedTuple):
    """Points of whole numbers, (N, D), and their classes."""

    values: NDArray[np.generic]
    labels: list[int]


@st.composite
def points(draw: st.DrawFn) -> Points:
    """Bytes or floats, often alike, in up to three classes."""
    n = draw(st.integers(1, 25))
    values = st.integers(0, draw(st.sampled_from([2, 255])))
    drawn = draw(arrays.arrays(np.uint8, (n, 4), elements=values))
    kind = draw(st.sampled_from([np.uint8, np.float32]))
    return Points(drawn.astype(kind), draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))


def check_brute_force(drawn: Points, nearest: Ints, found: Ints, k: int, same_class: bool) -> None:
    """By distance, as equally near ones may change places."""
    values, labels = drawn.values.astype(int), drawn.labels
    assert nearest.shape == (len(labels), k)
    for i in range(len(labels)):
        others = [
            j for j in range(len(labels)) if j != i and (labels[j] == labels[i] or not same_class)
        ]
        distance = {j: ((values[i] - values[j]) ** 2).sum() for j in others}
        chosen = nearest[i, : found[i]].tolist()
        assert set(chosen) <= set(others) and len(set(chosen)) == found[i] == min(k, len(others))
        assert [distance[j] for j in chosen] == sorted(distance.values())[:k]


@pytest.mark.parametrize("same_class", [True, False])
@given(
    drawn=points(),
    ks=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    rows=st.sampled_from([1, 3, 7, 1024]),
    columns=st.sampled_from([1, 2, 7, 8192]),
)
@settings(max_examples=40)
def test_neighbours_are_those_of_a_brute_force_search(
    same_class: bool, drawn: Points, ks: list[int], rows: int, columns: int
) -> None:
    """Whatever the blocks, and whatever was asked for before: what is kept serves a smaller k."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "ROWS", rows)
        patch.setattr(neighbours, "COLUMNS", columns)
        search = Neighbours(torch.from_numpy(drawn.values), torch.tensor(drawn.labels))
        for k in ks:
            check_brute_force(drawn, *search.nearest(k, same_class), k, same_class)
            check_brute_force(drawn, *search.nearest(k, not same_class), k, not same_class)


def test_neighbours_are_searched_for_once_and_again_only_for_a_larger_k() -> None:
    values = np.random.default_rng(0).random((30, 3), dtype=np.float32)
    points_ND = torch.from_numpy(values.copy())
    search = Neighbours(points_ND, torch.zeros(30, dtype=torch.int64))
    first, _ = search.nearest(5, same_class=False)
    points_ND.zero_()  # a new search would find all alike
    smaller, found = search.nearest(3, same_class=False)
    assert np.array_equal(smaller, first[:, :3]) and (found == 3).all()
    points_ND.copy_(torch.from_numpy(values))
    larger, found = search.nearest(7, same_class=False)
    assert np.array_equal(larger[:, :5], first) and (found == 7).all()


# ---- the draws ---------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["pixels", "features"])
@pytest.mark.parametrize("name", ["same_class_knn", "any_class_knn"])
def test_a_partner_is_any_of_the_k_nearest_of_the_space(
    name: str, space: str, device_data: DeviceData
) -> None:
    labels, images = device_data.host_labels_N, located(device_data)
    nearest, found = images.nearest(8, name == "same_class_knn", space)  # two classes have fewer
    index_SB = np.tile(np.arange(len(labels)), (200, 1))
    rng = np.random.default_rng(0)
    partner_SB = pairings[name].make(index_SB, images, rng, neighbours=8, space=space)
    assert images.asked == [(8, name == "same_class_knn", space)] * 2
    for i in range(len(labels)):
        drawn = Counter(partner_SB[:, i].tolist())
        assert set(drawn) == set(nearest[i, : found[i]] if found[i] else [i])
        assert max(drawn.values()) < 3 * 200 / max(1, found[i])


@given(points(), st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=50)
def test_a_neighbour_is_never_oneself_but_where_there_is_no_other(
    drawn: Points, k: int, seed: int
) -> None:
    labels = np.array(drawn.labels)
    images = Located(labels, pixels=drawn.values)
    index_SB = np.random.default_rng(seed).integers(0, len(labels), (3, 5))
    for pairing in (same_class_knn, any_class_knn):
        partner_SB = pairing(index_SB, images, np.random.default_rng(seed), neighbours=k)
        same = labels[partner_SB] == labels[index_SB]
        others = np.bincount(labels)[labels] - 1 if pairing is same_class_knn else len(labels) - 1
        alone = np.broadcast_to(others, labels.shape)[index_SB] == 0
        assert ((partner_SB == index_SB) == alone).all()
        assert pairing is any_class_knn or same.all()


def test_the_only_image_of_a_class_pairs_with_itself(device_data: DeviceData) -> None:
    lonely = int(np.flatnonzero(device_data.host_labels_N == 3)[0])
    index_SB = np.full((2, 5), lonely)
    rng = np.random.default_rng(0)
    images = located(device_data)
    assert np.array_equal(same_class_knn(index_SB, images, rng), index_SB)
    assert not (any_class_knn(index_SB, images, rng) == lonely).any()


def test_one_image_in_all_pairs_with_itself() -> None:
    images = located(DeviceData(make_splits([1]), torch.device("cpu")))
    index_SB = np.zeros((1, 4), dtype=np.int64)
    for entry in pairings:
        partner_SB = entry.make(index_SB, images, np.random.default_rng(0))
        assert np.array_equal(partner_SB, index_SB)


def test_shuffle_pairs_within_each_batch(device_data: DeviceData) -> None:
    index_SB = np.arange(60).reshape(3, 20)
    partner_SB = shuffle(index_SB, located(device_data), np.random.default_rng(0))
    assert np.array_equal(np.sort(partner_SB, axis=1), index_SB)
    assert (partner_SB != index_SB).mean() > 0.5
    assert not np.array_equal(partner_SB[0] + 20, partner_SB[1])  # each batch in its own order


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_tail_weighted_draws_each_image_with_weight_n_to_the_minus_p(power: float) -> None:
    """Within five standard deviations; on unsorted labels, from the whole set, whatever x_i is."""
    counts = [300, 60, 12, 1]
    labels = np.random.default_rng(5).permutation(np.repeat(np.arange(4), counts))
    weight = [counts[label] ** -power for label in labels]
    index_SB = np.zeros((20, 2000), dtype=np.int64)  # a batch of one image, so of one class
    images = Located(labels)
    partner_SB = tail_weighted(index_SB, images, np.random.default_rng(0), power=power)
    assert partner_SB.shape == index_SB.shape and images.asked == []
    seen = np.bincount(partner_SB.ravel(), minlength=len(labels))
    for i, n in enumerate(seen):
        expected = index_SB.size * weight[i] / sum(weight)
        assert abs(n - expected) < 5 * expected**0.5 + 1


@pytest.mark.parametrize("name", pairings.names())
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 10**6))
@settings(max_examples=40)
def test_partners_exist_and_draws_repeat(name: str, labels: list[int], seed: int) -> None:
    """Any labels, classes without an image among them; one-image classes and one-class batches."""
    rng = np.random.default_rng(seed)
    index_SB = rng.integers(0, len(labels), (2, 6))
    images = Located(np.array(labels), pixels=rng.integers(0, 9, (len(labels), 2)))
    first, again = (
        pairings[name].make(index_SB, images, np.random.default_rng(seed)) for _ in range(2)
    )
    assert first.dtype == np.int64 and first.shape == index_SB.shape
    assert ((first >= 0) & (first < len(labels))).all()
    assert np.array_equal(first, again)
