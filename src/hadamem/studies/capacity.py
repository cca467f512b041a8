"""How many pairs of a key and a value does a matrix memory hold, for its size?"""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from matplotlib.figure import Figure

from ..agents.config import seed_for
from ..memory import MEMORIES, parse_options
from ..memory.delta_net import DeltaNet
from ..memory.fwp import FWP
from ..memory.mamba import Mamba
from ..memory.matrix import MatrixMemory
from ..memory.shm import SHM
from ..recipes.presets import PRESETS
from ..report.curves import COLOURS
from . import Budget, toys
from .base import Findings, Study, cached_json

#: The memories whose state is a matrix.
MATRICES = tuple(name for name, cls in MEMORIES.items() if issubclass(cls, SHM | MatrixMemory | FWP | DeltaNet | Mamba))
#: A number of pairs counts as held if the accuracy is at least this.
HELD = 0.9
_MARKERS = "os^Dv"


@dataclass(frozen=True)
class Size:
    """How much a budget measures: numbers of pairs n, memory sizes H, batches of 32 rows in each training, networks for each
    memory and H."""

    pairs: tuple[int, ...]
    sizes: tuple[int, ...]
    updates: int
    networks: int


SIZES: dict[Budget, Size] = {
    "full": Size((4, 8, 16, 32, 64), (8, 16, 32, 64), 5000, 3),
    "small": Size((4, 8, 16, 32), (8, 16, 32), 600, 1),
    "tiny": Size((2, 4), (4, 8), 2, 1),
}


@dataclass(frozen=True)
class Row:
    """Accuracy of a memory of size H with a number of pairs: the mean over networks, the lowest and the highest network."""

    memory: str
    H: int
    pairs: int
    accuracy: float
    lowest: float
    highest: float


def measure(memory: str, H: int, size: Size, seed: int) -> list[float]:
    """Train one network on all numbers of pairs, and return its accuracy for each of them.

    The numbers of pairs are mixed, because few pairs teach a network to write and read, without which it does not learn many
    pairs in time.
    """
    torch.manual_seed(seed)
    options = parse_options(memory, PRESETS["popgym-fast"]["memory"].get(memory, {}).get("options", ()))
    if memory == "mamba":
        options["state_size"] = H  # a matrix of (H, H), as in the other memories
    tasks = [toys.associative(n, max(size.pairs)) for n in size.pairs]
    reader = toys.Reader(tasks[0], memory, H, **options)
    toys.train(reader, toys.one_of(tasks), size.updates)
    return [toys.accuracy(reader, toy) for toy in tasks]


def table(accuracies: Mapping[tuple[str, int], Sequence[Sequence[float]]], pairs: Sequence[int]) -> list[Row]:
    """A row for each memory, H and n, from the accuracies (networks, n): the mean, and the lowest and highest network."""
    return [
        Row(memory, H, n, sum(of) / len(of), min(of), max(of))
        for (memory, H), networks in accuracies.items()
        for n, of in zip(pairs, zip(*networks, strict=True), strict=True)
    ]


def conclude(rows: Sequence[Row]) -> list[str]:
    """Three sentences: the best and the worst memory, the gain from a larger H, and the numbers of pairs that are held."""
    names = dict.fromkeys(row.memory for row in rows)
    means = {name: _mean(row for row in rows if row.memory == name) for name in names}
    best, worst = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    sizes, pairs = sorted({row.H for row in rows}), sorted({row.pairs for row in rows})
    most = max((row for row in rows if row.pairs == pairs[-1]), key=lambda row: row.accuracy)

    def at(name: str, H: int) -> float:
        return _mean(row for row in rows if row.memory == name and row.H == H)

    gains = {name: at(name, sizes[-1]) - at(name, sizes[0]) for name in names}
    gained = max(gains, key=gains.__getitem__)
    held: dict[str, int] = {}
    for row in rows:
        if row.accuracy >= HELD:
            held[row.memory] = max(row.pairs, held.get(row.memory, 0))
    holders = ", ".join(f"{n} by {name}" for name, n in held.items())
    counts = f"the most pairs held at any size are {holders}" if held else "no memory holds any number of pairs"
    return [
        f"Over all sizes and numbers of pairs {best} recalls best, with a mean accuracy of {means[best]:.2f}, and {worst} "
        f"worst, with {means[worst]:.2f} (chance: {1 / toys.SYMBOLS}).",
        f"From H = {sizes[0]} to {sizes[-1]} {gained} gains most, {gains[gained]:+.2f}; of {pairs[-1]} pairs "
        f"{most.memory} with H = {most.H} recalls most, {most.accuracy:.2f}.",
        f"Where held means an accuracy of at least {HELD}, {counts}"
        f"{'; none by the others' if 0 < len(held) < len(means) else ''}.",
    ]


def _mean(rows: Iterable[Row]) -> float:
    return statistics.fmean(row.accuracy for row in rows)


def draw(rows: Sequence[Row]) -> Figure:
    """Accuracy against pairs, a panel for each memory and a line for each H."""
    names, sizes = list(dict.fromkeys(row.memory for row in rows)), sorted({row.H for row in rows})
    pairs = sorted({row.pairs for row in rows})
    columns = 4
    figure = Figure(figsize=(12, 3 * -(-len(names) // columns) + 0.6), layout="constrained")
    for k, name in enumerate(names):
        ax = figure.add_subplot(-(-len(names) // columns), columns, k + 1)
        for i, H in enumerate(sizes):
            of = [row for row in rows if row.memory == name and row.H == H]
            ax.plot(pairs, [row.accuracy for row in of], color=COLOURS[i], marker=_MARKERS[i], label=f"H = {H}")
            ax.fill_between(
                pairs, [row.lowest for row in of], [row.highest for row in of], color=COLOURS[i], alpha=0.15, linewidth=0
            )
        ax.axhline(1 / toys.SYMBOLS, color="0.5", linestyle=":", label="chance")
        ax.set_xscale("log", base=2)
        ax.set_xticks(pairs, [str(n) for n in pairs])
        ax.set(title=name.replace("_", " "), ylim=(0, 1.03), xlabel="pairs n", ylabel="accuracy")
        ax.grid(alpha=0.3)
    figure.suptitle("Lines are means of networks, bands reach from the lowest to the highest one", fontsize=10)
    handles, _ = ax.get_legend_handles_labels()
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def run(budget: Budget, folder: pathlib.Path, on_progress: Callable[[str], None], seed: int) -> Findings:
    """See `base.Study`."""
    size = SIZES[budget]
    accuracies: dict[tuple[str, int], list[list[float]]] = {}
    for memory in MATRICES:
        for H in size.sizes:
            on_progress(f"{memory}, H = {H}")
            accuracies[memory, H] = [
                cached_json(
                    folder / f"{memory} {H} {i}.json", partial(measure, memory, H, size, seed_for(seed, f"{memory} {H} {i}"))
                )
                for i in range(size.networks)
            ]
    rows = table(accuracies, size.pairs)
    return Findings(
        question=f"How many pairs of a key and one of {toys.SYMBOLS} values does a matrix memory of H x H recall?",
        rows=rows,
        conclusion=conclude(rows),
        figure=draw(rows),
        notes=(
            f"Networks for each memory and H: {size.networks}, each trained for {size.updates:,} batches of 32 rows of a "
            f"random number of pairs, with {max(size.pairs)} kinds of keys; accuracy on 512 fresh rows, bands from the lowest "
            "to the highest network. What is not learned in that time counts as not held: these are lower bounds of capacity.",
            "Options as in the preset `fast`. Mamba has H rows and a state of H; linear_attention and mlstm have a row more, "
            "their normaliser.",
        ),
    )


STUDY = Study(
    about="how many pairs of a key and a value does a matrix memory hold, for its size?",
    run=run,
    expected={"full": "hours", "small": "some ten minutes", "tiny": "seconds"},
)
