"""What several test files share."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest
import torch
import typer.testing
from data_files import REAL_CIFAR10
from hypothesis import settings
from small_data import make_splits

from imbtune.config import plugins
from imbtune.config.slots import registries
from imbtune.training.device.device_data import DeviceData

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.pop("COLUMNS", None)  # xdist sets it, which would narrow what commands print
torch.set_num_threads(1)  # networks this small only lose time to threads
HYPOTHESIS = "_hypothesis_internal_use_settings"  # where it keeps what @settings says of a test
settings.register_profile("imbtune", deadline=None)  # no test is timed
settings.load_profile("imbtune")
# Typer's runner makes all commands anew for every call, which takes 40 ms; they never change.
typer.testing._get_command = functools.cache(typer.testing._get_command)  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`IMBTUNE_EXAMPLES=100`: Hypothesis tries 100 times as many examples as each test says."""
    times = int(os.environ.get("IMBTUNE_EXAMPLES", "1"))
    for function in {item.function for item in items if isinstance(item, pytest.Function)}:
        if times > 1 and (said := getattr(function, HYPOTHESIS, None)):
            setattr(function, HYPOTHESIS, settings(said, max_examples=times * said.max_examples))


@pytest.fixture
def warn_always() -> Iterator[None]:
    """torch gives each of its warnings every time, and not only once per process."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.fixture
def real_cifar10() -> Path:
    """The folder with real CIFAR-10."""
    if not REAL_CIFAR10.is_dir():
        pytest.skip("no real CIFAR-10 beside this checkout")
    return REAL_CIFAR10


@pytest.fixture(autouse=True)
def _no_own_parts_stay() -> Iterator[None]:
    """Own parts of one test must not be there in the next."""
    before, modules = [registry.names() for registry in registries()], set(sys.modules)
    yield
    for name in list(plugins._loaded):
        plugins._unload(name)
    for name in set(sys.modules) - modules:
        if name.startswith("my_"):
            del sys.modules[name]
    assert [registry.names() for registry in registries()] == before


@pytest.fixture(autouse=True, scope="session")
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of a test stays in the user's cache or list of trusted modules; large real data is
    decoded once in all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("IMBTUNE_CACHE", raising=False)
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's data folder must not reach a test."""
    monkeypatch.delenv("IMBTUNE_DATA", raising=False)


@pytest.fixture
def device_data() -> DeviceData:
    """Four classes of 60, 20, 6 and 1 images, 8×8 grey, on the CPU."""
    return DeviceData(make_splits([60, 20, 6, 1]), torch.device("cpu"))


KEYS_OF_S3 = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of a real S3 server on loopback, with a bucket `studies`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        endpoint = f"http://127.0.0.1:{port}"
        with pytest.MonkeyPatch.context() as patch:
            for name, value in KEYS_OF_S3.items():
                patch.setenv(name, value)
            s3 = pafs.S3FileSystem(
                endpoint_override=endpoint, region="us-east-1", allow_bucket_creation=True
            )
            s3.create_dir("studies")
        yield endpoint
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty prefix in an S3 bucket, on a real server on loopback."""
    for name, value in KEYS_OF_S3.items():
        monkeypatch.setenv(name, value)
    place = f"studies/{uuid.uuid4().hex}"
    return f"s3://{place}?endpoint_override={s3_endpoint}&region=us-east-1"
