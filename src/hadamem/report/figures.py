"""The pictures of a comparison, in the size of a paper's page: learning curves, aggregates, performance profiles."""

from __future__ import annotations

import math
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..text import count
from .comparison import Comparison
from .curves import COLOURS, STYLES
from .statistics import Array

#: The label of each metric on an axis, with its unit.
AXES = {
    "return": "return per episode",
    "success": "success rate (share of episodes)",
    "evaluation_return": "return per evaluation episode",
    "evaluation_success": "success rate (share of evaluation episodes)",
}
#: The displayed name of each aggregate.
NAMES = {"mean": "mean", "median": "median", "iqm": "interquartile mean"}
_WIDTH = 7.2  # inches, the width of the text on a page
_FONT: Any = {"font.size": 8, "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42}


def draw_all(comparison: Comparison) -> dict[str, Figure]:
    """The pictures by name: "curves", and "curves-2" and so on if there are more memories than colours; also "aggregates" and
    "profiles" if there are tasks that every memory has played."""
    with matplotlib.rc_context(_FONT):
        pages = groups(comparison)
        drawn = {f"curves-{i + 1}" if i else "curves": curves(comparison, page) for i, page in enumerate(pages)}
        if comparison.overall:
            drawn |= {"aggregates": aggregates(comparison), "profiles": profiles(comparison)}
    return drawn


def save(figure: Figure, path: pathlib.Path) -> None:
    """Write a picture as .png and as .pdf."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for ending in ("png", "pdf"):
        figure.savefig(path.with_name(f"{path.name}.{ending}"), dpi=200)


def short(task: str) -> str:
    """The name of a task without that of its collection."""
    return task.removeprefix("hadamem/").removeprefix("popgym-")


def groups(comparison: Comparison) -> list[list[str]]:
    """The memories, best first, in groups of as many as there are colours."""
    names, size = comparison.memories, len(COLOURS)
    return [names[i : i + size] for i in range(0, len(names), size)]


def look(comparison: Comparison) -> dict[str, tuple[str, Any]]:
    """A colour and a line style for each memory; within a group, each memory has its own colour."""
    return {name: (COLOURS[i], STYLES[i % len(STYLES)]) for group in groups(comparison) for i, name in enumerate(group)}


def unit(steps: float) -> tuple[float, str]:
    """A unit of environment steps in which their number is short: its size and its name."""
    return (1e6, "millions") if steps >= 1e6 else (1e3, "thousands") if steps >= 1e4 else (1.0, "steps")


def curves(comparison: Comparison, shown: Sequence[str]) -> Figure:
    """A panel for each task: the mean over runs and its band for each memory in `shown`, and grey means for the others."""
    tasks = comparison.tasks
    columns = min(len(tasks), 4 if len(tasks) > 6 else 3)
    rows = math.ceil(len(tasks) / columns)
    height = 1.6 * rows + 0.8 if len(tasks) > 1 else 3.6
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    divisor, called = unit(max(comparison.steps.values()))
    for axes, task in zip(grid.flat, tasks, strict=False):
        lines = {memory: (steps / divisor, *values) for memory, (steps, values) in comparison.curves[task].items()}
        _lines(axes, comparison, lines, shown)
        axes.set_title(textwrap.fill(short(task), 84 // columns))
    for axes in list(grid.flat)[len(tasks) :]:
        axes.set_visible(False)
    figure.supxlabel(f"environment steps ({called})" if divisor > 1 else "environment steps", fontsize=8)
    figure.supylabel(AXES[comparison.metric], fontsize=8)
    _legend(figure, comparison, shown, "Lines: mean over runs. Bands: its 95 % bootstrap interval at each step.")
    return figure


def aggregates(comparison: Comparison) -> Figure:
    """A panel for each aggregate over all tasks, and one for the probability of improvement; a line for each memory."""
    looks, rows = look(comparison), comparison.overall[::-1]  # the best at the top
    panels = list(NAMES) + (["improvement"] if comparison.baseline else [])
    labels = [textwrap.fill(row.memory, 30) for row in rows]
    lines = sum(label.count("\n") + 1 for label in labels)
    size = (_WIDTH, 1.1 + 0.2 * lines)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)
    for axes, name in zip(grid[0], panels, strict=True):
        for y, row in enumerate(rows):
            if (estimate := row.estimates.get(name)) is not None:
                colour, _ = looks[row.memory]
                axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=6, alpha=0.4, solid_capstyle="butt")
                axes.plot(estimate.value, y, "|", color=colour, markersize=11, markeredgewidth=2)
        axes.grid(alpha=0.3, axis="x")
        axes.margins(y=0.5 / max(len(rows), 2))
        against = textwrap.shorten(comparison.baseline or "", 28, placeholder=" ...")
        axes.set_title(NAMES.get(name, f"probability of\nimproving on {against}"))
        if name == "improvement":
            axes.set_xlim(-0.03, 1.03)
            axes.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
    grid[0, 0].set_yticks(range(len(rows)), labels)
    figure.supxlabel(
        f"{score_name(comparison)} over {_tasks(comparison)}. Ticks: estimates. Bars: 95 % stratified bootstrap intervals.",
        fontsize=8,
    )
    return figure


def profiles(comparison: Comparison) -> Figure:
    """The share of runs above each score; a panel for each group of memories, with the others in grey."""
    pages = groups(comparison)
    figure = Figure(figsize=(_WIDTH, 0.3 + 2.6 * len(pages)), layout="constrained")
    grid = figure.subplots(len(pages), squeeze=False)
    lines = {memory: (comparison.thresholds, *values) for memory, values in comparison.profiles.items()}
    for axes, page in zip(grid.flat, pages, strict=True):
        _lines(axes, comparison, lines, page)
        axes.set(ylabel="share of runs with a score > τ", ylim=(-0.02, 1.02))
        axes.legend(*_handles(comparison, page), loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    grid[-1, 0].set_xlabel(f"{score_name(comparison)} τ")
    caption = f"Runs of {_tasks(comparison)}. Bands: 95 % stratified bootstrap intervals."
    figure.suptitle(caption + ("" if len(pages) == 1 else " Grey: the other memories."), fontsize=8)
    return figure


def score_name(comparison: Comparison) -> str:
    """The name of the scores over all tasks."""
    as_is = all(scale.source == "as it is" for scale in comparison.scales.values())
    return AXES[comparison.metric] if as_is else f"normalised {comparison.metric.replace('_', ' ')}"


def _tasks(comparison: Comparison) -> str:
    return count(len(comparison.shared), "task")


def _lines(axes: Axes, comparison: Comparison, lines: Mapping[str, tuple[Array, ...]], shown: Sequence[str]) -> None:
    """Draw the line of each memory, given as (x, mean, low, high)."""
    looks = look(comparison)
    for memory in sorted(lines, key=lambda name: name in shown):
        x, mean, low, high = lines[memory]
        if memory in shown:
            colour, style = looks[memory]
            axes.plot(x, mean, style, color=colour, linewidth=1.3)
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        else:
            axes.plot(x, mean, color="0.8", linewidth=0.7)
    axes.grid(alpha=0.3)


def _handles(comparison: Comparison, shown: Sequence[str]) -> tuple[list[Line2D], list[str]]:
    looks = look(comparison)
    handles = [Line2D([], [], color=looks[name][0], linestyle=looks[name][1]) for name in shown]
    return handles, [textwrap.fill(name, 30) for name in shown]


def _legend(figure: Figure, comparison: Comparison, shown: Sequence[str], caption: str) -> None:
    """Draw one legend above all panels, whose title explains the lines and bands."""
    handles, labels = _handles(comparison, shown)
    longest = max(len(line) for label in labels for line in label.split("\n"))
    columns = max(1, min(len(labels), 110 // (longest + 7)))
    caption += "" if len(shown) == len(comparison.memories) else " Grey: the other memories."
    place: dict[str, Any] = {"loc": "outside upper center", "frameon": False, "title_fontsize": 8}
    figure.legend(handles, labels, ncols=columns, title=caption, alignment="center", **place)
