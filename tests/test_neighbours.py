"""Who is mixed in: nearest neighbours against a brute-force search, and the draws among them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_splits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from imbtune.methods.mixing import any_class_knn, pairings, same_class_knn, shuffle
from imbtune.training import device_data
from imbtune.training.device_data import DeviceData, PixelNeighbours

Points = tuple[NDArray[np.uint8], list[int]]


@st.composite
def points(draw: st.DrawFn) -> Points:
    """Tiny images, often alike, in up to three classes."""
    n = draw(st.integers(1, 40))
    values = st.integers(0, draw(st.sampled_from([2, 255])))
    pixels = draw(arrays.arrays(np.uint8, (n, 1, 2, 2), elements=values))
    return pixels, draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))


@pytest.mark.parametrize("same_class", [True, False])
@pytest.mark.parametrize("block", [1, 7, 1024])
@given(drawn=points(), k=st.integers(1, 6))
def test_neighbours_are_those_of_a_brute_force_search(
    same_class: bool, block: int, drawn: Points, k: int
) -> None:
    """Whatever the block size: compared by distance, as equally near ones may change places."""
    pixels, labels = drawn
    flat = pixels.reshape(len(pixels), -1).astype(int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_data, "DISTANCE_BLOCK", block)
        search = PixelNeighbours(torch.from_numpy(pixels), torch.tensor(labels))
        nearest, found = search.nearest(k, same_class)
    for i in range(len(labels)):
        others = [
            j for j in range(len(labels)) if j != i and (labels[j] == labels[i] or not same_class)
        ]
        distance = {j: ((flat[i] - flat[j]) ** 2).sum() for j in others}
        chosen = nearest[i, : found[i]].tolist()
        assert set(chosen) <= set(others) and len(set(chosen)) == found[i] == min(k, len(others))
        assert [distance[j] for j in chosen] == sorted(distance.values())[:k]


@pytest.mark.parametrize("name", ["same_class_knn", "any_class_knn"])
def test_a_partner_is_any_of_the_k_nearest(name: str, device_data: DeviceData) -> None:
    same_class = name == "same_class_knn"
    labels = device_data.host_labels_N
    nearest, found = device_data.neighbours.nearest(8, same_class)  # two classes have fewer
    index_SB = np.tile(np.arange(len(labels)), (200, 1))
    partner_SB = pairings[name].make(
        index_SB, device_data.neighbours, np.random.default_rng(0), neighbours=8
    )
    for i in range(len(labels)):
        assert set(partner_SB[:, i]) == set(nearest[i, : found[i]] if found[i] else [i])


def test_the_only_image_of_a_class_pairs_with_itself(device_data: DeviceData) -> None:
    lonely = int(np.flatnonzero(device_data.host_labels_N == 3)[0])
    index_SB = np.full((2, 5), lonely)
    rng = np.random.default_rng(0)
    assert np.array_equal(same_class_knn(index_SB, device_data.neighbours, rng), index_SB)
    assert not (any_class_knn(index_SB, device_data.neighbours, rng) == lonely).any()


def test_one_image_in_all_pairs_with_itself() -> None:
    data = DeviceData(make_splits([1]), torch.device("cpu"))
    index_SB = np.zeros((1, 4), dtype=np.int64)
    partner_SB = any_class_knn(index_SB, data.neighbours, np.random.default_rng(0))
    assert np.array_equal(partner_SB, index_SB)


def test_shuffle_pairs_within_each_batch(device_data: DeviceData) -> None:
    index_SB = np.arange(60).reshape(3, 20)
    partner_SB = shuffle(index_SB, device_data.neighbours, np.random.default_rng(0))
    assert np.array_equal(np.sort(partner_SB, axis=1), index_SB)
    assert (partner_SB != index_SB).mean() > 0.5
    assert not np.array_equal(partner_SB[0] + 20, partner_SB[1])  # each batch in its own order
