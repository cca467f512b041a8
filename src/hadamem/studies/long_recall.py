"""How far back does a memory learn to look, when the distance grows as it learns and nothing has to be explored?

Supervised recall of the first of N symbols, with backpropagation through all N steps: the part of a long task that depends on
the memory alone.
"""

from __future__ import annotations

import itertools
import math
import pathlib
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Annotated

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from ..agents.config import seed_for
from ..measure import resident_mb
from ..memory import parse_options
from ..report.curves import COLOURS
from . import Budget, toys
from .base import Findings, Study
from .cells import Limits, Stopped, measure_cached

MEGABYTES = 8000.0  # a process that holds more memory is stopped
RECALLED = 0.95
_SHM = ("feature_map=softmax", "read_norm=true")  # as in the preset "popgym-fast"; with these, SHM learns within minutes
#: The memories by their labels in the table: name, size (None: the memory's default) and options.
MEMORIES: dict[str, tuple[str, int | None, tuple[str, ...]]] = {
    "SHM, stable theta": ("shm", 32, (*_SHM, "theta=stable", "table_scale=0.1")),
    "SHM, centred theta": ("shm", 32, (*_SHM, "theta=centred", "table_scale=0.1")),
    "SHM, random theta": ("shm", 32, _SHM),
    "SHM, C = 1": ("shm", 32, (*_SHM, "calibration=ones")),
    "GRU": ("gru", None, ()),
    "FFM": ("ffm", None, ("horizon={N}",)),
    "Mamba": ("mamba", None, ()),
    "GLA": ("gla", None, ()),
    "mLSTM": ("mlstm", None, ()),
    "gated delta": ("delta_net", None, ()),
    "S5": ("s5", None, ()),
    "GPT": ("gpt", None, ("window={N}",)),
}
_LATEST = 20  # number of latest batches that decide whether the distance grows
_ENOUGH = 0.98  # share of right answers in these batches from which on it grows


@dataclass(frozen=True)
class Size:
    """How much a budget measures.

    Attributes:
        distances: distances N, each with the seconds of wall time of every training.
        seeds: number of seeds, each of a network and its data.
        fresh: whether every training runs in its own process, which is stopped if it takes four times its time, or too much
            memory.
    """

    distances: dict[int, float]
    seeds: int
    fresh: bool = True


SIZES: dict[Budget, Size] = {
    "full": Size({1_000: 300, 10_000: 600, 100_000: 1800}, seeds=3),
    "small": Size({1_000: 60, 10_000: 100, 100_000: 150}, seeds=1),
    "tiny": Size({4: 0.1, 12: 0.1}, seeds=1, fresh=False),
}


def distances(longest: int) -> Iterator[int]:
    """10, 20, 40, 80, 100, 200, ..., up to the longest."""
    for power in itertools.count(1):
        for factor in (1, 2, 4, 8):
            if factor * 10**power >= longest:
                yield longest
                return
            yield factor * 10**power


@dataclass(frozen=True)
class Recalled:
    """The result of one training.

    Attributes:
        reached: the longest distance that was learned; 0 if none was.
        accuracy: accuracy at the distance N of the training, on 64 fresh rows.
        updates: number of updates that were made.
        lost: number of updates that were left out because gradients were not finite.
        seconds: duration of the training.
        process_mb: memory of the process at its peak, in megabytes.
    """

    reached: int
    accuracy: float
    updates: int
    lost: int
    seconds: float
    process_mb: float


@dataclass(frozen=True)
class Row:
    """A memory at a distance, with medians over seeds. If a process was stopped, only the outcome is known."""

    memory: str
    distance: int
    outcome: str
    accuracy: float | None = None
    reached: Annotated[float | None, "learned up to"] = None
    seconds: float | None = None
    updates: float | None = None
    lost: Annotated[float | None, "updates lost"] = None
    process_mb: Annotated[float | None, "process MB"] = None


def recall(name: str, longest: int, seconds: float, seed: int) -> Recalled:
    """Train a memory to recall the first of N symbols, where N grows whenever the latest batches were right, until `longest` is
    learned, the time is over, or `_LATEST` updates were lost to gradients that were not finite."""
    memory, size, options = MEMORIES[name]
    torch.manual_seed(seed_for(seed, "network"))
    arguments = parse_options(memory, [option.format(N=longest) for option in options])
    reader = toys.Reader(toys.first(longest), memory, size, **arguments)
    optimiser = torch.optim.Adam(reader.parameters(), lr=3e-3)
    toys.accuracy(reader, toys.first(2), 2)  # compile or load the kernels
    ahead, reached, updates, lost = distances(longest), 0, 0, 0
    distance, latest = next(ahead), deque[float](maxlen=_LATEST)
    begin = time.monotonic()
    while reached < longest and lost < _LATEST and time.monotonic() - begin < seconds:
        x, target = toys.first(distance).draw(_rows(distance))
        logits = reader(x)[:, -1]
        optimiser.zero_grad()
        F.cross_entropy(logits, target[:, -1]).backward()
        if nn.utils.clip_grad_norm_(reader.parameters(), 1.0).isfinite():
            optimiser.step()
            updates += 1
        else:
            lost += 1
        latest.append((logits.argmax(-1) == target[:, -1]).float().mean().item())
        if len(latest) == _LATEST and statistics.mean(latest) >= _ENOUGH:
            reached, distance = distance, next(ahead, longest)
            latest.clear()
    taken, megabytes, rows = time.monotonic() - begin, resident_mb(), _rows(longest)
    accuracy = statistics.mean(toys.accuracy(reader, toys.first(longest), rows) for _ in range(64 // rows))
    return Recalled(reached, accuracy, updates, lost, taken, megabytes)


def _rows(distance: int) -> int:
    """Number of rows of a batch, smaller for longer distances."""
    return max(4, min(32, 40_000 // distance))


def run(budget: Budget, work: pathlib.Path, on_progress: Callable[[str], None], seed: int) -> Findings:
    """See `base.Study`."""
    size, rows = SIZES[budget], []
    for longest, seconds in size.distances.items():
        limits = Limits(4 * seconds, MEGABYTES) if size.fresh else None
        for name in MEMORIES:
            made = []
            for number in range(seed, seed + size.seeds):
                on_progress(f"{name}, {longest:,} steps, seed {number}")
                made.append(measure_cached(work, recall, name, longest, seconds, number, limits=limits))
            rows.append(_row(name, longest, made))
    threads = torch.get_num_threads()
    return Findings(
        question="How far back does a memory learn to look, when the distance grows as it learns and nothing is explored?",
        rows=rows,
        conclusion=[_on_reach(rows), _on_time(rows), _on_lost(rows)],
        figure=_draw(rows),
        notes=[
            f"A row holds N of {toys.SYMBOLS} random symbols, the first of them marked: which was it, is asked at the end; "
            f"chance is {1 / toys.SYMBOLS}. N grows from 10 to the distance whenever {_LATEST} batches running were right to "
            f"{_ENOUGH:.0%}. Backpropagation goes through all N steps of 4 to 32 rows. "
            f"{threads} thread{'s' * (threads > 1)}, {size.seeds} seed{'s' * (size.seeds > 1)}; a distance counts as recalled "
            f"when {RECALLED:.0%} of 64 fresh rows are right, with the median of seeds.",
            "Every memory has the same wall time for a distance, "
            + ", ".join(f"{seconds:g} s for {N:,}" for N, seconds in size.distances.items())
            + f", and up to {MEGABYTES:,.0f} MB. An update whose gradient is not finite is left out and counts as lost; "
            f"{_LATEST} of them end the training.",
            "SHM has H = 32, softmax features and a normalised read-out; the others have their default size. FFM's horizon and "
            "GPT's window are N.",
        ],
    )


def _row(name: str, longest: int, made: Sequence[Recalled | Stopped]) -> Row:
    recalled = [one for one in made if isinstance(one, Recalled)]
    if stopped := [one.stopped for one in made if isinstance(one, Stopped)]:
        return Row(name, longest, f"out of {stopped[0]}")
    median = {field.name: statistics.median(getattr(one, field.name) for one in recalled) for field in fields(Recalled)}
    learned = "recalled" if median["accuracy"] >= RECALLED else "not recalled"
    return Row(name, longest, "diverged" if median["lost"] >= _LATEST else learned, **median)


def _on_reach(rows: Sequence[Row]) -> str:
    farthest = []
    for name in MEMORIES:
        recalled = [row.distance for row in rows if row.memory == name and row.outcome == "recalled"]
        farthest.append(f"{name} {max(recalled):,}" if recalled else f"{name} none")
    return f"The farthest distance that each memory recalled is: {'; '.join(farthest)}."


def _on_time(rows: Sequence[Row]) -> str:
    said = []
    for distance in dict.fromkeys(row.distance for row in rows):
        there = [row for row in rows if row.distance == distance and row.outcome == "recalled"]
        fast = sorted((row.seconds, row.memory) for row in there if row.seconds is not None)
        named = ", ".join(f"{name} {seconds:.0f} s" for seconds, name in fast[:4])
        said.append(f"{named} for {distance:,} steps" if fast else f"none for {distance:,} steps")
    return f"The fastest to learn it are {'; '.join(said)}."


def _on_lost(rows: Sequence[Row]) -> str:
    lost = {row.memory for row in rows if row.lost}
    return f"Updates were lost to gradients that were not finite by {', '.join(m for m in MEMORIES if m in lost) or 'none'}."


def _draw(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    for i, name in enumerate(MEMORIES):
        mine = [row for row in rows if row.memory == name]
        seconds = [row.seconds if row.outcome == "recalled" and row.seconds else math.nan for row in mine]
        style = "-" if name.startswith("SHM") else "--"
        colour, marker = COLOURS[i % len(COLOURS)], "os^DvPX*"[i % 8]
        axis.plot([row.distance for row in mine], seconds, style, color=colour, marker=marker, label=name)
    slowest = max((row.seconds for row in rows if row.seconds), default=1.0)
    axis.set(xscale="log", xlabel="distance (steps)", ylabel="wall time until it is learned (s)")
    axis.set_ylim(slowest / 200, 2 * slowest)
    axis.set_yscale("log")
    axis.set_title("recall of the first symbol; no point: not recalled in the time there was")
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


STUDY = Study(
    about="supervised recall over up to 100,000 steps, the distance growing as it is learned",
    run=run,
    expected={"full": "20 hours", "small": "about an hour", "tiny": "seconds"},
)
