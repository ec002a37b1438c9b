"""Parts of one's own in other processes: workers, studies, buckets, models."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command import run
from plugin_files import write_space

from imbtune.config import plugins
from imbtune.config.plugins import copy_sources
from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError
from imbtune.final_training import train_input
from imbtune.inference.loading import load_model
from imbtune.spaces.space_file import load_space
from imbtune.storage import Store, join


def test_a_file_comes_with_its_source_to_a_process_that_does_not_have_it(tmp_path: Path) -> None:
    """As Ray sends it: pickled, with the settings of a trial that uses it."""
    path = write_space(tmp_path / "here")
    space = load_space(str(path))
    content = pickle.dumps((space.imports, space.base().flat() | {"loss": "steep"}))
    shutil.rmtree(tmp_path / "here")
    code = """
import pickle, sys
from imbtune.config import plugins
from imbtune.config.plugins import register
from imbtune.config.train_config import TrainConfig
imports, settings = pickle.loads(sys.stdin.buffer.read())
register(imports)
register(imports)
config = TrainConfig.from_settings(settings)
print(config.loss.knobs["steepness"], config.model.name)
try:
    config.loss.make(None)
except TypeError:
    import traceback
    print("counts_K.log()" in traceback.format_exc())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=content, cwd=tmp_path, capture_output=True, check=False
    )
    assert done.stdout.decode().split() == ["1.0", "tiny", "True"], done.stderr.decode()


@pytest.mark.slow
def test_a_search_leaves_a_study_that_stands_alone(tmp_path: Path) -> None:
    """A real search; then the study moves, the original goes, and the winner is trained, read
    again from what that left, and loaded in a fresh process."""
    path = write_space(tmp_path / "home")
    source = (tmp_path / "home" / "my_parts.py").read_bytes()
    searched = run("search", path.name, "--trials", "1", "--epochs", "30", cwd=path.parent)
    assert searched.returncode == 0, searched.stdout + searched.stderr
    study = tmp_path / "moved"
    shutil.move(path.parent / "runs" / "mine", study)
    shutil.rmtree(path.parent)
    assert (study / "my_parts.py").read_bytes() == source
    recorded = yaml.safe_load((study / "study.yaml").read_text())["imports"]
    digest = hashlib.sha256(source).hexdigest()
    at = {"from": str(path.parent / "my_parts.py")}
    assert recorded == {"my_parts": {"file": "my_parts.py", "sha256": digest, **at}}
    best = yaml.safe_load((study / "best.yaml").read_text())
    assert best["imports"] == ["my_parts"]
    assert best["mix"]["name"] == "shuffle+linear+sharp" and 1 <= best["mix"]["sharpness"] <= 4
    trained = run("train", "moved/best.yaml", "--epochs", "1", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert (study / "best" / "my_parts.py").read_bytes() == source
    given = train_input.from_file(str(study / "best" / "config.yaml"), {})
    assert given.config.flat()["mix.sharpness"] == best["mix"]["sharpness"]
    assert [module.source for module in given.imports] == [source]
    code = """
from imbtune.inference.loading import load_model
model = load_model("moved/best")
print(type(model.network.backbone).__name__, type(model.network.backbone).__module__)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "Tiny my_parts\n", done.stderr
    (study / "best" / "my_parts.py").unlink()
    with pytest.raises(
        ConfigError, match=r"imports: there is neither .*/moved/best/my_parts\.py nor an i"
    ):
        load_model(study / "best")


def test_a_configuration_in_a_bucket_finds_its_file_there(bucket: str, tmp_path: Path) -> None:
    space = load_space(str(write_space(tmp_path)))
    config = TrainConfig.from_settings({"loss": "steep", "loss.steepness": 2})
    store = Store(join(bucket, "mine"))
    copy_sources(space.imports, store)
    content = plugins.with_imports(config.nested(), space.imports)
    store.write("best.yaml", yaml.safe_dump(content).encode())
    plugins._unload("my_parts")
    place = join(store.path, "best.yaml")
    given = train_input.from_file(place, {})
    assert given.config == config
    assert given.imports[0].source == space.imports[0].source
    store.write("best.yaml", yaml.safe_dump(content | {"imports": ["my_prts"]}).encode())
    with pytest.raises(ConfigError, match=r"imports: there is neither s3://.*/mine/my_prts\.py"):
        train_input.from_file(place, {})
