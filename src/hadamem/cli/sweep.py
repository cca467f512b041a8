"""The commands `hadamem sweep`, `hadamem reproduce` and `hadamem runs`."""

from __future__ import annotations

import pathlib
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro
from rich.table import Table

from ..checks import check_fields
from ..disk import write_whole
from ..measure import processors
from ..report.results import Result, find_results, matches, peek_result
from ..sweeps.cluster import run_on_ray
from ..sweeps.duration import expected
from ..sweeps.processes import run_here
from ..sweeps.reproduce import NAMES, Budget, page_of, read_reproduction, rows
from ..sweeps.suite import read_suite
from ..sweeps.sweep import SweepRun, crossed, finish, keep_what_is_there, make_cells, mean_ranks, page, summary
from ..text import count
from .console import make_table, print_rows, print_table, say, show_status
from .live_table import SweepDisplay

DATA = pathlib.Path("docs/results/data")


@dataclass(kw_only=True)
class SweepOptions:
    """Options for the place where runs are trained and kept."""

    jobs: int | None = None
    """number of parallel runs, among which the processor's threads are divided; none: one for each processor, or on a cluster,
    as many as it has room for"""
    ray: str | None = None
    """train on the Ray cluster at this address (auto, or HOST:PORT of its head), with one processor for each run. The machines
    of the cluster must see --out under the same path, and have hadamem[ray] installed"""
    out: pathlib.Path = pathlib.Path("runs/sweep")
    """folder of the run folders OUT/TASK/MEMORY-sSEED, each with its log next to it"""
    data: pathlib.Path | None = None
    """folder of results; runs whose results are in it are not trained again, and results of complete runs are added to it, a
    few kB each; none: nothing is added, and runs whose results are in docs/results/data are not trained again"""

    def __post_init__(self) -> None:
        check_fields(self, ("jobs",), at_least=1)

    @property
    def known(self) -> pathlib.Path | None:
        """Folder of the results whose runs are not trained again."""
        return self.data or (DATA if DATA.is_dir() else None)


@dataclass(kw_only=True)
class Sweep(SweepOptions):
    """Train every memory on every task with every seed, each in a run folder of its own. If started again, it trains only what
    is missing. All further options are those of `hadamem train` (--steps, --preset, --gamma, --threads, ...), for every run;
    settings that a preset has for a task or a memory are still used."""

    tasks: tuple[str, ...] = ()
    """tasks, each an id with its options: popgym-AutoencodeEasy-v0 "hadamem/TMazePassive-v0 corridor_length=100" """
    suite: str | None = None
    """suite of tasks, instead of --tasks: develop (the tasks on which defaults are tuned), heldout (the tasks that test the
    defaults), or a TOML file like sweeps/suites/*.toml. Each task has its own number of steps unless --steps is given"""
    memories: tuple[str, ...] = ()
    """memories, each a name with its size and options, which replace those of the preset: gru gru:256 "shm:64 theta=fixed".
    None: the memories of the suite"""
    seeds: int = 1
    """number of seeds for each task and memory"""
    first_seed: int = 0
    """first of the seeds, which are consecutive numbers"""
    page: pathlib.Path | None = None
    """Markdown file that a table of tasks against memories is written to, with the command"""
    dry_run: bool = False
    """train nothing, only show the results so far"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, ("seeds",), at_least=1)
        check_fields(self, ("first_seed",), at_least=0)
        if bool(self.tasks) == (self.suite is not None):
            raise ValueError("give either --tasks or --suite")


def sweep(arguments: Sequence[str]) -> None:
    """Train a grid of tasks, memories and seeds"""
    options, words = tyro.cli(Sweep, args=arguments, prog="hadamem sweep", return_unknown_args=True)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    tasks, memories, steps = options.tasks, options.memories, None
    heading, about = "Tasks and memories", "a sweep"
    if options.suite is not None:
        suite = read_suite(options.suite)
        tasks, memories, steps = tuple(suite.steps), options.memories or tuple(suite.memories), suite.steps
        heading, about = f"Suite {pathlib.Path(options.suite).stem}", suite.about
    cells = make_cells(tasks, memories, seeds, words, options.out, threads_for(options), steps)
    keep_what_is_there(cells, options.known, options.data)
    if not options.dry_run:
        train_cells(cells, options)
    _print_summary(cells)
    if options.page is not None:
        shown = [word for word in arguments if word != "--dry-run"]
        command = shlex.join(["hadamem", "sweep", *shown])
        write_whole(options.page, page(heading, about, command, crossed(cells), cells, _ranks(cells)))
        print(options.page)
    _tell_failed(cells)


def _ranks(cells: Sequence[SweepRun]) -> list[str]:
    """A sentence on the memories' mean ranks; none where there is nothing to compare."""
    tasks, ranks = mean_ranks(summary(cells))
    if len(ranks) < 2:
        return []
    told = ", ".join(f"{memory} {rank:.2f}" for memory, rank in ranks.items())
    return [f"Mean rank by return over {count(tasks, 'task')} that every memory has played (1 is the best): {told}."]


def threads_for(options: SweepOptions) -> int:
    """Processor threads of each run."""
    return 1 if options.ray else max(1, processors() // (options.jobs or processors()))


def train_cells(cells: Sequence[SweepRun], options: SweepOptions) -> None:
    """Train the waiting runs of a sweep.

    Raises:
        SystemExit: with 130 if the user stopped it.
    """
    with SweepDisplay(cells) as display:

        def finished(cell: SweepRun) -> None:
            finish(cell, options.data)
            display.update(cell)

        try:
            if options.ray:
                run_on_ray(cells, options.ray, options.jobs, options.out, finished, display.look)
            else:
                run_here(cells, options.jobs or processors(), finished, display.look)
        except KeyboardInterrupt:
            say("stopped; repeat the same command to continue")
            raise SystemExit(130) from None


def _tell_failed(cells: Sequence[SweepRun]) -> None:
    failed = [cell for cell in cells if cell.state == "failed"]
    for cell in failed:
        say(f"failed: {cell.memory} on {cell.task}, seed {cell.seed}: {cell.problem} (in {cell.log})", style="red")
    if failed:
        raise SystemExit(1)


def _print_summary(cells: Sequence[SweepRun]) -> None:
    title = "mean over the last 5 % of the steps, ± its standard deviation over seeds, and success if the task reports it"
    table = make_table(title, ["task", "memory", "runs", "return", "steps", "hours"])
    table.columns[1].justify = "left"
    for row in summary(cells):
        table.add_row(row.task, row.memory, str(row.runs), row.score(), f"{row.steps:,}", f"{row.hours:.2f}")
    if table.rows:
        print_table(table)


@dataclass(kw_only=True)
class Reproduce(SweepOptions):
    """Train the experiments of the paper's tables and figures, after an estimate of the time. If started again, it trains only
    what is missing. The experiments are files of the package, sweeps/reproductions/*.toml."""

    name: tyro.conf.Positional[
        Literal["popgym", "meta-rl", "credit-assignment", "ablation-calibration", "ablation-memory-size", "all"]
    ]
    """name of the experiment"""
    budget: Budget = "small"
    """full: as published, for a cluster; small: a night or two on 2 cores; tiny: seconds, to try the command"""
    out: pathlib.Path = pathlib.Path("runs/reproduce")
    """folder of the run folders OUT/NAME-BUDGET/TASK/MEMORY-sSEED, each with its log next to it, and of the table
    OUT/NAME-BUDGET.md"""
    dry_run: bool = False
    """train nothing, only estimate the time"""


def reproduce(arguments: Sequence[str]) -> None:
    """Train the experiments of the paper's tables and figures"""
    options = tyro.cli(Reproduce, args=arguments, prog="hadamem reproduce")
    done: list[SweepRun] = []
    for name in NAMES if options.name == "all" else (options.name,):
        experiment = read_reproduction(name, options.budget, options.out, threads_for(options))
        keep_what_is_there(experiment.cells, options.known, options.data)
        _print_expected(f"{name}, {options.budget}", experiment.cells, options)
        if options.dry_run:
            continue
        train_cells(experiment.cells, options)
        print_rows(f"{name}, {options.budget}: {experiment.about}", rows(experiment))
        for note in experiment.notes:
            print(note)
        table = options.out / f"{name}-{options.budget}.md"
        write_whole(table, page_of(name, options.budget, experiment))
        print(table)
        done += experiment.cells
    _tell_failed(done)


def _print_expected(name: str, cells: Sequence[SweepRun], options: SweepOptions) -> None:
    with show_status("measuring") as show:
        duration = expected(cells, options.known, lambda what: show(f"measuring {what}"))
    jobs = options.jobs or processors()
    waiting = sum(cell.state == "waiting" for cell in cells)
    hours = duration.seconds / 3600 / min(jobs, max(waiting, 1))
    time_left = f"{hours:,.1f} hours" if hours >= 1 else f"{hours * 60:,.1f} minutes"
    source = f"estimated from {count(duration.results, 'result')} and {count(duration.measured, 'short measurement')}"
    print(
        f"{name}: {waiting} of {count(len(cells), 'run')} to do, about {time_left} with {jobs} in parallel here, {source}",
        flush=True,
    )


@dataclass
class Runs:
    """List run folders, the latest first."""

    paths: tyro.conf.Positional[tuple[pathlib.Path, ...]] = (pathlib.Path("runs"),)
    """run folders, files of results, or folders of either"""
    task: str = "*"
    """only tasks that match this: an id, or an id with options as in the list; * stands for any characters"""
    memory: str = "*"
    """only memories that match this: a name, or a name with size and options as in the list"""
    state: Literal["complete", "stopped"] | None = None
    """complete: only runs that have made all their steps; stopped: only runs that have not (some of them may be running)"""


def runs(arguments: Sequence[str]) -> None:
    """List run folders, the latest first"""
    options = tyro.cli(Runs, args=arguments, prog="hadamem runs")
    for path in options.paths:
        if not path.exists():
            raise ValueError(f"{path} does not exist; `hadamem train` and `hadamem sweep` write runs below runs/")
    there = find_results(options.paths, peek_result)
    found = [
        (_written(result), result)
        for result in there
        if matches([options.task], result.task, env := result.config["env"], " ".join([env, *result.config["env_options"]]))
        and matches([options.memory, f"{options.memory} *"], result.memory, result.memory.replace(" ", ":", 1))
        and options.state in (None, "complete" if result.complete else "stopped")
    ]
    if there and not found:
        tasks, memories = sorted({r.task for r in there}), sorted({r.memory for r in there})
        say(f"no run matches; there are the tasks {', '.join(tasks)} and the memories {', '.join(memories)}")
    table = Table(title=count(len(found), "run"), title_justify="left")
    for name in ("written", "state", "task", "memory", "seed", "steps", "return", "hours", "folder"):
        table.add_column(name, justify="right" if name in ("seed", "steps", "return", "hours") else "left")
    for written, result in sorted(found, key=lambda pair: pair[0], reverse=True):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(written))
        state = "complete" if result.complete else "stopped"
        value = f"{result.scores['return']:.3f}" if "return" in result.scores else "-"
        numbers = str(result.seed), f"{result.steps:,}", value, f"{result.seconds / 3600:.2f}"
        table.add_row(when, state, result.task, result.memory, *numbers, result.path)
    print_table(table)


def _written(result: Result) -> float:
    path = pathlib.Path(result.path)
    metrics = path / "metrics.jsonl"
    return (metrics if metrics.exists() else path).stat().st_mtime
