"""Sweeps, which are grids of tasks, memories and seeds: their runs, the runs that exist already, and summaries of results."""

from __future__ import annotations

import hashlib
import itertools
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from typing import Any, Literal

from ..agents.config import TrainConfig
from ..recipes.arguments import file_name, memory_words, read_train, task_words
from ..report.results import ENDING, Result, config_key, find_results, peek_result, read_result, write_result
from ..text import count, markdown_table
from .runs import check_run

State = Literal["waiting", "running", "done", "failed", "kept"]
_OF_CELLS = ("--env", "--env-options", "--memory", "--memory-size", "--memory-options", "--seed", "--out", "--resume")


@dataclass(eq=False)
class SweepRun:
    """A run of a sweep.

    Attributes:
        task, memory: the texts of the task and the memory, as the user wrote them.
        config: configuration of the run.
        path: folder of the run.
        state: state of the run; "kept" if it was complete before the sweep began.
        result: the result so far; None if nothing is known yet. It has curves only if the run is complete.
        problem: reason for which the run failed, in one line.
        stop_requested: whether the run's process shall end after the current iteration, with a checkpoint.
    """

    task: str
    memory: str
    config: TrainConfig
    path: pathlib.Path
    state: State = "waiting"
    result: Result | None = None
    problem: str = ""
    stop_requested: bool = False

    @property
    def seed(self) -> int:
        """Seed of all random generators of the run."""
        return self.config.seed

    @property
    def log(self) -> pathlib.Path:
        """The file with the output of the run's process."""
        return self.path.with_name(f"{self.path.name}.log")

    def peek(self) -> None:
        """Read how far the run has come, and set `result`."""
        if (self.path / "config.json").exists():
            self.result = peek_result(self.path)


def make_cells(
    tasks: Sequence[str],
    memories: Sequence[str],
    seeds: Sequence[int],
    words: Sequence[str],
    out: pathlib.Path,
    threads: int,
    steps: Mapping[str, int] | None = None,
) -> list[SweepRun]:
    """The runs of a grid, sorted by seed.

    Args:
        tasks: tasks, each as "ID option=value ...".
        memories: memories, each as "NAME[:SIZE] option=value ...".
        seeds: seeds of each combination of task and memory.
        words: further options of `hadamem train`, for all runs.
        out: folder of the run folders out/TASK/MEMORY-sSEED.
        threads: number of threads of each run, unless `words` sets it.
        steps: environment steps by task, unless `words` sets them. None: the steps of the preset.

    Raises:
        ValueError: there are no tasks or memories, two runs would be the same, or an option cannot be given to all runs.
    """
    for word in words:
        if (name := word.partition("=")[0].replace("_", "-")) in _OF_CELLS:
            raise ValueError(f"{name} cannot be given to all runs; it is set by --tasks, --memories, --first-seed and --seeds")
    for name, texts in (("tasks", tasks), ("memories", memories)):
        if not texts:
            raise ValueError(f"{name} is empty; give at least one, see `hadamem list {name}`")
    cells = []
    for task, memory in itertools.product(tasks, memories):
        arguments = [*task_words(task), *memory_words(memory)]
        arguments += [] if steps is None else ["--steps", str(steps[task])]
        arguments += words  # if an option occurs twice, the last one counts
        config = read_train(arguments, prog="hadamem sweep").config
        path = out / file_name(task) / file_name(memory)
        for seed in seeds:
            own = replace(config, seed=seed, threads=config.threads or threads)
            cells.append(SweepRun(task, memory, own, path.with_name(f"{path.name}-s{seed}")))
    cells.sort(key=lambda cell: cell.seed)
    for same in (lambda cell: cell.path, lambda cell: config_key(asdict(cell.config))):
        first: dict[Any, SweepRun] = {}
        for cell in cells:
            if (other := first.setdefault(same(cell), cell)) is not cell:
                texts = [f"{it.memory!r} on {it.task!r} with seed {it.seed}" for it in (other, cell)]
                raise ValueError(f"the sweep would do the same twice: {' and '.join(texts)}")
    return cells


def keep_what_is_there(cells: Sequence[SweepRun], known: pathlib.Path | None, data: pathlib.Path | None = None) -> None:
    """Mark the runs that are complete in their own folder, or whose result is in or below the folder `known`. The results of
    runs that are complete in their own folder are also written to the folder `data`.

    Raises:
        ValueError: a folder holds a run with other settings.
    """
    there = {}
    if known is not None and known.exists():
        there = {result.key: result for result in find_results([known]) if result.complete}
    for cell in cells:
        if result := there.get(config_key(asdict(cell.config))):
            cell.state, cell.result = "kept", result
            continue
        check_run(cell.config, cell.path)
        if (cell.path / "result.json").exists():
            finish(cell, data)
            cell.state = "kept"


def finish(cell: SweepRun, data: pathlib.Path | None) -> None:
    """Read the result of a run whose process has ended; if the run is complete, also write the result to the folder `data`."""
    if not (cell.path / "result.json").exists():
        said = cell.log.read_text(errors="replace").split("\n") if cell.log.exists() else []
        cell.state, cell.problem = "failed", next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
        return
    cell.state, cell.result = "done", read_result(cell.path)
    if data is not None:
        key = hashlib.sha256(cell.result.key.encode()).hexdigest()[:8]  # so that results of other settings are not overwritten
        write_result(cell.result, data / cell.path.parent.name / f"{cell.path.name}-{key}{ENDING}")


@dataclass(frozen=True)
class Summary:
    """The complete runs of a memory on a task.

    Attributes:
        task, memory: task and memory of the runs.
        runs: number of runs.
        return_: mean return over seeds.
        deviation: standard deviation over seeds; None for one run.
        success: mean success over seeds; None if the task does not report it.
        steps, hours: totals over the runs.
    """

    task: str
    memory: str
    runs: int
    return_: float | None
    deviation: float | None
    success: float | None
    steps: int
    hours: float

    def score(self) -> str:
        """Mean, deviation and success in a few characters."""
        text = "-" if self.return_ is None else f"{self.return_:.3f}"
        text += "" if self.deviation is None else f" ± {self.deviation:.3f}"
        return text if self.success is None else f"{text}, {self.success:.1%}"


def summary(cells: Sequence[SweepRun]) -> list[Summary]:
    """A summary for each task and memory with complete runs."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for cell in cells:
        if cell.state in ("done", "kept") and cell.result is not None:
            groups.setdefault((cell.task, cell.memory), []).append(cell.result)
    rows = []
    for (task, memory), results in groups.items():
        values = [result.scores["return"] for result in results if "return" in result.scores]
        successes = [result.scores["success"] for result in results if "success" in result.scores]
        row = Summary(
            task=task,
            memory=memory,
            runs=len(results),
            return_=statistics.fmean(values) if values else None,
            deviation=statistics.stdev(values) if len(values) > 1 else None,
            success=statistics.fmean(successes) if successes else None,
            steps=sum(result.steps for result in results),
            hours=sum(result.seconds for result in results) / 3600,
        )
        rows.append(row)
    return rows


def crossed(cells: Sequence[SweepRun]) -> list[dict[str, str]]:
    """A row for each task and a column for each memory that has complete runs, with its score."""
    found = {(row.task, row.memory): row.score() for row in summary(cells)}
    tasks, memories = (dict.fromkeys(names) for names in zip(*found, strict=True)) if found else ({}, {})
    return [{"task": task} | {memory: found.get((task, memory), "") for memory in memories} for task in tasks]


def mean_ranks(rows: Sequence[Summary]) -> tuple[int, dict[str, float]]:
    """The number of tasks on which every memory has a return, and each memory's mean rank over these tasks, best first. The
    highest return has rank 1; equal returns share the mean of their ranks."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.return_ is not None:
            found.setdefault(row.task, {})[row.memory] = row.return_
    memories = dict.fromkeys(row.memory for row in rows)
    whole = [returns for returns in found.values() if len(returns) == len(memories)]
    ranks = {memory: [_rank(returns[memory], returns.values()) for returns in whole] for memory in memories if whole}
    return len(whole), dict(sorted(((memory, statistics.fmean(each)) for memory, each in ranks.items()), key=itemgetter(1)))


def _rank(value: float, values: Iterable[float]) -> float:
    return 0.5 + sum(1.0 if other > value else 0.5 if other == value else 0.0 for other in values)


def page(
    heading: str, about: str, command: str, table: list[dict[str, str]], cells: Sequence[SweepRun], notes: Sequence[str] = ()
) -> str:
    """A table of runs as a Markdown page, with the command that makes it and an explanation of its numbers."""
    done = sum(cell.state in ("done", "kept") for cell in cells)
    parts = [
        f"# {heading}",
        f"{about[0].upper()}{about[1:]}.",
        f"```bash\n{command}\n```",
        markdown_table(table),
        "Mean return of an episode over the last 5 % of the environment steps, ± its standard deviation over seeds where there "
        f"are some, and success where the task knows it; {done} of {count(len(cells), 'run')}.",
        *notes,
    ]
    return "\n\n".join(parts) + "\n"
