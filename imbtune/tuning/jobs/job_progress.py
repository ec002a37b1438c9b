"""How far a submitted search is: from its study's files, or from what its job has printed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from imbtune.errors import ImbtuneError
from imbtune.paths import is_uri
from imbtune.storage import join
from imbtune.study.records import COMPLETE, FAIL, PRUNED, STOPPED, WORDS
from imbtune.study.view import Study

# Lines of StudyWriter and FinalsWriter
TRIAL = re.compile(
    r"^ *(?P<ended>\d+)/(?P<total>\d+)  trial (?P<number>\d+) +(?P<word>[a-z]+) +"
    r"(?P<score>\S+) +at +(?P<budget>\d+) epochs  (?P<name>.*)$"
)
FINAL = re.compile(r"^final +(?P<ended>\d+)/(?P<total>\d+)  trial")
HEADLINE = re.compile(r"^(?P<total>\d+) trials, \d+ at a time")


@dataclass(frozen=True)
class Progress:
    """How far a search is.

    Attributes:
        total: trials that it will have; None if it has not said so yet.
        states: how many trials have ended, by their state.
        best: the best finished trial so far, in words; empty without one.
        finals: final runs that have ended.
        source: what this was read from.
    """

    total: int | None
    states: Mapping[str, int] = field(default_factory=dict)
    best: str = ""
    finals: int = 0
    source: str = ""

    @property
    def ended(self) -> int:
        """Trials that have ended; an interrupted one has not."""
        return sum(count for state, count in self.states.items() if state != STOPPED)

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


def progress(storage: str, study: str, log: str) -> Progress:
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
        {str(state): count for state, count in states.items()},
        str(best) if best else "",
        len(study.finals),
        f"the files in {path}",
    )


def from_log(log: str) -> Progress:
    """The progress as the lines of a log say. Of a trial that was resumed, the last line counts."""
    by_word = {word: state for state, word in WORDS.items()}
    total: int | None = None
    states: dict[int, str] = {}
    scores: dict[int, tuple[float, str]] = {}
    finals = 0
    for line in log.splitlines():
        if match := HEADLINE.match(line):
            total = int(match["total"])
        elif match := FINAL.match(line):
            finals = int(match["ended"])
        elif (match := TRIAL.match(line)) and match["word"] in by_word:
            number, total = int(match["number"]), int(match["total"])
            states[number] = by_word[match["word"]]
            scores.pop(number, None)
            if states[number] == COMPLETE:
                text = f"trial {number}: {match['name']}, {match['score']} in one run of "
                scores[number] = float(match["score"]), f"{text}{match['budget']} epochs"
    best = max(scores.values(), key=lambda found: found[0], default=(0.0, ""))[1]
    counts = Counter(states.values())
    ordered = {s: counts[s] for s in (COMPLETE, PRUNED, FAIL, STOPPED) if s in counts}
    return Progress(total, ordered, best, finals, "the job's log")
