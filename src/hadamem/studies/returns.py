"""PPO with every memory on one task that needs one: what the contracts and toys are for."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..bench.train import ENV
from ..measure import side_by_side
from ..recipes.presets import preset_config
from ..sweeps.runs import evaluate_run, train_once

EPISODES = 200  # of the evaluation


def measure(name: str, out: pathlib.Path, steps: int) -> dict[str, Any]:
    """Train with the preset "fast" and seed 0 on one thread, in the run folder out/name (continued if it is there), and
    evaluate: mean return of the latest 100 episodes of training (sampled actions), of 200 fresh ones (greedy), steps per
    second of training.

    Raises:
        SystemExit: stopped by the user before the end.
    """
    config = replace(preset_config("fast", ENV, name, steps), threads=1)
    result = train_once(config, out / name)
    if result is None:
        raise SystemExit("stopped; the same command goes on from here")
    played = evaluate_run(out / name, EPISODES)
    return {
        "memory": name,
        "steps": result["steps"],
        "training_return": result["return"],
        "mean": played["mean"],
        "ci95": played["ci95"],
        "episodes": played["episodes"],
        "steps_per_s": result["steps"] / result["seconds"],
    }


def measure_all(
    names: Sequence[str], out: pathlib.Path, steps: int, jobs: int, on_progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Memories by name, `jobs` at a time, each in a process of its own."""
    return side_by_side(__name__, names, jobs, on_progress, out, steps)


def shown(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The rows as texts."""
    return [
        {
            "memory": row["memory"],
            "mean return (greedy)": f"{row['mean']:.3f} ± {row['ci95']:.3f}",
            "in training": "-" if row["training_return"] is None else f"{row['training_return']:.3f}",
            "environment steps": f"{row['steps']:,}",
        }
        for row in rows
    ]


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]))))
