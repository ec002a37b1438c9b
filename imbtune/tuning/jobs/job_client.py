"""Ray's Jobs API, with the searches of a cluster as typed jobs and failures as one line."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import requests
from urllib3.exceptions import HTTPError

from imbtune.errors import ClusterError, unknown
from imbtune.tuning.cluster.address import check_no_secret

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ADDRESS = "RAY_API_SERVER_ADDRESS"  # Ray's own variable for the address of the Jobs API
CONNECT_SECONDS = 10
MOST_BYTES = 2**20  # of the first answer
READ_SECONDS = 60  # without a byte of a later answer
POLL_SECONDS = 1.0
MOST_POLL_SECONDS = 30.0  # between two looks at a long log
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
# What Ray writes into the log of a job: that it sets up the environment, and the command
RAYS_LINES = re.compile(
    r"^(.*\bjob_manager\.py:.*|Running entrypoint for job .*)(\n|\Z)", re.MULTILINE
)
# Characters on which a terminal acts, or that change the direction of the text
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


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

        for module in ("dashboard.modules.dashboard_sdk", "_private.runtime_env.packaging"):
            logging.getLogger(f"ray.{module}").setLevel(
                logging.WARNING
            )  # else they tell of uploads
        with self._one_line():
            client: JobSubmissionClient = JobSubmissionClient(self.address)
        request = partial(client._do_request, timeout=READ_SECONDS)  # Ray's waits for ever
        client._do_request = request  # type: ignore[method-assign]
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
            base: its ID, to which -2, -3, … is added if the cluster has such a job.
            entrypoint: a command line for the shell on the head node.
            runtime_env: Ray's runtime environment.
            metadata: what Ray keeps with it.

        Returns:
            Its ID.
        """
        with self._one_line():
            taken = {one.submission_id for one in self._client.list_jobs()}
            free = next(n for i in count(1) if (n := f"{base}-{i}" if i > 1 else base) not in taken)
            name: str = self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=free,
                runtime_env=dict(runtime_env),
                metadata=metadata,
            )
        return name

    def status(self, name: str) -> str:
        """The status of a job by its ID, a key of `WORDS`."""
        with self._one_line():
            found = self._client.get_job_status(name)
        return str(getattr(found, "value", found))

    def log(self, name: str) -> str:
        """What a job has printed so far, with control characters escaped, without what Ray adds."""
        with self._one_line():
            text: str = self._client.get_job_logs(name)
        return CONTROL.sub(lambda found: repr(found[0])[1:-1], RAYS_LINES.sub("", text))

    def follow(self, name: str, seen: int = 0) -> Iterator[str]:
        """The lines that a job prints, as they come, until the job has ended.

        Args:
            seen: characters of the log that are left out.
        """
        while True:
            status = self.status(name)  # first, so that nothing is missed at the end
            text = self.log(name)
            ended = status not in (PENDING, RUNNING)
            complete = len(text) if ended else text.rfind("\n") + 1
            yield from text[seen:complete].splitlines()
            if ended:
                return
            seen = max(seen, complete)
            # Ray sends the whole log each time: at most 1 MiB a second on the average
            time.sleep(max(POLL_SECONDS, min(len(text) / 2**20, MOST_POLL_SECONDS)))

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
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise ClusterError(_token_problem(self.address, str(error))) from error
        except (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
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
        code, reason, body = _get(f"{address}/api/version")
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({_root(error)}): check the address of its "
            "dashboard, and the tunnel to it if there is one"
        ) from error
    if code in (401, 403):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        return
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or "ray_version" not in said:
        raise ClusterError(
            f"{address} is not the dashboard of a Ray cluster, its answer is {code} {reason}: "
            "check the address"
        )


def _get(url: str) -> tuple[int, str, bytes]:
    """Status, reason and the first `MOST_BYTES` of an answer; TimeoutError if it takes too long.

    In a thread, since the timeout of requests holds for each read: it never ends an answer of
    which a byte comes now and then.
    """
    found: list[tuple[int, str, bytes]] = []
    failed: list[Exception] = []

    def get() -> None:
        try:
            with requests.get(url, timeout=CONNECT_SECONDS, stream=True) as answer:
                body = answer.raw.read(MOST_BYTES, decode_content=True)
                found.append((answer.status_code, answer.reason, body))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=get, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"no complete answer in {CONNECT_SECONDS} s")
    return found[0]


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
