"""The command `hadamem tune`."""

from __future__ import annotations

import fcntl
import importlib.util
import pathlib
import shlex
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from ..measure import processors
from ..recipes.arguments import file_name, memory_words, read_train
from ..recipes.file import write_recipe
from ..run import versions
from ..sweeps.duration import measure
from ..tuning.space import Space, varied_names
from .console import make_table, print_table, say, show_status

if TYPE_CHECKING:
    from ..tuning.search import Outcome, Search

_TRIALS = 40  # number of whole trainings that should fit into the time


@dataclass(kw_only=True)
class Tune:
    """Search for a recipe for one task: learning rate, horizon, entropy, batch, memory and its options. The result is a file
    for `hadamem train --recipe`. If it was stopped or killed, the same command continues it. All further options are those of
    `hadamem train` (--agent, --preset, --clip, ...), for every training; settings that they determine are not varied."""

    env: str
    """task: any Gymnasium id, or package.module:Name-v0 for one of your own"""
    env_options: tuple[str, ...] = ()
    """options of the task, as name=value"""
    minutes: float = 30.0
    """minutes of the search, over all starts of the command; in a fifth of them, the best configurations and the default are
    trained with fresh seeds"""
    memories: tuple[str, ...] = ("shm", "gru")
    """memories to choose from, each a name with the size and the options that are not varied: gru:128 "shm theta=fixed" """
    steps: int | None = None
    """environment steps of each training; none: such that 40 whole trainings fit into the time, but no more than in the
    preset"""
    trials: int | None = None
    """largest number of trainings; none: as many as the time allows"""
    episodes: int = 100
    """number of greedy episodes at the end of each training; their mean return is the score of the training"""
    jobs: int | None = None
    """number of parallel trainings, with one thread each; none: one for each processor"""
    seed: int = 0
    """seed of the search and of its trainings"""
    fresh_seeds: int = 2
    """number of further seeds with which the best configurations and the default are trained at the end; the configuration with
    the best mean over them is chosen"""
    out: pathlib.Path | None = None
    """folder of the file study.db, the run folders of all trainings, and recipe.toml; none: runs/tune/TASK"""

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ValueError(f"minutes is {self.minutes}; it must be greater than 0")
        for name in ("steps", "trials", "episodes", "jobs"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        for name in ("seed", "fresh_seeds"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name} is {value}; it must not be negative")

    @property
    def task(self) -> str:
        """The task with its options as one text."""
        return " ".join([self.env, *self.env_options])


def tune(arguments: Sequence[str]) -> None:
    """Search for the options that train best on a task, and write a recipe"""
    options, words = tyro.cli(Tune, args=arguments, prog="hadamem tune", return_unknown_args=True)
    if importlib.util.find_spec("optuna") is None:
        raise ModuleNotFoundError("hadamem tune takes Optuna: pip install 'hadamem[tune]'")
    from ..tuning.search import Search, open_study
    from .tune_display import Display

    folder = options.out or pathlib.Path("runs/tune") / file_name(options.task)
    jobs = options.jobs or processors()
    _ = _space(options, words, options.steps or 1).defaults  # so that wrong options raise before a folder is made
    with _locked(folder):
        study = open_study(folder)
        steps = options.steps or study.user_attrs.get("settings", {}).get("steps") or _fitting_steps(options, words, jobs)
        space = _space(options, words, steps)
        search = Search(study, space, folder, 60 * options.minutes, jobs, options.trials, options.fresh_seeds)
        say(f"trainings of {steps:,} steps, {jobs} in parallel, in {folder}")
        try:
            with Display(search) as display:
                search.run(display.on_end, display.on_look)
                outcome = search.confirm(display.on_confirmation)
        except KeyboardInterrupt:
            say("stopped; repeat the same command to continue")
            raise SystemExit(130) from None
        _print_outcome(search, outcome)
        path = folder / "recipe.toml"
        command = shlex.join(["hadamem", "tune", *arguments])
        best = outcome.best.config
        write_recipe(path, best, space.preset, varied_names(best.algorithm), _comments(path, command, search, outcome))
        print(path)


def _space(options: Tune, words: Sequence[str], steps: int) -> Space:
    return Space(options.task, options.memories, tuple(words), steps, options.episodes, options.seed)


def _fitting_steps(options: Tune, words: Sequence[str], jobs: int) -> int:
    """Steps of a training such that `_TRIALS` trainings fit into the search, from a short measurement of each memory."""
    from ..tuning.search import CONFIRMATION

    usual = read_train(["--env", options.env, *memory_words(options.memories[0]), *words], prog="hadamem tune").config.steps
    space = _space(options, words, usual)
    with show_status("measuring how long a step takes"):
        seconds = statistics.fmean(measure(config) for config in space.defaults.values())
    fitting = 60 * options.minutes * (1 - CONFIRMATION) * jobs / _TRIALS / seconds
    rounded = int(float(f"{fitting:.1g}"))
    return min(usual, max(rounded, 1000))


@contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Lock the folder of a study.

    Raises:
        ValueError: another process has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "study.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another `hadamem tune` is at work in {folder}; wait for it, or give --out another") from None
        yield


def _print_outcome(search: Search, outcome: Outcome) -> None:
    from .tune_display import describe, memory_text

    title = f"greedy return, {search.space.episodes} episodes for each seed: with the seed of the search, and with fresh ones"
    table = make_table(title, ["trial", "memory", "score", "fresh seeds", "mean", "settings"])
    for column in (1, 5):
        table.columns[column].justify = "left"
    for candidate in outcome.candidates:
        fresh = ", ".join(f"{score:.3f}" for score in candidate.fresh) or "-"
        config = candidate.config
        settings = describe(config, search.default(search.study.trials[candidate.trial]))
        table.add_row(
            str(candidate.trial), memory_text(config), f"{candidate.score:.3f}", fresh, f"{candidate.value:.3f}", settings
        )
    print_table(table)
    if outcome.best.default:
        say("nothing was found that is better than the default")


def _comments(path: pathlib.Path, command: str, search: Search, outcome: Outcome) -> list[str]:
    """The comments at the head of the recipe file."""
    best, default = outcome.best, outcome.default
    trials = search.trials()
    stopped = len(trials) - len(search.complete())
    seeds = f"each of {len(best.fresh)} seeds that the search did not use" if best.fresh else "the seed of the search"
    beside = "" if default is None else f"; the default with {default.config.memory}: {default.value:.4g}"
    made_with = ", ".join(f"{name} {version}" for name, version in versions().items())
    return [
        f"A recipe for {search.space.task}. Train with it:",
        "",
        f"    hadamem train --recipe {shlex.quote(str(path))}",
        "",
        "Further options on that command line override the settings in this file.",
        "",
        f"found:    {time.strftime('%Y-%m-%d %H:%M')} by {command}",
        f"score:    {best.value:.4g}, the mean return of greedy play after {best.config.steps} steps,",
        f"          {search.space.episodes} episodes with {seeds}{beside}",
        f"search:   {len(trials)} trials, {stopped} of which were stopped early; this is trial {best.trial}",
        f"versions: {made_with}",
    ]
