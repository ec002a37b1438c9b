"""The Pareto front of a search with several objectives, and its files `front-N.yaml`.

They are beside the study's other files, where the copies of its plugins are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imbtune.config.plugins import with_imports
from imbtune.config.settings_record import settings_record
from imbtune.config.train_config import TrainConfig
from imbtune.metrics.pareto import front_ranks
from imbtune.storage import Store
from imbtune.study.evidence import objective_means
from imbtune.study.files import as_yaml, trial_entry, versions
from imbtune.study.outcome import FrontTrial, SearchOutcome
from imbtune.study.records import FRONT_FILE, FinalRecord, TrialRecord
from imbtune.study.request import SearchRequest


def search_front(
    request: SearchRequest,
    finished: Mapping[int, TrialRecord],
    finals: Sequence[FinalRecord],
    dropped: Sequence[int],
) -> list[FrontTrial]:
    """The Pareto front of a search; empty with one objective.

    Args:
        finished: the finished trials by number.
        dropped: finalists that lack a seed.
    """
    objectives = request.space.objectives
    if len(objectives) == 1:
        return []
    one_run = {
        number: record.rungs[-1].scores(objectives)
        for number, record in finished.items()
        if number not in dropped
    }
    return front_of(objective_means(finals, objectives) or one_run)


def front_of(scores: Mapping[int, Sequence[float]]) -> list[FrontTrial]:
    """The Pareto front, best first by the first objective.

    Args:
        scores: of each objective, by trial number.
    """
    numbers = sorted(scores)
    ranks_N = front_ranks([scores[number] for number in numbers])
    front = [
        FrontTrial(number, tuple(scores[number]))
        for number, rank in zip(numbers, ranks_N.tolist(), strict=True)
        if rank == 0
    ]
    return sorted(front, key=lambda found: (-found.scores[0], found.trial))


def write_front(store: Store, request: SearchRequest, outcome: SearchOutcome) -> None:
    """Write the configuration of each trial of the Pareto front, and delete earlier ones.

    As in best.yaml, the seed is 0 instead of the trial's.
    """
    by_number = {record.number: record for record in outcome.records}
    measure = "means over fresh seeds" if outcome.finals else "validation scores of one run"
    names = [metric.score_name for metric in outcome.objectives]
    files = {}
    for found in outcome.front:
        record = by_number[found.trial]
        config = TrainConfig.from_settings(record.settings).replace(seed=0)
        provenance = {
            "study": outcome.path,
            "objectives": [metric.setting() for metric in request.space.objectives],
            "trial": trial_entry(record),
            **settings_record(config),
            "scores": dict(zip(names, found.scores, strict=True)),
            "versions": versions(),
        }
        content = with_imports(config.nested(), request.space.imports)
        files[found.file] = (
            f"# A trial of the Pareto front of {outcome.path}; its scores are {measure}.\n"
            "# To train it on all training data and test it: imbtune train THIS_FILE --seeds 5\n"
            + as_yaml(content | {"provenance": provenance})
        )
    for name in store.names(""):
        if FRONT_FILE.fullmatch(name) and name not in files:
            store.delete(name)
    for name, text in files.items():
        store.write(name, text.encode())
