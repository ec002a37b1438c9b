"""Parts of one's own: `imports` from the space to the workers, the study and the loaded model."""

from __future__ import annotations

import importlib
import pickle
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch
import yaml
from plugin_files import HEAD, MODEL, RULE, SPACE, loss, write_space
from small_data import make_splits
from typer.testing import CliRunner

from imbtune.cli.main import app
from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugin_record import describe
from imbtune.config.plugins import copy_sources, load_plugins, plugin_parts, register
from imbtune.config.slots import SLOTS, all_knobs, registries
from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError
from imbtune.final_training import train_input
from imbtune.spaces.knob_types import knob_types
from imbtune.spaces.space_file import load_space
from imbtune.storage import Store
from imbtune.training.device.device_data import DeviceData
from imbtune.training.phases import rung_segments
from imbtune.training.plugin_checks import check_plugins
from imbtune.training.rungs import RungResult, train_through_rungs


def load_from(folder: Path, *names: str) -> tuple[PluginModule, ...]:
    return load_plugins(list(names or ["my_parts"]), Store(str(folder)), trusted=True)


def registered() -> dict[str, list[str]]:
    return {registry.slot: registry.names() for registry in registries()}


# ---- knobs at once, everywhere ------------------------------------------------------------------


def test_own_parts_are_choices_and_their_parameters_knobs(tmp_path: Path) -> None:
    space = load_space(str(write_space(tmp_path)))
    assert {"mix.sharpness", "loss.steepness", "model.width"} <= set(all_knobs())
    ranges = {knob.key: knob.describe() for knob in space.knobs}
    assert ranges["mix.sharpness"] == "1 to 4" and ranges["loss.steepness"] == "0 to 2"
    assert knob_types(space)["mix.sharpness"] is float
    config = TrainConfig.from_settings(
        {"mix": "shuffle+linear+sharp", "mix.sharpness": 3, "loss": "steep", "model": "tiny"}
    )
    assert TrainConfig.from_nested(yaml.safe_load(config.yaml())) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert config.flat()["loss.steepness"] == 1.0 and config.flat()["mix.sharpness"] == 3.0
    g_B = config.mix.make().label(torch.tensor([0.25]), torch.ones(1), torch.ones(1))
    assert g_B.item() == pytest.approx(0.25**3 / (0.25**3 + 0.75**3))
    assert {entry.name for entry in space.plugin_parts()} == {"steep", "sharp", "tiny"}


def test_a_knob_of_a_component_is_refused_where_it_does_not_act(tmp_path: Path) -> None:
    load_space(str(write_space(tmp_path)))
    with pytest.raises(ConfigError, match="mix 'mixup' has no knob 'sharpness': it belongs to"):
        TrainConfig.from_settings({"mix": "mixup", "mix.sharpness": 1})


@pytest.mark.parametrize(
    ("topic", "shown"),
    [
        ("methods", ["steep", "sharp", "tiny"]),
        ("knobs", ["loss.steepness", "mix.sharpness"]),
        ("datasets", ["dots", "dottiness"]),
        ("spaces", ["mine", "digits-lt"]),
    ],
)
def test_show_has_them(topic: str, shown: list[str], tmp_path: Path) -> None:
    data = '\n@datasets.register("dots", help="for this test")\n'
    data += 'def dots(data_source, *, dottiness: Annotated[int, Knob("…", 0, 9)] = 1): ...\n'
    path = write_space(tmp_path, loss() + RULE + MODEL + data)
    result = CliRunner().invoke(
        app, ["show", topic, "--space", str(path), "--trust"], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert [word for word in shown if f" {word} " not in result.stdout] == []


# ---- once, twice, changed -----------------------------------------------------------------------


def test_one_file_for_two_spaces_and_twice_the_same(tmp_path: Path) -> None:
    path = write_space(tmp_path)
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(SPACE | {"about": "another"}))
    spaces = [load_space(str(p)) for p in (path, path, tmp_path / "other.yaml")]
    register(spaces[0].imports)
    assert spaces[0].imports == spaces[2].imports
    assert SLOTS["loss"].names().count("steep") == 1


def test_an_edited_file_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    write_space(tmp_path)
    before = load_from(tmp_path)
    (tmp_path / "my_parts.py").write_text(loss(knob="slant"))
    after = load_from(tmp_path)
    assert list(SLOTS["loss"]["steep"].knobs) == ["slant"]
    assert "tiny" not in SLOTS["model"].names()  # it is not in the file any more
    register(before)  # a space that was read before: its own file holds again
    assert list(SLOTS["loss"]["steep"].knobs) == ["steepness"]
    assert before[0].source != after[0].source


def test_files_of_one_name_in_two_folders(tmp_path: Path) -> None:
    for factor in ("1", "2"):
        write_space(tmp_path / factor, loss(factor=factor))
    counts_K = torch.tensor([8.0, 2.0])
    for factor in ("1", "2", "1"):
        load_from(tmp_path / factor)
        bias_K = SLOTS["loss"]["steep"].make(counts_K).bias_K
        assert torch.equal(bias_K, int(factor) * counts_K.log())


def test_a_file_may_import_from_those_before_it_and_follows_their_edits(tmp_path: Path) -> None:
    (tmp_path / "my_sizes.py").write_text("FACTOR = 3\n")
    (tmp_path / "my_parts.py").write_text(
        "from my_sizes import FACTOR\n" + loss(factor="FACTOR"), encoding="utf-8"
    )
    counts_K = torch.tensor([8.0, 2.0])
    for factor in (3, 5):
        (tmp_path / "my_sizes.py").write_text(f"FACTOR = {factor}\n")
        load_from(tmp_path, "my_sizes", "my_parts")
        assert torch.equal(SLOTS["loss"]["steep"].make(counts_K).bias_K, factor * counts_K.log())


def test_an_installed_module_by_its_dotted_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "losses.py").write_text(loss())
    monkeypatch.syspath_prepend(tmp_path / "site")
    for _ in range(2):
        (module,) = load_from(tmp_path, "my_package.losses")
        assert module.source is None and "steep" in SLOTS["loss"].names()
    (entry,) = describe([module]).values()
    assert entry == {"sha256": sha256(loss().encode()).hexdigest(), "installed": "yes"}
    copy_sources([module], Store(str(tmp_path / "study")))
    assert not (tmp_path / "study").exists()
    with pytest.raises(ConfigError, match=r"nor an installed module 'my_package\.loss'"):
        load_from(tmp_path, "my_package.loss")


def test_a_module_that_the_users_program_imported_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_space(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("my_parts")
    load_from(tmp_path)
    (tmp_path / "my_parts.py").write_text(loss(knob="slant"))
    load_from(tmp_path)
    assert list(SLOTS["loss"]["steep"].knobs) == ["slant"]


def test_a_space_that_is_like_another_has_the_modules_of_both_once(tmp_path: Path) -> None:
    write_space(tmp_path)
    (tmp_path / "my_more.py").write_text(loss("steeper"))
    content = {"like": "mine.yaml", "imports": ["my_parts", "my_more"]}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(content))
    space = load_space(str(tmp_path / "more.yaml"))
    assert [module.name for module in space.imports] == ["my_parts", "my_more"]
    write_space(tmp_path / "other", loss(factor="2") + RULE + MODEL)
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(content | {"like": "other/mine.yaml"}))
    with pytest.raises(ConfigError, match=r"my_parts\.py have one name, but differ: rename one"):
        load_space(str(tmp_path / "more.yaml"))


# ---- what cannot be: one line -------------------------------------------------------------------

WRONG_NAMES = [
    ("my_parts", "imports: 'my_parts' is not a list of module names: give [my_losses]"),
    ([3], "imports: [3] is not a list of module names"),
    ({"my_parts": 1}, "imports: {'my_parts': 1} is not a list of module names"),
    (["my_parts.py"], "imports: 'my_parts.py' is a file: give the module's name, 'my_parts'"),
    (["../my_parts"], "imports: '../my_parts' is not a module's name"),
    (["my_parts", "my_parts"], "imports: 'my_parts' is listed twice: remove one"),
    (
        ["my_prts"],
        "imports: there is neither {folder}/my_prts.py nor an installed module 'my_prts': did",
    ),
    (
        ["nowhere_at_all"],
        "imports: there is neither {folder}/nowhere_at_all.py nor an installed module",
    ),
    (
        ["no_package.losses"],
        "imports: there is neither {folder}/no_package.losses.py nor an installed",
    ),
    (["random"], "imports: {folder}/random.py would hide the module 'random': rename"),
    (["yaml"], "imports: {folder}/yaml.py would hide the module 'yaml': rename"),
    (["imbtune"], "imports: {folder}/imbtune.py would hide the module 'imbtune': rename"),
]


@pytest.mark.parametrize(("names", "line"), WRONG_NAMES, ids=lambda value: str(value)[:30])
def test_imports_that_cannot_be(names: object, line: str, tmp_path: Path) -> None:
    path = write_space(tmp_path, imports=names)
    for name in ("random", "yaml", "imbtune"):
        (tmp_path / f"{name}.py").write_text("")
    result = CliRunner().invoke(app, ["search", str(path)], catch_exceptions=False)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: mine.yaml: " + line.replace("{folder}", str(tmp_path)))
    assert result.stderr.count("\n") == 1


def register_call(registry: str, name: str, signature: str, body: str = "...") -> str:
    lines = body.replace("\n", "\n    ")
    return f'@{registry}.register("{name}", help="…")\ndef part({signature}):\n    {lines}\n'


KNOB = 'Annotated[float, Knob("…", 0, {high})] = 1'
WRONG_FILES = [
    ("def f(:\n", "line {at}: invalid syntax: def f(:"),
    ("x = 1\nx.y\n", "line {at+1}: AttributeError: 'int' object has no attribute 'y'"),
    (
        "import my_neighbour\n",
        "line {at}: ModuleNotFoundError: No module named 'my_neighbour': install it, or list",
    ),
    ("raise SystemExit(3)\n", "line {at}: SystemExit: 3"),
    (register_call("losses", "ce", "counts_K"), "line {at}: loss 'ce' is registered already"),
    (register_call("models", "resnet18", "channels"), " model 'resnet18' exists already"),
    (
        register_call("losses", "mine", f"counts_K, *, tau: {KNOB.format(high=3)}"),
        " the knob 'tau' of loss 'mine' has another type or range than that of 'logit_adj",
    ),
    (
        register_call("label_rules", "mine", f"lam, i, j, *, alpha: {KNOB.format(high=10)}"),
        " the knob 'alpha' of label 'mine' has the name of a blend knob: rename it",
    ),
    (
        register_call("label_rules", "mine", f"lam, i, j, *, probability: {KNOB.format(high=1)}"),
        " the knob 'probability' of label 'mine' has the name of a mix knob: rename it",
    ),
    (
        register_call("models", "mine", f"channels, *, head: {KNOB.format(high=1)}"),
        " the knob 'head' of model 'mine' has the name of a model knob: rename it",
    ),
    (
        register_call("losses", "mine", 'counts_K, *, bite: Annotated[float, Knob("…", 0)]'),
        "line {at}: the knob 'bite' of part needs a default",
    ),
    ('@losses.register("mine")\ndef part(counts_K): ...\n', "line {at}: TypeError: "),
    (register_call("losses", "my loss", "counts_K"), "line {at}: loss 'my loss': use only"),
]


@pytest.mark.parametrize(("source", "line"), WRONG_FILES, ids=lambda value: str(value)[:50])
def test_a_file_that_fails_is_one_line_and_can_be_repaired(
    source: str, line: str, tmp_path: Path
) -> None:
    before = registered()
    write_space(tmp_path, loss() + source)
    at = loss().count("\n") + 1
    with pytest.raises(ConfigError) as caught:
        load_from(tmp_path)
    place = f"{tmp_path}/my_parts.py" + ("," if line.startswith("line") else ":")
    wanted = line.strip().replace("{at}", str(at)).replace("{at+1}", str(at + 1))
    assert str(caught.value).startswith(f"{place} {wanted}")
    assert registered() == before
    assert "my_parts" not in sys.modules
    write_space(tmp_path)
    load_from(tmp_path)
    assert "steep" in SLOTS["loss"].names()


def test_a_failing_installed_module_names_its_own_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("from my_package import losses\n")
    (package / "losses.py").write_text(loss() + "\nimport numpy\nnumpy.ones(-1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    at = loss().count("\n") + 3
    with pytest.raises(ConfigError, match=f"losses.py, line {at}: ValueError: negative dim"):
        load_from(tmp_path, "my_package")
    (package / "losses.py").write_text(loss())
    importlib.invalidate_caches()
    load_from(tmp_path, "my_package")
    assert "steep" in SLOTS["loss"].names()


def test_parts_of_two_own_files_may_not_share_a_name(tmp_path: Path) -> None:
    (tmp_path / "my_first.py").write_text(loss())
    (tmp_path / "my_second.py").write_text(loss())
    with pytest.raises(ConfigError, match=r"my_second\.py, line 20: loss 'steep' is registered al"):
        load_from(tmp_path, "my_first", "my_second")
    assert "steep" in SLOTS["loss"].names()


# ---- parts that break their slot's contract ------------------------------------------------------

WRONG_PARTS = [
    ("losses", "counts_K", "return counts_K", "the return value must be a MarginSoftmax"),
    (
        "losses",
        "counts_K",
        "return ce(counts_K)._replace(margin_K=torch.ones(3))",
        "the shape of margin_K must be (4,), got (3,)",
    ),
    (
        "losses",
        "counts_K",
        "return ce(counts_K)._replace(bias_K=(counts_K - counts_K.max()).log())",
        "bias_K must be finite, got -inf",
    ),
    ("losses", "counts_K", "return ce(counts_K)._replace(focus=1)", "focus must be an array or te"),
    ("losses", "counts_K", "return counts_K @ torch.ones(9)", "fails on this data: RuntimeError"),
    ("losses", "counts_K", "return lambda z, y: z.sum()", "of each sample must be (4,), got ()"),
    ("losses", "counts_K", "return lambda z, y: y * 1.0", "must be differentiable in the logits"),
    ("losses", "counts_K", "return lambda z, y: (z - z)[:, 0].sqrt()", "its gradient must be fini"),
    (
        "optimizers",
        "weights, *, lr: Annotated[float, Knob('rate', 0, 10)] = 0.1",
        "return torch.optim.SGD(weights, lr=lr)",
        "its `lr` must be an array or tensor, got 0.1",
    ),
    ("optimizers", "weights", "return torch.optim.SGD(weights)", "its knobs must include `lr`"),
    (
        "posthoc_methods",
        "n, w, s",
        "return w",
        "must be an Adjustment, a Retraining or None, got Te",
    ),
    (
        "posthoc_methods",
        "n, w, s",
        "return Adjustment(w[1:], w)",
        "the shape of scale_K must be (4,), g",
    ),
    ("weights", "counts_K", "return -counts_K", "weights must be at least 0, got -60 to -1"),
    (
        "samplers",
        "counts_K, progress",
        "return counts_K / 9",
        "probabilities must be between 0 and 1",
    ),
    ("samplers", "counts_K, progress", "return counts_K / 99", "the sum of probabilities must be"),
    ("schedules", "cooldown", "return float('nan')", "the factor at 0 must be finite"),
    ("models", "channels", "return nn.Flatten()", "the return value must be a Backbone"),
    ("models", "channels", "return Backbone(nn.Flatten(), 9)", "the shape of features must be (2,"),
    ("models", "channels", "return Backbone(nn.Linear(9, 9), 9)", "fails on this data: RuntimeE"),
    ("label_rules", "lam, i, j", "return 1 + lam", "g_B must be between 0 and 1, got 1 to 2"),
    ("label_rules", "lam, i, j", "return lam * (1 / 0)", "my_parts.py, line 21)"),
    ("blends", "shape, pairs, rng", "return Blend(rng.random(3))", "the shape of lam_SB must be"),
    ("blends", "shape, pairs, rng", "return 0.5", "the return value must be a Blend"),
    ("pairings", "index, images, rng", "return index + 999", "partners must be between 0 and 86"),
    ("pairings", "index, images, rng", "return index * 1.0", "partners must be int64"),
]


def test_a_loss_may_be_any_function_of_logits_and_labels(tmp_path: Path) -> None:
    """Torch's own cross-entropy trains, mixes and is finished as the built-in one."""
    body = "return lambda z, y: nn.functional.cross_entropy(z, y, reduction='none')"
    write_space(tmp_path, HEAD + register_call("losses", "torchs", "counts_K", body))
    load_from(tmp_path)
    data = DeviceData(make_splits([60, 20, 6, 1]), torch.device("cpu"))
    fixed = {"mix": "mamix", "weights": "inverse", "after": "crt", "epochs": 3, "batch_size": 30}
    rungs = []
    for name in ("ce", "torchs"):
        config = TrainConfig.from_settings(
            fixed | {"loss": name, "model.width": 4, "precision": "float32"}
        )
        *_, rung = train_through_rungs(
            [config], data, rung_segments("prefix", [3], config.schedule.shared)
        )
        assert isinstance(rung, RungResult) and rung.margins
        rungs.append(rung.margins.train_logit_K)
    assert rungs[0] == pytest.approx(rungs[1], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("registry", "signature", "body", "line"), WRONG_PARTS)
def test_a_part_that_breaks_its_contract_is_one_line(
    registry: str, signature: str, body: str, line: str, tmp_path: Path
) -> None:
    write_space(tmp_path, HEAD + register_call(registry, "mine", signature, body))
    load_from(tmp_path)
    splits = make_splits([60, 20, 6, 1])
    with pytest.raises(ConfigError) as caught:
        check_plugins(plugin_parts(["mine+none+x"]), splits)
    assert "'mine'" in str(caught.value) and line in str(caught.value)
    check_plugins(plugin_parts(["another"]), splits)  # what is not used is not tried


# ---- in commands --------------------------------------------------------------------------------


def test_a_preset_with_a_space_brings_the_modules_of_the_space(tmp_path: Path) -> None:
    path = write_space(tmp_path, train={"model": "tiny", "epochs": 1})
    given = train_input.from_preset("erm", str(path), {})
    names = [module.name for module in given.imports]
    assert (given.config.model.name, names) == ("tiny", ["my_parts"])


def test_a_wrong_part_is_said_before_a_search_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_space(tmp_path, loss(factor="float('nan')") + RULE + MODEL)
    done = CliRunner().invoke(app, ["search", "mine.yaml"], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: loss 'steep': bias_K must be finite, got nan")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()
