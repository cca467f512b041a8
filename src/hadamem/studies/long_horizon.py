"""How well memories keep a sign that is shown once and needed up to 20,000 steps later."""

from __future__ import annotations

import math
import pathlib
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from ..agents.config import TrainConfig, seed_for
from ..agents.making import make_agent, make_environment
from ..measure import peak_extra_mb, resident_mb
from ..memory import parse_options
from ..recipes.presets import preset_config
from ..report.curves import COLOURS
from . import Budget, toys
from .base import Findings, Study
from .cells import Limits, Stopped, measure_cached

TASK = "hadamem/TMazePassive-v0"
MEGABYTES = 8000.0  # a process that holds more memory is stopped
LEARNED = 0.9  # recall counts as learned from this accuracy on
SOLVED = 0.95  # the T-maze counts as solved from this mean return on; the best return is 1
#: options of memories that depend on the length of an episode
SPANS = {"gpt": "window", "ffm": "horizon"}
#: the compared memories: the name of a memory, or "shm" with the value of its option theta
MEMORIES = ("shm", "shm centred", "gru", "ffm", "mamba", "gpt")
_MARKERS = ("o", "P", "s", "^", "D", "v")


@dataclass(frozen=True)
class Size:
    """How much a budget measures.

    Attributes:
        corridors: L, steps between the sign and the turn.
        play, recall: seconds of wall time that each memory has, in each corridor, for PPO and for recall.
        fresh: whether every cell runs in its own process, which is stopped if it takes twice its time, or too much memory.
    """

    corridors: Sequence[int]
    play: float
    recall: float
    fresh: bool = True


SIZES: dict[Budget, Size] = {
    "full": Size((100, 1_000, 10_000, 20_000), play=1800, recall=900),
    "small": Size((100, 1_000, 10_000, 20_000), play=40, recall=20),
    "tiny": Size((4, 8), play=0.1, recall=0.1, fresh=False),
}


@dataclass(frozen=True)
class Played:
    """The result of PPO: whether it diverged, return and success of the latest 100 episodes (None: no iteration was completed),
    environment steps, seconds, and megabytes of the process at its peak."""

    diverged: bool
    return_: float | None
    success: float | None
    steps: int
    seconds: float
    process_mb: float

    @property
    def learned(self) -> bool:
        """Whether the T-maze was solved."""
        return self.return_ is not None and self.return_ >= SOLVED


@dataclass(frozen=True)
class Recalled:
    """The result of supervised recall: whether it diverged, accuracy on 64 fresh rows (None: it diverged), updates, seconds,
    the megabytes and seconds that one row took forward and backward, and megabytes of the process at its peak."""

    diverged: bool
    accuracy: float | None
    updates: int
    seconds: float
    row_mb: float
    row_seconds: float
    process_mb: float

    @property
    def learned(self) -> bool:
        """Whether the symbol was recalled."""
        return self.accuracy is not None and self.accuracy >= LEARNED


@dataclass(frozen=True, kw_only=True)
class Row:
    """A memory in a corridor; values that a stopped process did not report are None."""

    memory: str
    corridor: int
    PPO: str
    return_: Annotated[float | None, "return"] = None
    success: float | None = None
    env_steps: Annotated[int | None, "env steps"] = None
    PPO_seconds: Annotated[float | None, "PPO, s"] = None
    PPO_process_mb: Annotated[float | None, "PPO, process MB"] = None
    recall: str
    accuracy: float | None = None
    updates: int | None = None
    recall_seconds: Annotated[float | None, "recall, s"] = None
    recall_process_mb: Annotated[float | None, "recall, process MB"] = None
    one_row_mb: Annotated[float | None, "one row, MB"] = None
    one_row_seconds: Annotated[float | None, "one row, s"] = None
    largest: Annotated[float | None, "untrained, largest number"] = None


def configure(memory: str, L: int) -> TrainConfig:
    """Configuration of PPO on the T-maze: the preset credit-fast, with H = 32 for SHM, and with whole episodes as the rows of a
    rollout.

    Longer corridors have fewer environments; beyond 100 steps, the entropy bonus falls like the penalty of a step, as 1 / L.
    """
    memory, _, theta = memory.partition(" ")
    config = preset_config("credit-fast", TASK, memory)
    assert config.ppo is not None
    num_envs = max(8, min(256, 2 ** round(math.log2(32_000 / L))))
    entropy = config.ppo.entropy_coefficient * min(1, 100 / L)
    spans = [f"{SPANS[memory]}={L + 1}"] if memory in SPANS else []
    options = (*config.memory_options, *spans, *([f"theta={theta}"] if theta else []))
    ppo = replace(config.ppo, num_envs=num_envs, num_steps=L + 1, entropy_coefficient=entropy)
    return replace(config, env_options=(f"corridor_length={L}",), memory_options=options, ppo=ppo)


def play(memory: str, L: int, seconds: float, seed: int) -> Played:
    """Train with PPO until the time is over, the task is solved or the loss is no longer finite."""
    config = configure(memory, L)
    begin = time.monotonic()
    torch.manual_seed(seed_for(seed, "network"))
    env = make_environment(config, config.algorithm.num_envs, seed_for(seed, "environment"))
    agent = make_agent(config, env)
    metrics, diverged = dict[str, float](), False
    while time.monotonic() - begin < seconds and metrics.get("return", -1) < SOLVED and not diverged:
        try:
            metrics = agent.iterate()
        except FloatingPointError:
            diverged = True
    env.close()
    taken = time.monotonic() - begin
    return Played(diverged, metrics.get("return"), metrics.get("success"), agent.step, taken, resident_mb())


def _reader(memory: str, L: int, seed: int) -> toys.Reader:
    torch.manual_seed(seed_for(seed, "network"))
    config = configure(memory, L)
    options = parse_options(config.memory, config.memory_options)
    return toys.Reader(toys.copy(1, L), config.memory, config.memory_size, **options)


@torch.no_grad()
def untrained(memory: str, L: int, seed: int) -> float:
    """The largest absolute value in the state of an untrained memory after a symbol, L - 1 empty steps and the question."""
    reader = _reader(memory, L, seed)
    x, _ = toys.copy(1, L).draw(1)
    state = reader.memory(reader.features(x))[1]
    return max(leaf.abs().max().item() for leaf in state.values() if leaf.dtype != torch.int64)


def recall(memory: str, L: int, seconds: float, seed: int) -> Recalled:
    """Train a memory to recall a symbol after L - 1 empty steps, with backpropagation through all steps, until it is learned,
    the time is over or the loss is no longer finite. The memory and time of one row are measured before."""
    reader, toy = _reader(memory, L, seed), toys.copy(1, L)
    optimiser = torch.optim.Adam(reader.parameters(), lr=3e-3)

    def learn(B: int) -> tuple[float, float]:
        """Make an update with B rows, and return the accuracy and the loss before it."""
        x, target = toy.draw(B)
        logits = reader(x)[:, -1]
        loss = F.cross_entropy(logits, target[:, -1])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimiser.step()
        return (logits.argmax(-1) == target[:, -1]).float().mean().item(), loss.item()

    toys.accuracy(reader, toys.copy(1, 2), 2)  # compile or load the kernels
    begin = time.monotonic()
    row_mb = peak_extra_mb(lambda: learn(1))
    row_seconds = time.monotonic() - begin
    B = max(4, min(32, 40_000 // L))
    latest: deque[float] = deque([0.0] * 20, maxlen=20)
    begin, updates, loss = time.monotonic(), 0, 0.0
    while time.monotonic() - begin < seconds and statistics.mean(latest) < 0.99 and math.isfinite(loss):
        updates += 1
        optimiser.param_groups[0]["lr"] = 3e-3 * min(1.0, updates / 20)
        right, loss = learn(B)
        latest.append(right)
    taken, megabytes = time.monotonic() - begin, resident_mb()
    diverged = not math.isfinite(loss)
    accuracy = None if diverged else statistics.mean(toys.accuracy(reader, toy, B) for _ in range(64 // B))
    return Recalled(diverged, accuracy, updates, taken, row_mb, row_seconds, megabytes)


def run(budget: Budget, work: pathlib.Path, on_progress: Callable[[str], None], seed: int) -> Findings:
    """See `base.Study`."""
    size, rows = SIZES[budget], []
    for L in size.corridors:
        for memory in MEMORIES:
            on_progress(f"corridor {L:,}: {memory}")
            limits = [
                Limits(seconds, MEGABYTES) if size.fresh else None for seconds in (2 * size.recall, 2 * size.play, size.recall)
            ]
            recalled = measure_cached(work, recall, memory, L, size.recall, seed, limits=limits[0])
            played = measure_cached(work, play, memory, L, size.play, seed, limits=limits[1])
            largest = measure_cached(work, untrained, memory, L, seed, limits=limits[2])
            rows.append(_row(memory, L, recalled, played, None if isinstance(largest, Stopped) else largest))
    threads = torch.get_num_threads()
    return Findings(
        question="How far back can a memory learn to look, and what does backpropagation over that many steps cost?",
        rows=rows,
        conclusion=[_on_play(rows, size.play), _on_recall(rows, size.recall), _on_memory(rows)],
        figure=_draw(rows),
        notes=[
            f"PPO on {TASK} (preset credit-fast, a row is an episode of L + 1 steps, SHM with H = 32, {threads} "
            f"thread{'s' * (threads > 1)}), {size.play:g} seconds for each memory and corridor, fewer when the return reached "
            f"{SOLVED}. The return is that of the latest 100 episodes of training; 1 is the best, and whoever does not walk "
            "straight on pays 1 / L a step. One seed.",
            f"Recall: one of {toys.SYMBOLS} symbols, then empty steps, asked once after L steps; {size.recall:g} seconds, "
            f"fewer when 20 batches running were right. Accuracy on 64 fresh rows, chance {1 / toys.SYMBOLS}. One row: forward "
            "and backward of the whole network through L + 1 steps, once; MB above what was there before.",
            "shm has random theta, shm centred theta=centred. GPT's window and FFM's horizon are L + 1. The largest number is "
            "that in the state at the end of a row of recall.",
            f"A cell is stopped, and says so, when its process holds more than {MEGABYTES:,.0f} MB or takes twice its time "
            "without an end (an iteration of PPO is not broken off before). It has diverged when the loss was not finite; "
            "the return is that of the iteration before.",
        ],
    )


def _outcome(made: Played | Recalled | Stopped) -> str:
    if isinstance(made, Stopped):
        return f"out of {made.stopped}"
    return "diverged" if made.diverged else "learned" if made.learned else "not learned"


def _row(memory: str, L: int, recalled: Recalled | Stopped, played: Played | Stopped, largest: float | None) -> Row:
    row = Row(memory=memory, corridor=L, PPO=_outcome(played), recall=_outcome(recalled), largest=largest)
    if isinstance(played, Played):
        row = replace(
            row,
            return_=played.return_,
            success=played.success,
            env_steps=played.steps,
            PPO_seconds=played.seconds,
            PPO_process_mb=played.process_mb,
        )
    if isinstance(recalled, Recalled):
        row = replace(
            row,
            accuracy=recalled.accuracy,
            updates=recalled.updates,
            recall_seconds=recalled.seconds,
            recall_process_mb=recalled.process_mb,
            one_row_mb=recalled.row_mb,
            one_row_seconds=recalled.row_seconds,
        )
    return row


def _farthest(rows: Sequence[Row], outcome: Callable[[Row], str]) -> str:
    """The longest corridor that each memory learned, as text."""
    learned = {m: [row.corridor for row in rows if row.memory == m and outcome(row) == "learned"] for m in MEMORIES}
    return ", ".join(f"{memory} {max(corridors):,}" if corridors else f"{memory} none" for memory, corridors in learned.items())


def _on_play(rows: Sequence[Row], seconds: float) -> str:
    best = []
    for L in dict.fromkeys(row.corridor for row in rows):
        returns = {row.memory: row.return_ for row in rows if row.corridor == L and row.return_ is not None}
        first = max(returns, key=returns.__getitem__, default=None)
        best.append(f"none at {L:,}" if first is None else f"{returns[first]:.2f} at {L:,} ({first})")
    return (
        f"Within {seconds:g} seconds of PPO the longest corridor that each memory solved (return {SOLVED} or more) is "
        f"{_farthest(rows, lambda row: row.PPO)}, and the highest returns are {', '.join(best)}."
    )


def _on_recall(rows: Sequence[Row], seconds: float) -> str:
    def grown(memory: str) -> str:
        mine = {row.corridor: row.largest for row in rows if row.memory == memory}
        return ", ".join(f"{'unknown' if at is None else format(at, '.2g')} after {L:,}" for L, at in mine.items())

    return (
        f"With exploration taken away, {seconds:g} seconds of supervised recall reach accuracy {LEARNED} or more up to these "
        f"distances: {_farthest(rows, lambda row: row.recall)}; before any training, the largest number in SHM's state is "
        f"{grown('shm')} steps, and with centred theta {grown('shm centred')}."
    )


def _on_memory(rows: Sequence[Row]) -> str:
    L = max(row.corridor for row in rows)
    at = {row.memory: row for row in rows if row.corridor == L}
    others = [
        f"{memory} {row.recall if row.one_row_mb is None else format(row.one_row_mb, ',.0f') + ' MB'}"
        for memory, row in at.items()
        if memory != "shm"
    ]
    shm = at["shm"].one_row_mb
    if shm is None:
        return f"SHM did not finish one backward pass over {L + 1:,} steps ({at['shm'].recall}); {', '.join(others)}."
    fits = "fits" if shm < MEGABYTES else "does not fit"
    return (
        f"One row of SHM with H = 32 through {L + 1:,} steps, forward and backward, takes {shm:,.0f} MB, which {fits} the "
        f"{MEGABYTES:,.0f} MB allowed ({', '.join(others)})."
    )


_PANELS = (
    ("return_", "return of the latest 100 episodes", "PPO on the passive T-maze"),
    ("accuracy", "accuracy", "supervised recall of one symbol"),
    ("one_row_mb", "memory (MB)", "one row, forward and backward"),
    ("one_row_seconds", "time (s)", "one row, forward and backward"),
)


def _draw(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    grid = figure.subplots(2, 2)
    corridors = sorted({row.corridor for row in rows})
    for axis, (what, label, title) in zip(grid.flat, _PANELS, strict=True):
        for i, memory in enumerate(MEMORIES):
            mine = [row for row in rows if row.memory == memory]
            values = [math.nan if getattr(row, what) is None else getattr(row, what) for row in mine]
            beside = [row.corridor * 1.05 ** (i - 2) for row in mine]  # so that no marker hides another
            axis.plot(beside, values, color=COLOURS[i], marker=_MARKERS[i], markersize=5, linewidth=1, label=memory)
        axis.set(xscale="log", xlabel="corridor L (steps)", ylabel=label, title=title)
        axis.set_xticks(corridors, [f"{L // 1000} k" if L >= 10_000 else f"{L:,}" for L in corridors])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    solved, chance, megabytes, seconds = grid.flat
    solved.set_ylim(-1.15, 1.35)
    chance.set_ylim(-0.1, 1.05)
    for axis in (megabytes, seconds):
        axis.set_yscale("log")
    megabytes.set_ylim(top=4 * MEGABYTES)
    lines = ((solved, SOLVED, "solved", 2), (chance, 1 / toys.SYMBOLS, "chance", -24), (megabytes, MEGABYTES, "allowed", 2))
    for axis, at, name, above in lines:
        axis.axhline(at, color="black", linewidth=1, linestyle=":")
        axis.annotate(name, (1, at), (-3, above), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right")
    handles, labels = solved.get_legend_handles_labels()
    title = "no point: out of time or memory, or diverged; points of one corridor stand side by side"
    legend: dict[str, Any] = {"loc": "outside lower center", "ncols": len(MEMORIES), "frameon": False, "title": title}
    figure.legend(handles, labels, **legend)
    return figure


STUDY = Study(
    about="the passive T-maze and recall over up to 20,000 steps, for five memories and a variant",
    run=run,
    expected={"full": "15 hours", "small": "about 25 minutes", "tiny": "seconds"},
)
