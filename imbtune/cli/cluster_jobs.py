"""`imbtune submit`, and `status`, `logs`, `stop`, `list` and `fetch` of what it has sent."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.table import Table

from imbtune.cli.settings import make_console, parse_duration, parse_settings, parse_share
from imbtune.errors import ClusterError, ConfigError, printable
from imbtune.paths import is_uri, local_path, path_or_uri
from imbtune.progress.choose_view import LIVE, check_progress
from imbtune.search_options import check_options, submitted_request
from imbtune.storage import join
from imbtune.study.hints import program

if TYPE_CHECKING:
    from imbtune.tuning.jobs.job_client import Job, Jobs

START_SECONDS = 60  # to wait until a search has begun
MARGIN_SECONDS = 60  # that the end of a job may take longer than Ray says
FETCH_SECONDS = 600  # for a job that prints a study
LAST_LINES = 20  # of a search that was stopped
OWN = ("space", "resume", "address", "storage", "env")  # parameters that the job does not get

PARSED = ("gpus_per_trial", "time_budget", "trial_timeout")


def submit_command(
    ctx: typer.Context, resumable: Sequence[str], only_resumed: Sequence[str]
) -> None:
    """Send a search, or the continuation of one, to a cluster.

    Args:
        ctx: of the command; its parameters are those of `search` and `OWN`.
        resumable: the names of the options that `resume` has, too.
        only_resumed: those of them that `search` does not have.
    """
    options = dict(ctx.params)
    space, resumed, address, storage, env = (options.pop(name) for name in OWN)
    given = {
        p.name: p
        for p in ctx.command.params
        if getattr(ctx.get_parameter_source(str(p.name)), "name", "") == "COMMANDLINE"
    }
    if options["progress"] == LIVE:
        raise ConfigError("--progress live: a job has no terminal: give plain or json")
    check_progress(options["progress"])
    passed = _command_line({n: p for n, p in given.items() if n not in OWN}, options)
    for name, parameter in given.items():
        if name in PARSED and ctx.params[name]:
            continue  # still as the user wrote it, such as 2h: checked when it is parsed
        check_options({parameter.opts[0].strip("-").replace("-", "_"): ctx.params[name]})
    if (space is None) == (resumed is None):
        raise ConfigError("give a space to search, or --resume NAME to continue a search")
    del options["progress"]  # the job gets it with the command line
    if resumed is None:
        for name in only_resumed:
            if options.pop(name):
                raise ConfigError(f"--{name.replace('_', '-')} goes with --resume NAME")
        _submit_search(space, options, passed, address, storage, env or ())
        return
    for name in given.keys() - {*OWN, *resumable}:
        raise ConfigError(
            f"--{name.replace('_', '-')} goes with a new search: a search that is resumed has it "
            "already"
        )
    _submit_resume(resumed, options, passed, address, storage, env or ())


def _submit_search(
    space: str,
    options: dict[str, Any],
    passed: Sequence[str],
    address: str | None,
    storage: str | None,
    env: Sequence[str],
) -> None:
    from imbtune.tuning.jobs.job_client import PREFIX, Jobs
    from imbtune.tuning.jobs.job_command import job_storage, on_head, runtime_env, staged

    folder = job_storage(storage)
    variables = runtime_env(env)  # checked before anything is sent
    checked = {
        **options,
        "settings": parse_settings(options["settings"] or []),
        "gpus_per_trial": parse_share(options["gpus_per_trial"]),
        "time_budget": parse_duration(options["time_budget"]),
        "trial_timeout": parse_duration(options["trial_timeout"], "--trial-timeout"),
    }
    request = submitted_request(space, storage=folder, **checked)
    jobs = Jobs(address)
    _check_not_running(jobs, request.name)
    with staged(request.space) as files:
        words = [*passed, "--address", "auto", "--storage", folder]
        if "--name" not in passed:
            words += ["--name", request.name]
        count = f"{files.files} file{'s' * (files.files > 1)}, {files.size / 1000:.1f} kB"
        print(f"Sending {files.space} to {jobs.address} ({count})")
        job = jobs.submit(
            f"{PREFIX}{request.name}",
            on_head("search", words, files.space),
            {**variables, **runtime_env(env, files.folder)},
            study=request.name,
            storage=folder,
        )
        _wait_for_start(jobs, job)
    _print_next(request.name, folder, job, address)


def _submit_resume(
    study: str,
    options: Mapping[str, Any],
    passed: Sequence[str],
    address: str | None,
    storage: str | None,
    env: Sequence[str],
) -> None:
    from imbtune.tuning.jobs.job_client import PREFIX, Jobs
    from imbtune.tuning.jobs.job_command import job_storage, on_head, runtime_env

    parse_share(options["gpus_per_trial"])
    parse_duration(options["time_budget"])
    parse_duration(options["trial_timeout"], "--trial-timeout")
    variables = runtime_env(env)
    folder = job_storage(storage) if storage is not None else None
    jobs = Jobs(address)
    _check_not_running(jobs, study)
    folder = folder or jobs.newest(study).storage
    words = [join(folder, study), *passed, "--address", "auto"]
    job = jobs.submit(
        f"{PREFIX}{study}", on_head("resume", words), variables, study=study, storage=folder
    )
    _wait_for_start(jobs, job)
    _print_next(study, folder, job, address)


def status_command(study: str, address: str | None) -> None:
    """Print how far a search is."""
    from imbtune.tuning.jobs.job_log import joined
    from imbtune.tuning.jobs.job_progress import progress

    jobs = _jobs(address, study)
    every = jobs.of(study)
    job = every[0]
    print(f"{study}: {job.word}{_since(job)}, job {job.id}, in {join(job.storage, study)}")
    log = joined(jobs.tail(one.id) for one in every)
    for line in progress(job.storage, study, log).lines():
        print(line)
    if job.word == "failed":
        print(f"why: {_reason(jobs, job.id)}")


def logs_command(study: str, address: str | None, follow: bool) -> None:
    """Print what a search has printed, and with `follow` what it prints until it ends."""
    from imbtune.tuning.jobs.job_client import SUCCEEDED

    jobs = _jobs(address, study)
    job = jobs.newest(study)
    for text in jobs.follow(job.id) if follow else jobs.log(job.id):
        print(text, end="", flush=True)
    if follow and jobs.status(job.id) != SUCCEEDED:
        raise typer.Exit(1)


def stop_command(study: str, address: str | None) -> None:
    """End a search as Ctrl-C does, and print its last lines."""
    from imbtune.tuning.jobs.job_client import STOP_SECONDS

    jobs = _jobs(address, study)
    job = jobs.newest(study)
    if not job.is_active:
        print(f"{study} does not run: its job {job.id} has {_past(job)}")
        return
    print(f"Stopping {study} (job {job.id}) …", flush=True)
    jobs.stop(job.id)
    jobs.wait(job.id, STOP_SECONDS + MARGIN_SECONDS)
    print(jobs.tail(job.id, LAST_LINES).text, end="")
    words = [program(), "submit", "--resume", study]
    print(f"Stopped. To go on: {_with_address(words, address)}")


def list_command(address: str | None) -> None:
    """Print the searches of a cluster."""
    jobs = _jobs(address)
    found = jobs.all()
    if not found:
        print(f"No search was submitted to {jobs.address}.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("study", "status", "submitted", "storage", "job"):
        table.add_column(column, overflow="fold")
    for job in found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started)) if job.started else ""
        table.add_row(job.study, job.word, when, job.storage, job.id)
    make_console().print(table)


def fetch_command(study: str, address: str | None, to: str) -> None:
    """Copy a study to this machine; what there is so far if it still runs."""
    from imbtune.tuning.jobs.study_transfer import check_target, read_files, write_files

    check_options({"to": to, "name": study})
    folder = Path(local_path("--to", to)) / study
    check_target(folder)
    jobs = _jobs(address, study)
    job = jobs.newest(study)
    path = join(job.storage, study)
    files = read_files(path) if is_uri(job.storage) else _files_of_head(jobs, study, path)
    write_files(files, folder)
    size = sum(map(len, files.values())) / 1e6
    left = "; the search still runs, so fetch it again later" if job.is_active else ""
    print(f"{folder}: {len(files)} files, {size:.1f} MB{left}")


def send_study_command(path: str) -> None:
    """Print the files of a study, for `fetch`; runs on the head node."""
    from imbtune.tuning.jobs.study_transfer import read_files, to_text

    print(to_text(read_files(path_or_uri("the study", path))))


def has_study_command(path: str) -> None:
    """Exit with 1 if there is no study; of any size, since only its `study.yaml` is looked for."""
    from imbtune.tuning.jobs.study_transfer import has_study

    if not has_study(path_or_uri("the study", path)):
        raise typer.Exit(1)


def _jobs(address: str | None, study: str | None = None) -> Jobs:
    """The searches of the cluster at an address, after a look at what the user gave."""
    from imbtune.tuning.jobs.job_client import Jobs

    check_options({"address": address, "name": study})
    return Jobs(address)


def _files_of_head(jobs: Jobs, study: str, path: str) -> Mapping[str, bytes]:
    """The files of a study in a folder of the head node: a small job there prints them."""
    from imbtune.tuning.jobs.job_command import on_head
    from imbtune.tuning.jobs.study_transfer import bounded, from_text

    job = jobs.submit(f"imbtune-fetch-{study}", on_head("send-study", [path]), {})
    try:
        jobs.wait(job, FETCH_SECONDS)
        files = from_text(bounded(jobs.log(job)))
        if files is None:
            raise ClusterError(f"cannot fetch {path} from the head node: {_reason(jobs, job)}")
        return files
    finally:
        with suppress(ClusterError):  # then the list of the cluster keeps it
            jobs.delete(job)


def _command_line(given: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """The options that a user gave, as words of a command line."""
    from imbtune.tuning.jobs.job_command import words_of

    found: dict[str, Sequence[str]] = {}
    for name, parameter in given.items():
        value = options[name]
        if isinstance(value, bool):
            found[(parameter.opts if value else parameter.secondary_opts)[0]] = ()
        else:
            values = value if parameter.multiple else [value]
            found[parameter.opts[0]] = [str(each) for each in values]
    return words_of(found)


def _check_not_running(jobs: Jobs, study: str) -> None:
    """ClusterError if a search of this name runs on the cluster."""
    for job in jobs.all():
        if job.study == study and job.is_active:
            raise ClusterError(
                f"a search named {study} is {job.word} at {jobs.address} (job {job.id}): give "
                f"another --name, or end it with {program()} stop {study}"
            )


def _wait_for_start(jobs: Jobs, job: str) -> None:
    """Wait until a search has begun its trials; ClusterError if it fails before that."""
    from imbtune.tuning.jobs.job_client import PENDING, POLL_SECONDS, RUNNING, SUCCEEDED
    from imbtune.tuning.jobs.job_progress import has_begun

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        status = jobs.status(job)
        if status not in (PENDING, RUNNING, SUCCEEDED):
            raise ClusterError(f"the job {job} failed at its start: {_reason(jobs, job)}")
        if status == SUCCEEDED or has_begun(jobs.tail(job).text):
            return
        time.sleep(POLL_SECONDS)
    print("Its trials have not begun yet.")


def _reason(jobs: Jobs, job: str) -> str:
    """Why a job failed: its error, else the last line that it printed, else what Ray says."""
    lines = [line for line in jobs.tail(job).text.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    found = errors or lines
    if found:
        return found[-1]
    said = [one.message for one in jobs.all() if one.id == job and one.message]
    return printable(said[0].strip().splitlines()[-1]) if said else "it printed nothing"


def _print_next(study: str, storage: str, job: str, address: str | None) -> None:
    """Print where a search is, and the commands to follow it."""
    print(f"The search {study} runs as the job {job}, in {join(storage, study)}.")
    if not is_uri(storage):
        print("That folder is on the cluster's head node; fetch copies it to this machine.")
    for verb, *more in (("status",), ("logs", "-f"), ("stop",), ("fetch",)):
        print(f"  {_with_address([program(), verb, *more, study], address)}")


def _with_address(words: Sequence[str], address: str | None) -> str:
    return shlex.join([*words, *(["--address", address] if address else [])])


def _since(job: Job) -> str:
    """How long ago a job was submitted or has ended, in words."""
    moment = job.started if job.is_active else job.ended
    if not moment:
        return ""
    seconds = max(0.0, time.time() - moment)  # the clocks of two machines may differ
    length = f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    if seconds < 120:
        length = f"{seconds:.0f} s"
    return f" for {length}" if job.is_active else f" {length} ago"


def _past(job: Job) -> str:
    return {"stopped": "been stopped"}.get(job.word, job.word)
