"""Splits: no image in two of them, counts as promised, the subset decided by its seed alone."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from data_files import raises_one_line, read
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import make_images

from imbtune.data.imbalance import Imbalance, profile_counts
from imbtune.data.splits import Dataset, Images, Preprocessing, Splits, final_splits, search_splits

LOOK = Preprocessing((0.5,), (0.25,), pad=2, flip=True)


def make_dataset(sizes: list[int], seed: int = 0) -> Dataset:
    """Distinct 4×4 images, the classes mixed up in file order."""
    train, test = make_images(sizes, 4, seed=seed), make_images([3] * len(sizes), 4, seed=seed + 1)
    mixed = np.random.default_rng(seed).permutation(len(train))
    names = tuple(f"class{k}" for k in range(len(sizes)))
    return Dataset(train.take(mixed), test, names, LOOK)


def keys(images: Images) -> dict[bytes, int]:
    """Label by content; fails where two images are alike."""
    found = {p.tobytes(): int(k) for p, k in zip(images.array(), images.labels, strict=True)}
    assert len(found) == len(images)
    return found


@st.composite
def cases(draw: Any) -> tuple[list[int], Imbalance]:
    """Class sizes, and a profile within the bounds that the error messages name."""
    sizes = draw(st.lists(st.integers(2, 30), min_size=2, max_size=6))
    head = draw(st.integers(1, min(sizes)))
    return sizes, Imbalance(
        draw(st.sampled_from(["exp", "step", "as_is"])),
        draw(st.floats(1, head)),
        head,
        draw(st.integers(1, min(sizes) - 1)),
        draw(st.floats(0.01, 0.9)),
        draw(st.integers(0, 3)),
    )


@given(cases())
def test_what_a_search_and_a_final_training_see(case: tuple[list[int], Imbalance]) -> None:
    sizes, imbalance = case
    dataset = make_dataset(sizes)
    every, test = keys(dataset.train), keys(dataset.test)
    search, final = search_splits(dataset, imbalance), final_splits(dataset, imbalance)
    learnt, validation, kept = keys(search.train), keys(search.held_out), keys(final.train)
    wanted = profile_counts(imbalance, np.array(sizes))

    assert final.counts().tolist() == wanted.tolist()
    assert keys(final.held_out) == test
    held = [imbalance.val_per_class] * len(sizes)
    if imbalance.profile == "as_is":  # the share, rounded, and one image on each side
        held = [min(max(round(imbalance.val_share * n), 1), n - 1) for n in sizes]
    assert search.held_out.counts(len(sizes)).tolist() == held
    assert not learnt.keys() & validation.keys()
    assert not test.keys() & (learnt.keys() | validation.keys() | kept.keys())
    # only what was held out of the benchmark's own images returns; the left-over never train
    assert learnt.keys() | (validation.keys() & kept.keys()) == kept.keys()
    lent = [max(0, h - (n - k)) for h, n, k in zip(held, sizes, wanted, strict=True)]
    assert (final.counts() - search.counts()).tolist() == lent
    assert search.counts().min() >= 1
    for part in (learnt, validation, kept):
        assert part.items() <= every.items()


@settings(max_examples=30)
@given(cases())
def test_same_call_same_figure(case: tuple[list[int], Imbalance]) -> None:
    sizes, imbalance = case
    dataset, other = make_dataset(sizes), make_dataset(sizes, seed=7)
    for splits in (search_splits, final_splits):
        figure = splits(dataset, imbalance).fingerprint()
        assert splits(make_dataset(sizes), imbalance).fingerprint() == figure
        assert splits(other, imbalance).fingerprint() != figure


def test_subset_seed_draws_the_subset() -> None:
    dataset = make_dataset([40] * 4)
    imbalance = Imbalance(ratio=10, val_per_class=5)
    other = dataclasses.replace(imbalance, subset_seed=1)
    for splits in (search_splits, final_splits):
        kept = [splits(dataset, i) for i in (imbalance, other)]
        assert keys(kept[0].train) != keys(kept[1].train)
        assert kept[0].counts().tolist() == kept[1].counts().tolist()


def test_global_seed_and_subset_do_not_touch() -> None:
    """The reference package overwrites NumPy's global seed; and another one must not matter."""
    dataset, figures = make_dataset([40] * 4), set()
    for seed in (1, 2):
        np.random.seed(seed)
        before = np.random.get_state()[1]  # type: ignore[index]
        figures.add(search_splits(dataset, Imbalance(ratio=10, val_per_class=5)).fingerprint())
        assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]
    assert len(figures) == 1


@pytest.mark.parametrize("change", [{"val_per_class": 30}, {"augment": "none"}])
def test_other_knobs_leave_the_benchmark_alone(change: dict[str, Any]) -> None:
    dataset, imbalance = make_dataset([40] * 4), Imbalance(ratio=10, val_per_class=5)
    changed = dataclasses.replace(imbalance, **change)
    figure = final_splits(dataset, imbalance).fingerprint()
    assert final_splits(dataset, changed).fingerprint() == figure


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [
        (Imbalance(ratio=2), Imbalance(ratio=20)),
        (Imbalance(ratio=10), Imbalance(ratio=10, head=20)),
        (Imbalance("as_is"), Imbalance("step", ratio=40)),
    ],
)
def test_smaller_benchmarks_lie_within_larger_ones(larger: Imbalance, smaller: Imbalance) -> None:
    dataset = make_dataset([40] * 4)
    kept = [
        keys(final_splits(dataset, dataclasses.replace(i, val_per_class=5)).train)
        for i in (larger, smaller)
    ]
    assert kept[1].items() < kept[0].items()


def test_fingerprint_sees_every_pixel_label_and_place() -> None:
    images, other = make_images([3, 2], 4), make_images([3, 2], 4, seed=5)

    def figure(train: Images, held: Images = other) -> str:
        return Splits(train, held, ("a", "b"), LOOK).fingerprint()

    pixel, label = images.array().copy(), images.labels.copy()
    pixel[4, 0, 3, 3] += 1
    label[0] = 1
    swapped = images.take(np.array([1, 0, 2, 3, 4]))
    fortran = Images(np.asfortranarray(images.array()), images.labels)
    assert figure(fortran) == figure(images)
    changed = [Images(pixel, images.labels), Images(images.pixels, label), swapped]
    figures = [figure(i) for i in (images, *changed)] + [figure(images, i) for i in changed]
    assert len({*figures, figure(other, images)}) == 8


def test_labels_go_with_their_images() -> None:
    images = make_images([2, 2], 4)
    taken = images.take(np.array([3, 0, 2]))
    assert taken.labels.tolist() == [1, 0, 1]
    assert np.array_equal(taken.array(), images.array()[[3, 0, 2]])


def test_augment_none_keeps_the_scaling_alone() -> None:
    dataset = make_dataset([10, 10])
    for splits in (search_splits, final_splits):
        standard = splits(dataset, Imbalance(ratio=2, val_per_class=2))
        plain = splits(dataset, Imbalance(ratio=2, val_per_class=2, augment="none"))
        assert standard.preprocessing == LOOK
        assert plain.preprocessing == Preprocessing((0.5,), (0.25,), pad=0, flip=False)
        assert plain.fingerprint() == standard.fingerprint()


def test_validation_that_eats_a_class_is_refused_with_a_size_that_works() -> None:
    dataset, imbalance = make_dataset([40, 30, 12]), Imbalance("exp", ratio=5, head=12)
    for splits in (search_splits, final_splits):
        for size in (12, 30, 1000):
            with raises_one_line(f"data.val_per_class={size}", "class 'class") as caught:
                splits(dataset, dataclasses.replace(imbalance, val_per_class=size))
            fix = re.search(r"use at most (\d+)", str(caught.value))
            assert fix and int(fix[1]) == 11
        assert splits(dataset, dataclasses.replace(imbalance, val_per_class=11)).counts().min() >= 1


def test_digits_in_a_search_are_no_test_digits() -> None:
    dataset = read("digits")
    search = search_splits(dataset, Imbalance(ratio=50, head=100, val_per_class=30))
    seen = keys(search.train) | keys(search.held_out)
    assert not keys(dataset.test).keys() & seen.keys()
    assert search.counts()[0] == 100 - max(0, 30 - 38)
    assert search.held_out.counts(10).tolist() == [30] * 10
