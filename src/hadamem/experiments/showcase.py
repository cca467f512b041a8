"""The main job of `make train`: an agent that remembers beside one that cannot, on a task that needs memory."""

from __future__ import annotations

import json
import pathlib
from dataclasses import replace
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from ..agents.training import evaluate_task, seed_for
from ..run import read_metrics, write_whole
from .recipes import preset_config
from .runs import evaluate_run, train_once

TASK = "popgym-RepeatPreviousEasy-v0"
MEMORIES = ("shm", "mlp")


def showcase(out: pathlib.Path, steps: int, episodes: int, seed: int) -> list[dict[str, Any]] | None:
    """Train each memory for `steps`, evaluate it on `episodes` fresh episodes beside a random policy, write results.json and
    curves.png. Runs that are already there are continued, or left as they are if complete.

    Returns:
        Rows with policy, memory, mean, ci95, episodes and steps; None if the user stopped the training.
    """
    rows = []
    for memory in MEMORIES:
        config = replace(preset_config("fast", TASK, memory), steps=steps, seed=seed)
        result = train_once(config, out / memory)
        if result is None:
            return None
        row = {"policy": "trained", "memory": memory, "steps": result["steps"]}
        rows.append(row | _kept(evaluate_run(out / memory, episodes)))
    random = evaluate_task(config, None, seed_for(seed, "evaluation"), episodes)
    rows.append({"policy": "random", "memory": "none", "steps": 0, **_kept(random)})
    write_whole(out / "results.json", json.dumps(rows, indent=2))
    draw_curves(out, out / "curves.png")
    return rows


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("mean", "ci95", "episodes")}


def draw_curves(out: pathlib.Path, file: pathlib.Path) -> None:
    """Mean return of the latest 100 episodes against environment steps, a line for each memory."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for memory, colour, style in zip(MEMORIES, ("#0072B2", "#D55E00"), ("-", "--"), strict=True):
        lines = [line for line in read_metrics(out / memory) if "return" in line]
        label = {"shm": "Stable Hadamard Memory", "mlp": "no memory (mlp)"}[memory]
        axes.plot([x["step"] / 1e6 for x in lines], [x["return"] for x in lines], style, color=colour, label=label)
    axes.set(
        xlabel="environment steps (millions)",
        ylabel="episode return (mean of the latest 100)",
        title=TASK.removesuffix("-v0"),
        ylim=(-1.02, 1.02),
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=150)
    plt.close(figure)
