"""The files of cluster/ and docs/cluster.md: Ray and imbtune's command line accept them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from imbtune.cli.main import app
from imbtune.study.request import SearchRequest
from imbtune.tuning.cluster.draining import MARGIN_SECONDS
from imbtune.tuning.cluster.resources import Node, plan_resources

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "docs/cluster.md"
AUTOSCALER = ("autoscaler.yaml", "gcp.yaml")
KUBERAY = ("rayjob.yaml", "raycluster.yaml")
FILES = (*AUTOSCALER, *KUBERAY, "Dockerfile")


def load(name: str) -> Any:
    """The file's content; of several documents, the last."""
    return list(yaml.safe_load_all((ROOT / "cluster" / name).read_text()))[-1]


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
    lines = [*doc_lines(), *(line for name in FILES[:-1] for line in strings(load(name)))]
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


@pytest.mark.parametrize("command", commands("imbtune search"))
def test_imbtune_takes_the_searches(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(command, monkeypatch).address == "auto"


@pytest.mark.parametrize("command", commands("imbtune"))
def test_imbtune_takes_the_commands(command: str) -> None:
    """Parsed by its command line, and not run."""
    group: Any = typer.main.get_command(app)
    name, *args = shlex.split(command)[1:]
    assert group.commands[name].make_context(name, args).info_name == name


@pytest.mark.parametrize("command", commands("ray"))
def test_ray_takes_the_commands(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed by Ray's own command line, and not run."""
    from ray.scripts.scripts import cli

    monkeypatch.chdir(ROOT)
    group: Any = cli
    name, *args = shlex.split(re.split(" >| && ", command)[0])[1:]
    while hasattr(group.commands[name], "commands"):
        group = group.commands[name]
        name, *args = args
    assert group.commands[name].make_context(name, args).info_name == name


@pytest.mark.parametrize("name", AUTOSCALER)
def test_ray_takes_the_autoscaler_file(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(load(name))
    validate_config(config)
    head, worker = (config["available_node_types"][name] for name in ("head", "gpu_worker"))
    assert config["head_node_type"] == "head"
    assert head["max_workers"] == worker["min_workers"] == 0
    assert worker["max_workers"] == config["max_workers"] == 4
    market = worker["node_config"].get("InstanceMarketOptions", {}).get("MarketType")
    assert market == "spot" or worker["node_config"]["scheduling"]["provisioningModel"] == "SPOT"
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
    assert (request.space.name, request.path) == ("cifar10-lt", "/studies/cifar10-lt")
    asked = (request.trials, request.cpus_per_trial, request.share)
    at_first = plan_resources(
        [Node(int(cluster["headGroupSpec"]["rayStartParams"]["num-cpus"]), 0)],
        *asked,
        request.max_concurrent,
        may_grow=True,
    )
    in_full = plan_resources([pod] * group["maxReplicas"], *asked, None)
    assert at_first == in_full  # every pod is used, and nothing waits in the full cluster


@pytest.mark.parametrize(
    ("name", "kind"), [("rayjob.yaml", "RayJob"), ("raycluster.yaml", "RayCluster")]
)
def test_a_pod_that_ends_has_time_for_its_trials_to_leave(name: str, kind: str) -> None:
    cluster = load(name)
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", kind)
    (group,) = cluster["spec"].get("rayClusterSpec", cluster["spec"])["workerGroupSpecs"]
    pod = group["template"]["spec"]
    (worker,) = pod["containers"]
    command = worker["lifecycle"]["preStop"]["exec"]["command"][-1]
    seconds = int(re.findall(r"--deadline-remaining-seconds (\d+)", command)[0])
    assert int(re.findall(r"sleep (\d+)", command)[0]) == seconds
    assert pod["terminationGracePeriodSeconds"] > seconds > MARGIN_SECONDS


def kuberay_errors(resource: dict[str, Any]) -> list[str]:
    """What KubeRay's definition of a resource says against it, down to the pods' templates."""
    definitions = json.loads((Path(__file__).parent / "kuberay_v1.json").read_text())
    schema = {**definitions["kinds"][resource["kind"]], "$defs": definitions["$defs"]}
    return [error.message for error in Draft202012Validator(schema).iter_errors(resource)]


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_takes_the_file(name: str) -> None:
    """Also without unknown fields, which Kubernetes would drop silently; a misspelt one is seen."""
    resource = load(name)
    assert resource["apiVersion"] == "ray.io/v1"
    assert kuberay_errors(resource) == []
    spec = resource["spec"].get("rayClusterSpec", resource["spec"])
    container = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    container["volumeMount"] = container.pop("volumeMounts")
    assert len(kuberay_errors(resource)) == 1


@pytest.mark.parametrize("name", KUBERAY)
def test_the_pods_of_a_cluster_share_the_volume_of_the_studies(name: str) -> None:
    claim, cluster = yaml.safe_load_all((ROOT / "cluster" / name).read_text())
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    spec = cluster["spec"].get("rayClusterSpec", cluster["spec"])
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (volume,) = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        (mount,) = pod["containers"][0]["volumeMounts"]
        assert mount == {"name": volume["name"], "mountPath": "/studies"}
    assert claim["metadata"]["name"] == "imbtune-studies"


def test_bash_takes_the_slurm_script() -> None:
    """And shellcheck, where it is installed; the options that a requeue needs are there."""
    script = ROOT / "cluster/slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    if which("shellcheck"):
        subprocess.run(["shellcheck", script], check=True)
    options = set(re.findall(r"^#SBATCH (--\S+)", script.read_text(), re.MULTILINE))
    assert {"--requeue", "--open-mode=append", "--signal=B:USR1@120"} <= options


@pytest.mark.parametrize(
    ("restarts", "has_study", "verb"),
    [("", 1, "search"), ("1", 1, "search"), ("1", 0, "resume"), ("1", 2, None)],
)
def test_a_requeued_slurm_job_resumes_its_study(
    restarts: str, has_study: int, verb: str | None, tmp_path: Path
) -> None:
    """With stand-ins for Slurm's and Ray's commands, which write down how they are called."""
    started = 'until [ "$(grep -c ^srun calls)" = 2 ]; do sleep 0.1; done'  # in the background
    programs = {
        "scontrol": "echo node1",
        "getent": "echo 127.0.0.1 STREAM node1",
        "srun": 'echo "srun $*" >> calls',
        "ray": "true",
        "python": "echo token",
        "imbtune": f'{started}; echo "imbtune $*" >> calls; '
        f'[ "$1" != has-study ] || exit {has_study}',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    job = {
        "JOB_NAME": "imbtune",
        "JOB_ID": "99999990007",
        "JOB_NODELIST": "node[1-2]",
        "JOB_NUM_NODES": "2",
    }
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "IMBTUNE_STORAGE": "/shared",
        "SLURM_CPUS_PER_TASK": "8",
        **{f"SLURM_{name}": value for name, value in job.items()},
        **({"SLURM_RESTART_COUNT": restarts} if restarts else {}),
    }
    left = Path(tempfile.mkdtemp(prefix="ray-99999990007-", dir="/tmp"))  # of a killed run
    command = ["bash", str(ROOT / "cluster/slurm.sh"), "digits-lt", "--set", "mix=[a, b]"]
    ended = subprocess.run(command, check=False, cwd=tmp_path, env=environment)
    calls = (tmp_path / "calls").read_text().splitlines()
    (temporary,) = {Path(word) for word in re.findall(r"--temp-dir=(\S+)", "\n".join(calls))}
    assert not temporary.parent.exists() and not left.exists()
    assert temporary.parent != Path("/tmp")
    if verb is None:  # a bucket that does not answer: a new search would not find the study either
        assert ended.returncode == 2
        assert not [call for call in calls if re.match("imbtune (search|resume)", call)]
        return
    assert ended.returncode == 0
    (called,) = [call for call in calls if call.startswith(f"imbtune {verb}")]
    expected = {
        "search": "imbtune search digits-lt --set mix=[a, b] --address 127.0.0.1:20014 "
        "--storage /shared --name imbtune-99999990007",
        "resume": "imbtune resume /shared/imbtune-99999990007 --address 127.0.0.1:20014",
    }
    assert called == expected[verb]
    head, others = (call for call in calls if call.startswith("srun"))
    assert "ray start --head" in head
    assert "mkdir -p -m 700" in others and f" {temporary.parent} --address=" in others
