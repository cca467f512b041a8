"""The search behind `hadamem tune`: trials, the confirmation of the best, and the choice.

A trial trains one configuration with one seed, in a process and a run folder of its own; its score is the mean return of
greedy play at the end, on the same episodes for every trial. Greedy play is what a trained agent is used for, and it does not
depend on how much a trial explores, as the returns of the training do; these, which cost nothing, only decide which trials are
stopped early. The best of many scores with one seed is good luck in part. So the last fifth of the time trains the best
configurations and the default with fresh seeds, and the mean over these, which took no part in the search, decides.

The study is an SQLite file, written by one process only. A trial that was interrupted is still "running" there, and goes on
from the checkpoint in its folder when the same command is given again.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..agents.config import TrainConfig, config_from_dict
from ..run import read_metrics
from ..sweeps.processes import run_here
from ..sweeps.sweep import SweepRun, finish, keep_what_is_there
from .space import Space

CONFIRMATION = 0.2  # of the time
_CANDIDATES = 5  # for the confirmation, beside the default
_LOOK_SECONDS = 1.0
_RUNGS = 10  # how often the return of a trial is compared with the others' over its steps


class _OutOfTimeError(Exception):
    """The runs in progress are to be stopped."""


@dataclass(frozen=True)
class Candidate:
    """A configuration of the confirmation.

    Attributes:
        trial: in which it was found.
        config: of that trial.
        default: whether it is the default of a memory.
        score: of the trial.
        fresh: scores with the fresh seeds that all candidates were trained with.
    """

    trial: int
    config: TrainConfig
    default: bool
    score: float
    fresh: tuple[float, ...] = ()

    @property
    def value(self) -> float:
        """By which candidates are compared: the mean over the fresh seeds; where the time was too short, the trial's score."""
        return statistics.fmean(self.fresh) if self.fresh else self.score


@dataclass(frozen=True)
class Outcome:
    """What came out of a search.

    Attributes:
        candidates: the best one first.
    """

    candidates: list[Candidate]

    @property
    def best(self) -> Candidate:
        """The one to take."""
        return self.candidates[0]

    @property
    def default(self) -> Candidate | None:
        """The best of the defaults; None if its training failed with a fresh seed."""
        return next((candidate for candidate in self.candidates if candidate.default), None)


def open_study(folder: pathlib.Path) -> optuna.Study:
    """The study in a folder; a new one if there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    # a third of its steps a trial is safe; then it must not be under the median of the others at the same step
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3, n_min_trials=3)
    storage = f"sqlite:///{folder.absolute() / 'study.db'}"
    return optuna.create_study(storage=storage, study_name="tune", direction="maximize", pruner=pruner, load_if_exists=True)


class Search:
    """A study in progress. `run` searches, `confirm` chooses; both keep to the time.

    Args:
        study: from `open_study`.
        space: the configurations.
        folder: of the study, and of the run folders trials/NUMBER-sSEED.
        seconds: for search and confirmation together, over all sittings.
        jobs: trainings side by side.
        trials: how many at most; None: as many as the time allows.
        fresh_seeds: of the confirmation.

    Raises:
        ValueError: the folder holds a study with other settings.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        folder: pathlib.Path,
        seconds: float,
        jobs: int,
        trials: int | None,
        fresh_seeds: int,
    ) -> None:
        self.study, self.space, self.folder, self.jobs = study, space, folder, jobs
        self.total_seconds, self.limit = seconds, trials
        self.fresh_seeds = [space.seed + i + 1 for i in range(fresh_seeds)]
        self.confirmation_seconds = CONFIRMATION * seconds if fresh_seeds else 0.0
        self.running: dict[SweepRun, optuna.Trial] = {}
        self._began: dict[SweepRun, float] = {}
        settings = json.loads(json.dumps(asdict(space)))
        saved = study.user_attrs.get("settings", settings)
        if other := [name for name in settings if saved.get(name) != settings[name]]:
            said = ", ".join(f"{name} {saved.get(name)!r}" for name in other)
            raise ValueError(f"{folder} holds a study with other settings ({said}); give --out a new folder, or delete it")
        study.set_user_attr("settings", settings)
        study.sampler = optuna.samplers.TPESampler(seed=space.seed + len(study.trials))  # a later sitting draws others
        self._spent, self._begin, self._looked = study.user_attrs.get("seconds", 0.0), time.monotonic(), 0.0
        for trial in study.get_trials(states=[TrialState.RUNNING]):
            if "config" not in trial.user_attrs:  # killed before its training began
                study.tell(trial.number, state=TrialState.FAIL)
        there = {trial.user_attrs.get("default") for trial in study.trials if trial.state != TrialState.FAIL}
        for memory in space.memories:
            if memory not in there:
                study.enqueue_trial(space.default_parameters(memory), user_attrs={"default": memory})

    @property
    def seconds(self) -> float:
        """Spent so far, in all sittings."""
        return self._spent + time.monotonic() - self._begin

    @property
    def seconds_left(self) -> float:
        """Of the search and its confirmation."""
        return max(self.total_seconds - self.seconds, 0.0)

    def trials(self) -> list[FrozenTrial]:
        """All that have begun; not to be changed."""
        began = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
        return self.study.get_trials(deepcopy=False, states=began)

    def default(self, trial: FrozenTrial | optuna.Trial) -> TrainConfig:
        """The default with the memory of a trial."""
        return self.space.defaults[trial.params["memory"]]

    def complete(self) -> list[FrozenTrial]:
        """The trials that have a score, the best one first."""
        trials = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        return sorted(trials, key=lambda trial: trial.value or 0.0, reverse=True)

    def run(self, on_end: Callable[[FrozenTrial], None], on_look: Callable[[], None]) -> None:
        """Train trials until the time for them is up.

        Args:
            on_end: called with each trial that has ended.
            on_look: called again and again meanwhile.

        Raises:
            ValueError: a training with the defaults failed.
            KeyboardInterrupt: the user stopped it; the trials in progress have written their checkpoints.
        """
        deadline = self.total_seconds - self.confirmation_seconds

        def ended(cell: SweepRun) -> None:
            on_end(self._tell(cell))

        def look() -> None:
            self._look(deadline)
            on_look()

        try:
            run_here(self._trial_cells(deadline), self.jobs, ended, look)
        except _OutOfTimeError:
            for cell in [cell for cell in self.running if (cell.path / "result.json").exists()]:
                ended(cell)  # just in time
        finally:
            self._save_seconds()

    def confirm(self, on_look: Callable[[list[SweepRun]], None]) -> Outcome:
        """Train the best configurations and the default with fresh seeds, as far as the time allows, and choose.

        Args:
            on_look: called again and again meanwhile, with the runs.

        Raises:
            ValueError: no default has a score.
            KeyboardInterrupt: the user stopped it; the runs in progress have written their checkpoints.
        """
        candidates = self._candidates()
        runs = {
            (candidate.trial, seed): self._cell(candidate.trial, replace(candidate.config, seed=seed))
            for seed in self.fresh_seeds  # the first seed of all candidates before the second one of any
            for candidate in candidates
        }
        keep_what_is_there(list(runs.values()), None)

        def look() -> None:
            self._look(self.total_seconds)
            on_look(list(runs.values()))

        try:
            in_time = (cell for cell in runs.values() if self.seconds_left)
            run_here(in_time, self.jobs, lambda cell: finish(cell, None), look)
        except _OutOfTimeError:
            pass
        finally:
            self._save_seconds()
        # with a fresh seed the training of a configuration may fail: it is out
        failed = {number for (number, _), cell in runs.items() if cell.state == "failed"}
        sound = [candidate for candidate in candidates if candidate.trial not in failed] or candidates
        seeds = [
            seed
            for seed in self.fresh_seeds
            if all(runs[candidate.trial, seed].state in ("done", "kept") for candidate in sound)
        ]
        scored = [replace(it, fresh=tuple(_score(runs[it.trial, seed]) for seed in seeds)) for it in sound]
        return Outcome(sorted(scored, key=lambda candidate: candidate.value, reverse=True))

    def _trial_cells(self, deadline: float) -> Iterator[SweepRun]:
        """The trials to train, each when it is asked for: first those that were interrupted."""
        for frozen in self.study.get_trials(states=[TrialState.RUNNING]):
            if self.seconds < deadline:
                trial = optuna.Trial(self.study, frozen._trial_id)
                yield self._begin_trial(trial, config_from_dict(json.loads(frozen.user_attrs["config"])))
        while self.seconds < deadline and (self.limit is None or len(self.trials()) < self.limit):
            trial = self.study.ask()
            config = self.space.suggest(trial)
            if memory := trial.user_attrs.get("default"):  # its parameters are rounded
                config = self.space.defaults[memory]
            trial.set_user_attr("config", json.dumps(asdict(config)))
            yield self._begin_trial(trial, config)

    def _begin_trial(self, trial: optuna.Trial, config: TrainConfig) -> SweepRun:
        cell = self._cell(trial.number, config)
        self.running[cell], self._began[cell] = trial, time.monotonic()
        return cell

    def _cell(self, number: int, config: TrainConfig) -> SweepRun:
        path = self.folder / "trials" / f"{number:04}-s{config.seed}"
        return SweepRun(self.space.task, config.memory, config, path)

    def _look(self, deadline: float) -> None:
        """Report the returns of the trials in progress, stop those that are under the median, and all when the time is up."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self._save_seconds()
        for cell, trial in self.running.items():
            cell.peek()
            if not cell.stop_requested:
                cell.stop_requested = self._report(cell, trial)
        if self.seconds > deadline:
            raise _OutOfTimeError

    def _report(self, cell: SweepRun, trial: optuna.Trial) -> bool:
        """Report the returns since the last time, and say whether the trial should stop. The defaults never do."""
        lines = [line for line in read_metrics(cell.path) if "return" in line]
        reached = {int(_RUNGS * line["step"] / cell.config.steps): line["return"] for line in reversed(lines)}
        there = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        new = sorted(rung for rung in reached.keys() - there.keys() if 0 < rung < _RUNGS)
        for rung in new:
            trial.report(reached[rung], rung)
        return bool(new) and "default" not in trial.user_attrs and trial.should_prune()

    def _tell(self, cell: SweepRun) -> FrozenTrial:
        """The end of a trial."""
        trial = self.running.pop(cell)
        finish(cell, None)
        if cell.state == "done":
            assert cell.result is not None
            here = time.monotonic() - self._began[cell]  # with the start of the process; of one that went on, the rest only
            trial.set_user_attr("seconds", max(here, cell.result.seconds))
            return self.study.tell(trial, _score(cell))
        if not cell.stop_requested:
            if "default" in trial.user_attrs:
                self.study.tell(trial, state=TrialState.FAIL)
                raise ValueError(f"the training with the defaults failed: {cell.problem} (in {cell.log})")
            trial.set_user_attr("problem", cell.problem)
        return self.study.tell(trial, state=TrialState.PRUNED)  # what cannot be trained is as bad: its like are avoided

    def _candidates(self) -> list[Candidate]:
        """The best default, then the best of the others: as many as the time is long enough for."""
        complete = self.complete()
        default = next((trial for trial in complete if "default" in trial.user_attrs), None)
        if default is None:
            raise ValueError(
                f"no training with the defaults was finished in {self.total_seconds / 60:g} minutes; the same command with "
                f"more --minutes goes on from here; or give fewer --steps than {self.space.steps} and a new --out"
            )
        usual = statistics.fmean(trial.user_attrs["seconds"] for trial in complete)
        room = self.confirmation_seconds * self.jobs / (max(len(self.fresh_seeds), 1) * max(usual, 1e-3))
        others = [trial for trial in complete if trial.number != default.number]
        chosen = [default, *others[: min(_CANDIDATES, max(1, int(room) - 1))]]
        return [
            Candidate(trial.number, configuration(trial), "default" in trial.user_attrs, trial.value or 0.0) for trial in chosen
        ]

    def _save_seconds(self) -> None:
        self.study.set_user_attr("seconds", self.seconds)


def configuration(trial: FrozenTrial) -> TrainConfig:
    """What a trial trains."""
    saved: dict[str, Any] = json.loads(trial.user_attrs["config"])
    return config_from_dict(saved)


def _score(cell: SweepRun) -> float:
    assert cell.result is not None
    return cell.result.scores["evaluation_return"]
