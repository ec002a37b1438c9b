"""A final training that is not finished: the same command goes on with it.

While it is trained, its folder has `training.json`, which says what is trained, and `checkpoints/`.
Both are removed at the end.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imbtune import strict_json
from imbtune.config.plugin_record import describe
from imbtune.errors import DamagedFileError, ImbtuneError, StudyError, shown, some_of
from imbtune.final_training.final_task import FinalTask
from imbtune.storage import Store
from imbtune.study.checkpoints import FOLDER, delete_ended
from imbtune.study.hints import free_folder
from imbtune.study.lock import study_lock

RECORD = "training.json"
NAMED = 20  # settings that a message names


def check_folder(out: Path) -> None:
    """Check that a training may begin in a folder, or go on in it.

    Raises:
        StudyError: it has files, and no unfinished training.
    """
    if not out.exists() or (out / RECORD).is_file():
        return
    if not out.is_dir() or Store(str(out)).names(""):
        has = "exists already and is not empty" if out.is_dir() else "is a file"
        raise StudyError(
            f"--out {out} {has}: give another folder, such as --out "
            f"{shlex.quote(str(free_folder(out)))}, or delete it"
        )


@contextmanager
def begun(task: FinalTask) -> Iterator[bool]:
    """Begin a training, or go on with it, as the only process; yields whether it goes on.

    A training that fails before anything of it is written leaves no folder.

    Raises:
        StudyError: its folder cannot be written, is in use, or has a training of other settings.
    """
    out = task.out
    with _folder(out):
        store, what = Store(str(out)), _described(task)
        with study_lock(store, "the folder"):
            check_folder(out)  # another process may have finished it meanwhile
            goes_on = store.exists(RECORD)
            if goes_on:
                _check_same(task, store, what)
            else:
                store.write(RECORD, strict_json.dumps(what, indent=1).encode())
            try:
                yield goes_on
            except ImbtuneError:
                if set(store.names("")) <= {RECORD}:  # neither a model nor a checkpoint
                    end(out)
                raise


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make a folder; where the block fails and leaves it empty, it and what was made is removed."""
    made = [path for path in (out, *out.parents) if not path.exists()]
    if (out / RECORD).is_file():  # an earlier process made it
        made.append(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"cannot write to --out {out} ({error.strerror}): give another folder"
        ) from error
    try:
        yield
    except ImbtuneError:
        with contextlib.suppress(OSError):  # it is not empty
            for path in made:
                path.rmdir()
        raise


def end(out: Path) -> None:
    """Remove what only an unfinished training has. It may have been removed before.

    The record goes last: where this is interrupted, the same command goes on, and removes the rest.
    """
    store = Store(str(out))
    delete_ended(store, going_on=())
    with contextlib.suppress(OSError):
        (out / FOLDER).rmdir()
    store.remove_leftovers()
    (out / ".lock").unlink(missing_ok=True)
    store.delete(RECORD)


def _described(task: FinalTask) -> dict[str, object]:
    """What is trained, as flat values; all that a result depends on."""
    plugins = {name: entry.get("sha256") for name, entry in describe(task.imports).items()}
    return {
        **task.config.flat(),
        "seeds": task.seeds,
        **{f"--{name}": value for name, value in vars(task.options).items()},
        "objectives": [metric.text() for metric in task.objectives],
        "data_sha256": task.fingerprint,
        **{f"imports.{name}": digest for name, digest in plugins.items()},
    }


def _check_same(task: FinalTask, store: Store, what: dict[str, object]) -> None:
    out = task.out
    try:
        there = strict_json.loads(store.read(RECORD))
        names = [*dict.fromkeys([*there, *what])]
        other = [n for n in names if there.get(n) != what.get(n)]
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedFileError(
            f"{out / RECORD} is not what imbtune wrote: delete {out}, or give another --out"
        ) from error
    if not other:
        return
    settings = [n for n in other if n != "data_sha256" and not n.startswith("imports.")]
    values = [
        f"{name}: {shown(there.get(name))} there, {shown(what.get(name))} now" for name in settings
    ]
    different = [f"with other settings ({some_of(values, NAMED)})"] if values else []
    different += ["on other images"] if "data_sha256" in other else []
    different += [
        f"with another file {name.removeprefix('imports.')}.py"
        for name in other
        if name.startswith("imports.")
    ]
    raise StudyError(
        f"--out {out} has an unfinished training {', '.join(different)}: run its own command again "
        "to go on, "
        f"give another folder, such as --out {shlex.quote(str(free_folder(out)))}, or delete it"
    )
