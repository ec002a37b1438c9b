"""A Ray cluster's address: its form is checked, and `auto` resolved as Ray does it."""

from __future__ import annotations

import os

from imbtune.credentials import has_credentials
from imbtune.errors import ClusterError

AUTO = "auto"
RAY_ADDRESS = "RAY_ADDRESS"  # Ray's own variable, which `auto` stands for where it is set


def check_address(address: str | None) -> None:
    """Check the form of an address, and of $RAY_ADDRESS for `auto`; nothing is connected.

    Raises:
        ClusterError: an address with a password or token, which the message does not
            repeat, or one of Ray Client. Through Ray Client, Tune would run the search on the head
            node, where the study's folder and the data may not exist.
    """
    source, given = "--address", address
    if address == AUTO:
        source, given = f"${RAY_ADDRESS}", os.environ.get(RAY_ADDRESS)
    check_no_secret(source, given)
    if given and "://" in given:
        raise ClusterError(
            f"{source} {given}: a search cannot run through Ray Client: run it on a machine of "
            "the cluster with --address auto, or send it there with `imbtune submit`"
        )


def check_no_secret(source: str, address: str | None) -> None:
    """ClusterError for an address with a password or token, which the message does not repeat.

    Args:
        source: the option or variable that it is from.
    """
    if address and ("@" in address or "?" in address or has_credentials(address)):
        raise ClusterError(
            f"{source} has a user, a password or a token in it, which would be written into the "
            "study or printed: give the host and the port alone, and the token in $RAY_AUTH_TOKEN "
            "or ~/.ray/auth_token"
        )


def resolved(address: str) -> str:
    """The `HOST:PORT` that Ray takes for `auto`; another address as it is.

    That is $RAY_ADDRESS, else a Ray that runs on this machine, else the file ray_current_cluster
    in Ray's temporary folder.

    Raises:
        ConnectionError: there is none of them.
    """
    if address != AUTO:
        return address
    from ray._private.services import get_ray_address_from_environment

    return str(get_ray_address_from_environment(address, None))
