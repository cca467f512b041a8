"""The search behind `hadamem tune`: trials, the confirmation of the best, and the choice.

A trial trains one configuration with one seed, in its own process and run folder. Its score is the mean return of greedy play
at the end, on the same episodes for every trial. Greedy play is how a trained agent is used, and unlike the returns of the
training, it does not depend on how much a trial explores. The returns of the training, which need no extra time, only decide
which trials are stopped early. The best of many scores with one seed is partly good luck. So the last fifth of the time is used
to train the best configurations and the default with fresh seeds, which took no part in the search, and the mean over these
seeds decides.

The study is an SQLite file, written by one process only. A trial that was interrupted still has the state "running" there, and
is continued from the checkpoint in its folder when the same command is given again.
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

CONFIRMATION = 0.2  # fraction of the time
_CANDIDATES = 5  # largest number of candidates for the confirmation, besides the default
_LOOK_SECONDS = 1.0
_RUNGS = 10  # parts of a trial's steps, after each of which its return is compared with those of other trials


class _OutOfTimeError(Exception):
    """The time is over, and the runs in progress have to be stopped."""


@dataclass(frozen=True)
class Candidate:
    """A configuration of the confirmation.

    Attributes:
        trial: number of the trial in which it was found.
        config: configuration of that trial.
        default: whether it is the default of a memory.
        score: score of that trial.
        fresh: scores with the fresh seeds that all candidates were trained with.
    """

    trial: int
    config: TrainConfig
    default: bool
    score: float
    fresh: tuple[float, ...] = ()

    @property
    def value(self) -> float:
        """The value by which candidates are compared: the mean over the fresh seeds, or the trial's score if there are none."""
        return statistics.fmean(self.fresh) if self.fresh else self.score


@dataclass(frozen=True)
class Outcome:
    """The result of a search.

    Attributes:
        candidates: the best one first.
    """

    candidates: list[Candidate]

    @property
    def best(self) -> Candidate:
        """The best candidate."""
        return self.candidates[0]

    @property
    def default(self) -> Candidate | None:
        """The best default among the candidates; None if its training failed with a fresh seed."""
        return next((candidate for candidate in self.candidates if candidate.default), None)


def open_study(folder: pathlib.Path) -> optuna.Study:
    """Open the study in a folder, or create it if there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    # a trial is not stopped in the first third of its steps; later, it must not be below the median of others at the same step
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3, n_min_trials=3)
    storage = f"sqlite:///{folder.absolute() / 'study.db'}"
    return optuna.create_study(storage=storage, study_name="tune", direction="maximize", pruner=pruner, load_if_exists=True)


class Search:
    """A study in progress. `run` searches, and `confirm` chooses the best candidate; both respect the time limit.

    Args:
        study: the study, from `open_study`.
        space: the space of configurations.
        folder: folder of the study, and of the run folders trials/NUMBER-sSEED.
        seconds: time for search and confirmation together, over all calls of the command.
        jobs: number of trainings in parallel.
        trials: largest number of trials; None: as many as the time allows.
        fresh_seeds: number of seeds of the confirmation.

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
        study.sampler = optuna.samplers.TPESampler(seed=space.seed + len(study.trials))  # a continued search draws others
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
        """Time spent so far, over all calls of the command."""
        return self._spent + time.monotonic() - self._begin

    @property
    def seconds_left(self) -> float:
        """Time left for the search and the confirmation together."""
        return max(self.total_seconds - self.seconds, 0.0)

    def trials(self) -> list[FrozenTrial]:
        """All trials that have begun; they must not be changed."""
        began = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
        return self.study.get_trials(deepcopy=False, states=began)

    def default(self, trial: FrozenTrial | optuna.Trial) -> TrainConfig:
        """The default configuration of a trial's memory."""
        return self.space.defaults[trial.params["memory"]]

    def complete(self) -> list[FrozenTrial]:
        """The trials that have a score, the best one first."""
        trials = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        return sorted(trials, key=lambda trial: trial.value or 0.0, reverse=True)

    def run(self, on_end: Callable[[FrozenTrial], None], on_look: Callable[[], None]) -> None:
        """Train trials until the time for them is up.

        Args:
            on_end: called with each trial that has ended.
            on_look: called repeatedly while the trials run.

        Raises:
            ValueError: a training with the defaults failed.
            KeyboardInterrupt: the user stopped the search; the trials in progress have written their checkpoints.
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
                ended(cell)  # it was completed before it could be stopped
        finally:
            self._save_seconds()

    def confirm(self, on_look: Callable[[list[SweepRun]], None]) -> Outcome:
        """Train the best configurations and the default with fresh seeds, as far as the time allows, and choose.

        Args:
            on_look: called repeatedly with the runs, while they are trained.

        Raises:
            ValueError: no default has a score.
            KeyboardInterrupt: the user stopped the search; the runs in progress have written their checkpoints.
        """
        candidates = self._candidates()
        runs = {
            (candidate.trial, seed): self._cell(candidate.trial, replace(candidate.config, seed=seed))
            for seed in self.fresh_seeds  # all candidates with the first seed come before any with the second seed
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
        # a configuration whose training fails with a fresh seed is no longer a candidate
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
        """Generate the runs of the trials to train: first the interrupted trials, then new ones."""
        for frozen in self.study.get_trials(states=[TrialState.RUNNING]):
            if self.seconds < deadline:
                trial = optuna.Trial(self.study, frozen._trial_id)
                yield self._begin_trial(trial, config_from_dict(json.loads(frozen.user_attrs["config"])))
        while self.seconds < deadline and (self.limit is None or len(self.trials()) < self.limit):
            trial = self.study.ask()
            config = self.space.suggest(trial)
            if memory := trial.user_attrs.get("default"):  # exactly, since the trial's parameters are rounded
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
        """Report the returns of the trials in progress, stop those that are below the median, and all when the time is over."""
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
        """Report the returns since the last call, and return whether the trial should stop; trials of defaults never should."""
        lines = [line for line in read_metrics(cell.path) if "return" in line]
        reached = {int(_RUNGS * line["step"] / cell.config.steps): line["return"] for line in reversed(lines)}
        there = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        new = sorted(rung for rung in reached.keys() - there.keys() if 0 < rung < _RUNGS)
        for rung in new:
            trial.report(reached[rung], rung)
        return bool(new) and "default" not in trial.user_attrs and trial.should_prune()

    def _tell(self, cell: SweepRun) -> FrozenTrial:
        """Report the result of a trial that has ended to the study."""
        trial = self.running.pop(cell)
        finish(cell, None)
        if cell.state == "done":
            assert cell.result is not None
            here = time.monotonic() - self._began[cell]  # with the process start; of a continued trial, only the rest
            trial.set_user_attr("seconds", max(here, cell.result.seconds))
            return self.study.tell(trial, _score(cell))
        if not cell.stop_requested:
            if "default" in trial.user_attrs:
                self.study.tell(trial, state=TrialState.FAIL)
                raise ValueError(f"the training with the defaults failed: {cell.problem} (in {cell.log})")
            trial.set_user_attr("problem", cell.problem)
        return self.study.tell(trial, state=TrialState.PRUNED)  # also for failed trials, so that similar ones are avoided

    def _candidates(self) -> list[Candidate]:
        """The best default, then the best other trials, as many as there is time to confirm."""
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
    """The configuration that a trial trains."""
    saved: dict[str, Any] = json.loads(trial.user_attrs["config"])
    return config_from_dict(saved)


def _score(cell: SweepRun) -> float:
    assert cell.result is not None
    return cell.result.scores["evaluation_return"]
