"""Comparison of memories: which runs count, up to which step, and statistics of their scores, per task and over all tasks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..envs.bounds import known_returns
from ..text import count
from .labels import make_labels
from .results import METRICS, TAIL, Result, matches
from .statistics import AGGREGATES, Array, Estimate, aggregate, band, improvement, normalise, profile

Normalise = Literal["known", "range", "none"]

#: `task` of the rows over all tasks
OVERALL = "all tasks"
_GRID = 101  # points of a mean curve, and thresholds of a profile
_SLACK = 0.01  # share of the steps by which equally long runs may differ, since they end with whole iterations


@dataclass(frozen=True)
class Entry:
    """A run that is compared: its result, the label of its memory, its score at the common steps, and its normalised score."""

    result: Result
    memory: str
    score: float
    normalised: float


@dataclass(frozen=True)
class Scale:
    """The scores of a task that are normalised to 0 and to 1, and where they are from; NaN if scores cannot be normalised."""

    low: float
    high: float
    source: str


@dataclass(frozen=True)
class Row:
    """A memory on a task, or on OVERALL.

    Attributes:
        runs: number of runs on this task; on OVERALL, number of runs of each task.
        estimates: "mean", "median" and "iqm" of the scores, on OVERALL of the normalised scores; "normalised", the mean of the
            normalised scores; "improvement" over the baseline, if there is a baseline and it is another memory.
    """

    task: str
    memory: str
    runs: int
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        metric: one of METRICS.
        memories: labels, best first.
        tasks: in alphabetical order, easy ones before hard ones.
        baseline: label of the memory that the others are measured against; None with a single memory.
        entries: the runs that count, by task, memory and seed.
        scales: per task, the scale of the normalised scores.
        steps: per task, the environment steps at which all its runs are compared.
        curves: per task and memory, the steps (K,), and the mean with the two ends of its band (3, K).
        rows: a row for each task and memory.
        overall: a row over all tasks for each memory; empty unless there are tasks that every memory has played.
        shared: the tasks with a scale that every memory has played.
        thresholds: the thresholds (K,) of `profiles`.
        profiles: per memory, see `statistics.profile`.
        reps: number of resamples for each interval.
        notes: sentences that a reader must know, such as which runs were left out.
    """

    metric: str
    memories: list[str]
    tasks: list[str]
    baseline: str | None
    entries: list[Entry]
    scales: dict[str, Scale]
    steps: dict[str, float]
    curves: dict[str, dict[str, tuple[Array, Array]]]
    rows: list[Row]
    overall: list[Row]
    shared: list[str]
    thresholds: Array
    profiles: dict[str, Array]
    reps: int
    notes: list[str]


def compare(
    results: Iterable[Result],
    metric: str = "return",
    baseline: str | None = None,
    tasks: Sequence[str] = (),
    memories: Sequence[str] = (),
    normalise_by: Normalise = "known",
    incomplete: bool = False,
    reps: int = 10_000,
) -> Comparison:
    """Compare results.

    Args:
        results: results of runs, of any tasks, memories and seeds.
        metric: one of METRICS.
        baseline: memory by label or name; None: gru if there is one, otherwise the worst.
        tasks, memories: patterns with * and ?; only tasks and memories that match one of them count. Empty: all.
        normalise_by: "known" takes random play as 0 and the largest return as 1 if they are known, otherwise the worst and the
            best compared run, as "range" does on every task; "none" leaves the scores as they are.
        incomplete: whether runs that are not complete count, too.
        reps: number of resamples for each interval.

    Raises:
        ValueError: no run is left to compare, the metric or the baseline does not exist, or `reps` is below 100.
    """
    if reps < 100:
        raise ValueError(f"reps is {reps}; a 95 % interval takes at least 100 resamples")
    notes: list[str] = []
    found = _chosen(list(results), metric, tasks, incomplete, notes)
    labelled = _once(list(zip(found, make_labels(found), strict=True)), memories, notes)
    by_task = _grouped(labelled)
    steps = {task: _common_steps(task, members, notes) for task, members in by_task.items()}
    scored = {task: [(r, m, _score(r, metric, steps[task])) for r, m in members] for task, members in by_task.items()}
    scales = {task: _scale(metric, members, normalise_by) for task, members in scored.items()}
    entries = []
    for task, members in scored.items():
        low, high = scales[task].low, scales[task].high
        scaled = normalise(np.array([score for *_, score in members]), low, high)
        entries += [Entry(*member, float(value)) for member, value in zip(members, scaled, strict=True)]
    raw, scores = _scores(entries, lambda e: e.score), _scores(entries, lambda e: e.normalised)
    scaled_tasks = [task for task in by_task if math.isfinite(scales[task].low)]
    means = {memory: [of[task].mean() for task in scaled_tasks if task in of] for memory, of in scores.items()}
    order = sorted(scores, key=lambda memory: -float(np.mean(means[memory] or [-math.inf])))
    shared = [task for task in scaled_tasks if all(task in scores[memory] for memory in order)]
    against = _baseline(baseline, order, labelled) if len(order) > 1 else None
    matrices = _matrices(scores, shared, notes) if shared else {}
    rows = [_row(task, m, raw, scores, against, reps) for task in by_task for m in order if task in scores[m]]
    overall = [_overall(memory, matrices, against, reps) for memory in order if memory in matrices]
    if matrices:
        order = sorted(order, key=lambda memory: -matrices[memory].mean())
        overall.sort(key=lambda row: order.index(row.memory))
    thresholds = _thresholds(matrices, normalise_by)
    _explain(notes, by_task, shared, order, scores, scales)
    return Comparison(
        metric,
        order,
        list(by_task),
        against,
        entries,
        scales,
        steps,
        {task: _curves(members, metric, steps[task], reps) for task, members in by_task.items()},
        rows,
        overall,
        shared,
        thresholds,
        {memory: profile(matrix, thresholds, reps) for memory, matrix in matrices.items()},
        reps,
        notes,
    )


def _chosen(results: list[Result], metric: str, tasks: Sequence[str], incomplete: bool, notes: list[str]) -> list[Result]:
    """The results that may count. The reasons why others are left out are added to the notes."""
    if not results:
        raise ValueError(
            "no runs there; give folders that hadamem train or hadamem sweep made, or files of results (*.run.json)"
        )
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; there are: {', '.join(METRICS)}")
    matching = [r for r in results if not tasks or matches(tasks, r.task, r.config["env"])]
    if not matching:
        raise ValueError(f"no task matches {' '.join(tasks)}; there are: {', '.join(sorted({r.task for r in results}))}")
    ended = [r for r in matching if r.complete or incomplete]
    if len(ended) < len(matching):
        left = count(len(matching) - len(ended), "run")
        notes.append(f"{left} left out, not complete; --incomplete counts them with their steps so far.")
    if not ended:
        raise ValueError(f"none of {count(len(matching), 'run')} is complete; --incomplete counts them, too")
    with_metric = [r for r in ended if r.curves.get(metric)]
    if len(with_metric) < len(ended):
        notes.append(f"{count(len(ended) - len(with_metric), 'run')} left out, without the metric {metric}.")
    if not with_metric:
        there = ", ".join(name for name in METRICS if any(name in r.curves for r in ended)) or "none"
        raise ValueError(f"no run has the metric {metric!r}; they have: {there}")
    return with_metric


def _once(labelled: list[tuple[Result, str]], memories: Sequence[str], notes: list[str]) -> list[tuple[Result, str]]:
    """The runs of the memories that match. Of several runs of one task, memory and seed, only one is returned: a complete one
    if there is one, and of these the longest."""
    matching = [(r, label) for r, label in labelled if not memories or matches(memories, label, r.config["memory"])]
    if not matching:
        there = ", ".join(sorted({label for _, label in labelled}))
        raise ValueError(f"no memory matches {' '.join(memories)}; there are: {there}")
    best: dict[tuple[str, str, int], tuple[Result, str]] = {}
    for result, label in sorted(matching, key=lambda pair: (pair[0].complete, pair[0].steps)):
        best[result.task, label, result.seed] = (result, label)
    if len(best) < len(matching):
        left = count(len(matching) - len(best), "run")
        notes.append(f"{left} left out: another run of the same task, memory and seed counts instead.")
    return [best[key] for key in sorted(best, key=lambda key: (_in_order(key[0]), *key[1:]))]


def _grouped(labelled: list[tuple[Result, str]]) -> dict[str, list[tuple[Result, str]]]:
    groups: dict[str, list[tuple[Result, str]]] = defaultdict(list)
    for result, label in labelled:
        groups[result.task].append((result, label))
    return dict(groups)


def _common_steps(task: str, members: list[tuple[Result, str]], notes: list[str]) -> float:
    steps = [result.steps for result, _ in members]
    longer = sum(step > min(steps) * (1 + _SLACK) for step in steps)
    if longer:
        went_on = f"{count(longer, 'run')} went on to {max(steps):,}"
        notes.append(f"{task}: compared at {min(steps):,} environment steps, the fewest; {went_on}.")
    return float(min(steps))


def _score(result: Result, metric: str, steps: float) -> float:
    """The mean of the metric over the last 5 % of the common steps; if it has no value there, its latest value before them."""
    if result.steps <= steps * (1 + _SLACK) and metric in result.scores:
        return result.scores[metric]
    curve = [(step, value) for step, value in result.curves[metric] if step <= steps] or result.curves[metric][:1]
    tail = [value for step, value in curve if step > (1 - TAIL) * steps] or [curve[-1][1]]
    return sum(tail) / len(tail)


def _scale(metric: str, members: list[tuple[Result, str, float]], normalise_by: Normalise) -> Scale:
    if normalise_by == "none":
        return Scale(0.0, 1.0, "as it is")
    if normalise_by == "known":
        if metric.endswith("success"):
            return Scale(0.0, 1.0, "success rate")
        if (known := known_returns(members[0][0].config["env"])) is not None:
            return Scale(*known, "random play and the largest possible return")
    scores = [score for *_, score in members]
    if len(scores) == 1:
        return Scale(math.nan, math.nan, "not known, and there is no other run")
    return Scale(min(scores), max(scores), "the worst and the best of the compared runs")


def _scores(entries: list[Entry], of: Callable[[Entry], float]) -> dict[str, dict[str, Array]]:
    """Per memory and task, the scores (N,) of the runs in the order of their seeds."""
    lists: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        lists[entry.memory][entry.result.task].append(of(entry))
    return {memory: {task: np.array(values) for task, values in tasks.items()} for memory, tasks in lists.items()}


def _baseline(wanted: str | None, order: list[str], labelled: list[tuple[Result, str]]) -> str:
    names = {label: result.config["memory"] for result, label in labelled}
    fitting = [label for label in order if (wanted or "gru") in (label, names[label])]
    if wanted in fitting:
        return wanted
    if len(fitting) == 1:
        return fitting[0]
    if wanted is None:
        return fitting[-1] if fitting else order[-1]
    raise ValueError(f"baseline {wanted!r} is {'not one memory' if fitting else 'not there'}; there are: {', '.join(order)}")


def _matrices(scores: dict[str, dict[str, Array]], shared: list[str], notes: list[str]) -> dict[str, Array]:
    """Per memory, its normalised scores (N, M) on the M shared tasks, where N is its smallest number of runs of such a task."""
    matrices = {}
    for memory, tasks in scores.items():
        fewest = min(len(tasks[task]) for task in shared)
        matrices[memory] = np.stack([tasks[task][:fewest] for task in shared], 1)
    uneven = [memory for memory, matrix in matrices.items() if any(len(scores[memory][task]) > len(matrix) for task in shared)]
    if uneven:
        counts = ", ".join(f"{len(matrices[memory])} of {memory}" for memory in uneven)
        notes.append(
            f"Per task, all runs count; over all tasks, the first by seed, as many as of the task with the fewest: {counts}."
        )
    return matrices


def _row(
    task: str,
    memory: str,
    raw: dict[str, dict[str, Array]],
    scores: dict[str, dict[str, Array]],
    baseline: str | None,
    reps: int,
) -> Row:
    values = raw[memory][task][:, None]
    estimates = {name: aggregate(values, name, reps) for name in AGGREGATES}
    estimates["normalised"] = aggregate(scores[memory][task][:, None], "mean", reps)
    if baseline not in (None, memory) and task in raw[baseline]:
        estimates["improvement"] = improvement(values, raw[baseline][task][:, None], reps)
    return Row(task, memory, len(values), estimates)


def _overall(memory: str, matrices: dict[str, Array], baseline: str | None, reps: int) -> Row:
    matrix = matrices[memory]
    estimates = {name: aggregate(matrix, name, reps) for name in AGGREGATES}
    estimates["normalised"] = estimates["mean"]
    if baseline not in (None, memory):
        estimates["improvement"] = improvement(matrix, matrices[baseline], reps)
    return Row(OVERALL, memory, len(matrix), estimates)


def _thresholds(matrices: dict[str, Array], normalise_by: Normalise) -> Array:
    if not matrices:
        return np.zeros(0)
    low, high = min(m.min() for m in matrices.values()), max(m.max() for m in matrices.values())
    if normalise_by != "none":
        low, high = min(low, 0.0), max(high, 1.0)
    return np.linspace(low, high, _GRID)


def _curves(members: list[tuple[Result, str]], metric: str, steps: float, reps: int) -> dict[str, tuple[Array, Array]]:
    """Mean curves on a grid of steps that begins at the first step at which all runs of a memory have a value."""
    by_memory: dict[str, list[Array]] = defaultdict(list)
    for result, memory in members:
        by_memory[memory].append(np.array(result.curves[metric], dtype=float).reshape(-1, 2))
    made = {}
    for memory, curves in by_memory.items():
        first = min(max(curve[0, 0] for curve in curves), steps)
        grid = np.linspace(first, steps, _GRID)
        made[memory] = grid, band(np.stack([np.interp(grid, curve[:, 0], curve[:, 1]) for curve in curves]), reps)
    return made


def _explain(
    notes: list[str],
    by_task: dict[str, list[tuple[Result, str]]],
    shared: list[str],
    order: list[str],
    scores: dict[str, dict[str, Array]],
    scales: dict[str, Scale],
) -> None:
    """Add notes about the comparison to the notes about runs that were left out."""
    alone = [task for task, scale in scales.items() if math.isnan(scale.low)]
    if alone:
        notes.append(f"Not normalised, since no bounds are known and there is no other run: {', '.join(alone)}.")
    if not any(all(task in scores[memory] for memory in order) for task in by_task):
        notes.append("No task was played with every memory, so that there are no results over all tasks.")
    elif 0 < len(shared) < len(by_task):
        notes.append(f"Over all tasks means over the {len(shared)} of {len(by_task)} that every memory has played.")
    single = [memory for memory in order if any(len(values) == 1 for values in scores[memory].values())]
    if single:
        which = "all memories" if len(single) == len(order) else ", ".join(single)
        notes.append(f"One run says nothing of the spread: no interval where there is a single one ({which}).")
    by_range = [task for task, scale in scales.items() if scale.source.startswith("the worst") and math.isfinite(scale.low)]
    if by_range:
        notes.append(
            f"Normalised by the worst and the best compared run, since no bounds are known or wanted: {', '.join(by_range)}."
        )


def _in_order(task: str) -> str:
    """The key by which tasks are sorted: easy tasks before hard ones."""
    for i, level in enumerate(("Easy", "Medium", "Hard")):
        task = task.replace(level, str(i))
    return task
