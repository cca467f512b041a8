"""How many pairs of a key and a value does a matrix memory hold, for its size?"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from ...agents.training import seed_for
from ...memory import MEMORIES, parse_options
from ...memory.delta_net import DeltaNet
from ...memory.fwp import FWP
from ...memory.mamba import Mamba
from ...memory.matrix import MatrixMemory
from ...memory.shm import SHM
from .. import toys
from ..curves import COLOURS, STYLES
from ..recipes import PRESETS
from . import Budget
from .base import Findings, Study, kept

#: The memories whose state is a matrix.
MATRICES = tuple(name for name, (cls, _) in MEMORIES.items() if issubclass(cls, SHM | MatrixMemory | FWP | DeltaNet | Mamba))
#: A number of pairs counts as held from this accuracy on.
HELD = 0.9
_MARKERS = "os^DvP"


@dataclass(frozen=True)
class Size:
    """How much is measured: pairs n, memory sizes H, batches of 32 rows in each training, networks for each memory and H."""

    pairs: tuple[int, ...]
    sizes: tuple[int, ...]
    updates: int
    networks: int


SIZES: dict[Budget, Size] = {
    "full": Size((4, 8, 16, 32, 64), (8, 16, 32, 64), 5000, 3),
    "small": Size((4, 8, 16, 32), (8, 16, 32), 600, 1),
    "tiny": Size((2, 4), (4, 8), 2, 1),
}


def measure(memory: str, H: int, size: Size, seed: int) -> list[float]:
    """Accuracy for each number of pairs, of one network that was trained on all of them.

    Numbers of pairs are mixed because the few teach how to write and read, without which the many are not learned in time.
    """
    torch.manual_seed(seed)
    options = parse_options(memory, PRESETS["fast"]["memory"].get(memory, {}).get("options", ()))
    if memory == "mamba":
        options["state_size"] = H  # a matrix of (H, H), as the others
    given = [toys.associative(n, max(size.pairs)) for n in size.pairs]
    reader = toys.Reader(given[0], memory, H, **options)
    toys.train(reader, toys.one_of(given), size.updates)
    return [toys.accuracy(reader, toy) for toy in given]


def table(accuracies: Mapping[tuple[str, int], Sequence[Sequence[float]]], pairs: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each memory, H and n, from the accuracies (networks, n): the mean, and the lowest and highest network."""
    return [
        {"memory": memory, "H": H, "pairs": n, "accuracy": sum(of) / len(of), "lowest": min(of), "highest": max(of)}
        for (memory, H), networks in accuracies.items()
        for n, of in zip(pairs, zip(*networks, strict=True), strict=True)
    ]


def conclude(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Three sentences: the best memory, what size gives, and how many pairs are held."""
    means = _means(rows, "memory")
    best, worst = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    sizes, pairs = sorted({row["H"] for row in rows}), sorted({row["pairs"] for row in rows})
    most = [row for row in rows if row["pairs"] == pairs[-1]]
    gains = {
        name: _means([row for row in rows if row["memory"] == name], "H")[sizes[-1]]
        - _means([row for row in rows if row["memory"] == name], "H")[sizes[0]]
        for name in means
    }
    gained = max(gains, key=gains.__getitem__)
    held = {
        name: max((row["pairs"] for row in rows if row["memory"] == name and row["accuracy"] >= HELD), default=0)
        for name in means
    }
    holders = ", ".join(f"{name} {n}" for name, n in held.items() if n) or "none by any memory"
    top = max(most, key=_accuracy)
    return [
        f"Over all sizes and numbers of pairs {best} recalls best, with a mean accuracy of {means[best]:.2f}, and {worst} "
        f"worst, with {means[worst]:.2f} (chance: {1 / toys.SYMBOLS}).",
        f"From H = {sizes[0]} to {sizes[-1]} {gained} gains most, {gains[gained]:+.2f}; of {pairs[-1]} pairs "
        f"{top['memory']} with H = {top['H']} recalls most, {top['accuracy']:.2f}.",
        f"At an accuracy of {HELD} the most pairs held at any size are: {holders}.",
    ]


def _accuracy(row: dict[str, Any]) -> float:
    return row["accuracy"]


def _means(rows: Sequence[dict[str, Any]], key: str) -> dict[Any, float]:
    values = dict.fromkeys(row[key] for row in rows)
    return {v: sum(of := [row["accuracy"] for row in rows if row[key] == v]) / len(of) for v in values}


def draw(rows: Sequence[dict[str, Any]]) -> Figure:
    """A panel for each H: accuracy against pairs, a line for each memory, a band from the lowest to the highest network."""
    sizes, names = sorted({row["H"] for row in rows}), list(dict.fromkeys(row["memory"] for row in rows))
    pairs = sorted({row["pairs"] for row in rows})
    figure, axes = plt.subplots(
        1, len(sizes), figsize=(3.2 * len(sizes), 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, H in zip(axes[0], sizes, strict=True):
        for i, name in enumerate(names):
            of = [row for row in rows if row["memory"] == name and row["H"] == H]
            colour, turn = COLOURS[i % len(COLOURS)], i // len(COLOURS)
            look = {"color": colour, "linestyle": STYLES[turn], "marker": _MARKERS[i % len(_MARKERS)], "markersize": 4}
            ax.plot(pairs, [row["accuracy"] for row in of], label=name, **look)
            ax.fill_between(pairs, [r["lowest"] for r in of], [r["highest"] for r in of], color=colour, alpha=0.15, linewidth=0)
        ax.axhline(1 / toys.SYMBOLS, color="black", linewidth=1, linestyle=":")
        ax.set(xscale="log", xlabel="pairs", title=f"H = {H}", ylim=(0, 1.03))
        ax.set_xticks(pairs, [str(n) for n in pairs])
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("accuracy")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("lines: mean of networks; bands: lowest to highest; dotted: chance", fontsize=9)
    plt.close(figure)
    return figure


def run(budget: Budget, folder: pathlib.Path, told: Callable[[str], None], seed: int) -> Findings:
    """See `base.Study`."""
    size = SIZES[budget]
    accuracies: dict[tuple[str, int], list[list[float]]] = {}
    for memory in MATRICES:
        for H in size.sizes:
            for network in range(size.networks):
                told(f"{memory}, H = {H}, network {network + 1} of {size.networks}")
                own = seed_for(seed, f"{memory} {H} {network}")
                made = kept(folder / f"{memory} {H} {network}.json", partial(measure, memory, H, size, own))
                accuracies.setdefault((memory, H), []).append(made)
    rows = table(accuracies, size.pairs)
    return Findings(
        question="How many pairs of a key and a value does a matrix memory hold, for its size?",
        rows=rows,
        conclusion=conclude(rows),
        figure=draw(rows),
        notes=[
            f"Each network saw {size.updates:,} batches of 32 rows, each of one number of pairs, n out of "
            f"{', '.join(map(str, size.pairs))}; keys are one-hot, {max(size.pairs)} kinds, values one of "
            f"{toys.SYMBOLS} symbols. "
            f"{size.networks} network{'s' * (size.networks > 1)} for each memory and H; mamba's matrix is (H, H), too. "
            "What a memory could learn in more updates is not told.",
        ],
    )


STUDY = Study(
    about="associative recall of n pairs against memory size, for all matrix memories",
    run=run,
    expected={"full": "hours", "small": "about ten minutes", "tiny": "seconds"},
)
