"""A run of a final training: its checkpoints, the average of its weights, its temperature.

Also a contract of all losses: the loaded model says what the one in training said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from data_files import raises_one_line

import imbtune
from imbtune.config.train_config import TrainConfig
from imbtune.data.load import DataSource
from imbtune.data.splits import with_calibration
from imbtune.errors import ConfigError, DataError
from imbtune.final_training.final_run import Progress, load_final_splits, train_seed
from imbtune.final_training.final_task import TrainOptions
from imbtune.methods.losses import MarginSoftmax, ldam, losses
from imbtune.metrics.metric import compute
from imbtune.training.device.device_data import DeviceData
from imbtune.training.evaluation.margins import image_logits
from imbtune.training.weight_average import WeightAverage

TINY: dict[str, Any] = {
    **{"data": "digits", "data.head": 20, "data.ratio": 5.0, "model.width": 2},
    **{"epochs": 4, "batch_size": 20, "precision": "float32"},
}
CPU = torch.device("cpu")


@pytest.fixture
def scaled_by_counts() -> Iterator[None]:
    """A loss whose scale is the size of the largest class."""

    @losses.register("scaled_by_counts", help="for this test", head="cosine")
    def make(counts_K: torch.Tensor) -> MarginSoftmax:
        return ldam(counts_K)._replace(scale=counts_K.max())

    yield
    losses.remove("scaled_by_counts")


def data_of(config: TrainConfig, share: float | None = None) -> DeviceData:
    return DeviceData(load_final_splits(config, DataSource(None), share=share), CPU)


@pytest.mark.parametrize("loss", losses.names())
def test_the_loaded_model_says_what_the_one_in_training_said(loss: str, tmp_path: Path) -> None:
    """Its logits times the loss's scale, for every loss, on every test image."""
    config = TrainConfig.from_settings({**TINY, "epochs": 2, "loss": loss})
    data = data_of(config)
    trained = train_seed(config, data, lambda _: None)
    logits_MK = image_logits(trained.state, data, data.held_out)

    result = imbtune.train(config, out=tmp_path / "out", progress=None)
    model = imbtune.load_model(result.path)
    images = data.held_out.pixels_NCHW.numpy()  # type: ignore[union-attr]
    found = model.predict_proba(images)
    np.testing.assert_allclose(found, logits_MK.softmax(1).numpy(), atol=1e-5)
    assert result.runs[0].metrics == trained.run.metrics
    table = pd.read_parquet(result.path / "predictions.parquet")
    np.testing.assert_allclose(np.array(table["probabilities"].tolist()), found, atol=1e-5)
    assert table["predicted"].tolist() == model.predict(images).tolist()


@pytest.mark.usefixtures("scaled_by_counts")
def test_a_scale_that_depends_on_the_data(tmp_path: Path) -> None:
    """Of a user's loss: it is that of the training, not that of other class counts."""
    config = TrainConfig.from_settings({**TINY, "loss": "scaled_by_counts"})
    result = imbtune.train(config, out=tmp_path / "out", progress=None)
    data = data_of(config)
    model = imbtune.load_model(result.path)
    assert model.scale == data.counts_K.max() == 20
    images = data.held_out.pixels_NCHW.numpy()  # type: ignore[union-attr]
    table = pd.read_parquet(result.path / "predictions.parquet")
    wanted = np.array(table["probabilities"].tolist())
    np.testing.assert_allclose(model.predict_proba(images), wanted, atol=1e-4)


def test_a_model_trained_in_bfloat16_is_tested_as_it_is_used(tmp_path: Path) -> None:
    """In float32: bfloat16 has three digits, and its probabilities differ in the second one."""
    config = TrainConfig.from_settings({**TINY, "precision": "bfloat16", "loss": "ldam"})
    result = imbtune.train(config, out=tmp_path / "out", progress=None, ema=0.8, calibrate=0.2)
    images = data_of(config).held_out.pixels_NCHW.numpy()  # type: ignore[union-attr]
    table = pd.read_parquet(result.path / "predictions.parquet")
    wanted = np.array(table["probabilities"].tolist())
    found = imbtune.load_model(result.path).predict_proba(images)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("ema", [None, 0.8])
@pytest.mark.parametrize("settings", [{"mix": "mamix"}, {"loss": "ldam", "after": "crt"}])
def test_a_run_goes_on_from_a_checkpoint_to_the_last_bit(
    settings: dict[str, Any], ema: float | None
) -> None:
    config = TrainConfig.from_settings(TINY | settings)
    data, checkpoints = data_of(config), list[bytes]()

    def after_epoch(progress: Progress) -> None:
        checkpoints.append(progress.checkpoint())

    whole = train_seed(config, data, after_epoch, ema=ema)
    for checkpoint in checkpoints[1:3]:
        again = train_seed(config, data, lambda _: None, checkpoint, ema)
        assert again.run.metrics == whole.run.metrics
        assert again.run.without == whole.run.without
        found = again.finished().weights
        for name, weight in whole.finished().weights.items():
            assert torch.equal(found[name], weight), name


def test_the_average_is_the_literal_one() -> None:
    """After each step, of weights and of batch norm's statistics."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    average, wanted, random = WeightAverage(model, 0.75), None, torch.Generator().manual_seed(0)
    for _ in range(5):
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn(weight.shape, generator=random))
        model(torch.randn(8, 2, generator=random))
        now = {k: v.clone() for k, v in model.state_dict().items()}
        wanted = now if wanted is None else {k: 0.75 * wanted[k] + 0.25 * now[k] for k in now}
        average.update()
    average.apply()
    assert wanted is not None
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, wanted[name])
        else:
            assert value == 5  # the steps of batch norm


def test_an_average_changes_nothing_of_the_training() -> None:
    """The metrics without it are those of the same run without the option."""
    config = TrainConfig.from_settings(TINY | {"after": "crt"})
    data = data_of(config)
    plain = train_seed(config, data, lambda _: None)
    averaged = train_seed(config, data, lambda _: None, ema=0.8)
    assert averaged.run.without == {"averaging": plain.run.metrics}
    assert averaged.run.metrics != plain.run.metrics


def test_the_temperature_is_fitted_on_images_that_train_nothing() -> None:
    config = TrainConfig.from_settings(TINY)
    data = data_of(config, share=0.25)
    run = train_seed(config, data, lambda _: None)
    assert run.calibration and data.calibration is not None
    assert run.calibration.images == len(data.calibration)
    assert set(run.margins) == {"train", "test", "calibration"}
    predictions = run.state.predictions(data)
    assert run.run.without == {"temperature": compute(predictions)}
    z_MK = predictions.logits_NK.double() / run.calibration.temperature
    own_M = z_MK.log_softmax(1).gather(1, data.held_out_labels_M[:, None])
    assert run.run.metrics["log_loss"] == pytest.approx(-float(own_M.mean()))


@pytest.mark.parametrize("share", [0.001, 0.3, 0.999])
def test_a_share_of_every_class_is_kept(share: float) -> None:
    config = TrainConfig.from_settings(TINY)
    whole = load_final_splits(config, DataSource(None))
    kept = load_final_splits(config, DataSource(None), share=share)
    assert kept.calibration is not None
    counts_K, left_K = kept.calibration.counts(10), kept.train.counts(10)
    assert (counts_K + left_K == whole.train.counts(10)).all()
    assert counts_K.min() >= 1 and left_K.min() >= 1
    wanted = np.clip(np.rint(share * whole.train.counts(10)), 1, whole.train.counts(10) - 1)
    assert (counts_K == wanted).all()
    names = kept.train.names_in("train") + kept.calibration.names_in("train")
    assert sorted(names) == sorted(whole.train.names_in("train"))
    assert kept.fingerprint() != whole.fingerprint()


def test_a_class_of_one_image_cannot_be_shared() -> None:
    config = TrainConfig.from_settings(TINY | {"data.ratio": 20.0})
    splits = load_final_splits(config, DataSource(None))
    line = "--calibrate 0.1 keeps images of every class, and class '7' has 1 training image"
    with raises_one_line(line, "leave the option out", kind=DataError):
        with_calibration(splits, 0.1, 0)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"ema": 1.0}, "--ema 1.0: give a number between 0 and 1"),
        ({"ema": 0.0}, "--ema 0.0: give a number between 0 and 1"),
        ({"ema": True}, "--ema True: give a number"),
        ({"calibrate": -0.1}, "--calibrate -0.1: give a number between 0 and 1"),
        ({"calibrate": float("nan")}, "--calibrate nan: give a number between 0 and 1"),
        ({"ensemble": True}, "--ensemble needs several seeds: give --seeds, such as --seeds 5"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], line: str, tmp_path: Path) -> None:
    with raises_one_line(line, kind=ConfigError):
        TrainOptions(**options).check(1)
    with raises_one_line(line, kind=ConfigError):
        imbtune.train(TrainConfig.from_settings(TINY), out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_average_of_more_steps_than_the_run_has(tmp_path: Path) -> None:
    config = TrainConfig.from_settings(TINY)  # 4 epochs of 5 steps
    line = "--ema 0.999: after the 20 steps of this run the average would still be 98 % the weights"
    with raises_one_line(line, "give at most 0.8608", kind=ConfigError):
        imbtune.train(config, out=tmp_path / "out", ema=0.999, progress=None)
    assert not (tmp_path / "out").exists()
    imbtune.train(config, out=tmp_path / "out", ema=0.8608, progress=None)


def test_an_ensemble_is_tested(tmp_path: Path) -> None:
    """Its metrics are those of what `load_model` gives."""
    config = TrainConfig.from_settings(TINY | {"loss": "ldam"})
    options: dict[str, Any] = {"calibrate": 0.3, "ensemble": True, "seeds": 3, "progress": None}
    result = imbtune.train(config, out=tmp_path / "out", **options)
    model = imbtune.load_model(result.path, ensemble=True)
    data = data_of(config, share=0.3)
    p_NK = model.predict_proba(data.held_out.pixels_NCHW.numpy())  # type: ignore[union-attr]
    labels_N = data.held_out_labels_M.numpy()
    hits = p_NK.argmax(1) == labels_N
    assert result.ensemble["accuracy"] == pytest.approx(hits.mean())
    own_N = p_NK[np.arange(len(labels_N)), labels_N]
    assert result.ensemble["log_loss"] == pytest.approx(-np.log(own_N).mean(), rel=1e-4)
    content = json.loads((result.path / "metrics.json").read_text())
    assert content["ensemble"]["metrics"] == result.ensemble
    assert content["ensemble"]["seeds"] == [0, 1, 2]
    assert (
        content["ensemble"]["without"]["own_temperature"]["accuracy"] == result.ensemble["accuracy"]
    )
    assert model.calibration and model.calibration.images == len(data.calibration_labels_N)
    assert "ensemble of the seeds" in (result.path / "README.md").read_text()
