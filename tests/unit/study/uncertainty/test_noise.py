"""The variance of the finalists' means over seeds and images, against its definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imbtune.metrics.score_error import jackknife_error
from imbtune.study.uncertainty.noise import noise_of

Floats = Any


def scores(seed: int, finalists: int, seeds: int, groups: int = 8) -> tuple[Floats, Floats]:
    """A crossed layout of normal effects, and its scores without each group."""
    rng = np.random.default_rng(seed)
    groups_G = rng.standard_normal(groups)
    own_FG = rng.standard_normal((finalists, 1, groups))
    run_FSG = rng.standard_normal((finalists, seeds, groups))
    values_FSG = groups_G + own_FG + run_FSG + rng.standard_normal((finalists, seeds, 1))
    total_FS1 = values_FSG.sum(2, keepdims=True)
    return total_FS1[..., 0] / groups, (total_FS1 - values_FSG) / (groups - 1)


@settings(max_examples=20)
@given(st.integers(0, 999), st.integers(1, 4), st.integers(2, 4))
def test_the_images_part_is_the_jackknife_of_a_difference(
    seed: int, finalists: int, seeds: int
) -> None:
    scores_FS, without_FSG = scores(seed, finalists, seeds)
    found = noise_of(scores_FS, without_FSG).images_FF
    mean_FG = without_FSG.mean(1)
    for i in range(finalists):
        assert found[i, i] == pytest.approx(jackknife_error(mean_FG[i]) ** 2)
        for j in range(i):
            paired = found[i, i] + found[j, j] - 2 * found[i, j]
            assert paired == pytest.approx(jackknife_error(mean_FG[i] - mean_FG[j]) ** 2, abs=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 999), st.integers(2, 4), st.integers(2, 4))
def test_the_parts_are_those_of_the_literal_formulas(seed: int, finalists: int, seeds: int) -> None:
    """The seeds' variance without what the runs disagree on among the images."""
    scores_FS, without_FSG = scores(seed, finalists, seeds)
    noise = noise_of(scores_FS, without_FSG)
    assume(len(noise.pools) == 1)  # finalists that vary unusually are tested below
    groups = without_FSG.shape[2]
    raw = disagreement = 0.0
    for f in range(finalists):
        for s in range(seeds):
            left = scores_FS[f, s] - scores_FS[f].mean() - scores_FS[:, s].mean() + scores_FS.mean()
            raw += left**2
            for g in range(groups):
                own = without_FSG[:, :, g] - without_FSG.mean(2)
                rest = own[f, s] - own[f].mean() - own[:, s].mean() + own.mean()
                disagreement += (groups - 1) / groups * rest**2
    freedom = (finalists - 1) * (seeds - 1)
    alone = max(0, raw - disagreement) / freedom / seeds
    contrast = np.eye(finalists)[0] - np.eye(finalists)[1]
    assert contrast @ noise.raw_seeds_FF @ contrast == pytest.approx(2 * raw / freedom / seeds)
    assert contrast @ noise.seeds_FF @ contrast == pytest.approx(2 * alone, abs=1e-12)
    images = contrast @ noise.images_FF @ contrast
    error, degrees = noise.error(contrast)
    assert error == pytest.approx(math.sqrt(images + 2 * alone))
    doubt = images**2 / (groups - 1)
    doubt += (2 * raw / freedom / seeds) ** 2 / freedom if alone else 0
    fewest = min(groups - 1, freedom) if alone else groups - 1
    assert degrees == pytest.approx(max(fewest, (images + 2 * alone) ** 2 / doubt))


def test_images_that_are_hard_for_all_cancel_in_a_lead() -> None:
    """So does what a seed does to all finalists."""
    shared_G = np.linspace(-1, 1, 5)
    scores_FS = np.array([[0.5, 0.6], [0.4, 0.5]])
    noise = noise_of(scores_FS, scores_FS[..., None] + shared_G)
    assert noise.error(np.array([1.0, -1.0]))[0] == pytest.approx(0, abs=1e-9)
    assert noise.error(np.array([1.0, 0.0]))[0] > 1


def test_on_average_the_variance_is_right() -> None:
    """Of 8 groups each a finalist's own 1 and a third of each run's 1; of the 3 seeds 1 each."""
    found, means = [], []
    for seed in range(400):
        scores_FS, without_FSG = scores(seed, 4, 3)
        found.append(noise_of(scores_FS, without_FSG).error(np.array([1.0, -1.0, 0, 0]))[0] ** 2)
        means.append(scores_FS[0].mean() - scores_FS[1].mean())
    expected = 2 * ((1 + 1 / 3) / 8 + 1 / 3)
    assert np.var(means) == pytest.approx(expected, rel=0.2)
    assert np.mean(found) == pytest.approx(expected, rel=0.1)


def test_on_average_the_part_that_others_do_not_share_is_right() -> None:
    """Of 8 groups, each with a finalist's own variance of 1 and a run's, which is not in it."""
    found = []
    for seed in range(200):
        found.append(noise_of(*scores(seed, 5, 3)).own_images_F[0])
    assert np.mean(found) == pytest.approx(1 / 8, rel=0.1)


def test_runs_that_vary_unusually_do_not_widen_the_intervals_of_others() -> None:
    """As those of a configuration that sometimes diverges; it has a long interval of its own."""
    rng = np.random.default_rng(0)
    scores_FS = 0.7 + 0.01 * rng.standard_normal((5, 3))
    scores_FS[4] = [0.8, 0.2, 0.5]
    noise = noise_of(scores_FS, scores_FS[..., None] + 1e-4 * rng.standard_normal((5, 3, 20)))
    assert [pool for pool, _ in noise.pools] == [[0, 1, 2, 3], [4]]
    lead, freedom = noise.error(np.array([1.0, -1.0, 0, 0, 0]))
    assert lead < 0.02 and freedom >= 6
    error, freedom = noise.error(np.array([0, 0, 0, 0, 1.0]))
    assert error == pytest.approx(0.3 / 3**0.5, rel=1e-3) and 2 <= freedom < 2.1
    both, freedom = noise.error(np.array([1.0, 0, 0, 0, -1.0]))
    assert both > error and 2 <= freedom < 2.1


def test_equal_runs_make_no_other_unusual() -> None:
    """Two runs of each finalist that score the same by chance, but for one."""
    scores_FS = np.array([[0.7, 0.7], [0.6, 0.6], [0.5, 0.5], [0.5, 0.51]])
    rng = np.random.default_rng(0)
    noise = noise_of(scores_FS, scores_FS[..., None] + 0.001 * rng.standard_normal((4, 2, 20)))
    assert [pool for pool, _ in noise.pools] == [[0, 1, 2, 3]]


@settings(max_examples=50)
@given(st.integers(0, 999), st.integers(2, 6), st.integers(2, 4), st.floats(1e-3, 1e3))
def test_degrees_of_freedom_are_never_below_those_of_one_part(
    seed: int, finalists: int, seeds: int, scale: float
) -> None:
    scores_FS, without_FSG = scores(seed, finalists, seeds)
    noise = noise_of(scores_FS * scale, without_FSG)
    for contrast in (np.eye(finalists)[0], np.eye(finalists)[0] - np.eye(finalists)[1]):
        assert noise.error(contrast)[1] >= min(seeds - 1, noise.groups - 1)


def test_a_finalist_that_fails_with_some_seeds_has_its_own_variance() -> None:
    """The others keep theirs, though the F test would find nothing unusual; and one that never
    is better than chance, whatever the images, has none."""
    scores_FS = np.array([[0.0, 0.7, 0.7], [0.7, 0.72, 0.7], [0.6, 0.61, 0.65], [0.0, 0.0, 0.0]])
    rng = np.random.default_rng(0)
    moved_FSG = 0.1 * rng.standard_normal((4, 3, 20))
    moved_FSG[3] = 0
    without_FSG = scores_FS[..., None] + moved_FSG
    noise = noise_of(scores_FS, without_FSG, 0.0)
    assert [pool for pool, _ in noise.pools] == [[1, 2], [0]]
    others = noise_of(scores_FS[1:3], without_FSG[1:3], 0.0)
    for name in ("images_FF", "seeds_FF"):
        found = getattr(noise, name)
        np.testing.assert_allclose(found[1:3, 1:3], getattr(others, name), atol=1e-12)
        assert not found[3].any() and not found[:, 3].any()
    assert noise.own_images_F[3] == 0 and noise.error(np.eye(4)[3])[0] == 0
    assert [pool for pool, _ in noise_of(scores_FS, without_FSG).pools] == [[0, 1, 2, 3]]
