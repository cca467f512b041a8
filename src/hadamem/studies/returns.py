"""Returns of PPO with every memory on one task that requires a memory."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from ..bench.train import ENV
from ..measure import side_by_side
from ..options import read_json
from ..recipes.presets import preset_config
from ..sweeps.runs import evaluate_run, train_once

EPISODES = 200  # number of evaluation episodes


@dataclass(frozen=True)
class Row:
    """The result of training with a memory.

    Attributes:
        memory: its name.
        steps: environment steps.
        training_return: mean return of the latest 100 episodes of training, with sampled actions.
        mean: mean return of fresh episodes with greedy actions.
        ci95: half the width of the 95 % interval of this mean.
        episodes: number of these episodes.
        steps_per_s: environment steps per second of training.
    """

    memory: str
    steps: int
    training_return: float | None
    mean: float
    ci95: float
    episodes: int
    steps_per_s: float


def measure(name: str, out: pathlib.Path, steps: int) -> Row:
    """Train with the preset "fast" and seed 0 on one thread in the run folder out/name, continuing a run that is there, and
    evaluate.

    Raises:
        SystemExit: the user stopped the training before its end.
    """
    config = replace(preset_config("fast", ENV, name, steps), threads=1)
    result = train_once(config, out / name)
    if result is None:
        raise SystemExit("stopped; repeat the same command to continue")
    played = evaluate_run(out / name, EPISODES)
    speed = result.steps / result.seconds
    return Row(name, result.steps, result.scores.get("return"), played.mean, played.ci95, played.episodes, speed)


def measure_all(
    names: Sequence[str], out: pathlib.Path, steps: int, jobs: int, on_progress: Callable[[str], None]
) -> list[Row]:
    """Measure memories by name, `jobs` at a time, each in a process of its own."""
    return read_json(list[Row], side_by_side(__name__, names, jobs, on_progress, out, steps))


def shown(rows: Sequence[Row]) -> list[dict[str, str]]:
    """The rows as texts."""
    return [
        {
            "memory": row.memory,
            "mean return (greedy)": f"{row.mean:.3f} ± {row.ci95:.3f}",
            "in training": "-" if row.training_return is None else f"{row.training_return:.3f}",
            "environment steps": f"{row.steps:,}",
        }
        for row in rows
    ]


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])))))
