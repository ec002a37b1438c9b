"""Starts the server of `imbtune serve`."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from dataclasses import dataclass

import uvicorn

from imbtune.errors import ConfigError
from imbtune.paths import path_or_uri
from imbtune.progress import Log
from imbtune.serving.app import make_app
from imbtune.serving.served_studies import exists, find_studies

PORT = 8420
TOKEN = "IMBTUNE_SERVE_TOKEN"  # the environment variable
SHORTEST = 16  # characters of a token


@dataclass(frozen=True)
class Server:
    """A server that listens already, but does not answer yet.

    Attributes:
        url: to open in a browser, with the token if there is one.
    """

    url: str
    _server: uvicorn.Server
    _socket: socket.socket

    def run(self) -> None:
        """Answer requests until Ctrl-C or SIGTERM."""
        with self._socket:
            self._server.run(sockets=[self._socket])


def open_server(path: str, host: str, port: int, log: Log) -> Server:
    """Listen at an address.

    A server that other machines can reach needs a token: $IMBTUNE_SERVE_TOKEN, or else a new one.

    Args:
        path: folder or URI of the studies, or of one study.
        host: address of this machine to listen at.
        port: 0 for any that is free.
        log: is called with a line for the user.

    Raises:
        ConfigError: the address cannot be used, or the token is too short.
        StudyError: the folder cannot be read.
    """
    if not host.strip():
        raise ConfigError(f"--host {host!r}: give an address of this machine, such as 127.0.0.1")
    path = path_or_uri("the folder", path)
    found = find_studies(path)
    local = is_loopback(host)
    token = None if local else _token()
    listening = _listen(host, port)
    number = listening.getsockname()[1]
    hosts = ["localhost", "127.0.0.1", "[::1]", host] if local else ["*"]
    app = make_app(path, token, hosts)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, date_header=False
    )
    name = f"[{host}]" if ":" in host else host
    url = f"http://{socket.gethostname() if host in ('0.0.0.0', '::') else name}:{number}/"
    later = "" if exists(path) else ", which does not exist yet: a search that makes it is listed"
    log(f"{len(found)} stud{'y' if len(found) == 1 else 'ies'} in {path}{later}")
    if not local:
        log(
            "Other machines can read them with the token in the address below, which is sent "
            "unencrypted: use a network that you trust, or an SSH tunnel to --host 127.0.0.1"
        )
    return Server(f"{url}?token={token}" if token else url, uvicorn.Server(config), listening)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token() -> str:
    given = os.environ.get(TOKEN)
    if given is None:
        return secrets.token_urlsafe(24)
    if len(given) < SHORTEST or not given.isascii() or not given.isprintable() or " " in given:
        raise ConfigError(
            f"${TOKEN} has {len(given)} characters: give {SHORTEST} or more, without spaces, or "
            "unset it for a random one"
        )
    return given


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot listen at --host {host} --port {port} ({reason}): give another --port, or 0 "
            "for any that is free"
        ) from error
