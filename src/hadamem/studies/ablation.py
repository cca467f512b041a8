"""What each part of SHM contributes: the feature map, the normalised read-out, the calibration, and theta's random rows."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..report.curves import COLOURS
from ..sweeps.processes import run_here
from ..sweeps.runs import train_once
from ..sweeps.sweep import SweepRun, finish, keep_what_is_there, make_cells
from . import Budget
from .base import Findings, Study

#: The compared variants by name, each with its options of shm.
VARIANTS = {
    "softmax, read norm": "feature_map=softmax read_norm=true",
    "softmax": "feature_map=softmax read_norm=false",
    "relu / sum, read norm": "feature_map=relu_sum read_norm=true",
    "relu / sum (released)": "feature_map=relu_sum read_norm=false",
    "calibration, centred theta": "feature_map=softmax read_norm=true theta=centred",
    "calibration, fixed theta": "feature_map=softmax read_norm=true theta=fixed",
    "random C, none of x": "feature_map=softmax read_norm=true calibration=random",
    "neither (C = 1)": "feature_map=softmax read_norm=true calibration=ones",
    "loop over time": "feature_map=softmax read_norm=true backend=reference",
}
_BASE = "softmax, read norm"
_LOOP = "loop over time"
_POPGYM = ("popgym-RepeatPreviousEasy-v0", "popgym-ConcentrationEasy-v0")
_CREDIT = "hadamem/TMazePassive-v0 corridor_length={}"


@dataclass(frozen=True)
class Size:
    """How much a budget trains: tasks, number of seeds, the size of SHM, environment steps, environment steps of the loop over
    time (which is trained for its speed only), further options of `hadamem train`, and whether each run has its own process."""

    tasks: tuple[str, ...]
    seeds: int
    memory_size: int
    steps: int
    loop_steps: int
    words: str = ""
    fresh: bool = True


SIZES: dict[Budget, Size] = {
    "full": Size((*_POPGYM, _CREDIT.format(100)), 5, 64, 2_000_000, 2_000_000),
    "small": Size((*_POPGYM, _CREDIT.format(30)), 5, 32, 500_000, 60_000),
    "tiny": Size(_POPGYM[:1], 1, 4, 320, 160, "--num-envs 4 --num-steps 40 --minibatches 2 --epochs 1", fresh=False),
}


@dataclass(frozen=True)
class Row:
    """A variant on a task: numbers of completed and of failed runs; mean, lowest and highest return of the seeds; median
    speed."""

    task: str
    variant: str
    runs: int
    failed: int
    return_: Annotated[float | None, "return"]
    lowest: float | None
    highest: float | None
    steps_per_second: Annotated[float | None, "steps per second"]


def cells(size: Size, folder: pathlib.Path, seed: int) -> list[SweepRun]:
    """The runs, with one thread each; their seeds are consecutive numbers from `seed` on."""
    made = []
    for task in size.tasks:
        preset = "credit-fast" if task.startswith("hadamem/") else "popgym-fast"
        for name, options in VARIANTS.items():
            steps = size.loop_steps if name == _LOOP else size.steps
            words = ["--preset", preset, "--steps", str(steps), *size.words.split()]
            made += make_cells([task], [f"shm:{size.memory_size} {options}"], range(seed, seed + size.seeds), words, folder, 1)
    return sorted(made, key=lambda cell: cell.seed)


def table(done: Sequence[SweepRun]) -> list[Row]:
    """A row for each task and variant."""
    names = {options: name for name, options in VARIANTS.items()}
    groups: dict[tuple[str, str], list[SweepRun]] = {}
    for cell in done:
        groups.setdefault((cell.task, names[cell.memory.partition(" ")[2]]), []).append(cell)
    rows = []
    for (task, variant), group in groups.items():
        results = [cell.result for cell in group if cell.state in ("done", "kept") and cell.result is not None]
        returns = [result.scores["return"] for result in results if "return" in result.scores]
        rows.append(
            Row(
                task,
                variant,
                len(results),
                len(group) - len(results),
                statistics.fmean(returns) if returns else None,
                min(returns, default=None),
                max(returns, default=None),
                statistics.median(r.steps / r.seconds for r in results) if results else None,
            )
        )
    return rows


def conclude(rows: Sequence[Row]) -> list[str]:
    """Three sentences: the best variant on each task, the return gained by each part, and the speed relative to the loop."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    at = {(row.task, row.variant): row for row in rows}

    def names(task: str) -> str:
        there = {
            row.variant: row.return_ for row in rows if row.task == task and row.variant != _LOOP and row.return_ is not None
        }
        if not there:
            return f"none finished on {task}"
        best = max(there, key=there.__getitem__)
        return f"{best} on {task} ({there[best]:.3f})"

    def gain(without: str) -> str:
        gains = []
        for task in tasks:
            whole, less = at[task, _BASE].return_, at[task, without].return_
            gains.append("-" if whole is None or less is None else f"{whole - less:+.3f}")
        return f"{without}: {', '.join(gains)}"

    speeds = [(at[task, _BASE].steps_per_second, at[task, _LOOP].steps_per_second) for task in tasks]
    ratios = [fused / loop for fused, loop in speeds if fused and loop]
    parts = [name for name in VARIANTS if name not in (_BASE, _LOOP)]
    speed = f"{min(ratios):.1f} to {max(ratios):.1f} times as fast" if ratios else "not timed"
    return [
        f"The highest mean return is that of {'; '.join(map(names, tasks))}.",
        f"What is gained by '{_BASE}' with random theta over each other variant, on the tasks in this order, is "
        f"{'; '.join(map(gain, parts))}.",
        f"Training with the fused kernels is {speed} as with a loop over time, which computes the same.",
    ]


def draw(rows: Sequence[Row]) -> Figure:
    """A panel for each task. Each variant except the loop has a dot at its mean, and a line from its lowest to its highest
    seed."""
    variants = [name for name in VARIANTS if name != _LOOP]
    tasks = list(dict.fromkeys(row.task for row in rows))
    figure = Figure(figsize=(2 + 3.2 * len(tasks), 3.8), layout="constrained")
    axes = figure.subplots(1, len(tasks), sharey=True, squeeze=False)
    for ax, task in zip(axes[0], tasks, strict=True):
        for row in rows:
            if row.task != task or row.variant not in variants or row.return_ is None:
                continue
            y = variants.index(row.variant)
            ax.plot([row.lowest, row.highest], [y, y], color=COLOURS[0], linewidth=3, alpha=0.4)
            ax.plot(row.return_, y, "o", color=COLOURS[0])
        ax.set(title=task.replace(" ", "\n"), xlabel="return per episode, end of training")
        ax.title.set_fontsize(9)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_yticks(range(len(variants)), variants)
        ax.grid(alpha=0.3)
    axes[0, 0].invert_yaxis()
    figure.suptitle("dots: mean over seeds; lines: lowest to highest seed", fontsize=9)
    return figure


def run(budget: Budget, folder: pathlib.Path, on_progress: Callable[[str], None], seed: int) -> Findings:
    """See `base.Study`."""
    size = SIZES[budget]
    runs, jobs = cells(size, folder, seed), torch.get_num_threads()
    keep_what_is_there(runs, None)

    def look() -> None:
        ended = sum(cell.state in ("done", "kept", "failed") for cell in runs)
        on_progress(f"{ended} of {len(runs)} runs have ended")

    if size.fresh:
        run_here(runs, jobs, lambda cell: finish(cell, None), look)
    else:
        for cell in runs:
            train_once(cell.config, cell.path)
            finish(cell, None)
    rows = table(runs)
    return Findings(
        question="What do the feature map, the normalised read-out, the calibration and theta's random rows contribute?",
        rows=rows,
        conclusion=conclude(rows),
        figure=draw(rows),
        notes=[
            f"SHM with H = {size.memory_size}, PPO, presets popgym-fast (POPGym) and credit-fast (T-maze), {size.steps:,} "
            f"environment steps, {size.loop_steps:,} of the loop over time, of which only the speed is asked, {size.seeds} "
            f"seed{'s' * (size.seeds > 1)}, counted from {seed}. The return is the mean over the last "
            "5 % of the steps of training; steps per second are those of runs on one thread each, "
            f"{jobs if size.fresh else 1} side by side. "
            "'calibration, fixed theta' is the calibration alone; 'random C' is randomness "
            "alone, entries uniform in (0, 2) whatever x is; "
            "variants without another word have random theta, softmax and read norm.",
        ],
    )


STUDY = Study(
    about="what feature map, read norm, calibration and random theta contribute",
    run=run,
    expected={"full": "a time not measured yet", "small": "about 45 minutes", "tiny": "half a minute"},
)
