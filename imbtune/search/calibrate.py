"""`imbtune calibrate`: trials that nothing stops, scored at every rung of every kind."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
import pyarrow as pa
import yaml
from ray.tune import Callback

from imbtune.config import TrainConfig, parse_yaml
from imbtune.errors import ConfigError, StudyError
from imbtune.results.schema import SCORES
from imbtune.results.store import Store, join
from imbtune.search.actor import EVERY
from imbtune.search.calibration import SUFFIX, Calibration, Score, calibrate, mean_costs
from imbtune.search.cluster import connected
from imbtune.search.fit import GivenRuns, fit, one_run
from imbtune.search.recorder import last_line
from imbtune.search.records import summary
from imbtune.search.request import SearchRequest
from imbtune.search.samplers import CALIBRATION, derived_seed, make_sampler, trial_seed
from imbtune.search.setup import Say, Session, check_request, find_resources, headline, new_store
from imbtune.search.space import Rungs, SearchSpace
from imbtune.search.study_files import write_study

FILE = "calibration.yaml"
LEAST = 8  # trials; fewer say nothing of a rank correlation


def run_calibration(request: SearchRequest, say: Say) -> Calibration:
    """Train random configurations to the end with two seeds; what each rung would have said.

    The first seed is scored at every rung of every kind on its way, the second at the full budget.

    Raises:
        ImbtuneError: before anything starts; and StudyError where too few runs ended well.
    """
    store = new_store(request)
    splits = check_request(request)
    configs = random_configs(request)
    runs = []
    for number, config in enumerate(configs):
        again = config.replace(seed=derived_seed(request.seed, number, CALIBRATION))
        runs += [one_run(number, config.flat(), whole=False)]
        runs += [one_run(number, again.flat(), whole=True)]
    with connected(request.address):
        session = Session(request, store, splits, find_resources(request, say), say)
        store.create()
        write_study(store, request, splits, session.resources)
        say(headline(request, splits, session.resources))
        recorder = CalibrationRecorder(store, configs, say)
        course = session.course(EVERY, keeps=False)
        fit(splits, course, session.resources, GivenRuns(runs), len(runs), recorder)
    if recorder.ended < LEAST:
        raise StudyError(f"only {recorder.ended} trials of {store.place} ended: {LEAST} are needed")
    costs = functools.partial(mean_costs, configs)
    eta = request.space.rungs.eta
    found = calibrate(recorder.scores, costs, eta, compared_settings(request.space))
    content = yaml.safe_dump(found.plain(), sort_keys=False, allow_unicode=True)
    store.write(FILE, content.encode())
    return found


def random_configs(request: SearchRequest) -> list[TrainConfig]:
    """The space as it is, without the sampler's and the presets' preferences."""
    study = optuna.create_study(sampler=make_sampler("random", request.seed))
    space = request.space
    return [space.suggest(study.ask(), trial_seed(request.seed, n)) for n in range(request.trials)]


def with_calibration(request: SearchRequest, name: str | None = None) -> SearchRequest:
    """The request with the rungs that a stored calibration of its space recommends.

    Args:
        name: of the calibration's study, in the same storage; by default the space's.

    Raises:
        ConfigError: no calibration, or one for other data or budgets.
    """
    place = join(request.storage, name or request.space.name + SUFFIX)
    store, command = Store(place), f"imbtune calibrate {request.space.name}"
    if not store.exists(FILE):
        raise ConfigError(f"--rungs auto: there is no calibration in {place}: run {command}")
    content = parse_yaml(join(place, FILE), store.read(FILE).decode())
    for key, value in compared_settings(request.space).items():
        known = content["settings"].get(key)
        if known != value:
            raise ConfigError(
                f"--rungs auto: the calibration in {place} has {key}={known}, this search {value}: "
                f"run {command} for it, under another --name"
            )
    advice = content["advice"]
    rungs = Rungs(advice["eta"], advice["count"])
    source = {**request.space.source, "rungs": vars(rungs)}
    return replace(
        request, rungs=advice["rungs"], space=replace(request.space, rungs=rungs, source=source)
    )


def compared_settings(space: SearchSpace) -> dict[str, Any]:
    """What a calibration holds for: the data, the model, the budget and its rungs' objective."""
    flat = space.base().flat()
    kept = {k: v for k, v in flat.items() if k.partition(".")[0] in ("data", "model", "epochs")}
    return {**kept, "objective": space.objective}


class CalibrationRecorder(Callback):
    """Keeps the scores of each run the moment it ends, and says how it went."""

    def __init__(self, store: Store, configs: list[TrainConfig], say: Say) -> None:
        self.scores: list[Score] = []
        self._store, self._configs, self._say = store, configs, say
        self._done = 0

    @property
    def ended(self) -> int:
        """Trials with both seeds."""
        full = max((s.budget for s in self.scores), default=0)
        tops = [(s.trial, s.seed) for s in self.scores if s.budget == full]
        return sum((trial, 1) in tops for trial, seed in tops if seed == 0)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Mapping[str, Any], **info: Any
    ) -> None:
        """The scores of a rung; at the end of a run, a line."""
        for row in result.get("rung", ()):
            seed = int(trial.config["whole"])
            score = Score(row["trial"], seed, row["kind"], row["budget"], row["score"])
            self.scores.append(score)
        if result.get("done"):
            number, seed = trial.config["number"], int(trial.config["whole"])
            mine = [vars(s) for s in self.scores if (s.trial, s.seed) == (number, seed)]
            table = pa.Table.from_pylist(mine, schema=SCORES)
            self._store.write_table(f"scores/{number}-{seed}.parquet", table)
            self._done += 1
            count, runs = str(self._done), 2 * len(self._configs)
            name = summary(self._configs[number].flat())
            self._say(
                f"{count:>{len(str(runs))}}/{runs}  trial {number}, seed {'AB'[seed]}  "
                f"{mine[-1]['score']:.3f}  {name}"
            )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A run failed; its trial is left out."""
        self._say(f"trial {trial.config['number']} failed: {last_line(trial)}")
