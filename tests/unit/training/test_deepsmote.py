"""DeepSMOTE: any image size, exactly balanced, the same for a seed, and images of their class."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import make_images
from torch import Tensor

from imbtune.errors import DataError
from imbtune.methods.image_generation import DeepSmote, generators
from imbtune.training.generators import deepsmote
from imbtune.training.generators.deepsmote import (
    Autoencoder,
    decode,
    encode,
    generate,
    passes,
    smote,
    train_autoencoder,
)

QUICK = DeepSmote(latent=8, width=4, epochs=2, lr=2e-4, neighbours=5, penalty="permuted")
Tensors = tuple[Tensor, Tensor]


def long_tail(counts: list[int], size: int = 8, channels: int = 1) -> Tensors:
    images = make_images(counts, size, channels)
    return torch.from_numpy(images.pixels), torch.from_numpy(images.labels)


def test_the_part_makes_its_spec() -> None:
    spec = generators["deepsmote"].make(latent=32, penalty="matched")
    assert spec == DeepSmote(32, 64, 50, 2e-4, 5, "matched")
    assert generators["none"].make() is None
    assert not generators["none"].knobs
    assert set(generators["m2m"].knobs) >= {"schedule", "seed"}


SIZES = [(8, 8), (28, 28), (32, 32), (64, 64), (7, 7), (33, 33), (5, 18), (9, 3), (1, 1), (2, 1)]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_and_channel(size: tuple[int, int], channels: int) -> None:
    images = torch.randint(0, 256, (6, channels, *size), dtype=torch.uint8)
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    made, new = generate(QUICK._replace(epochs=1), images, labels, 3, seed=0)
    assert made.dtype == torch.uint8 and made.shape == (3, channels, *size)
    assert new.dtype == torch.int64 and new.tolist() == [1, 2, 2]


@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=5), seed=st.integers(0, 9))
@settings(max_examples=15)
def test_the_set_is_exactly_balanced(counts: list[int], seed: int) -> None:
    images, labels = long_tail(counts, size=4)
    shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    made, new = generate(QUICK, images[shuffled], labels[shuffled], len(counts), seed)
    both = torch.bincount(torch.cat([labels, new]), minlength=len(counts))
    assert len(made) == len(new) and both.tolist() == [max(counts)] * len(counts)


def test_a_class_without_images_is_an_error() -> None:
    images, labels = long_tail([3, 2])
    with pytest.raises(DataError, match="class 2 has no image"):
        generate(QUICK, images, labels, 3, seed=0)


def test_a_seed_decides_everything_and_moves_no_generator() -> None:
    images, labels = long_tail([20, 7, 1])
    torch.manual_seed(1)
    before, numpy_before = torch.get_rng_state(), str(np.random.get_state())
    first = generate(QUICK, images, labels, 3, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert str(np.random.get_state()) == numpy_before
    torch.manual_seed(2)
    again = generate(QUICK, images, labels, 3, seed=3)
    other = generate(QUICK, images, labels, 3, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_images_are_left_as_they_were() -> None:
    images, labels = long_tail([9, 2])
    kept = images.clone()
    generate(QUICK, images, labels, 2, seed=0)
    assert torch.equal(images, kept)


def test_the_only_image_of_a_class_gives_its_reconstruction() -> None:
    images, labels = long_tail([6, 1])
    made, new = generate(QUICK, images, labels, 2, seed=0)
    model, _ = train_autoencoder(QUICK, images, labels, np.random.default_rng(0))
    copy = decode(model, encode(model, images[6:]))
    assert new.tolist() == [1] * 5
    assert all(torch.equal(image, copy[0]) for image in made)


@given(count=st.integers(2, 16), neighbours=st.integers(1, 32), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_smote_points_lie_between_a_point_and_a_near_one(
    count: int, neighbours: int, seed: int
) -> None:
    """Against a plain double loop over all pairs; the distances come in blocks of 7 rows."""
    points = torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 3)).astype("float32"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deepsmote, "ROWS", 7)
        made = smote(points, neighbours, 8, np.random.default_rng(seed)).tolist()
    pairs = []
    for i, start in enumerate(points.tolist()):
        others = [other for j, other in enumerate(points.tolist()) if j != i]
        pairs += [
            (start, o) for o in sorted(others, key=lambda o: math.dist(start, o))[:neighbours]
        ]
    for point in made:
        detours = [math.dist(a, point) + math.dist(point, b) - math.dist(a, b) for a, b in pairs]
        assert min(detours) < 1e-5


def test_smote_reaches_all_neighbours_and_both_ends() -> None:
    line = torch.tensor([[0.0], [1.0], [10.0]])
    made = smote(line, 1, 4000, np.random.default_rng(0)).squeeze(1)
    left, right = made[made <= 1], made[made > 1]
    assert len(left) / 4000 == pytest.approx(2 / 3, abs=0.03)  # bases 0 and 1 have each other
    assert left.mean().item() == pytest.approx(0.5, abs=0.03)
    assert right.mean().item() == pytest.approx(5.5, abs=0.3) and right.max() > 9.9
    wide = smote(line, 2, 4000, np.random.default_rng(0)).squeeze(1)
    assert (wide > 1).float().mean().item() == pytest.approx(0.633, abs=0.03)  # 0-10 and 1-10 too


def test_passes_are_counted() -> None:
    """A hook counts the images that go through the decoder while it trains."""
    images, labels = long_tail([150, 40, 7])
    seen = 0

    def count(_: torch.nn.Module, given: tuple[Tensor, ...], __: Tensor) -> None:
        nonlocal seen
        seen += len(given[0]) if given[0].ndim == 2 and given[0].shape[1] == QUICK.latent else 0

    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda m, i, o: count(m, i, o) if isinstance(m, torch.nn.Linear) else None
    )
    try:
        train_autoencoder(QUICK, images, labels, np.random.default_rng(0))
    finally:
        handle.remove()
    assert seen == passes(QUICK, len(images)) == 2 * 2 * 2 * 128


def test_the_penalty_pairs_images_of_one_class() -> None:
    labels = np.repeat(np.arange(3), [150, 30, 1])
    members = [np.flatnonzero(labels == k) for k in range(3)]
    index, own, other = deepsmote._draw_epoch(181, members, np.random.default_rng(0))
    assert index.shape == own.shape == other.shape == (1, 128)
    assert len(np.unique(index)) == 128
    classes = set()
    for seed in range(20):
        _, own, other = deepsmote._draw_epoch(181, members, np.random.default_rng(seed))
        assert len(np.unique(labels[np.concatenate([own, other])])) == 1
        assert sorted(own[0]) == sorted(other[0])
        classes.add(int(labels[own[0, 0]]))
    assert classes == {0, 1, 2}  # every class as often as the others, however small


def test_the_decoder_fills_the_range_of_pixels() -> None:
    """Sigmoid: codes far out decode to 0 and 255, never beyond (a tanh would wrap around)."""
    model = Autoencoder((1, 8, 8), latent=4, width=4).eval()
    far = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) * 1e4
    with torch.no_grad():
        shown = model.decoder(far)
    assert shown.min() == 0 and shown.max() == 1
    assert torch.equal(decode(model, far), (shown * 255).round().to(torch.uint8))
