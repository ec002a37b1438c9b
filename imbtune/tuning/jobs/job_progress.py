"""How far a submitted search is: from its study's files, or from what its job has printed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imbtune import strict_json
from imbtune.errors import ImbtuneError
from imbtune.metrics.number_text import MINUS, as_text
from imbtune.paths import is_uri
from imbtune.progress.run_events import FINALS, TRIALS
from imbtune.progress.words import epochs
from imbtune.storage import join
from imbtune.study.records import COMPLETE, FAIL, PRUNED, STOPPED, WORDS
from imbtune.study.view import Study
from imbtune.tuning.jobs.job_log import Tail

# Lines of imbtune.progress.plain_view, and of tuning/session.py
TIME = r"^(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  )?"
TRIAL = re.compile(
    rf"{TIME} *(?P<ended>\d+)/(?P<total>\d+)  trial (?P<number>\d+) +"
    r"(?P<word>[a-z]+)\b(?P<rest>.*)$"
)
SCORE = re.compile(
    r"^ at (?P<budget>\d+) epochs?: (?P<score>[-−]?\d+\.\d+)(?: \(.*?\))?  (?P<name>.*)$"
)
FINAL = re.compile(TIME + r"final +(?P<ended>\d+)/(?P<total>\d+)  trial")
HEADLINE = re.compile(TIME + r"(?P<total>\d+) trials, \d+ at a time")
# also of other studies
BEGUN = re.compile(TIME + r"\d+ .*, \d+ at a time on \d+ CPU", re.MULTILINE)


@dataclass(frozen=True)
class Progress:
    """How far a search is.

    Attributes:
        total: trials that it will have; None if it has not said so yet.
        ended: trials that have ended; an interrupted one has not.
        states: how many trials have ended, by their state; empty if that is not known.
        best: the best finished trial so far, in words; empty without one.
        finals: final runs that have ended.
        source: what this was read from.
    """

    total: int | None
    ended: int = 0
    states: Mapping[str, int] = field(default_factory=dict)
    best: str = ""
    finals: int = 0
    source: str = ""

    def lines(self) -> list[str]:
        """The progress as a user reads it."""
        if self.total is None:
            return ["no trial has started"]
        words = ", ".join(
            f"{self.states[s]} {word}" for s, word in WORDS.items() if self.states.get(s)
        )
        found = [f"{self.ended} of {self.total} trials" + (f": {words}" if words else "")]
        if self.finals:
            found.append(f"finals: {self.finals} runs")
        if self.best:
            found.append(f"best so far: {self.best}")
        return [*found, f"(from {self.source})"]


def has_begun(log: str) -> bool:
    """Whether the study's options and data were found right, by what its job has printed."""
    return bool(BEGUN.search(log))


def progress(storage: str, study: str, log: Tail) -> Progress:
    """From the study's files if they are in a bucket that this machine can read; else from the log.

    A folder on the head node may have the path of another folder of this machine: it is not read.

    Args:
        storage: of the job.
        log: what the study's jobs have printed, the oldest first.
    """
    if is_uri(storage):
        try:
            return from_files(join(storage, study))
        except (ImbtuneError, OSError):  # no credentials here, or nothing is written yet
            pass
    return from_log(log)


def from_files(path: str) -> Progress:
    """The progress of a study whose files can be read.

    Raises:
        StudyError: there is no study.
    """
    study = Study(path)
    states = Counter(study.trials["state"])
    best = study.best
    return Progress(
        int(study.info["trials"]),
        _ended(states),
        {str(state): count for state, count in states.items()},
        str(best) if best else "",
        len(study.finals),
        f"the files in {path}",
    )


def from_log(log: Tail) -> Progress:
    """The progress as the lines of a log say. Of a trial that was resumed, the last line counts.

    The end of a log says how many trials have ended, but neither how each did nor which is best.
    """
    by_word = {word: state for state, word in WORDS.items()}
    total: int | None = None
    states: dict[int, str] = {}
    scores: dict[int, tuple[float, str]] = {}
    finals = ended = 0
    for line in log.text.splitlines():
        if match := HEADLINE.match(line):
            total = int(match["total"])
        elif match := FINAL.match(line):
            finals = int(match["ended"])
        elif (match := TRIAL.match(line)) and match["word"] in by_word:
            number, total, ended = (int(match[key]) for key in ("number", "total", "ended"))
            states[number] = by_word[match["word"]]
            scores.pop(number, None)
            if states[number] == COMPLETE and (end := SCORE.match(match["rest"])):
                text = f"trial {number}: {end['name']}, {end['score']} in one run of "
                value = float(end["score"].replace(MINUS, "-"))
                scores[number] = value, f"{text}{epochs(int(end['budget']))}"
        elif event := _run_ended(line):
            if event["stage"] == FINALS:
                finals = event["done"]
            elif event["stage"] == TRIALS and event["state"] in by_word:
                number, total, ended = event["number"], event["total"], event["done"]
                states[number] = by_word[event["state"]]
                scores.pop(number, None)
                if states[number] == COMPLETE and event["score"] is not None:
                    score = as_text(event["score"], ".3f")
                    text = f"trial {number}: {event['name']}, {score} in one run of "
                    scores[number] = event["score"], f"{text}{epochs(event['budget'])}"
    if not log.is_whole:
        return Progress(total, ended, finals=finals, source="the end of the job's log, a long one")
    best = max(scores.values(), key=lambda found: found[0], default=(0.0, ""))[1]
    counts = Counter(states.values())
    ordered = {s: counts[s] for s in (COMPLETE, PRUNED, FAIL, STOPPED) if s in counts}
    return Progress(total, _ended(ordered), ordered, best, finals, "the job's log")


def _ended(states: Mapping[str, int]) -> int:
    return sum(count for state, count in states.items() if state != STOPPED)


def _run_ended(line: str) -> Mapping[str, Any] | None:
    """A run that ended, of a search with `--progress json`; None for another line."""
    if not line.startswith('{"event": "run_ended"'):
        return None
    try:
        found = strict_json.loads(line)
    except ValueError:  # the job was killed while it wrote the line
        return None
    keys = {"stage", "state", "number", "score", "budget", "name", "done", "total"}
    return found if isinstance(found, dict) and keys <= found.keys() else None
