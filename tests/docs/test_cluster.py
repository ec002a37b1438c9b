"""The files of cluster/ and docs/cluster.md: Ray and imbtune's command line accept them."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from imbtune.cli.main import app
from imbtune.study.request import SearchRequest
from imbtune.tuning.cluster.resources import Node, plan_resources

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "docs/cluster.md"
FILES = ("autoscaler.yaml", "rayjob.yaml", "Dockerfile")


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / "cluster" / name).read_text())


def strings(tree: Any) -> Iterator[str]:
    """Every string value in a YAML tree."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from strings(value)


def doc_lines() -> list[str]:
    """The commands of the document's code blocks, without their comments."""
    blocks = re.findall(r"```\n(.*?)```", DOC.read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0].strip(" &") for line in lines]


def commands(program: str) -> list[str]:
    """`program …` in the document and in the files of cluster/, also behind `--` or `;`."""
    lines = [*doc_lines(), *strings(load("autoscaler.yaml")), *strings(load("rayjob.yaml"))]
    found = [re.search(rf"(?:^|-- |; ){program} .*", line) for line in lines]
    return sorted({match[0].removeprefix("-- ") for match in found if match})


def parse(command: str, monkeypatch: pytest.MonkeyPatch) -> SearchRequest:
    """The request that the command line makes of `imbtune search …`; nothing is run."""
    taken: list[SearchRequest] = []

    def take(request: SearchRequest, log: object) -> None:
        taken.append(request)
        raise typer.Exit

    monkeypatch.setattr("imbtune.tuning.run_search.run_search", take)
    result = CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return taken[0]


def test_the_document_has_commands() -> None:
    assert len(commands("imbtune")) >= 4
    assert len(commands("ray")) >= 8


@pytest.mark.parametrize("command", commands("imbtune"))
def test_imbtune_takes_the_commands(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(command, monkeypatch).address == "auto"


@pytest.mark.parametrize("command", commands("ray"))
def test_ray_takes_the_commands(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed by Ray's own command line, and not run."""
    from ray.scripts.scripts import cli

    monkeypatch.chdir(ROOT)
    group: Any = cli
    name, *args = shlex.split(command.partition(" >")[0])[1:]
    while hasattr(group.commands[name], "commands"):
        group = group.commands[name]
        name, *args = args
    assert group.commands[name].make_context(name, args).info_name == name


def test_ray_takes_the_autoscaler_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(load("autoscaler.yaml"))
    validate_config(config)
    head, worker = (config["available_node_types"][name] for name in ("head", "gpu_worker"))
    assert config["head_node_type"] == "head"
    assert head["max_workers"] == worker["min_workers"] == 0
    assert worker["max_workers"] == config["max_workers"] == 4
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    wheels = [remote for remote, local in config["file_mounts"].items() if local == "dist"]
    for step in ("head_setup_commands", "worker_setup_commands"):
        assert any(f"{wheels[0]}/*.whl" in command for command in config[step])


def test_one_version_of_ray_everywhere() -> None:
    """In the images, the installs and the document; one that imbtune allows."""
    texts = [(ROOT / "cluster" / name).read_text() for name in FILES] + [DOC.read_text()]
    pattern = r"\bray(?:\[[\w,]+\]==|:|-head:|.tune.: |Version: \"?)(\d+\.\d+\.\d+)|-ray([\d.]+\d)"
    found = [a or b for text in texts for a, b in re.findall(pattern, text)]
    assert len(found) >= 8
    (version,) = set(found)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (lowest,) = (d.partition(">=")[2] for d in project["dependencies"] if d.startswith("ray["))
    assert [int(part) for part in version.split(".")] >= [int(part) for part in lowest.split(".")]


def test_the_rayjob_asks_for_what_its_pods_have(monkeypatch: pytest.MonkeyPatch) -> None:
    job = load("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    (worker,) = group["template"]["spec"]["containers"]
    assert head["image"] == worker["image"]
    assert head["image"].endswith(f"-ray{cluster['rayVersion']}")
    assert (
        f"FROM rayproject/ray:{cluster['rayVersion']}-" in (ROOT / "cluster/Dockerfile").read_text()
    )
    assert cluster["enableInTreeAutoscaling"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]

    limits = worker["resources"]["limits"]
    assert worker["resources"]["requests"]["nvidia.com/gpu"] == limits["nvidia.com/gpu"]
    pod = Node(int(limits["cpu"]), int(limits["nvidia.com/gpu"]))
    request = parse(job["spec"]["entrypoint"], monkeypatch)
    assert (request.space.name, request.path) == ("cifar10-lt", "s3://BUCKET/studies/cifar10-lt")
    asked = (request.trials, request.cpus_per_trial, request.share)
    at_first = plan_resources(
        [Node(int(head["resources"]["limits"]["cpu"]), 0)],
        *asked,
        request.max_concurrent,
        may_grow=True,
    )
    in_full = plan_resources([pod] * group["maxReplicas"], *asked, None)
    assert at_first == in_full  # every pod is used, and nothing waits in the full cluster
