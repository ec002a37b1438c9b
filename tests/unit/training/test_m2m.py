"""M2m against a slow transcription of the paper, and that it leaves both networks alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import make_splits
from torch import Tensor, nn

from imbtune.data.augment import normalise
from imbtune.methods.image_generation import M2m, generators
from imbtune.models.networks import build_model
from imbtune.training.generators.m2m import (
    NOISE,
    acceptance,
    draw_sources,
    image_noise,
    translate,
)

SPEC = M2m(share=1.0, steps=10, step_size=0.1, lam=0.5, gamma=0.9, beta=0.999)
CPU = torch.device("cpu")
COUNTS = [60, 20, 6, 1]
MEAN, STD = torch.tensor([0.5]), torch.tensor([0.25])
LOW, HIGH = (0 - MEAN) / STD, (1 - MEAN) / STD
counts_strategy = st.lists(st.integers(1, 200), min_size=2, max_size=6)


def test_the_part_makes_its_spec() -> None:
    assert generators["m2m"].make() == SPEC
    assert generators["m2m"].make(gamma=0.5).gamma == 0.5


# ---- which image is translated ----------------------------------------------------------------


def literal_odds(counts: list[int], target: int, beta: float) -> list[float]:
    """Q(i|k) of the paper: 1 - β^(n_i - n_k)+, over its sum."""
    values = [1 - beta ** max(n - counts[target], 0) for n in counts]
    return [v / sum(values) for v in values]


@given(counts=counts_strategy, beta=st.sampled_from([0.0, 0.5, 0.9, 0.999, 0.9999999]))
def test_acceptance_is_the_papers(counts: list[int], beta: float) -> None:
    kept_KK = acceptance(np.array(counts), beta)
    for k, n_k in enumerate(counts):
        for i, n_i in enumerate(counts):
            assert kept_KK[k, i] == pytest.approx(1 - beta ** max(n_i - n_k, 0), abs=1e-12)


@given(counts=counts_strategy, beta=st.sampled_from([0.0, 0.9, 0.9999]), seed=st.integers(0, 99))
@settings(max_examples=50)
def test_sources_are_images_of_larger_classes(counts: list[int], beta: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels_N = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    targets = rng.integers(0, len(counts), (5, 16))
    n = np.array(counts)
    index, asked = draw_sources(targets, labels_N, n, beta, rng)
    assert index.shape == asked.shape == targets.shape
    assert (n[labels_N[index]] > n[targets])[asked].all()
    assert (index[~asked] == 0).all()
    assert not asked[n[targets] == n.max()].any()


@pytest.mark.parametrize("beta", [0.9, 0.99])
def test_sources_come_as_often_as_the_paper_says(beta: float) -> None:
    """Target k: asked for (n_max - n_k)/n_max, source by Q(i|k), kept with 1 - β^(n_i - n_k)."""
    rng = np.random.default_rng(0)
    labels_N = np.repeat(np.arange(4), COUNTS)
    draws = 40_000
    for k, n_k in enumerate(COUNTS):
        targets = np.full((4, draws // 4), k)
        index, asked = draw_sources(targets, labels_N, np.array(COUNTS), beta, rng)
        for i, n_i in enumerate(COUNTS[:k]):
            wanted = (COUNTS[0] - n_k) / COUNTS[0] * literal_odds(COUNTS, k, beta)[i]
            wanted *= 1 - beta ** (n_i - n_k)
            assert (labels_N[index[asked]] == i).sum() / draws == pytest.approx(wanted, abs=0.012)


def test_every_image_of_a_source_class_is_drawn_equally_often() -> None:
    labels_N = np.array([1, 0, 0, 1, 0, 0])
    targets = np.ones((1, 30_000), dtype=np.int64)
    index, asked = draw_sources(targets, labels_N, np.array([4, 2]), 0.0, np.random.default_rng(0))
    share = np.bincount(index[asked], minlength=6) / asked.sum()
    assert share == pytest.approx([0, 0.25, 0.25, 0, 0.25, 0.25], abs=0.02)
    assert asked.mean() == pytest.approx(0.5, abs=0.02)


def test_sources_are_the_same_for_a_generators_state() -> None:
    labels_N = np.repeat(np.arange(4), COUNTS)
    targets = np.tile(np.arange(4), (3, 8))
    first, again = (
        draw_sources(targets, labels_N, np.array(COUNTS), 0.9, np.random.default_rng(5))
        for _ in range(2)
    )
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])


# ---- the translation --------------------------------------------------------------------------


def new_net(seed: int, channels: int = 1, head: str = "linear") -> nn.Module:
    torch.manual_seed(seed)
    return build_model("small_cnn", {"width": 8, "head": head}, "linear", channels, 4)


def trained_net(seed: int) -> nn.Module:
    """A small network that knows the four patterns of `make_splits`."""
    images, labels = pictures()
    net = new_net(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(40):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()
    return net


def pictures() -> tuple[Tensor, Tensor]:
    train = make_splits([40, 40, 40, 40]).train
    images = normalise(torch.from_numpy(train.pixels), MEAN, STD)
    return images, torch.from_numpy(train.labels)


@pytest.fixture(scope="module")
def nets() -> tuple[nn.Module, nn.Module]:
    """f and g, two networks of their own, trained."""
    return trained_net(0), trained_net(1)


class Case:
    """Class 0 to be made into class 3, with real images of class 3 to fall back on."""

    def __init__(self, count: int = 12) -> None:
        images, labels = pictures()
        self.images = images[labels == 0][:count]
        self.originals = images[labels == 3][:count]
        self.source = torch.zeros(count, dtype=torch.int64)
        self.target = torch.full((count,), 3)
        self.asked = torch.ones(count, dtype=torch.bool)

    def run(
        self, net: nn.Module, seed_net: nn.Module, spec: M2m = SPEC, **given: object
    ) -> tuple[Tensor, Tensor]:
        made: tuple[Tensor, Tensor] = translate(
            net,
            seed_net,
            self.images,
            self.source,
            self.target,
            self.asked,
            self.originals,
            spec,
            LOW,
            HIGH,
            image_noise(self.images.shape, CPU, torch.Generator().manual_seed(0)),
            **given,  # type: ignore[arg-type]
        )
        return made


def target_probability(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = copy.deepcopy(net).eval()(images)
        return logits.softmax(1)[torch.arange(len(labels)), labels]


def literal_translation(
    case: Case, row: int, noise: Tensor, net: nn.Module, seed_net: nn.Module, spec: M2m
) -> tuple[Tensor, bool]:
    """One image alone, in pixels of [0, 1], as the paper's algorithm has it."""
    net, seed_net = copy.deepcopy(net).eval(), copy.deepcopy(seed_net).eval()
    source, target = int(case.source[row]), int(case.target[row])
    length = float(noise.square().sum().sqrt())
    x = case.images[row : row + 1] * STD + MEAN
    x = (x + noise * min(1.0, NOISE / length)).clamp(0, 1)
    for _ in range(spec.steps):
        x = x.detach().requires_grad_()
        shown = (x - MEAN) / STD
        log_p = seed_net(shown)[0] - seed_net(shown)[0].exp().sum().log()
        loss = -log_p[target] + spec.lam * net(shown)[0, source]
        loss.backward()
        assert x.grad is not None
        x = (x - spec.step_size * x.grad / x.grad.square().sum().sqrt()).clamp(0, 1)
    shown = (x.detach() - MEAN) / STD
    probability = seed_net(shown).softmax(1)[0, target]
    return shown[0], bool(probability >= spec.gamma)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_against_the_paper_image_by_image(
    nets: tuple[nn.Module, nn.Module], lam: float, gamma: float
) -> None:
    case, spec = Case(), SPEC._replace(lam=lam, gamma=gamma, steps=5, step_size=0.3)
    case.target[::2] = 2  # some succeed, some do not
    made, accepted = case.run(*nets, spec)
    noise = torch.rand(case.images.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    for row in range(len(made)):
        wanted, good = literal_translation(case, row, noise[row : row + 1], *nets, spec)
        assert accepted[row] == good
        expected = wanted if good else case.originals[row]
        assert torch.allclose(made[row], expected, atol=2e-4)


def test_the_seed_network_comes_to_see_the_target(nets: tuple[nn.Module, nn.Module]) -> None:
    case = Case()
    before = target_probability(nets[1], case.images, case.target)
    made, accepted = case.run(*nets, SPEC._replace(gamma=0.0, step_size=0.3))
    after = target_probability(nets[1], made, case.target)
    assert accepted.all()
    assert before.max() < 0.1 and after.min() > 0.9
    # the net in training is asked to forget the source: its logit falls below where λ = 0 leaves it
    free, _ = case.run(*nets, SPEC._replace(gamma=0.0, step_size=0.3, lam=0.0))
    net = copy.deepcopy(nets[0]).eval()
    assert net(made)[:, 0].mean() < net(free)[:, 0].mean()


def test_what_is_not_asked_or_not_good_enough_stays_real(nets: tuple[nn.Module, nn.Module]) -> None:
    case = Case()
    case.asked[::3] = False
    made, accepted = case.run(*nets, SPEC._replace(gamma=0.0))
    assert torch.equal(accepted, case.asked)
    assert torch.equal(made[::3], case.originals[::3])
    assert not torch.equal(made[1], case.originals[1])
    made, accepted = case.run(*nets, SPEC._replace(steps=1, step_size=1e-4))
    assert not accepted.any() and torch.equal(made, case.originals)


def test_noise_is_uniform_and_short() -> None:
    """In [-½, ½), and no longer than NOISE: scaled down where an image is large, else as it is."""
    for shape in [(50, 3, 8, 8), (50, 1, 1, 1)]:
        noise = image_noise(shape, CPU, torch.Generator().manual_seed(0))
        raw = torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.5
        for row, uniform in zip(noise, raw, strict=True):
            length = float(uniform.square().sum().sqrt())
            assert torch.allclose(row, uniform * min(1.0, NOISE / length), atol=1e-6)


@given(step_size=st.floats(0.01, 10), seed=st.integers(0, 99))
@settings(max_examples=10)
def test_images_stay_in_the_range_of_pixels(
    nets: tuple[nn.Module, nn.Module], step_size: float, seed: int
) -> None:
    case = Case()
    made, accepted = case.run(*nets, SPEC._replace(gamma=0.0, step_size=step_size))
    assert accepted.all()
    assert made.min() >= LOW.item() and made.max() <= HIGH.item()


def test_both_networks_are_left_alone(nets: tuple[nn.Module, nn.Module]) -> None:
    net, seed_net = (copy.deepcopy(n) for n in nets)
    net.train()
    seed_net.eval()
    frozen = next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    frozen.eval()
    modes = [m.training for n in (net, seed_net) for m in n.modules()]
    states = [copy.deepcopy(n.state_dict()) for n in (net, seed_net)]
    Case().run(net, seed_net)
    assert [m.training for n in (net, seed_net) for m in n.modules()] == modes
    for n, state in zip((net, seed_net), states, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in n.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in n.parameters())


def test_modes_come_back_after_a_failure() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 4)).train()  # cannot take the images
    seed_net = new_net(0).train()
    with pytest.raises(RuntimeError):
        Case().run(net, seed_net)
    assert net.training and seed_net.training


def test_the_batch_decides_nothing(nets: tuple[nn.Module, nn.Module]) -> None:
    """Evaluation mode, and norms of its own: an image comes out the same in any company."""
    whole, part = Case(12), Case(12)
    part.images = part.images.clone()
    part.images[6:] = 0
    spec = SPEC._replace(gamma=0.0)
    assert torch.allclose(whole.run(*nets, spec)[0][:6], part.run(*nets, spec)[0][:6], atol=1e-4)


def test_a_generator_leaves_torchs_own_alone(nets: tuple[nn.Module, nn.Module]) -> None:
    before = torch.get_rng_state()
    first, again = (Case().run(*nets)[0] for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)


def test_a_cosine_heads_logits_are_scaled() -> None:
    """Scale s is the same as a head whose outputs are s times as large."""
    net, seed_net = new_net(0, head="cosine"), new_net(1, head="cosine")

    class Times(nn.Module):
        def __init__(self, inner: nn.Module, by: float) -> None:
            super().__init__()
            self.inner, self.by = inner, by

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.by * self.inner(images)
            return logits

    case, spec = Case(), SPEC._replace(gamma=0.0)
    scales = {"net_scale": 8.0, "seed_scale": torch.tensor(20.0)}
    scaled_nets = Times(net, 8.0), Times(seed_net, 20.0)
    made, _ = case.run(net, seed_net, spec, **scales)
    assert torch.allclose(made, case.run(*scaled_nets, spec)[0], atol=1e-5)
    assert not torch.allclose(made, case.run(net, seed_net, spec)[0], atol=1e-2)
    probability = target_probability(scaled_nets[1], made, case.target)
    spec = SPEC._replace(gamma=float(probability.sort().values[5:7].mean()))
    assert torch.equal(case.run(net, seed_net, spec, **scales)[1], probability >= spec.gamma)


def test_training_goes_on_under_the_same_autocast(nets: tuple[nn.Module, nn.Module]) -> None:
    """autocast keeps the weights that it cast; those of a translation must not cut gradients."""
    net, seed_net = (copy.deepcopy(n).train() for n in nets)
    case = Case()
    with torch.autocast("cpu", torch.bfloat16):
        made, _ = case.run(net, seed_net)
        loss = F.cross_entropy(net(made).float(), case.target)
        seed_loss = F.cross_entropy(seed_net(made).float(), case.target)
    (loss + seed_loss).backward()
    assert made.dtype == torch.float32
    for n in (net, seed_net):
        assert all(p.grad is not None for p in n.parameters())


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 8), (1, 5), (3, 33)])
def test_every_size_and_channel(channels: int, size: int) -> None:
    net, seed_net = new_net(0, channels), new_net(1, channels)
    images = torch.rand(4, channels, size, size)
    labels = torch.tensor([0, 1, 2, 3])
    low, high = -torch.arange(1.0, channels + 1), torch.arange(1.0, channels + 1)
    noise = image_noise(images.shape, CPU)
    made, accepted = translate(
        net, seed_net, images, labels, labels.flip(0), labels > 0, images, SPEC, low, high, noise
    )
    assert made.shape == images.shape and accepted.shape == (4,)
    assert not made.requires_grad and not accepted[0]
