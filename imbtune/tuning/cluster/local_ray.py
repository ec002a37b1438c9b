"""Ray on this machine, for this user alone: on loopback, with a token, in a folder of its own.

Whoever reaches a Ray cluster can run code on it. By itself, Ray listens on all addresses of the
machine, keeps its token in a file that others may read, and its sockets, with the images in its
object store, in a folder that everyone can open.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from imbtune.storage.temporary import temporary_folder

AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
INNER = "r"  # Ray's folder in the private one
LONGEST = f"/imbtune-ray-12345678/{INNER}"  # its path in the temporary folder, by its length


@contextmanager
def private_ray() -> Iterator[str]:
    """Keep a Ray that is started and ended inside the block to this user.

    Yields:
        The folder for Ray's `_temp_dir`.
    """
    with _private_folder() as folder, _own_token(), _loopback():
        yield folder


@contextmanager
def _loopback() -> Iterator[None]:
    """Let Ray listen on 127.0.0.1 alone, as it does on macOS, where it asks for the same switch.

    `ray.init(_node_ip_address="127.0.0.1")` does not do it: Ray replaces loopback by an address
    that other machines can reach.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _own_token() -> Iterator[None]:
    """Give Ray a token of its own, in the environment, which only this user's processes can read.

    Without one, `ray.init` writes ~/.ray/auth_token, readable by all users. A user who has set a
    token, or has switched tokens off, keeps that. Afterwards the environment is as before, so that
    this process can connect to a cluster with another token, or without.
    """
    before = {name: os.environ.get(name) for name in AUTHENTICATION}
    if not any(before.values()):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        _forget_token()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _forget_token()


def _forget_token() -> None:
    """Let Ray read its settings and its token again, which it keeps for the whole process."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _private_folder() -> Iterator[str]:
    """A folder inside one that only this user can open; Ray lets all users into its own."""
    base = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    with temporary_folder("ray", Path(base).absolute()) as outer:
        yield str(outer / INNER)
