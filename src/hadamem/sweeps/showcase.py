"""The experiment of `make train`: agents with and without a memory on a task that requires one."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..agents.config import seed_for
from ..agents.progress import Progress
from ..agents.training import evaluate_task
from ..recipes.presets import preset_config
from ..report.curves import draw_curves
from ..run import write_whole
from .runs import evaluate_run, train_once

#: Cards are dealt one by one, and at each card the agent must name the suit of the first card, which recent cards do not show.
TASK = "popgym-RepeatFirstEasy-v0"
MEMORIES = {"shm": "Stable Hadamard Memory", "gru": "GRU", "mlp": "no memory (mlp)"}


def showcase(
    out: pathlib.Path, steps: int, episodes: int, seed: int, progress: Callable[[str, int, int], Progress] = Progress
) -> list[dict[str, Any]] | None:
    """Train each memory for `steps`, evaluate it and a random policy on `episodes` fresh episodes, and write results.json and
    curves.png. Existing runs are continued, or left unchanged if complete. `progress`: see `train`.

    Returns:
        Rows with policy, memory, mean, ci95, episodes and steps; None if the user stopped the training.
    """
    rows = []
    for memory in MEMORIES:
        config = replace(preset_config("fast", TASK, memory, steps), seed=seed)
        result = train_once(config, out / memory, progress)
        if result is None:
            return None
        row = {"policy": "trained", "memory": memory, "steps": result["steps"]}
        rows.append(row | _kept(evaluate_run(out / memory, episodes)))
    random = evaluate_task(config, None, seed_for(seed, "evaluation"), episodes)
    rows.append({"policy": "random", "memory": "none", "steps": 0, **_kept(random)})
    write_whole(out / "results.json", json.dumps(rows, indent=2))
    draw_curves([out / memory for memory in MEMORIES], out / "curves.png", labels=list(MEMORIES.values()))
    return rows


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("mean", "ci95", "episodes")}
