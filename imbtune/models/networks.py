"""The networks. A model is a function `channels -> Backbone`, and imbtune adds the head.

Shapes: B a batch, C channels, H and W pixels, D features, K classes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbtune.errors import ConfigError
from imbtune.registry import Knob, Part, Registry, Value

RESNET = "He et al. 2016, arXiv 1512.03385"
LDAM = "Cao et al. 2019, arXiv 1906.07413"


@dataclass(frozen=True)
class HeadOptions:
    """The knobs of every model."""

    head: Annotated[
        str,
        Knob(
            "linear without a bias, linear_bias, or the cosine of feature and class vector, for "
            "losses with a scale (ldam, gcl); auto is the head that the loss needs",
            choices=("auto", "linear", "linear_bias", "cosine"),
            source=LDAM,
        ),
    ] = "auto"


class Backbone(NamedTuple):
    """A network without its head.

    Attributes:
        module: maps images (B, C, H, W) to features (B, D).
        features: D.
    """

    module: nn.Module
    features: int


class Classifier(nn.Module):
    """Backbone and head. `forward` maps normalised images (B, C, H, W) to logits (B, K).

    The logits are scale_K ⊙ z + bias_K, where z is the head's output. scale_K is 1 and bias_K is 0
    during training; a post-hoc method may set them afterwards.

    Args:
        classes: K.
        head: `linear`, `linear_bias` or `cosine`.
    """

    scale_K: Tensor
    bias_K: Tensor

    def __init__(self, backbone: Backbone, classes: int, head: str) -> None:
        super().__init__()
        self.backbone = backbone.module
        self.head = HEADS[head](backbone.features, classes)
        self.register_buffer("scale_K", torch.ones(classes))
        self.register_buffer("bias_K", torch.zeros(classes))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.head(self.backbone(images_BCHW))
        adjusted_BK: Tensor = self.scale_K * logits_BK + self.bias_K
        return adjusted_BK


class LinearHead(nn.Linear):
    """z = W·f, without bias, as in the reference package."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes, bias=False)

    def norms(self) -> Tensor:
        """The L2 norm of each class vector, (K,)."""
        norms_K: Tensor = torch.linalg.vector_norm(self.weight.detach(), dim=1)
        return norms_K


class LinearBiasHead(nn.Linear):
    """z = W·f + b, initialised as in LDAM-DRW's code: W Kaiming-normal, b as torch does."""

    def reset_parameters(self) -> None:
        """New initial weights."""
        super().reset_parameters()
        nn.init.kaiming_normal_(self.weight)

    def norms(self) -> Tensor:
        """The L2 norm of each class vector, (K,), without the bias."""
        norms_K: Tensor = torch.linalg.vector_norm(self.weight.detach(), dim=1)
        return norms_K


class CosineHead(nn.Module):
    """z_k = cos(w_k, f) in [-1, 1]; the loss multiplies it by its scale s."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New class vectors in random directions."""
        with torch.no_grad():
            self.weight.copy_(F.normalize(torch.randn_like(self.weight), dim=1))

    def norms(self) -> Tensor:
        """Ones, (K,): `forward` normalises the class vectors."""
        return torch.ones_like(self.weight[:, 0]).detach()

    def forward(self, features_BD: Tensor) -> Tensor:
        # in float32: bfloat16 has three digits, and the loss multiplies the rounding error by s
        with torch.autocast(features_BD.device.type, enabled=False):
            return self._cosines(features_BD.float())

    def _cosines(self, features_BD: Tensor) -> Tensor:
        return F.linear(F.normalize(features_BD, dim=1), F.normalize(self.weight, dim=1))


HEADS = {"linear": LinearHead, "linear_bias": LinearBiasHead, "cosine": CosineHead}


def build_model(
    name: str, knobs: Mapping[str, Value], loss_head: str, channels: int, classes: int
) -> Classifier:
    """A new network, with initial weights from torch's global generator.

    Args:
        name: a registered model, or one of torchvision.
        knobs: the values of all its knobs, `head` included.
        loss_head: the head that the loss needs (`linear` or `cosine`), used for `head: auto`.

    Raises:
        ConfigError: an unknown model, or a torchvision model without a linear head.
    """
    own = {k: v for k, v in knobs.items() if k != "head"}
    head = loss_head if knobs["head"] == "auto" else knobs["head"]
    return Classifier(models[name].make(channels, **own), classes, str(head))


def check_model(model: nn.Module, name: str, image_shape: tuple[int, ...]) -> None:
    """Check that the network accepts images, by a forward pass of two blank ones.

    Args:
        image_shape: (C, H, W).

    Raises:
        ConfigError: the forward pass fails.
    """
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, *image_shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        shape = "×".join(map(str, image_shape))
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(
            f"model '{name}' cannot take {shape} images ({reason}): choose another"
        ) from error


def _resolve_torchvision(name: str) -> Part | None:
    """The torchvision classification model `name`; None if there is none."""
    from torchvision import models as zoo

    if name not in zoo.list_models(module=zoo):
        return None
    make = functools.partial(_torchvision_backbone, name)
    return Part(
        "model",
        name,
        make,
        {},
        "torchvision's, not pretrained",
        "torchvision.models",
    )


def _torchvision_backbone(name: str, channels: int) -> Backbone:
    """torchvision's network without its last linear layer; grey images are converted to RGB."""
    from torchvision import models as zoo

    options = _WITHOUT_AUXILIARY if name in ("googlenet", "inception_v3") else {}
    network = zoo.get_model(name, weights=None, **options)
    heads = [(path, m) for path, m in network.named_modules() if isinstance(m, nn.Linear)]
    if not heads:
        raise ConfigError(f"model '{name}' has no linear head to replace: choose another")
    path, head = heads[-1]
    parent = network.get_submodule(path.rpartition(".")[0])
    setattr(parent, path.rpartition(".")[2], nn.Identity())
    module = nn.Sequential(_GreyToRgb(), network) if channels == 1 else network
    return Backbone(module, head.in_features)


# With auxiliary heads the output would be a tuple in training. init_weights has its default value;
# without it torchvision warns that the default will change.
_WITHOUT_AUXILIARY = {"aux_logits": False, "init_weights": True}


class _GreyToRgb(nn.Module):
    """(B, 1, H, W) to (B, 3, H, W), three equal channels."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return images_BCHW.expand(-1, 3, -1, -1)


models = Registry(
    "model",
    "the network; also any torchvision model, by its name",
    HeadOptions,
    _resolve_torchvision,
)


@models.register("small_cnn", help="three convolutions, for small images")
def small_cnn(
    channels: int,
    *,
    width: Annotated[int, Knob("channels of the first layer", 1, 1024, search=(8, 64))] = 16,
) -> Backbone:
    """Three 3×3 convolutions with batch norm, the last two with stride 2; D = 4·`width`."""
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(
        [(channels, width), (width, 2 * width), (2 * width, 4 * width)]
    ):
        layers += [
            nn.Conv2d(before, after, 3, stride=1 if i == 0 else 2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
    return Backbone(nn.Sequential(*layers, _MeanOfPixels()), 4 * width)


@models.register("resnet32", help="the CIFAR ResNet with 32 layers", source=RESNET)
def resnet32(channels: int) -> Backbone:
    """Five blocks each of 16, 32 and 64 channels; shortcuts without weights (option A); D = 64."""
    blocks: list[nn.Module] = [
        nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
    ]
    for before, after in [(16, 16), (16, 32), (32, 64)]:
        blocks += [_BasicBlock(before if i == 0 else after, after) for i in range(5)]
    module = nn.Sequential(*blocks, _MeanOfPixels())
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return Backbone(module, 64)


@models.register("resnet18_small", help="ResNet-18 for small images", source=RESNET)
def resnet18_small(channels: int) -> Backbone:
    """torchvision's ResNet-18 with a 3×3 first layer of stride 1 and no max pooling; D = 512.

    The reference package uses it for CINIC-10 and Tiny-ImageNet.
    """
    from torchvision.models import resnet18

    network = resnet18(weights=None)
    network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    network.maxpool = network.fc = nn.Identity()
    network.avgpool = _MeanOfPixels()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()  # torch's initialisation, as there; torchvision's is larger
    return Backbone(network, 512)


# avg_pool2d keeps the channels_last format of its gradient. x[:, :, ::2, ::2] and
# nn.AdaptiveAvgPool2d(1) do not, which makes the ReLU before them slow on a CPU
# (docs/benchmarks.md).


class _MeanOfPixels(nn.Module):
    """The mean over the pixels of each channel, (B, C)."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.avg_pool2d(x_BCHW, x_BCHW.shape[2:]).flatten(1)


class _BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; stride 2 where the number of channels grows."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.widen = (2, after - before) if after != before else (1, 0)
        self.conv1 = nn.Conv2d(before, after, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.widen:  # option A: every second pixel, zeros in the new channels
            half = self.widen // 2
            every_second = F.avg_pool2d(x, kernel_size=1, stride=2)  # x[:, :, ::2, ::2]
            x = F.pad(every_second, (0, 0, 0, 0, half, self.widen - half))
        out += x  # in place, as the ReLUs: no backward pass needs the old value
        return F.relu(out, inplace=True)
