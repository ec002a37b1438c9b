"""Networks by name, their heads, and the check that a network can take the images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError
from imbtune.methods.losses import losses
from imbtune.models.networks import (
    Classifier,
    CosineHead,
    LinearHead,
    build_model,
    check_model,
    models,
)

ZOO = ["resnet18", "mobilenet_v3_small", "googlenet"]


def build(name: str, channels: int = 3, classes: int = 10, **knobs: Any) -> Classifier:
    torch.manual_seed(0)
    return build_model(name, {"head": "auto"} | knobs, "linear", channels, classes)


def size_of(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def test_resnet32_has_the_papers_size() -> None:
    assert size_of(build("resnet32")) == 464_144


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_scale_and_bias_are_saved_and_moved_but_not_trained(head: str) -> None:
    """1 and 0, and nothing that an optimiser sees."""
    model = build("small_cnn", head=head)
    assert torch.equal(model.scale_K, torch.ones(10)) and torch.equal(model.bias_K, torch.zeros(10))
    assert {"scale_K", "bias_K"} <= set(dict(model.named_buffers())) & set(model.state_dict())
    assert not {"scale_K", "bias_K"} & set(dict(model.named_parameters()))
    assert not model.scale_K.requires_grad and not model.bias_K.requires_grad
    assert model.to(torch.float64).scale_K.dtype == torch.float64


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_logits_leave_as_scale_times_z_plus_bias(head: str) -> None:
    model = build("small_cnn", head=head).eval()
    images_BCHW = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z_BK = model(images_BCHW)
        assert torch.equal(z_BK, model.head(model.backbone(images_BCHW)))
        model.scale_K.copy_(torch.arange(10))
        model.bias_K.copy_(-torch.arange(10))
        adjusted_BK = model(images_BCHW)
    for k in range(10):
        assert adjusted_BK[:, k].tolist() == pytest.approx([k * z - k for z in z_BK[:, k].tolist()])


@pytest.mark.parametrize("kind", [LinearHead, CosineHead])
def test_a_reset_head_is_one_as_new_and_tells_its_lengths(
    kind: type[LinearHead | CosineHead],
) -> None:
    torch.manual_seed(5)
    head = kind(4, 3)
    first = head.weight.detach().clone()
    lengths = [sum(w * w for w in row) ** 0.5 for row in first.tolist()]
    literal = [1.0] * 3 if kind is CosineHead else lengths
    assert head.norms().tolist() == pytest.approx(literal) and not head.norms().requires_grad
    head.reset_parameters()
    assert not torch.equal(head.weight, first)
    torch.manual_seed(5)
    head.reset_parameters()
    assert torch.equal(head.weight, first) and head.weight.requires_grad


def test_small_cnn_has_the_width_asked_for() -> None:
    """Three 3×3 convolutions (w, 2w, 4w) without bias, batch norms, and a head without bias."""
    for width in (4, 16):
        convolutions = 9 * (3 * width + width * 2 * width + 2 * width * 4 * width)
        expected = convolutions + 2 * (7 * width) + 4 * width * 10
        assert size_of(build("small_cnn", width=width)) == expected


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", models.names() + ZOO)
def test_every_network_trains_on_grey_and_colour_images(name: str, channels: int) -> None:
    """Logits of the right shape, in training as in evaluation, and a gradient for every weight."""
    model = build(name, channels, classes=7)
    check_model(model, name, (channels, 32, 32))
    images_BCHW = torch.randn(2, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    logits_BK: Tensor = model.train()(images_BCHW)
    logits_BK.square().sum().backward()
    assert logits_BK.shape == (2, 7)
    for weight in model.parameters():
        assert weight.grad is not None and bool(weight.grad.isfinite().all())


@pytest.mark.parametrize("name", [*models.names(), "mobilenet_v3_small"])
def test_weights_come_from_torchs_seed(name: str) -> None:
    first, again = build(name), build(name)
    torch.manual_seed(1)
    other = build_model(name, {"head": "linear"}, "linear", 3, 10)
    pairs = zip(first.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_grey_images_look_to_a_torchvision_model_as_their_rgb_copies() -> None:
    grey, colour = build("resnet18", channels=1).eval(), build("resnet18", channels=3).eval()
    images_BCHW = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(grey(images_BCHW), colour(images_BCHW.repeat(1, 3, 1, 1)))


def test_evaluation_does_not_depend_on_the_batch() -> None:
    model = build("resnet32").eval()
    images_BCHW = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one_by_one = torch.cat([model(image[None]) for image in images_BCHW])
        torch.testing.assert_close(model(images_BCHW), one_by_one, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in models.names() if models[name].is_builtin])
def test_no_gradient_leaves_channels_last(name: str) -> None:
    """One that has its channels first costs as much as a convolution where it meets the others."""

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func in (aten.threshold_backward.default, aten.native_batch_norm_backward.default):
                gradient, before, *_ = args
                found.append(gradient.stride() == before.stride())
            return func(*args, **(kwargs or {}))

    aten = torch.ops.aten
    found: list[bool] = []
    model = build(name).to(memory_format=torch.channels_last)
    images_BCHW = torch.randn(4, 3, 16, 16).to(memory_format=torch.channels_last)
    logits_BK = model(images_BCHW)
    with Watched():  # type: ignore[no-untyped-call]
        logits_BK.sum().backward()
    assert found and all(found)


# ---- heads -----------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.floats(1e-3, 1e3))
def test_cosine_head_is_the_cosine_whatever_the_lengths(seed: int, length: float) -> None:
    torch.manual_seed(seed)
    head, features_BD = CosineHead(5, 3), torch.randn(4, 5)
    with torch.no_grad():
        logits_BK = head(features_BD)
        torch.testing.assert_close(head(length * features_BD), logits_BK, rtol=1e-4, atol=1e-5)
        features, weight = features_BD.numpy(), head.weight.numpy()
        head.weight.mul_(length)
        torch.testing.assert_close(head(features_BD), logits_BK, rtol=1e-4, atol=1e-5)
    lengths_BK = np.linalg.norm(features, axis=1)[:, None] * np.linalg.norm(weight, axis=1)
    assert logits_BK.numpy() == pytest.approx(features @ weight.T / lengths_BK, abs=1e-5)
    assert bool((logits_BK.abs() <= 1 + 1e-6).all())


def test_cosine_head_of_a_feature_of_nothing_is_finite() -> None:
    head, features_BD = CosineHead(5, 3), torch.zeros(2, 5, requires_grad=True)
    logits_BK: Tensor = head(features_BD)
    logits_BK.sum().backward()
    assert bool((logits_BK == 0).all())
    assert features_BD.grad is not None and bool(features_BD.grad.isfinite().all())


def test_linear_head_has_no_bias() -> None:
    head = LinearHead(4, 3)
    assert [name for name, _ in head.named_parameters()] == ["weight"]
    assert torch.equal(head(torch.zeros(1, 4)), torch.zeros(1, 3))


@pytest.mark.parametrize("head", ["auto", "linear", "cosine"])
@pytest.mark.parametrize("loss", losses.names())
def test_the_head_follows_the_loss_unless_it_is_given(loss: str, head: str) -> None:
    config = TrainConfig.from_settings({"loss": loss, "model.head": head})
    model = build_model(config.model.name, config.model.knobs, config.loss_head, 1, 4)
    cosine = loss in ("ldam", "gcl") if head == "auto" else head == "cosine"
    assert isinstance(model.head, CosineHead if cosine else LinearHead)


# ---- networks that will not do ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mobilenet_v3_small", (2, 32, 32)), ("densenet121", (3, 8, 8))],
)
def test_a_network_that_cannot_take_the_images_is_one_line(
    name: str, shape: tuple[int, int, int]
) -> None:
    model = build(name, channels=shape[0])
    sizes = "×".join(map(str, shape))
    line = rf"^model '{name}' cannot take {sizes} images \([^\n]+\): choose another$"
    with pytest.raises(ConfigError, match=line):
        check_model(model, name, shape)


@pytest.mark.parametrize("error", [RuntimeError, AssertionError, ValueError])
@pytest.mark.parametrize(("text", "reason"), [("too small\nat layer 3", "too small"), ("", None)])
def test_the_reason_is_one_line_whatever_the_network_raises(
    error: type[Exception], text: str, reason: str | None
) -> None:
    class Broken(nn.Module):
        def forward(self, images_BCHW: Tensor) -> Tensor:
            raise error(text)

    line = rf"^model 'x' cannot take 1×8×8 images \({reason or error.__name__}\): choose another$"
    with pytest.raises(ConfigError, match=line):
        check_model(Broken(), "x", (1, 8, 8))


def test_a_network_without_a_linear_head_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^model 'squeezenet1_1' has no linear head [^\n]+$"):
        build("squeezenet1_1")


def test_an_unknown_network_is_one_line_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"^unknown model 'resnet3': did you mean 'resnet32'\?$"):
        build("resnet3")
