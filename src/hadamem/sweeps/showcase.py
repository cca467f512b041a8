"""The experiment of `make train`: agents with and without a memory on a task that requires one."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from ..agents.config import seed_for
from ..agents.evaluation import Evaluation
from ..agents.progress import Progress
from ..agents.training import evaluate_task
from ..disk import write_whole
from ..recipes.presets import preset_config
from ..report.curves import draw_curves
from .runs import evaluate_run, train_once

#: Cards are dealt one by one, and at each card the agent must name the suit of the first card, which recent cards do not show.
TASK = "popgym-RepeatFirstEasy-v0"
MEMORIES = {"shm": "Stable Hadamard Memory", "gru": "GRU", "mlp": "no memory (mlp)"}


@dataclass(frozen=True)
class Row:
    """A policy, "trained" or "random", with its memory and the steps it was trained for: mean return of fresh episodes, half
    the width of its 95 % interval, and how many they are."""

    policy: str
    memory: str
    steps: int
    mean: float
    ci95: float
    episodes: int


def showcase(
    out: pathlib.Path, steps: int, episodes: int, seed: int, progress: Callable[[str, int, int], Progress] = Progress
) -> list[Row] | None:
    """Train each memory for `steps`, evaluate it and a random policy on `episodes` fresh episodes, and write results.json and
    curves.png. Existing runs are continued, or left unchanged if complete. `progress`: see `train`.

    Returns:
        A row for each memory and one for random play; None if the user stopped the training.
    """
    rows = []
    for memory in MEMORIES:
        config = replace(preset_config("fast", TASK, memory, steps), seed=seed)
        result = train_once(config, out / memory, progress)
        if result is None:
            return None
        rows.append(_row("trained", memory, result.steps, evaluate_run(out / memory, episodes)))
    rows.append(_row("random", "none", 0, evaluate_task(config, None, seed_for(seed, "evaluation"), episodes)))
    write_whole(out / "results.json", json.dumps([asdict(row) for row in rows], indent=2))
    draw_curves([out / memory for memory in MEMORIES], out / "curves.png", labels=list(MEMORIES.values()))
    return rows


def _row(policy: str, memory: str, steps: int, played: Evaluation) -> Row:
    return Row(policy, memory, steps, played.mean, played.ci95, played.episodes)
