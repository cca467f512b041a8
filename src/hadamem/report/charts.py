"""The charts of the page as data for Plotly, without the colours of the page itself, which change with its theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .comparison import OVERALL, Comparison
from .curves import COLOURS
from .figures import AXES, NAMES, score_name, short, unit
from .statistics import Array

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_MARGIN = {"l": 58, "r": 12, "t": 8, "b": 46}


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        title: title of the chart; "" if it has none.
        about: description of the chart for readers who cannot see it.
        data, layout: data and layout for Plotly. The `meta` of every trace is the memory that it belongs to.
    """

    title: str
    about: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]


@dataclass(frozen=True)
class Charts:
    """The charts of the page by section."""

    curves: list[Chart]
    aggregates: list[Chart]
    profiles: list[Chart]


def looks(comparison: Comparison) -> dict[str, tuple[str, str]]:
    """A colour and a dash for each memory; up to 30 memories have different pairs."""
    size = len(COLOURS)
    return {name: (COLOURS[i % size], DASHES[i // size % len(DASHES)]) for i, name in enumerate(comparison.memories)}


def make_charts(comparison: Comparison) -> Charts:
    """Curves of each task; also aggregates and profiles over all tasks, if there are tasks that every memory has played."""
    curves = [_curves(comparison, task) for task in comparison.tasks]
    if not comparison.overall:
        return Charts(curves, [], [])
    names = [*NAMES, *(["improvement"] if comparison.baseline else [])]
    return Charts(curves, [_aggregate(comparison, name) for name in names], [_profiles(comparison)])


def _curves(comparison: Comparison, task: str) -> Chart:
    divisor, called = unit(comparison.steps[task])
    data = []
    for memory in comparison.memories:
        if memory in comparison.curves[task]:
            steps, values = comparison.curves[task][memory]
            data += _line(comparison, memory, steps / divisor, values)
    x = f"environment steps ({called})" if divisor > 1 else "environment steps"
    about = f"{AXES[comparison.metric]} on {task} against environment steps, a line for each memory"
    return _chart(short(task), about, data, x, AXES[comparison.metric].partition(" (")[0], 260)


def _profiles(comparison: Comparison) -> Chart:
    lines = [_line(comparison, name, comparison.thresholds, comparison.profiles[name]) for name in comparison.memories]
    about = "share of runs with a score above each threshold, a line for each memory"
    data = [trace for line in lines for trace in line]
    return _chart("", about, data, f"{score_name(comparison)} τ", "share of runs with a score > τ", 380)


def _aggregate(comparison: Comparison, name: str) -> Chart:
    data: list[dict[str, Any]] = []
    for row in comparison.overall:
        if (estimate := row.estimates.get(name)) is None:
            continue
        colour, _ = looks(comparison)[row.memory]
        trace: dict[str, Any] = {"x": [estimate.value], "y": [row.memory], "type": "scatter", "mode": "markers"}
        trace |= {"marker": {"color": colour, "size": 11}, "meta": row.memory}
        trace |= {"hovertemplate": f"{_short(row.memory)}: %{{x:.3f}}<extra></extra>"}
        if not math.isnan(estimate.low):
            ends = {"array": [estimate.high - estimate.value], "arrayminus": [estimate.value - estimate.low]}
            trace["error_x"] = {"type": "data", "symmetric": False, "color": colour, "thickness": 2.5, "width": 5, **ends}
        data.append(trace)
    title = NAMES.get(name, f"probability of improvement over {comparison.baseline}")
    about = f"{title} over {OVERALL}, with its interval, for each memory; the numbers are in the table above"
    x = score_name(comparison) if name in NAMES else "probability"
    chart = _chart(title, about, data, x, "", 80 + 26 * len(comparison.overall))
    shown = [row.memory for row in comparison.overall][::-1]
    chart.layout["yaxis"] |= {
        "type": "category",
        "categoryarray": shown,
        "range": [-0.6, len(shown) - 0.4],
        "tickvals": shown,
        "ticktext": [_short(memory) for memory in shown],
    }
    chart.layout["margin"] = _MARGIN | {"l": 10}
    if name not in NAMES:
        chart.layout["xaxis"]["range"] = [-0.04, 1.04]
        line = {"type": "line", "x0": 0.5, "x1": 0.5, "y0": 0, "y1": 1, "yref": "paper", "line": {"width": 1, "dash": "dot"}}
        chart.layout["shapes"] = [line]
    return chart


def _line(comparison: Comparison, memory: str, x: Array, values: Array) -> list[dict[str, Any]]:
    """The traces of a memory: its line, after the band around it if there is one."""
    colour, dash = looks(comparison)[memory]
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    mean, low, high = (_numbers(row) for row in values)
    at = _numbers(x)
    line = {"x": at, "y": mean, "type": "scatter", "mode": "lines", "line": {"color": colour, "dash": dash, "width": 2}}
    line |= {"meta": memory, "name": memory, "hovertemplate": f"{_short(memory)}: %{{y:.3f}}<extra></extra>"}
    if low[0] is None:
        return [line]
    band = {"x": at + at[::-1], "y": high + low[::-1], "type": "scatter", "mode": "lines", "line": {"width": 0}}
    band |= {"fill": "toself", "fillcolor": f"rgba({red},{green},{blue},0.18)", "hoverinfo": "skip", "meta": memory}
    return [band, line]


def _chart(title: str, about: str, data: Sequence[dict[str, Any]], x: str, y: str, height: int) -> Chart:
    layout: dict[str, Any] = {
        "height": height,
        "margin": _MARGIN,
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
    }
    layout |= {
        "xaxis": {"title": {"text": x}, "zeroline": False},
        "yaxis": {"title": {"text": y}, "zeroline": False, "automargin": True},
    }
    return Chart(title, about, list(data), layout)


def _numbers(values: Array) -> list[float | None]:
    return [None if math.isnan(value) else float(f"{value:.5g}") for value in values.tolist()]


def _short(memory: str) -> str:
    return memory if len(memory) <= 24 else memory[:22] + "…"
