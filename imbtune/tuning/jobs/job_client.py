"""Ray's Jobs API, with the searches of a cluster as typed jobs and failures as one line."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import requests
from urllib3.exceptions import HTTPError

from imbtune.errors import ClusterError, unknown
from imbtune.tuning.cluster.address import check_no_secret
from imbtune.tuning.jobs.bounded_http import CALL_SECONDS, blocks, read_bounded, within
from imbtune.tuning.jobs.job_log import NO_LOG, TAIL_LINES, Tail, cleaned, decoded, followed, tail

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ADDRESS = "RAY_API_SERVER_ADDRESS"  # Ray's own variable for the address of the Jobs API
CONNECT_SECONDS = 10.0  # for the first answer
POLL_SECONDS = 1.0
START_SECONDS = 60.0  # for a head that has just started, and cannot take jobs yet
NOT_READY = "No available agent"  # what it answers until then
LOG_SECONDS = 3600  # after which Ray's server ends the transfer of a log
STOP_SECONDS = 120  # that a stopped search has to write its rows, before Ray kills it
PREFIX = "imbtune-"  # of the IDs of our jobs
STUDY, STORAGE = "study", "storage"  # keys of a job's metadata
PENDING, RUNNING, SUCCEEDED, STOPPED = "PENDING", "RUNNING", "SUCCEEDED", "STOPPED"
WORDS = {
    PENDING: "pending",
    RUNNING: "running",
    SUCCEEDED: "ended",
    "FAILED": "failed",
    STOPPED: "stopped",
}


@dataclass(frozen=True)
class Job:
    """A search that runs, or ran, as a Ray job.

    Attributes:
        id: Ray's submission ID.
        study: the study's name.
        storage: folder on the head node, or URI, in which the study's folder is.
        status: one of Ray's, a key of `WORDS`.
        started: when it was submitted, in seconds since 1970; None if Ray does not say.
        ended: likewise, when it ended; None while it has not.
        message: what Ray says of the status; of a job that failed, the end of its log.
    """

    id: str
    study: str
    storage: str
    status: str
    started: float | None = None
    ended: float | None = None
    message: str = ""

    @property
    def is_active(self) -> bool:
        """Whether it waits for its start, or runs."""
        return self.status in (PENDING, RUNNING)

    @property
    def word(self) -> str:
        """The status in lower case."""
        return WORDS.get(self.status, self.status.lower())


class Jobs:
    """The searches of one cluster.

    Args:
        address: `http://HOST:PORT` or `https://HOST:PORT` of the cluster's dashboard; None for
            $RAY_API_SERVER_ADDRESS.

    Raises:
        ClusterError: no address, nothing answers there, it is no Ray dashboard, or it refuses the
            token.
    """

    def __init__(self, address: str | None) -> None:
        self.address = _checked_address(address)
        _check_answers(self.address)
        if importlib.util.find_spec("aiohttp") is None:
            raise ClusterError(
                'Ray\'s Jobs API needs more packages on this machine: pip install "ray[default]"'
            )
        from ray.job_submission import JobSubmissionClient

        for module in (
            "dashboard.modules.dashboard_sdk",
            "dashboard.modules.job.sdk",
            "_private.runtime_env.packaging",
        ):
            logging.getLogger(f"ray.{module}").setLevel(
                logging.WARNING
            )  # else they tell of uploads and connections
        with self._one_line():
            client: JobSubmissionClient = JobSubmissionClient(self.address)
        request = partial(client._do_request, hooks={"response": read_bounded})
        client._do_request = (  # type: ignore[method-assign]
            lambda *args, **options: within(CALL_SECONDS, partial(request, *args, **options))
        )
        self._client = client

    def all(self) -> list[Job]:
        """The searches that were submitted by imbtune, the newest first."""
        with self._one_line():
            found = self._client.list_jobs()
        jobs = [
            Job(
                str(one.submission_id),
                data[STUDY],
                data[STORAGE],
                str(getattr(one.status, "value", one.status)),
                one.start_time / 1000 if one.start_time else None,
                one.end_time / 1000 if one.end_time else None,
                one.message or "",
            )
            for one in found
            if (data := one.metadata) and _is_ours(one.submission_id, data)
        ]
        return sorted(jobs, key=lambda job: job.started or 0, reverse=True)

    def of(self, study: str) -> list[Job]:
        """The jobs of a study, the newest first: its search, and those that resumed it.

        Raises:
            ClusterError: the cluster knows no study of this name.
        """
        jobs = self.all()
        newest = next((job for job in jobs if job.study == study), None)
        if not newest:
            if not jobs:
                raise ClusterError(
                    f"no search '{study}' at {self.address}: no search was submitted there"
                )
            raise ClusterError(str(unknown("search", study, {job.study for job in jobs})))
        return [job for job in jobs if (job.study, job.storage) == (study, newest.storage)]

    def newest(self, study: str) -> Job:
        """The newest job of a study; ClusterError if the cluster knows no study of this name."""
        return self.of(study)[0]

    def current(self, job: Job) -> Job:
        """The job as it is now; as it was if Ray has forgotten it."""
        return next((now for now in self.all() if now.id == job.id), job)

    def submit(
        self, base: str, entrypoint: str, runtime_env: Mapping[str, object], **metadata: str
    ) -> str:
        """Submit a job.

        Args:
            base: how its ID begins. What follows no other job has had: Ray keeps the log of a job
                that was deleted, and would append to it.
            entrypoint: a command line for the shell on the head node.
            runtime_env: Ray's runtime environment.
            metadata: what Ray keeps with it.

        Returns:
            Its ID.
        """
        name = f"{base}-{secrets.token_hex(4)}"
        with self._one_line():
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    return str(
                        self._client.submit_job(
                            entrypoint=entrypoint,
                            submission_id=name,
                            runtime_env=dict(runtime_env),
                            metadata=metadata,
                        )
                    )
                except RuntimeError as error:
                    if NOT_READY not in str(error) or time.monotonic() > deadline:
                        raise
                time.sleep(POLL_SECONDS)

    def status(self, name: str) -> str:
        """The status of a job by its ID, a key of `WORDS`."""
        with self._one_line():
            found = self._client.get_job_status(name)
        return str(getattr(found, "value", found))

    def tail(self, name: str, lines: int = TAIL_LINES) -> Tail:
        """The last lines that a job has printed, with control characters escaped, without Ray's."""
        with self._one_line():
            return tail(self._log(name, lines), lines)

    def log(self, name: str) -> Iterator[str]:
        """What a job has printed so far, in pieces, as :meth:`tail` has it."""
        with self._one_line():
            yield from cleaned(decoded(self._log(name, -1)))

    def follow(self, name: str) -> Iterator[str]:
        """What a job prints, in pieces, as they come, until the job has ended."""
        with self._one_line():
            received = self._client.tail_job_logs(name)
            active = (PENDING, RUNNING)
            yield from cleaned(followed(received, lambda: self.status(name) in active))

    def wait(self, name: str, seconds: float) -> None:
        """Wait until a job has ended; ClusterError if it has not after so many seconds."""
        deadline = time.monotonic() + seconds
        while self.status(name) in (PENDING, RUNNING):
            if time.monotonic() > deadline:
                raise ClusterError(f"the job {name} has not ended after {seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def _log(self, name: str, lines: int) -> Iterator[bytes]:
        """The last lines of a log, or with -1 all; nothing where there is no log yet.

        Ray's Jobs API sends a log only as a whole, in one string, or from its beginning on. So this
        is its State API, with which `ray logs` reads.
        """
        client = self._client
        node = client.get_job_info(name).driver_node_id
        if not node:
            return
        options: dict[str, str | int] = {"node_id": node, "submission_id": name}
        options |= {"lines": lines, "timeout": LOG_SECONDS}
        url = f"{client._address}/api/v0/logs/file"
        try:
            yield from blocks(url, options, client._headers, client._verify)
        except ClusterError as error:
            if not NO_LOG.search(str(error)):
                raise RuntimeError(str(error)) from error

    def stop(self, name: str) -> None:
        """Ask a job to end (SIGTERM)."""
        with self._one_line():
            self._client.stop_job(name)

    def delete(self, name: str) -> None:
        """Remove a job that has ended from the list of the cluster."""
        with self._one_line():
            self._client.delete_job(name)

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Turn what Ray's client raises into a ClusterError of one line."""
        from aiohttp import ClientError
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise ClusterError(_token_problem(self.address, str(error))) from error
        except (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError,
                ClientError) as error:  # fmt: skip
            reason = _root(error) if isinstance(error, OSError) else _last_line(str(error))
            raise ClusterError(f"the Ray cluster at {self.address}: {reason}") from error


def _is_ours(job: object, data: Mapping[str, object]) -> bool:
    """Whether imbtune submitted a job: its ID and the study's name are as imbtune makes them."""
    names, storage = (job, data.get(STUDY)), data.get(STORAGE)
    return (
        isinstance(storage, str)
        and storage.isprintable()
        and all(isinstance(n, str) and re.fullmatch(r"[\w-][\w.-]*", n) for n in names)
    )


def _checked_address(address: str | None) -> str:
    """The address without a slash at its end; ClusterError for none, or another kind."""
    given = address or os.environ.get(ADDRESS)
    check_no_secret("--address" if address else f"${ADDRESS}", given)
    if not given:
        raise ClusterError(
            f"no cluster: give --address http://HOST:8265, its dashboard, or set {ADDRESS}"
        )
    scheme, separator, host = given.partition("://")
    if not separator or scheme not in ("http", "https") or not host.strip("/"):
        raise ClusterError(
            f"--address {given}: give http://HOST:8265 or https://HOST:8265, the address of the "
            "cluster's dashboard"
        )
    return given.rstrip("/")


def _check_answers(address: str) -> None:
    """Check that a Ray dashboard answers; if it asks for a token, let Ray's client send one.

    Ray's client waits without a time limit, and sends a token only if $RAY_AUTH_MODE says so when
    Ray is imported.
    """
    try:
        get = partial(requests.get, hooks={"response": read_bounded})
        answer = within(CONNECT_SECONDS, lambda: get(f"{address}/api/version"))
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({_root(error)}): check the address of its "
            "dashboard, and the tunnel to it if there is one"
        ) from error
    if answer.status_code in (401, 403):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        return
    try:
        said = json.loads(answer.content)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or "ray_version" not in said:
        raise ClusterError(
            f"{address} is not the dashboard of a Ray cluster, its answer is "
            f"{answer.status_code} {answer.reason}: check the address"
        )


def _token_problem(address: str, said: str) -> str:
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode and mode != "token":
        return f"the Ray cluster at {address} needs a token: set RAY_AUTH_MODE=token, not {mode}"
    fix = "copy ~/.ray/auth_token from its head node, or set RAY_AUTH_TOKEN"
    if "nvalid" in said:
        return f"the Ray cluster at {address} refuses the token of this machine: {fix}"
    return f"the Ray cluster at {address} needs a token: {fix}"


def _root(error: BaseException) -> str:
    """The reason at the end of a chain of exceptions, in the system's words if it has some."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _last_line(text: str) -> str:
    """The last line of a message that may hold a whole traceback of the server."""
    lines = [line.strip() for line in text.replace("\\n", "\n").splitlines() if line.strip(" \"'")]
    return lines[-1].strip("\"'} .") if lines else "no reason given"
