"""Optuna as a Ray Tune searcher, through Optuna's ask-and-tell interface.

Ray's own OptunaSearch tells Optuna COMPLETE, with its low-budget score, for a trial that ASHA
stopped, so that TPE ranks scores of different budgets against each other. Here a stopped trial is
PRUNED with its scores at their budgets, a failed one FAIL, and only a finished one COMPLETE.

Optuna's study is also the record from which a search is resumed: each rung that a trial reaches is
written to it first. Ray Tune calls the searcher before its callbacks, so the writer
(:mod:`imbtune.tuning.study_writer`) finds the rung there; a test pins that order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from imbtune.config.cooldown_only import trunk_settings
from imbtune.config.train_config import TrainConfig
from imbtune.seeds import Purpose, derived_seed, trial_seed
from imbtune.spaces.search_space import SearchSpace
from imbtune.study.journal import (
    DETAILS,
    DIVERGED,
    ERROR,
    MACHINE,
    PRESET,
    RUNG,
    STARTED,
    TRUNK,
    common_rungs,
    one_trial,
    rungs_of,
    trunk_of,
)
from imbtune.study.records import Machine, RungRecord
from imbtune.tuning.cooldown_variants import draw_again, has_settings, variant_params
from imbtune.tuning.execution.spec_searcher import SpecSearcher
from imbtune.tuning.messages import RungReport, TrialReport, TrialSpec
from imbtune.tuning.samplers import make_sampler


class OptunaSearcher(SpecSearcher):
    """Asks an Optuna study for trials, presets first, and tells it how they ended.

    Where the space has cool-down variants (`late_variants`), one trial of Ray Tune is a trunk with
    several Optuna trials, which differ in cool-down-only settings. Presets that share a trunk are
    put on one.

    Args:
        study: direction maximize, once for each objective of the space. Trials that it already
            holds count towards `trials`, and those that are RUNNING there are resumed from their
            last rung.
        trials: the total.
        seed: of the study.
        full_budget: epochs of a finished trial.
        sampler: a name in `imbtune.tuning.samplers.SAMPLERS`.
        checkpoint_epochs: epochs in the checkpoint of a trunk, 0 without one.
    """

    def __init__(
        self,
        study: Study,
        space: SearchSpace,
        trials: int,
        seed: int,
        full_budget: int,
        sampler: str = "tpe",
        checkpoint_epochs: Callable[[int], int] = lambda _: 0,
    ) -> None:
        super().__init__()
        self._checkpoint_epochs = checkpoint_epochs
        self._study, self._space, self._seed, self._sampler = study, space, seed, sampler
        self._trials, self._full_budget = trials, full_budget
        self._running: dict[int, list[Trial]] = {}  # by trunk
        self._presets = space.presets()
        known = study.get_trials(deepcopy=False)
        self._begun = sum(t.state != TrialState.WAITING for t in known)
        # by a search that was killed while asking, or failed trials that are tried again
        self._enqueued = len(known) - self._begun
        self._used_presets = {t.user_attrs.get(PRESET) for t in known}
        self._rungs_seen = max((r.order for t in known for r in rungs_of(t)), default=-1) + 1
        self._unfinished = sorted({trunk_of(t) for t in known if t.state == TrialState.RUNNING})

    def next_spec(self) -> TrialSpec | None:
        """The next trunk: an interrupted one first, then a new one."""
        if self._unfinished:
            trunk = self._unfinished.pop(0)
        elif (trunk := self._begun) >= self._trials:
            return None
        members, configs = self._take(trunk)
        reached = common_rungs([self._frozen(member) for member in members])
        left = [(t, c) for t, c in zip(members, configs, strict=True) if isinstance(t, Trial)]
        trials = self._running[trunk] = [trial for trial, _ in left]
        last = [reached[-1][trial.number] for trial in trials] if reached else []
        return TrialSpec(
            number=trunk,
            preset=members[0].user_attrs.get(PRESET),
            trials=[trial.number for trial in trials],
            settings=[config.flat() for _, config in left],
            reached_budget=last[0].budget if last else 0,
            images=[rung.images for rung in last] or [0] * len(trials),
            seconds=[rung.seconds for rung in last] or [0.0] * len(trials),
            trained_epochs=self._checkpoint_epochs(trunk) if reached else 0,
            without_rungs=False,
        )

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        """Tell Optuna the scores of a rung, at their budget in epochs, and FAIL for what diverged.

        A trial that diverges fails alone: the others of its trunk go on.
        """
        trials = self._running[spec.number]
        for trial in trials:
            _record_machine(trial, report.machine, report.started)
        for scored in report.rung:
            trial = next(t for t in trials if t.number == scored.trial)
            rung = _recorded(scored, self._rungs_seen)
            is_new = rung.budget not in self._frozen(trial).intermediate_values  # else killed here
            if is_new and len(self._space.objectives) == 1:  # Optuna has none of several objectives
                trial.report(rung.score, step=rung.budget)
            trial.set_user_attr(f"{RUNG}{rung.budget}", rung.to_journal())
            self._rungs_seen += 1
        for trial in [t for t in trials if t.number in report.diverged]:
            trial.set_user_attr(DIVERGED, report.diverged[trial.number])
            self._study.tell(trial, state=TrialState.FAIL)
            trials.remove(trial)

    def completed(self, spec: TrialSpec) -> None:
        """Tell Optuna how each trial of a trunk ended: COMPLETE or PRUNED."""
        for trial in self._running.pop(spec.number):
            rungs = rungs_of(self._frozen(trial))
            if rungs and rungs[-1].budget == self._full_budget:
                self._study.tell(trial, rungs[-1].scores(self._space.objectives))
            else:
                self._study.tell(trial, state=TrialState.PRUNED if rungs else TrialState.FAIL)

    def again(self, spec: TrialSpec) -> None:
        """Suggest a trunk again whose worker was lost, like one of an interrupted search."""
        del self._running[spec.number]
        self._unfinished.insert(0, spec.number)

    def failed(self, spec: TrialSpec, error: str) -> None:
        """Tell Optuna FAIL, and record why."""
        for trial in self._running.pop(spec.number):
            trial.set_user_attr(ERROR, error)
            self._study.tell(trial, state=TrialState.FAIL)

    def _take(self, trunk: int) -> tuple[list[Trial | FrozenTrial], list[TrainConfig]]:
        """The trials of a trunk, recorded or new, with their configurations.

        A trial that diverged in an earlier process is a FrozenTrial.

        A killed search may leave a trunk with fewer trials than it should have, or a trial without
        all of its settings. What is missing is asked for here, with the seeds that it would have
        had.
        """
        trials: list[Trial | FrozenTrial] = []
        configs: list[TrainConfig] = []
        seed = trial_seed(self._seed, trunk)
        for number in range(trunk, min(trunk + self._space.late_variants, self._trials)):
            self._study.sampler = make_sampler(self._sampler, self._seed, number)
            if number < self._begun:  # asked for by an earlier process
                known = one_trial(self._study, number)
                if trunk_of(known) != trunk:
                    break  # the trunk has no further variant
                if known.state.is_finished():
                    trial: Trial | FrozenTrial = known
                else:
                    trial = Trial(self._study, known._trial_id)
                    if not has_settings(self._space, known):
                        draw_again(trial)
            elif self._enqueue(number, trials, configs):
                trial = self._study.ask()
                self._begun += 1
            else:
                break
            trials.append(trial)
            configs.append(self._space.suggest(trial, seed, trial.user_attrs.get(DETAILS)))
            if isinstance(trial, Trial):
                self._name_as_tables(trial, configs[-1])
        return trials, configs

    def _name_as_tables(self, trial: Trial, config: TrainConfig) -> None:
        """Record, for optuna-dashboard, the knobs that Optuna has under another name.

        On the complement scale Optuna samples 1 - x, as `1-weights.beta`. The tables have x.
        """
        settings = config.flat()
        for knob in self._space.knobs:
            renamed = knob.optuna_name != knob.key and knob.optuna_name in trial.params
            if renamed and knob.key not in trial.user_attrs:
                trial.set_user_attr(knob.key, settings[knob.key])

    def _enqueue(
        self, number: int, trials: Sequence[Trial | FrozenTrial], configs: list[TrainConfig]
    ) -> bool:
        """Fix the parameters that the sampler must not choose.

        These are a preset's, or those that a variant shares with its trunk. False where the trunk
        has no further variant.
        """
        if self._enqueued:
            waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))[0]
            if trials and trunk_of(waiting) != trials[0].number:
                return False
            self._enqueued -= 1
            return True
        presets = [name for name in self._presets if name not in self._used_presets]
        if not trials:
            if presets:
                first = presets[0]
                self._study.enqueue_trial(self._presets[first], user_attrs=self._marks(first))
                self._used_presets.add(first)
            return True
        attributes: dict[str, object] = {TRUNK: trials[0].number}
        if PRESET in trials[0].user_attrs:  # only presets share its trunk, so that all come first
            trunk = trunk_settings(configs[0].replace(seed=0))
            alike = [p for p in presets if trunk_settings(self._space.preset(p)) == trunk]
            fixed = self._presets[alike[0]] if alike else None
            attributes |= self._marks(alike[0]) if alike else {}
            self._used_presets |= set(alike[:1])
        else:
            fixed = variant_params(self._space, trials[0].params, configs, self._rng(number))
        if fixed is not None:
            self._study.enqueue_trial(fixed, user_attrs=attributes)
        return fixed is not None

    def _marks(self, preset: str) -> dict[str, object]:
        """The user attributes of a preset's trial. Its details are recorded, so that a resumed
        trial trains what it began with, also after a preset has changed."""
        details = self._space.preset_details(preset)
        return {PRESET: preset, **({DETAILS: details} if details else {})}

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng(derived_seed(self._seed, number, Purpose.VARIANTS))

    def _frozen(self, trial: Trial | FrozenTrial) -> FrozenTrial:
        return one_trial(self._study, trial.number)


def _recorded(report: RungReport, order: int) -> RungRecord:
    """A reported rung as the study records it."""
    return RungRecord(
        order=order,
        kind=report.kind,
        budget=report.budget,
        score=report.score,
        images=report.images,
        metrics=report.metrics,
        recall_K=report.recall_K,
        margins=report.margins,
        node=report.node,
        seconds=report.seconds,
        threads=report.threads,
        confusion=report.confusion,
        score_error=report.score_error,
    )


def _record_machine(trial: Trial, machine: Machine, started: float) -> None:
    """Record where a trial is trained, and when a worker first began to.

    Args:
        started: when the current worker began, in seconds since 1970 (UTC).
    """
    known = trial.user_attrs
    if STARTED not in known:
        trial.set_user_attr(STARTED, started)
    if known.get(MACHINE) != asdict(machine):
        trial.set_user_attr(MACHINE, asdict(machine))
