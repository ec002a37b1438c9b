"""Export to ONNX: what onnxruntime alone computes, what the file says, and what leaves none."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from data_files import encode, raises_one_line
from numpy.typing import NDArray
from small_model import small_model, threshold_at
from torch import Tensor, nn

from imbtune.errors import ConfigError, DataError, DivergenceError
from imbtune.inference import onnx_export
from imbtune.inference.decisions.decision import decision
from imbtune.inference.evaluating.images_at_hand import images_to_check
from imbtune.inference.onnx_export import TOLERANCE, _check, _Graph, _resize
from imbtune.inference.trained_model import TrainedModel
from imbtune.inference.use_model import export
from imbtune.models.networks import Backbone, models

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)


def run(path: Path, images: NDArray[np.uint8]) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: list[NDArray[Any]] = session.run(["probabilities", "label"], {"images": images})
    return found


def test_one_file_that_needs_nothing_else(tmp_path: Path) -> None:
    """A cosine head with a scale, a temperature and a threshold, in RGB; batches of any size."""
    settings: dict[str, Any] = {"loss": "ldam", "model": "small_cnn", "model.width": 4}
    plain = small_model(shape=(3, 8, 8), scale=30.0, temperature=1.7, **settings)
    odds_N = np.log(plain.predict_proba(PIXELS) @ [-0.0, 1.0]) - np.log(
        plain.predict_proba(PIXELS) @ [1.0, 0.0]
    )
    threshold = threshold_at(float(np.sort(odds_N)[1:3].mean()))
    model = small_model(
        shape=(3, 8, 8), scale=30.0, temperature=1.7, threshold=threshold, **settings
    )
    path = tmp_path / "model.onnx"
    found = export(model, path, unchecked=True)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert found.size == path.stat().st_size
    assert found.difference < 1e-5
    for images in (PIXELS, PIXELS[:1], np.tile(PIXELS, (9, 1, 1, 1))):
        p_NK, label_N = run(path, images)
        np.testing.assert_allclose(p_NK, model.predict_proba(images), atol=1e-5)
        assert [model.classes[k] for k in label_N] == model.predict(images).tolist()
    assert len(set(run(path, PIXELS)[1])) == 2
    content = onnx.load(path)
    onnx.checker.check_model(content)
    said = {entry.key: entry.value for entry in content.metadata_props}
    assert json.loads(said["classes"]) == ["cat", "dog"]
    assert json.loads(said["threshold"])["log_odds"] == threshold.log_odds
    assert json.loads(said["temperature"]) == 1.7
    shift = json.loads(said["label_shift"])
    assert (shift["temperature"], shift["prior"]) == (1.7, [0.5, 0.5])
    assert (said["height"], said["width"], said["channels"]) == ("8", "8", "RGB")
    assert "not in the graph" in said["resize"]
    assert said["checked_on"] == "16 images of random pixels"
    assert content.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


class _Constant(nn.Module):
    """What torch.export takes for a constant: the file computes something else."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        offset = 0.0 if torch.compiler.is_compiling() else 1.0
        means_BC = images_BCHW.mean((2, 3))
        return torch.cat([means_BC + offset, -means_BC], 1)


class _Branch(nn.Module):
    """Takes another way for some values, which no graph has."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        means_BC = images_BCHW.mean((2, 3))
        return means_BC if bool(means_BC.sum() > 0) else -means_BC


@pytest.fixture
def odd_networks() -> Iterator[None]:
    models.register("odd_constant", help="x")(lambda channels: Backbone(_Constant(), 2 * channels))
    models.register("odd_branch", help="x")(lambda channels: Backbone(_Branch(), channels))
    yield
    for name in ("odd_constant", "odd_branch"):
        models.remove(name)


def test_an_export_with_a_wrong_class_alone_is_refused(tmp_path: Path) -> None:
    """Also where all probabilities round to 1, as those of both sides of the threshold."""
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)

    def model(at: float) -> TrainedModel:
        return small_model(shape=(3, 8, 8), scale=1000.0, threshold=threshold_at(at, "cat"))

    logits_NK = model(0).logits(images)
    lead_N = (logits_NK[:, 0] - logits_NK[:, 1]).double().sort().values
    middle = float(lead_N[9:11].mean())
    assert float(logits_NK.double().softmax(1)[:, 0].min()) > 1 - TOLERANCE / 10
    export(model(middle), tmp_path / "model.onnx", unchecked=True)
    same, other = (_Graph(m, decision(m)).eval() for m in (model(middle), model(12.0)))
    assert _check(tmp_path / "model.onnx", same, images) < TOLERANCE
    with raises_one_line("differs from the model: by", "in the class of", kind=ConfigError):
        _check(tmp_path / "model.onnx", other, images)


def test_the_class_of_an_undecided_image_may_differ() -> None:
    """As many logits as a float32 cannot tell apart."""
    plain, at_12 = small_model(), small_model(threshold=threshold_at(12.0))
    for model, lead in ((plain, 0.0), (at_12, -12.0)):
        graph = _Graph(model, decision(model))
        for size in (0.0, 1000.0):
            error = 4e-4 * max(1, abs(size), abs(size + lead)) * torch.tensor([0, 0.9, -0.9, 1.1])
            logits_NK = torch.stack([size + lead + error, torch.full((4,), size)], 1).double()
            assert graph.undecided(logits_NK).tolist() == [True, True, True, False], (lead, size)


@pytest.mark.usefixtures("odd_networks")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("odd_constant", "the export differs from the model"),
        ("odd_branch", "the network 'odd_branch' cannot be exported to ONNX"),
    ],
)
def test_a_file_that_would_be_wrong_does_not_appear(name: str, says: str, tmp_path: Path) -> None:
    with raises_one_line(says, kind=ConfigError):
        export(small_model(model=name), tmp_path / "model.onnx", unchecked=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "to", "says"),
    [
        ("there.onnx", "onnx", "exists: give another file"),
        ("model.pt", "onnx", "ends in .onnx"),
        ("no/model.onnx", "onnx", "there is no folder"),
        ("model.onnx", "pt2", "--to 'pt2': give onnx"),
    ],
)
def test_what_is_refused(name: str, to: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "there.onnx").write_text("mine")
    with raises_one_line(says, kind=ConfigError):
        export(small_model(), tmp_path / name, to=to)
    assert (tmp_path / "there.onnx").read_text() == "mine"


@pytest.mark.parametrize("name", onnx_export.NEEDED)
def test_a_missing_library_is_a_line_with_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with raises_one_line(f"needs {name}: pip install 'imbtune[onnx]'", kind=ConfigError):
        export(small_model(), tmp_path / "model.onnx", unchecked=True)


def test_weights_that_are_nan(tmp_path: Path) -> None:
    model = small_model()
    with torch.no_grad():
        next(model.network.parameters()).fill_(float("nan"))
    with raises_one_line("weights are not finite", kind=DivergenceError):
        export(model, tmp_path / "model.onnx", unchecked=True)
    assert not list(tmp_path.iterdir())


def largest_difference(model: TrainedModel, path: Path) -> float:
    assert model.image_shape
    images = np.random.default_rng(1).integers(0, 256, (3, *model.image_shape), dtype=np.uint8)
    p_NK, _ = run(path, images)
    return float(np.abs(p_NK - model.predict_proba(images)).max())


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("head", ["linear", "linear_bias", "cosine"])
@pytest.mark.parametrize("name", models.names())
def test_every_network(name: str, head: str, channels: int, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": name, "model.head": head}
    model = small_model(["a", "b", "c"], (channels, 16, 16), **settings)
    export(model, tmp_path / "model.onnx", unchecked=True)
    assert largest_difference(model, tmp_path / "model.onnx") < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_32", "convnext_tiny"])
def test_networks_of_torchvision(name: str, tmp_path: Path) -> None:
    size = 224 if name.startswith("vit") else 32
    model = small_model(["a", "b", "c"], (1, size, size), model=name)
    export(model, tmp_path / "model.onnx", unchecked=True)
    assert largest_difference(model, tmp_path / "model.onnx") < 1e-4


def test_the_images_of_a_comparison(tmp_path: Path) -> None:
    """All that are given, with labels or without; and not a test set drawn from them."""
    labels = np.array(["cat", "dog"] * 6)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=labels)
    photos, empty = tmp_path / "photos", tmp_path / "empty"
    photos.mkdir()
    empty.mkdir()
    for k in range(3):
        (photos / f"{k}.png").write_bytes(encode(pixels[k][None]))
    for model in (small_model(), small_model(data="npz")):
        found = images_to_check(model, tmp_path / "a.npz", 256)
        assert found.kind == "all 12 images"
        assert sorted(map(bytes, found.pixels)) == sorted(map(bytes, pixels))
        assert images_to_check(model, tmp_path / "a.npz", 4).kind == "4 of the 12 images"
        assert images_to_check(model, photos, 256).kind == "3 images"
        with pytest.raises(DataError) as raised:
            images_to_check(model, empty, 256)
        assert "label" not in str(raised.value) and "no image" in str(raised.value)


def test_what_is_to_be_done_to_images_of_other_sizes() -> None:
    """A training that crops makes them square; one that does not saw one size alone."""
    said = _resize(small_model(shape=(3, 16, 16), crop=True))
    assert "take the largest centred square and scale it to 16×16 pixels" in said
    said = _resize(small_model(shape=(3, 6, 8)))
    assert said == "not in the graph, and not in training, whose images all had 8×6 pixels"
