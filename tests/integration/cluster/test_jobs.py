"""A search that is sent to a real Ray cluster from another folder, followed, stopped, fetched."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from plugin_files import loss

from imbtune.study.view import Study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("aiohttp_cors"), reason="needs ray[default]"),
]
TOKEN = "0123456789abcdef" * 4
MAIN = "import sys; sys.argv[0] = 'imbtune'; from imbtune.cli.main import main; main()"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Laptop:
    """A machine that knows the cluster's address and token, and nothing of its folders."""

    def __init__(self, address: str, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
            "RAY_API_SERVER_ADDRESS": address,
            "RAY_AUTH_TOKEN": TOKEN,
        }

    def imbtune(self, *args: str, code: int = 0) -> str:
        """What `imbtune ARGS` prints."""
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *args],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """The dashboard's address of a Ray head node that asks for a token."""
    folder = Path(tempfile.mkdtemp(prefix="imbtune-", dir="/tmp"))  # a socket's path has 107 bytes
    (folder / "bin").mkdir()
    program = folder / "bin/imbtune"
    program.write_text(f"#!{sys.executable}\n{MAIN}\n")
    program.chmod(0o755)
    port = free_port()
    environment = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
    }
    command = (
        f"start --head --block --num-cpus=1 --num-gpus=0 --object-store-memory=100000000 "
        f"--temp-dir={folder}/ray --node-ip-address=127.0.0.1 --port={free_port()} "
        f"--dashboard-host=127.0.0.1 --dashboard-port={port} --dashboard-agent-listen-port=0 "
        f"--ray-client-server-port={free_port()} --min-worker-port=0 --max-worker-port=0"
    )
    with (folder / "head.log").open("wb") as log:
        node = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *command.split()],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
        laptop = Laptop(address, folder)
        while "Ray runtime started" not in (said := (folder / "head.log").read_text()):
            assert node.poll() is None and time.monotonic() < deadline, said
            time.sleep(0.2)
        assert "No search was submitted" in laptop.imbtune("list")
        yield address
    finally:
        node.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            node.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_search_with_a_plugin_into_a_bucket(head: str, bucket: str, tmp_path: Path) -> None:
    """The bucket's keys are given by name; status reads the study's files."""
    laptop = Laptop(head, tmp_path)
    (tmp_path / "my_losses.py").write_text(loss())
    (tmp_path / "mine.yaml").write_text("like: digits-lt\nimports: [my_losses]\npresets: [erm]\n")
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED")
    env = [word for name in names for word in ("--env", name)]
    args = f"mine.yaml --trials 2 --epochs 2 --storage {bucket} --set loss=steep --sampler random"
    said = laptop.imbtune("submit", *args.split(), *env)
    assert "Sending mine.yaml" in said
    assert "(2 files, " in said
    assert "2/2  trial 1" in laptop.imbtune("logs", "-f", "mine")
    assert "2 of 2 trials" in (status := laptop.imbtune("status", "mine"))
    assert "(from the files in s3://" in status
    assert "2 files" not in laptop.imbtune("fetch", "mine", "--to", "here")
    study = Study(str(tmp_path / "here/mine"))
    assert len(study.trials) == 2
    assert (tmp_path / "here/mine/my_losses.py").read_text() == loss()
    failed = laptop.imbtune("submit", *args.split(), *env, code=2)
    assert failed.count("error: ") == 1
    assert "exists already" in failed


def test_a_search_in_a_folder_of_the_head_is_stopped_resumed_and_fetched(
    head: str, tmp_path: Path
) -> None:
    """Its winner is that of the same search on one machine without a stop."""
    (tmp_path / "laptop").mkdir()
    laptop = Laptop(head, tmp_path / "laptop")
    options = "--trials 2 --epochs 300 --seed 5 --max-concurrent 1"
    args = ["digits-lt", *options.split()]
    laptop.imbtune("submit", *args, "--storage", f"{tmp_path}/head")
    assert "is running" in laptop.imbtune("submit", *args, "--storage", "/elsewhere", code=2)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "head").glob("*/epochs/*")):  # the first trial trains
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert "of 2 trials" in (running := laptop.imbtune("status", "digits-lt"))
    assert "digits-lt: running for" in running
    assert "the search still runs" in laptop.imbtune("fetch", "digits-lt")
    assert "Interrupted after" in laptop.imbtune("stop", "digits-lt")
    assert "digits-lt: stopped" in laptop.imbtune("status", "digits-lt")
    assert "imbtune-digits-lt-2" in laptop.imbtune("submit", "--resume", "digits-lt")
    laptop.imbtune("logs", "--follow", "digits-lt")
    assert "2 of 2 trials" in laptop.imbtune("status", "digits-lt")
    assert "did you mean 'digits-lt'?" in laptop.imbtune("status", "digit-lt", code=2)
    laptop.imbtune("fetch", "digits-lt")
    alone = Laptop(head, tmp_path)
    alone.imbtune("search", *args, "--storage", "alone")
    fetched, expected = (
        yaml.safe_load((folder / "digits-lt/best.yaml").read_text())
        for folder in (laptop.folder / "runs", tmp_path / "alone")
    )
    del fetched["provenance"]["study"], expected["provenance"]["study"]
    assert fetched == expected


def test_a_job_that_fails_at_its_start_is_one_line(head: str, tmp_path: Path) -> None:
    options = f"--storage {tmp_path} --name broken --data /nowhere"
    said = Laptop(head, tmp_path).imbtune("submit", "digits-lt", *options.split(), code=2)
    assert said.count("error: ") == 1
    assert "no data folder /nowhere" in said
