"""A search that is sent to a real Ray cluster from another folder, followed, stopped, fetched."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import IMBTUNE
from plugin_files import loss
from ray_nodes import Cluster, free_port, wait_for

from imbtune.study.view import Study

TOKEN = "0123456789abcdef" * 4


FAULTY = """
import sys, time
from pathlib import Path
from torch import Tensor
from imbtune.methods.losses import MarginSoftmax, ce, losses

@losses.register("faulty", help="cross-entropy, once it is mended; the first worker hangs")
def faulty(counts_K: Tensor) -> MarginSoftmax:
    if "worker" in sys.argv[0] and not Path("{hung}").exists():
        Path("{hung}").touch()
        time.sleep(3600)
    if "worker" in sys.argv[0] and not Path("{mended}").exists():
        raise RuntimeError("not mended")
    return ce(counts_K)
"""


class Laptop:
    """A machine that knows the cluster's address and token, and nothing of its folders."""

    def __init__(self, dashboard: str, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
            "HOME": str(folder),
            "RAY_API_SERVER_ADDRESS": dashboard,
            "RAY_AUTH_TOKEN": TOKEN,
        }

    def imbtune(self, line: str, code: int | None = 0) -> str:
        """What `imbtune LINE` prints; `code` None for any exit code."""
        done = subprocess.run(
            [IMBTUNE, *line.split()],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=900,
        )
        print(f"$ imbtune {line}\n{done.stdout}")  # shown where the test fails
        assert code is None or done.returncode == code
        return done.stdout

    def write_space(self, name: str) -> None:
        """Write a space that is sent once: Ray's nodes on one machine share the folder of what was
        sent, so that one deletes it while another one uses it."""
        (self.folder / f"{name}.yaml").write_text(f"like: digits-lt\nabout: {name}\n")

    def best(self, study: str) -> Any:
        """The content of a study's best.yaml, without the path of the study."""
        best = yaml.safe_load((self.folder / study / "best.yaml").read_text())
        del best["provenance"]["study"]
        return best


class Head(Cluster):
    """A cluster that asks for a token, whose head has a dashboard and trains nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.dashboard = f"http://127.0.0.1:{free_port()}"

    def start_all(self) -> None:
        """Start the head node, and one that trains."""
        port, shown = (url.rpartition(":")[2] for url in (self.address, self.dashboard))
        self.start(
            *f"--head --num-cpus=0 --node-ip-address=127.0.0.1 --port={port} "
            f"--dashboard-host=127.0.0.1 --dashboard-port={shown} --temp-dir={self.folder}/ray "
            f"--ray-client-server-port={free_port()}".split()
        )
        self.add_node()

    def add_node(self) -> None:
        """Start one more node, and wait until it is ready."""
        self.start(f"--address={self.address}")
        self.wait()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    """A head node, whose Jobs API asks for a token, and a node with one CPU."""
    folder = Path(tempfile.mkdtemp(prefix="imbtune-", dir="/tmp"))  # a socket's path has 107 bytes
    cluster = Head(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PATH", f"{Path(IMBTUNE).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        try:
            cluster.start_all()
            yield cluster
        finally:
            cluster.kill(*cluster.nodes)
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_search_is_sent_followed_and_fetched(cluster: Head, tmp_path: Path) -> None:
    laptop = Laptop(cluster.dashboard, tmp_path / "laptop")
    submit = f"submit digits-lt --trials 2 --epochs 2 --storage {tmp_path}/studies"
    assert "Sending digits-lt.yaml" in laptop.imbtune(submit)
    assert "2/2  trial 1" in laptop.imbtune("logs -f digits-lt")
    assert "2 of 2 trials" in laptop.imbtune("status digits-lt")
    assert "best.yaml" not in laptop.imbtune("fetch digits-lt")
    assert (laptop.folder / "runs/digits-lt/best.yaml").is_file()
    failed = laptop.imbtune(submit, code=2)
    assert failed.count("error: ") == 1
    assert "exists already" in failed


@pytest.mark.slow
def test_a_search_with_a_plugin_into_a_bucket(cluster: Head, bucket: str, tmp_path: Path) -> None:
    """The bucket's keys are given by name; status reads the study's files."""
    laptop = Laptop(cluster.dashboard, tmp_path)
    (tmp_path / "my_losses.py").write_text(loss())
    (tmp_path / "mine.yaml").write_text("like: digits-lt\nimports: [my_losses]\npresets: [erm]\n")
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED")
    submit = (
        f"submit mine.yaml --trials 2 --epochs 2 --storage {bucket} --set loss=steep "
        f"--sampler random {' '.join(f'--env {name}' for name in names)}"
    )
    said = laptop.imbtune(submit)
    assert "Sending mine.yaml" in said
    assert "(2 files, " in said
    assert "2/2  trial 1" in laptop.imbtune("logs -f mine")
    assert "2 of 2 trials" in (status := laptop.imbtune("status mine"))
    assert "(from the files in s3://" in status
    assert "2 files" not in laptop.imbtune("fetch mine --to here")
    study = Study(str(tmp_path / "here/mine"))
    assert len(study.trials) == 2
    assert (tmp_path / "here/mine/my_losses.py").read_text() == loss()
    failed = laptop.imbtune(submit, code=2)
    assert failed.count("error: ") == 1
    assert "exists already" in failed


@pytest.mark.slow
def test_a_search_in_a_folder_of_the_head_is_stopped_resumed_and_fetched(
    cluster: Head, tmp_path: Path
) -> None:
    """Its winner is that of the same search on one machine without a stop."""
    laptop = Laptop(cluster.dashboard, tmp_path / "laptop")
    laptop.write_space("stopped")
    options = "stopped.yaml --trials 2 --epochs 120 --seed 5 --max-concurrent 1"
    submit = f"submit {options} --storage"
    laptop.imbtune(f"{submit} {tmp_path}/head")
    assert "is running" in laptop.imbtune(f"{submit} /elsewhere", code=2)
    wait_for(cluster.workers, 120)
    for pid in cluster.workers():
        os.kill(pid, signal.SIGSTOP)  # else it may end before the commands below have begun
    running = laptop.imbtune("status stopped")
    assert "of 2 trials" in running
    assert "stopped: running for" in running
    assert "the search still runs" in laptop.imbtune("fetch stopped")
    assert "Interrupted after" in laptop.imbtune("stop stopped")
    assert "stopped: stopped" in laptop.imbtune("status stopped")
    assert "the job imbtune-stopped-" in laptop.imbtune("submit --resume stopped")
    laptop.imbtune("logs --follow stopped")
    assert "2 of 2 trials" in laptop.imbtune("status stopped")
    assert "did you mean 'stopped'?" in laptop.imbtune("status stoped", code=2)
    laptop.imbtune("fetch stopped")
    laptop.imbtune(f"search {options} --storage alone")
    assert laptop.best("runs/stopped") == laptop.best("alone/stopped")


@pytest.mark.slow
def test_a_node_that_is_killed_changes_nothing_of_the_result(cluster: Head, tmp_path: Path) -> None:
    """The transcript in docs/cluster.md: `pytest -m slow -k node_that_is_killed -s` prints it."""
    laptop = Laptop(cluster.dashboard, tmp_path / "laptop")
    laptop.write_space("lost-node")
    options = "lost-node.yaml --trials 2 --epochs 400 --seed 1 --max-concurrent 1"
    cluster.add_node()
    laptop.imbtune(f"submit {options} --storage {tmp_path}/studies")
    wait_for(lambda: list((tmp_path / "studies").glob("*/epochs/*")), 300)  # a trial trains
    wait_for(cluster.workers, 60)
    (lost,) = cluster.workers().values()
    cluster.kill(lost)
    print("# kill -9 of all processes of the node that trains\n")
    laptop.imbtune("status lost-node")
    log = laptop.imbtune("logs -f lost-node")
    # Ray may see the end of the process first
    assert len(re.findall(r"lost its worker \(its (machine is gone|process ended)\)", log)) == 1
    assert "2 of 2 trials" in laptop.imbtune("status lost-node")
    laptop.imbtune("fetch lost-node")
    laptop.imbtune(f"search {options} --storage alone")
    assert laptop.best("runs/lost-node") == laptop.best("alone/lost-node")


@pytest.mark.slow
def test_failed_and_hung_trials_of_a_search_that_was_sent(cluster: Head, tmp_path: Path) -> None:
    """`--trial-timeout` ends a worker that says nothing, and `--resume --retry-failed` trains
    again what failed."""
    laptop = Laptop(cluster.dashboard, tmp_path / "laptop")
    mended, hung = tmp_path / "mended", tmp_path / "hung"
    (laptop.folder / "my_losses.py").write_text(FAULTY.format(mended=mended, hung=hung))
    (laptop.folder / "faulty.yaml").write_text(
        "imports: [my_losses]\ndata: {name: digits}\ntrain: {epochs: 3}\n"
        "knobs: {loss: [ce, faulty], optimizer.lr: {low: 0.05, high: 0.1}}\npresets: [erm]\n"
    )
    assert "goes with --resume NAME" in laptop.imbtune(
        f"submit faulty.yaml --retry-failed --storage {tmp_path}/studies", 2
    )
    laptop.imbtune(
        f"submit faulty.yaml --trials 4 --seed 2 --sampler random --finals 0 --trial-timeout 40s "
        f"--max-concurrent 1 --storage {tmp_path}/studies"
    )
    log = laptop.imbtune("logs -f faulty", code=None)
    assert "another one goes on with it" in log and hung.exists()
    assert "RuntimeError: not mended" in log
    first = Study(f"{tmp_path}/studies/faulty").trials
    failed = first[first["state"] == "FAIL"]
    assert 0 < len(failed) < 4 and set(failed["error"]) == {"RuntimeError: not mended"}
    assert f"{len(failed)} failed" in laptop.imbtune("status faulty")
    mended.touch()
    laptop.imbtune("submit --resume faulty --retry-failed --trial-timeout 5m")
    assert f"{len(failed)} failed trial" in laptop.imbtune("logs -f faulty")
    laptop.imbtune("fetch faulty")
    rows = Study(str(laptop.folder / "runs/faulty")).trials
    assert len(rows) == 4 + len(failed)
    again = rows[rows["trial"] >= 4]
    assert set(again["state"]) == {"COMPLETE"}
    assert list(again["optimizer.lr"]) == list(failed["optimizer.lr"])


@pytest.mark.slow
def test_a_job_that_fails_at_its_start_is_one_line(cluster: Head, tmp_path: Path) -> None:
    """Of a job that was deleted, Ray keeps the log: it is not that of the next of this name."""
    laptop = Laptop(cluster.dashboard, tmp_path)
    options = f"fashion_mnist-lt --storage {tmp_path} --name broken --data"
    for folder in ("/nowhere", "/neither"):
        said = laptop.imbtune(f"submit {options} {folder}", code=2)
        assert said.count("error: ") == 1
        assert f"no data folder {folder}" in said
        assert laptop.imbtune("logs broken").count("error: ") == 1
        job = re.search(r"the job (\S+) failed", said)
        assert job
        delete = [str(Path(IMBTUNE).with_name("ray")), "job", "delete", job[1]]
        subprocess.run([*delete, "--address", cluster.dashboard], check=True)
