"""The pictures of a comparison, for a page of a paper: learning curves, aggregates, performance profiles."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..experiments.curves import COLOURS, STYLES
from .comparison import Comparison

#: How a metric is called on an axis, with its unit.
AXES = {
    "return": "return per episode",
    "success": "success rate (share of episodes)",
    "evaluation_return": "return per evaluation episode",
    "evaluation_success": "success rate (share of evaluation episodes)",
}
#: How an aggregate is called.
NAMES = {"mean": "mean", "median": "median", "iqm": "interquartile mean"}
_WIDTH = 7.2  # inches: the text of a page
_FONT = {"font.size": 8, "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42}


def draw_all(comparison: Comparison) -> dict[str, Figure]:
    """The pictures by name: "curves"; and where there are tasks that all memories have played, "aggregates" and "profiles"."""
    drawings: dict[str, Callable[[Comparison], Figure]] = {"curves": curves}
    if comparison.overall:
        drawings |= {"aggregates": aggregates, "profiles": profiles}
    with plt.rc_context(_FONT):
        return {name: draw(comparison) for name, draw in drawings.items()}


def short(task: str) -> str:
    """A task without the name of its collection."""
    return task.removeprefix("hadamem/").removeprefix("popgym-")


def look(comparison: Comparison) -> Mapping[str, tuple[str, str]]:
    """Per memory a colour and a style of line; together they are different for up to 24."""
    names = sorted(comparison.memories)
    # the style changes with every round of the colours, so that lines of one colour are of different styles
    return {name: (COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]) for i, name in enumerate(names)}


def unit(steps: float) -> tuple[float, str]:
    """What to count environment steps in, so that their number is short."""
    return (1e6, "millions") if steps >= 1e6 else (1e3, "thousands") if steps >= 1e4 else (1.0, "steps")


def curves(comparison: Comparison) -> Figure:
    """A panel for each task: the mean over its runs, and the band."""
    tasks, looks = comparison.tasks, look(comparison)
    columns = min(len(tasks), 4 if len(tasks) > 6 else 3)
    rows = math.ceil(len(tasks) / columns)
    height = 1.75 * rows + 0.5 if len(tasks) > 1 else 3.6
    figure, grid = plt.subplots(rows, columns, figsize=(_WIDTH, height), squeeze=False, layout="constrained")
    divisor, called = unit(max(comparison.steps.values()))
    for axes, task in zip(grid.flat, tasks, strict=False):
        for memory, (steps, (mean, low, high)) in sorted(comparison.curves[task].items()):
            colour, style = looks[memory]
            axes.plot(steps / divisor, mean, style, color=colour, linewidth=1.2)
            axes.fill_between(steps / divisor, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.set_title(textwrap.fill(short(task), 84 // columns))
        axes.grid(alpha=0.3)
    for axes in list(grid.flat)[len(tasks) :]:
        axes.set_visible(False)
    figure.supxlabel(f"environment steps ({called})" if divisor > 1 else "environment steps", fontsize=8)
    figure.supylabel(AXES[comparison.metric], fontsize=8)
    _legend(figure, comparison, "Lines: mean over runs. Bands: its 95 % bootstrap interval at each step.")
    return figure


def aggregates(comparison: Comparison) -> Figure:
    """A panel for each aggregate over all tasks, and one for the probability of improvement; a line for each memory."""
    looks, rows = look(comparison), comparison.overall[::-1]  # the best at the top
    panels = list(NAMES) + (["improvement"] if comparison.baseline else [])
    labels = [textwrap.fill(row.memory, 30) for row in rows]
    lines = sum(label.count("\n") + 1 for label in labels)
    size = (_WIDTH, 1.1 + 0.2 * lines)
    figure, grid = plt.subplots(1, len(panels), figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axes, name in zip(grid[0], panels, strict=True):
        for y, row in enumerate(rows):
            estimate = row.estimates.get(name)
            if estimate is not None:
                colour, _ = looks[row.memory]
                axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=6, alpha=0.4, solid_capstyle="butt")
                axes.plot(estimate.value, y, "|", color=colour, markersize=11, markeredgewidth=2)
        axes.grid(alpha=0.3, axis="x")
        axes.margins(y=0.5 / max(len(rows), 2))
        axes.set_title(NAMES.get(name, f"probability of improvement\nover {textwrap.shorten(comparison.baseline or '', 28)}"))
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
    """The share of runs above each score."""
    figure, axes = plt.subplots(figsize=(_WIDTH, 3.4), layout="constrained")
    looks = look(comparison)
    for memory, (share, low, high) in sorted(comparison.profiles.items()):
        colour, style = looks[memory]
        axes.plot(comparison.thresholds, share, style, color=colour, linewidth=1.4)
        axes.fill_between(comparison.thresholds, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel=f"{score_name(comparison)} τ", ylabel="share of runs with a score > τ", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    told = f"Runs of {_tasks(comparison)}. Bands: 95 % stratified bootstrap intervals."
    _legend(figure, comparison, told)
    return figure


def score_name(comparison: Comparison) -> str:
    """What the scores over all tasks are."""
    as_is = all(scale.source == "as it is" for scale in comparison.scales.values())
    return AXES[comparison.metric] if as_is else f"normalised {comparison.metric.replace('_', ' ')}"


def _tasks(comparison: Comparison) -> str:
    return "1 task" if len(comparison.shared) == 1 else f"{len(comparison.shared)} tasks"


def _legend(figure: Figure, comparison: Comparison, told: str) -> None:
    """One for all panels, under them, with what lines and bands are."""
    looks = look(comparison)
    names = sorted(comparison.memories)
    handles = [Line2D([], [], color=looks[name][0], linestyle=looks[name][1]) for name in names]
    labels = [textwrap.fill(name, 40) for name in names]
    columns = max(1, min(len(names), int(110 / (max(len(line) for label in labels for line in label.split("\n")) + 7))))
    place = {"loc": "outside lower center", "frameon": False, "title_fontsize": 8}
    figure.legend(handles, labels, ncols=columns, title=told, alignment="center", **place)

