"""Loading a trained model: its folder, seeds, ensembles, files of older versions, and damage."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from data_files import raises_one_line
from numpy.typing import NDArray

import imbtune
from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError, DamagedFileError, StudyError
from imbtune.inference.loading import load_model
from imbtune.inference.model_folder import change_files, read_files, read_manifest
from imbtune.storage import Store

Bytes = NDArray[np.uint8]

SMALL: dict[str, Any] = {
    **{"data.head": 60, "data.ratio": 10, "data.val_per_class": 9},
    **{"model.width": 4, "batch_size": 30, "precision": "float32", "epochs": 2},
}
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two seeds of LDAM, whose softmax multiplies logits by 30, on digits."""
    out = tmp_path_factory.mktemp("trained") / "ldam"
    config = TrainConfig.from_settings({**SMALL, "loss": "ldam", "seed": 3})
    return imbtune.train(config, seeds=2, out=out, progress=None).path


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "copy")


# ---- seeds


def test_the_folder_is_the_model_of_the_first_seed(trained: Path) -> None:
    assert load_model(trained).config.seed == load_model(trained, seed=3).config.seed == 3
    assert load_model(trained, seed=4).config.seed == 4
    assert load_model(str(trained / "seed4")).config.seed == 4
    with raises_one_line("a model of seed 5: it has seeds 3, 4", kind=StudyError):
        load_model(trained, seed=5)


def test_each_seed_has_a_folder_of_the_same_form(trained: Path) -> None:
    own = {path.name for path in trained.iterdir()}
    assert own - {"seed4"} == {path.name for path in (trained / "seed4").iterdir()}
    metrics = json.loads((trained / "seed4/metrics.json").read_text())
    assert [run["seed"] for run in metrics["runs"]] == [4]
    both = json.loads((trained / "metrics.json").read_text())
    assert [run["seed"] for run in both["runs"]] == [3, 4]
    assert both["runs"][1] == metrics["runs"][0]


def test_an_ensemble_has_the_mean_of_the_probabilities(trained: Path) -> None:
    found = load_model(trained, ensemble=True)
    each = [load_model(trained, seed=seed).predict_proba(PIXELS) for seed in (3, 4)]
    np.testing.assert_allclose(found.predict_proba(PIXELS), np.mean(each, axis=0), atol=1e-6)
    with raises_one_line("has one seed, and an ensemble needs several", kind=StudyError):
        load_model(trained / "seed4", ensemble=True)
    with raises_one_line("seed 3 and ensemble", kind=ConfigError):
        load_model(trained, seed=3, ensemble=True)


def test_a_seed_that_is_missing_is_not_left_out(copied: Path) -> None:
    """The ensemble's temperature and metrics are those of all seeds."""
    shutil.rmtree(copied / "seed4")
    with raises_one_line(f"{copied / 'seed4'} is missing", kind=DamagedFileError):
        load_model(copied, ensemble=True)
    assert load_model(copied).config.seed == 3


def test_an_ensemble_needs_no_threshold(copied: Path) -> None:
    """It never uses one, so a damaged one does not stop it, nor another seed than its own."""
    change_files(Store(str(copied)), {"threshold.json": b"{}"})
    (copied / "threshold.json").write_text("[")
    with raises_one_line(copied / "threshold.json", kind=DamagedFileError):
        load_model(copied)
    assert load_model(copied, seed=4).threshold is None
    assert load_model(copied, ensemble=True).threshold is None


@pytest.mark.parametrize(
    ("name", "content"),
    [("calibration.json", {"ensemble": 5}), ("calibration.json", []), ("metrics.json", {})],
)
def test_content_of_an_ensemble_that_imbtune_did_not_write(
    name: str, content: object, copied: Path
) -> None:
    change_files(Store(str(copied)), {name: json.dumps(content).encode()})
    with raises_one_line(f"{copied} is not a model that imbtune wrote", kind=ConfigError):
        load_model(copied, ensemble=True)


# ---- what the tables say


def test_the_predictions_are_those_of_the_model(trained: Path) -> None:
    """Of every test image, by its name."""
    model = load_model(trained)
    table = pd.read_parquet(trained / "predictions.parquet")
    assert model.example_names == table["image"].tolist()
    test = pd.read_parquet(trained / "margins.parquet").query("split == 'test'")
    p_NK = np.array(table["probabilities"].tolist())
    np.testing.assert_allclose(p_NK.sum(1), 1, rtol=1e-12)
    label_N = table["label"].map(model.classes.index).to_numpy()
    own_N = p_NK[np.arange(len(p_NK)), label_N].copy()
    p_NK[np.arange(len(p_NK)), label_N] = -np.inf
    np.testing.assert_allclose(test["probability_margin"], own_N - p_NK.max(1), atol=1e-6)
    assert test["image"].tolist() == table["image"].tolist()
    assert test["label"].tolist() == label_N.tolist()
    assert [model.classes[k] for k in test["predicted"]] == table["predicted"].tolist()


def test_the_table_of_classes(trained: Path) -> None:
    table = pd.read_parquet(trained / "classes.parquet")
    images = pd.read_parquet(trained / "predictions.parquet")
    for row in table.itertuples():
        of_class, as_class = images["label"] == row.name, images["predicted"] == row.name
        hits = (of_class & as_class).sum()
        assert (row.test, row.predicted) == (of_class.sum(), as_class.sum())
        assert row.recall == hits / of_class.sum()
        assert row.f1 == pytest.approx(2 * hits / (of_class.sum() + as_class.sum()))


# ---- damage

FILES = [
    "calibration.json", "classes.parquet", "config.yaml", "labels.json", "margins.parquet",
    "metrics.json", "model.safetensors", "predictions.parquet", "preprocess.json",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_cut_or_changed_is_named(copied: Path, name: str) -> None:
    file, remedy = copied / name, "restore it from a copy, or train the model again"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    sizes = f"it has {len(content) - 1:,} of {len(content):,} bytes"
    with raises_one_line(file, sizes, remedy, kind=DamagedFileError):
        load_model(copied)
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with raises_one_line(file, "has the SHA-256", remedy, kind=DamagedFileError):
        load_model(copied)
    file.unlink()
    with raises_one_line(f"{file} is missing", remedy, kind=DamagedFileError):
        load_model(copied)


def test_a_folder_without_a_manifest_is_no_model(copied: Path) -> None:
    (copied / "manifest.json").unlink()
    line = f"{copied / 'manifest.json'} is missing, so the model is not complete"
    with raises_one_line(line, kind=StudyError):
        load_model(copied)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"imbtune": "0.1.0", "format": 1}',
        "null",
        '{"imbtune": "abc", "format": 1, "files": {}}',
    ],
)
def test_a_manifest_that_is_damaged(copied: Path, text: str) -> None:
    (copied / "manifest.json").write_text(text)
    with raises_one_line("manifest.json is not what imbtune wrote", kind=DamagedFileError):
        load_model(copied)


@pytest.mark.parametrize(
    ("changed", "fix"),
    [
        ({"format": 2}, "install a later version"),
        ({"imbtune": "0.2.0"}, "install imbtune 0.2.0 or later"),
        ({"imbtune": "1.0.0rc1"}, "install imbtune 1.0.0rc1 or later"),
    ],
)
def test_a_model_of_a_later_version_is_refused(
    copied: Path, changed: dict[str, object], fix: str
) -> None:
    file = copied / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with raises_one_line(file, "imbtune", "wrote this model", fix, kind=ConfigError):
        load_model(copied)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/hostname", "seed1/labels.json"])
def test_a_manifest_lists_files_of_its_own_folder(copied: Path, name: str) -> None:
    file = copied / "manifest.json"
    content = json.loads(file.read_text())
    content["files"][name] = content["files"]["labels.json"]
    file.write_text(json.dumps(content))
    with raises_one_line("manifest.json is not what imbtune wrote", kind=DamagedFileError):
        load_model(copied)


def test_the_card_may_be_edited(copied: Path) -> None:
    with (copied / "README.md").open("a") as file:
        file.write("Reviewed.")
    assert load_model(copied).config.seed == 3


def test_files_that_do_not_fit_together(copied: Path) -> None:
    weights = safetensors.torch.load_file(copied / "model.safetensors")
    del weights["head.weight"]
    change_files(Store(str(copied)), {"model.safetensors": safetensors.torch.save(weights)})
    with raises_one_line("its files do not fit together", kind=ConfigError):
        load_model(copied)


class _KilledError(Exception):
    """The process dies before a write."""


@pytest.mark.parametrize("at", range(4))
def test_a_change_that_is_killed_leaves_a_whole_model(
    at: int, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of its writes: a changed file, an added one, and the manifest before and after."""
    store, writes = Store(str(copied)), list[str]()
    whole, new = (
        store.write,
        json.loads((copied / "calibration.json").read_text()) | {"reason": "x"},
    )
    files = {"calibration.json": json.dumps(new).encode(), "added.json": b"{}"}

    def write(name: str, content: bytes) -> None:
        if len(writes) == at:
            raise _KilledError
        writes.append(name)
        whole(name, content)

    monkeypatch.setattr(store, "write", write)
    with pytest.raises(_KilledError):
        change_files(store, files)
    assert load_model(copied).config.seed == 3
    change_files(Store(str(copied)), files)
    found = read_files(Store(str(copied)), read_manifest(Store(str(copied))))
    assert {name: found[name] for name in files} == files


# ---- older versions


def old_file(trained: Path, folder: Path, seed: int = 3, **changed: object) -> Path:
    """The model as an older version wrote it, in one file."""
    preprocess = json.loads((trained / "preprocess.json").read_text())
    content = {
        "imports": [],
        "settings": load_model(trained).config.replace(seed=seed).flat(),
        "classes": load_model(trained).classes,
        **{key: preprocess["normalise"][key] for key in ("mean", "std")},
        "image_shape": [1, 8, 8],
        "state_dict": safetensors.torch.load_file(trained / "model.safetensors"),
        **changed,
    }
    torch.save(content, folder / f"model-seed{seed}.pt")
    return folder / f"model-seed{seed}.pt"


def test_a_file_of_an_older_version(trained: Path, tmp_path: Path) -> None:
    file, new = old_file(trained, tmp_path), load_model(trained)
    for path in (file, tmp_path):
        np.testing.assert_array_equal(
            load_model(path).predict_proba(PIXELS), new.predict_proba(PIXELS)
        )
    with raises_one_line("a file of an older version", kind=StudyError):
        _ = load_model(file).example_names
    with raises_one_line("is one file, so leave seed=3 out", kind=ConfigError):
        load_model(file, seed=3)
    with raises_one_line("train again for an ensemble", kind=ConfigError):
        load_model(tmp_path, ensemble=True)


def test_the_files_of_an_older_version_in_a_folder(trained: Path, tmp_path: Path) -> None:
    for seed in (3, 4):
        old_file(trained, tmp_path, seed)
    for name in ("model-seed0 (copy).pt", "model-seed.pt"):
        shutil.copy(tmp_path / "model-seed3.pt", tmp_path / name)
    assert load_model(tmp_path).config.seed == 3
    assert load_model(tmp_path, seed=4).config.seed == 4
    with raises_one_line("a model of seed 5: it has seeds 3, 4", kind=StudyError):
        load_model(tmp_path, seed=5)


def test_an_older_file_that_does_not_say_the_size(trained: Path, tmp_path: Path) -> None:
    """Images of any size are taken, as far as the channels are right."""
    old, new = load_model(old_file(trained, tmp_path, image_shape=None)), load_model(trained)
    assert old.image_shape is None
    assert repr(old) == "TrainedModel(small_cnn, 10 classes, images 1×H×W)"
    for shaped in (PIXELS, PIXELS[:, None], PIXELS[..., None]):
        np.testing.assert_array_equal(old.predict_proba(shaped), new.predict_proba(shaped))
    assert old.predict(np.zeros((2, 16, 16), np.uint8)).shape == (2,)
    with raises_one_line("give (N, 1, H, W)", kind=ConfigError):
        old.predict(np.zeros((2, 8, 8, 3), np.uint8))


def test_weights_of_another_network(trained: Path, tmp_path: Path) -> None:
    old_file(trained, tmp_path, state_dict={})
    with raises_one_line("is not a model that imbtune wrote", kind=ConfigError):
        load_model(tmp_path)


def test_no_model_there(tmp_path: Path) -> None:
    with raises_one_line(f"there is no model at {tmp_path / 'nope'}", kind=StudyError):
        load_model(tmp_path / "nope")
    for path in ("", 3, "s3://bucket/best"):
        shown = path if str(path).startswith("s3") else repr(path)
        with raises_one_line(f"the model {shown}: ", kind=ConfigError):
            load_model(path)  # type: ignore[arg-type]
    with raises_one_line(f"{tmp_path} does not have a model", kind=StudyError):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 not a zip", b"\x80\x02}."])
def test_a_file_that_is_no_model(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model-seed0.pt").write_bytes(content)
    with raises_one_line("model-seed0.pt is not a model that imbtune wrote", kind=ConfigError):
        load_model(tmp_path)


def test_a_file_of_a_folder_is_not_the_model(trained: Path) -> None:
    line = f"is not a model that imbtune wrote: give the model's folder, {trained}"
    with raises_one_line(line, kind=ConfigError):
        load_model(trained / "model.safetensors")


def test_a_checkpoint_of_another_program(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "model-seed0.pt")
    with raises_one_line("is not a model that imbtune wrote", kind=ConfigError):
        load_model(tmp_path)


class _MakesFolder:
    """Its pickle makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_a_file_that_runs_code_where_it_is_unpickled(trained: Path, tmp_path: Path) -> None:
    """It is refused, and nothing of it runs."""
    file = old_file(trained, tmp_path, mean=_MakesFolder(tmp_path / "made"))
    with raises_one_line("is not a model that imbtune wrote", kind=ConfigError):
        load_model(file)
    assert not (tmp_path / "made").exists()
    torch.load(file, weights_only=False)
    assert (tmp_path / "made").is_dir()


def test_a_folder_with_a_model_inside(trained: Path) -> None:
    """Such as a study, whose winner was trained."""
    line = f"does not have a model: give a folder in it that has one, {trained}"
    with raises_one_line(line, kind=StudyError):
        load_model(trained.parent)
