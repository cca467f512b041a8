"""Learning curves of runs, as a picture."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence
from typing import Literal

from matplotlib.figure import Figure

from ..run import read_metrics
from ..text import count
from .results import Result, mean_of, neighbours, peek_result

Against = Literal["steps", "minutes"]

# colours that colour-blind readers can tell apart (Okabe and Ito, 2008)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", ":", "-.")


def draw_curves(
    runs: Sequence[pathlib.Path],
    file: pathlib.Path,
    metric: str = "return",
    against: Against = "steps",
    labels: Sequence[str] = (),
) -> None:
    """Draw a panel for each task, with a line for each of its runs.

    Args:
        runs: folders of the runs.
        file: picture to write; its ending names the format.
        metric: a name in the runs' metrics.jsonl.
        against: environment steps, or minutes since the run began.
        labels: a label for each run; none: its memory, and also its seed if two runs of a task have the same memory.

    Raises:
        ValueError: a folder is not a run, a run does not have the metric, or the numbers of labels and of runs differ.
    """
    results = [peek_result(run) for run in runs]
    if labels and len(labels) != len(runs):
        raise ValueError(f"there are {count(len(labels), 'label')} for {count(len(runs), 'run')}")
    panels: dict[str, list[int]] = {}
    for i, result in enumerate(results):
        panels.setdefault(result.task, []).append(i)
    curves = [_curve(run, metric, against) for run in runs]
    columns = math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    size = (7, 4) if len(panels) == 1 else (5 * columns, 3.5 * rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (task, members) in zip(grid.flat, sorted(panels.items()), strict=False):
        names = [labels[i] for i in members] if labels else _labels([results[i] for i in members])
        for n, (i, name) in enumerate(zip(members, names, strict=True)):
            axes.plot(*curves[i], STYLES[n % len(STYLES)], color=COLOURS[n % len(COLOURS)], label=name)
        axes.set(
            xlabel="environment steps (millions)" if against == "steps" else "minutes",
            ylabel=metric.replace("_", " "),
            title=task,
        )
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, title=None if labels else "memory")
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


def _labels(results: Sequence[Result]) -> list[str]:
    """The memory of each run of a task; with its seed if two of the runs have the same memory."""
    labels = [result.memory for result in results]
    twice = len(set(labels)) < len(labels)
    return [f"{label}, seed {result.seed}" if twice else label for label, result in zip(labels, results, strict=True)]


def _curve(run: pathlib.Path, metric: str, against: Against) -> tuple[list[float], list[float]]:
    """A curve of at most 200 points, each of which is the mean of neighbouring lines of metrics."""
    metrics = read_metrics(run)
    name, unit = ("step", 1e6) if against == "steps" else ("seconds", 60)
    lines = [line for line in metrics if metric in line and name in line]
    if not lines:
        there = ", ".join(sorted({name for line in metrics for name in line})) or "nothing yet"
        raise ValueError(f"{run} has no metric {metric!r}; it has: {there}")
    groups = neighbours(lines)
    return [mean_of(group, name) / unit for group in groups], [mean_of(group, metric) for group in groups]
