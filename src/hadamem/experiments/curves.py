"""Learning curves of runs, as a picture."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from ..run import read_config, read_metrics
from .results import mean_of, neighbours

Against = Literal["steps", "minutes"]

# told apart by colour-blind readers (Okabe and Ito, 2008)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", ":", "-.")


def draw_curves(
    runs: Sequence[pathlib.Path],
    file: pathlib.Path,
    metric: str = "return",
    against: Against = "steps",
    labels: Sequence[str] = (),
) -> None:
    """A line for each run.

    Args:
        runs: their folders.
        file: the picture, in the format that its ending names.
        metric: a name in the runs' metrics.jsonl.
        against: environment steps, or minutes since the run began.
        labels: a name for each run; none: its memory and agent, and its seed where two would be called the same.

    Raises:
        ValueError: a folder is no run, a run has no such metric, or there are not as many labels as runs.
    """
    configs = [read_config(run) for run in runs]
    if labels and len(labels) != len(runs):
        raise ValueError(f"there are {len(labels)} labels for {len(runs)} runs")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for i, (run, label) in enumerate(zip(runs, labels or _labels(configs), strict=True)):
        x, y = _curve(run, metric, against)
        axes.plot(x, y, STYLES[i % len(STYLES)], color=COLOURS[i % len(COLOURS)], label=label)
    tasks = {" ".join([config["env"].removesuffix("-v0"), *config["env_options"]]) for config in configs}
    axes.set(
        xlabel="environment steps (millions)" if against == "steps" else "minutes",
        ylabel=metric.replace("_", " "),
        title=", ".join(sorted(tasks)),
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _labels(configs: list[dict[str, Any]]) -> list[str]:
    labels = [f"{config['memory']} ({config['agent']})" for config in configs]
    twice = len(set(labels)) < len(labels)
    return [f"{label}, seed {config['seed']}" if twice else label for label, config in zip(labels, configs, strict=True)]


def _curve(run: pathlib.Path, metric: str, against: Against) -> tuple[list[float], list[float]]:
    """At most 200 points, each the mean of neighbouring lines of metrics."""
    metrics = read_metrics(run)
    lines = [line for line in metrics if metric in line]
    if not lines:
        there = ", ".join(sorted({name for line in metrics for name in line})) or "nothing yet"
        raise ValueError(f"{run} has no metric {metric!r}; it has: {there}")
    name, unit = ("step", 1e6) if against == "steps" else ("seconds", 60)
    groups = neighbours(lines)
    return [mean_of(group, name) / unit for group in groups], [mean_of(group, metric) for group in groups]
