"""Do gradients through a memory vanish or explode, and what becomes of the running product of C?

The Stable Hadamard Memory (arXiv 2410.10132) rests on a bounded expectation of that product, which is shown for Gaussian inputs
of mean zero. This study measures the product with other inputs, too, before and after training.
"""

from __future__ import annotations

import functools
import math
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..agents.config import seed_for
from ..memory import Memory
from ..report.curves import COLOURS, STYLES
from . import Budget, toys
from .base import Findings, Study, cached_record
from .inputs import NOISE, TASKS, recorded

_SHM: dict[str, Any] = {"feature_map": "softmax", "read_norm": True}  # as in the preset "popgym-fast": SHM learns fast
#: The memories by their labels in the table: name, size and options for make_memory.
VARIANTS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "SHM, random theta": ("shm", 32, _SHM),
    "SHM, centred theta": ("shm", 32, _SHM | {"theta": "centred"}),
    "SHM, stable theta": ("shm", 32, _SHM | {"theta": "stable", "table_scale": 0.1}),
    "SHM, fixed theta": ("shm", 32, _SHM | {"theta": "fixed"}),
    "SHM, learned theta": ("shm", 32, _SHM | {"theta": "learned"}),
    "SHM, C = 1": ("shm", 32, _SHM | {"calibration": "ones"}),
    "mLSTM": ("mlstm", 32, {}),
    "GRU": ("gru", 64, {}),
}
#: The gradient of a row has vanished below, and exploded above, this multiple of the median over rows after one step.
VANISHED, EXPLODED = 1e-6, 1e6
NETWORKS = ("initial", "trained")
_OWN = "features of the toy"
INPUTS = (*NOISE, *TASKS, _OWN)
_CHUNK = 64  # steps over which a product is formed in float32, before its logarithms are summed in float64
_RANGE = (-45.0, 39.0)  # range of the decimal logarithms of positive float32 numbers


@dataclass(frozen=True)
class Size:
    """How much a budget measures.

    Attributes:
        rows: number of sequences of each kind of input, divided among the networks.
        steps: lengths T over which gradients are measured.
        product: number of steps of the running product of C.
        networks: number of untrained networks ("initial"), and of trained ones.
        toy: number of steps of the toy task that networks are trained on.
        updates: number of updates of a training, with 8 rows each.
    """

    rows: int
    steps: tuple[int, ...]
    product: int
    networks: tuple[int, int]
    toy: int
    updates: int


SIZES: dict[Budget, Size] = {
    "full": Size(32, (1, 4, 16, 64, 256, 1024, 4096), 100_032, (8, 4), 1000, 1000),
    "small": Size(16, (1, 4, 16, 64, 256, 1024, 4096), 100_032, (4, 1), 1000, 300),
    "tiny": Size(4, (1, 4, 16), 128, (2, 1), 16, 2),
}


@dataclass(frozen=True)
class Product:
    """The running product of C: numbers of steps; 10 %, 50 % and 90 % quantiles of the decimal logarithms of its entries after
    these steps; the mean of the entries after the first chunk."""

    steps: list[int]
    low: list[float]
    median: list[float]
    high: list[float]
    mean: float


@dataclass(frozen=True)
class Found:
    """Measurements with one kind of input: decimal logarithms of the gradient norms to M_0 and to x_1, (steps, rows), relative
    to the median after one step; the product of C, if the memory has one."""

    M_0: list[list[float]]
    x_1: list[list[float]]
    product: Product | None


@dataclass(frozen=True)
class Cell:
    """A memory with all inputs: the measurements by the name of the input, and after training its accuracy on the toy and the
    number of updates that were lost to gradients that were not finite (None: not trained)."""

    accuracy: float | None
    lost: int | None
    inputs: dict[str, Found]


@dataclass(frozen=True)
class Row:
    """A memory with one kind of input."""

    memory: str
    network: str
    inputs: str
    accuracy: Annotated[float | None, "accuracy on the toy"]
    lost: Annotated[int | None, "updates lost"]
    M_0_gradient: Annotated[float, "log10 gradient to M_0"]
    M_0_vanished: Annotated[float, "M_0 vanished"]
    M_0_exploded: Annotated[float, "M_0 exploded"]
    x_1_gradient: Annotated[float, "log10 gradient to x_1"]
    x_1_vanished: Annotated[float, "x_1 vanished"]
    x_1_exploded: Annotated[float, "x_1 exploded"]
    mean_product: Annotated[float | None, f"log10 mean of {_CHUNK} C"]
    median_product: Annotated[float | None, "log10 median of all C"]

    @property
    def unusable(self) -> float:
        """Share of rows whose gradient to M_0 vanished or exploded."""
        return self.M_0_vanished + self.M_0_exploded


def gradient_norms(memory: Memory, x: Tensor) -> dict[str, Tensor]:
    """Norms of the gradients of a random projection of the last output, for x (B, T, D).

    Returns:
        "M_0": with respect to the initial matrix (of a GRU: the initial hidden state), and "x_1": with respect to the first
        input, each (B,).
    """
    state = memory.initial_state(x.shape[0])
    held = state["memory" if "memory" in state else "hidden"].requires_grad_()
    first = x[:, :1].clone().requires_grad_()
    y, _ = memory(torch.cat([first, x[:, 1:]], dim=1), state)
    direction = torch.nn.functional.normalize(torch.randn_like(y[:, -1]), dim=-1)
    gradients = torch.autograd.grad((direction * y[:, -1]).sum(), [held, first])
    return {name: g.flatten(1).norm(dim=1) for name, g in zip(("M_0", "x_1"), gradients, strict=True)}


def log_products(memory: Memory, x: Tensor) -> np.ndarray:
    """Natural logarithms of every entry of C_1 * ... * C_t for t = 64, 128, ..., T, from x (B, T, D).

    This product is the gradient of the sum of M_t with respect to M_0. Since C does not depend on M, the chunks of a row are
    computed in parallel, as the rows of a batch.

    Returns:
        (B, T / 64, entries) float64.
    """
    rows = []
    for row in x.unflatten(1, (-1, _CHUNK)):
        state = memory.initial_state(len(row))
        held = state["memory"].requires_grad_()
        after = memory(row, state)[1]
        product = torch.autograd.grad(after["memory"].sum(), held)[0][:, : memory.memory_size]
        log = product.double().log().clamp_min(_RANGE[0] * math.log(10))
        if "scale" in after:  # mLSTM holds M divided by exp(scale)
            log = log + after["scale"].detach().double()[:, None, None]
        rows.append(log.flatten(1).cumsum(dim=0))
    return torch.stack(rows).numpy()


def measure(variant: str, network: str, size: Size, seed: int, on_progress: Callable[[str], None]) -> Cell:
    """Measure a memory with all inputs."""
    name, width, options = VARIANTS[variant]
    toy = toys.first(size.toy)
    readers, accuracies, lost = [], [], 0
    for i in range(size.networks[NETWORKS.index(network)]):
        torch.manual_seed(seed_for(seed, f"{variant} {i}"))
        reader = toys.Reader(toy, name, width, **options)
        if network == "trained":
            on_progress(f"{variant}: training on the {toy.about}")
            lost += toys.train(reader, toy, size.updates, batch_size=8)
            accuracies.append(toys.accuracy(reader, toy, 128))
        readers.append(reader)
    found = {}
    for source in INPUTS:
        on_progress(f"{variant}, {network}: {source}")
        # the same inputs, and therefore the same random rows of theta, for every memory and network
        torch.manual_seed(seed_for(seed, source))
        shape = (size.rows // len(readers), size.product, toys.FEATURES)
        gradients: dict[str, list[np.ndarray]] = {"M_0": [], "x_1": []}
        products = []
        for i, reader in enumerate(readers):
            x = _draw(source, reader, shape, seed + i)
            norms = [gradient_norms(reader.memory, x[:, :T]) for T in size.steps]
            for leaf, rows in gradients.items():
                rows.append(np.stack([norm[leaf].double().numpy() for norm in norms]))
            if name != "gru":
                products.append(log_products(reader.memory, x) / math.log(10))
        relative = {leaf: _relative(np.concatenate(rows, axis=1)).tolist() for leaf, rows in gradients.items()}
        found[source] = Found(**relative, product=_summary(np.concatenate(products)) if products else None)
    return Cell(float(np.mean(accuracies)) if accuracies else None, lost if accuracies else None, found)


def _draw(source: str, reader: toys.Reader, shape: tuple[int, int, int], seed: int) -> Tensor:
    if source in NOISE:
        return NOISE[source](*shape)
    if source in TASKS:
        return recorded(source, *shape, seed=seed)
    with torch.no_grad():
        return reader.features(toys.first(shape[1]).draw(shape[0])[0])


def _relative(norms: np.ndarray) -> np.ndarray:
    """Decimal logarithms of norms (steps, rows), relative to the median of the first step. Norms that are not finite count as
    exploded."""
    finite = np.isfinite(norms)
    logs = np.log10(np.where(finite, norms, np.inf).clip(10 ** _RANGE[0]))
    middle = np.median(logs[0])
    return np.where(finite, logs - middle if np.isfinite(middle) else logs, np.inf).clip(*_RANGE)


def _summary(logs: np.ndarray) -> Product:
    """Summary of decimal logarithms (rows, chunks, entries): quantiles after 1, 2, 4, ... chunks and at the end, and the mean
    of the products after the first chunk. Later on, the mean of a sample says nothing about the expectation."""
    chunks = logs.shape[1]
    at = sorted({2**i - 1 for i in range(int(math.log2(chunks)) + 1)} | {chunks - 1})
    quantiles = np.quantile(logs[:, at], (0.1, 0.5, 0.9), axis=(0, 2))
    low, median, high = quantiles.tolist()
    return Product([(i + 1) * _CHUNK for i in at], low, median, high, float((10.0 ** logs[:, 0]).mean()))


def table(cells: dict[tuple[str, str], Cell]) -> list[Row]:
    """A row for every memory, network and input, from what `measure` returned."""
    rows = []
    for (variant, network), cell in cells.items():
        for source, found in cell.inputs.items():
            product = found.product
            of_product = (math.log10(product.mean), product.median[-1]) if product else (None, None)
            outcomes = (*_outcome(found.M_0[-1]), *_outcome(found.x_1[-1]))
            rows.append(Row(variant, network, source, cell.accuracy, cell.lost, *outcomes, *of_product))
    return rows


def _outcome(logs: Sequence[float]) -> tuple[float, float, float]:
    """The median of the decimal logarithms of gradients, and the shares of gradients that vanished and that exploded."""
    last = np.array(logs)
    vanished, exploded = last < math.log10(VANISHED), last > math.log10(EXPLODED)
    return float(np.median(last)), float(vanished.mean()), float(exploded.mean())


def conclude(rows: Sequence[Row], steps: int, product: int) -> list[str]:
    """Three sentences about gradients over `steps` steps and the product of C over `product` steps."""
    gaussian = [row for row in rows if row.inputs == "Gaussian"]
    outcomes = [f"{_outcomes(gaussian, network)} in {network} networks" for network in NETWORKS]
    held = {
        variant: 1 - float(np.mean([row.unusable for row in rows if row.memory == variant]))
        for variant in dict.fromkeys(row.memory for row in rows)
    }
    random = [row for row in rows if row.memory == "SHM, random theta"]
    worst = max(random, key=lambda row: row.unusable)
    loss = f"it is lost most often, in {worst.unusable:.0%} of the rows, under {worst.inputs} in {worst.network} networks"
    initial = next(row for row in random if row.network == "initial" and row.inputs == "Gaussian")
    assert initial.mean_product is not None
    assert initial.median_product is not None
    mean, typical = 10**initial.mean_product, initial.median_product
    low, high = math.log10(VANISHED), math.log10(EXPLODED)
    fate = "vanishes" if typical < low else "explodes" if typical > high else "stays in bounds"
    return [
        f"Over {steps:,} steps of Gaussian input the gradient to M_0 {'; it '.join(outcomes)}.",
        f"Over all inputs and networks it neither vanishes nor explodes in {_listed(held)}; with random theta "
        f"{loss if worst.unusable else 'it is never lost'}.",
        f"With random theta, Gaussian inputs and initial networks the product of C has a mean of {mean:.2f} after {_CHUNK} "
        f"steps (in expectation 1), and a median of 10^{typical:.1f} after {product:,}: the typical entry {fate}.",
    ]


def _listed(shares: dict[str, float]) -> str:
    return ", ".join(f"{share:.0%} of the rows of {name}" for name, share in shares.items())


def _outcomes(rows: Sequence[Row], network: str) -> str:
    parts = []
    for outcome, verb in (("vanished", "vanishes"), ("exploded", "explodes")):
        shares = {r.memory: share for r in rows if r.network == network and (share := getattr(r, f"M_0_{outcome}"))}
        parts.append(f"{verb} in {_listed(shares) or 'none'}")
    return " and ".join(parts)


def draw(cells: dict[tuple[str, str], Cell], size: Size) -> Figure:
    """Gradients and products against time with Gaussian inputs, and gradients to M_0 with all inputs: initial networks in the
    upper row of panels, trained ones in the lower."""
    figure = Figure(figsize=(17, 8), layout="constrained")
    axes = figure.subplots(2, 4, width_ratios=(1, 1, 1, 1.25))
    for network, (to_memory, to_input, product, all_inputs) in zip(NETWORKS, axes, strict=True):
        for ax, leaf in ((to_memory, "M_0"), (to_input, "x_1")):
            ax.axhspan(math.log10(VANISHED), math.log10(EXPLODED), color="0.93", zorder=0)
            ax.set(title=f"gradient to ${leaf}$, {network}", xlabel="steps $T$", ylabel="$\\log_{10}$ norm / median at $T$ = 1")
        product.set(title=f"product of C, {network}", xlabel="steps $T$", ylabel="$\\log_{10}$ of an entry")
        for i, variant in enumerate(VARIANTS):
            found = cells[variant, network].inputs["Gaussian"]
            look = {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i % len(STYLES)], "label": variant}
            for ax, leaf in ((to_memory, "M_0"), (to_input, "x_1")):
                _line(ax, size.steps, np.quantile(getattr(found, leaf), (0.1, 0.5, 0.9), axis=1), look)
            if found.product is not None:
                quantiles = np.array([found.product.low, found.product.median, found.product.high])
                _line(product, found.product.steps, quantiles, look)
        _heat(all_inputs, cells, network)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(
        "Gaussian inputs; lines are medians, bands the 10 % to 90 % quantiles (gradients: of rows, products: of entries); "
        "grey: neither vanished nor exploded",
        fontsize=10,
    )
    return figure


def _line(ax: Axes, steps: Sequence[int], quantiles: np.ndarray, look: dict[str, Any]) -> None:
    low, median, high = quantiles
    ax.plot(steps, median, **look)
    ax.fill_between(steps, low, high, color=look["color"], alpha=0.15, linewidth=0)
    ax.set_xscale("log", base=4 if len(steps) > 4 else 2)
    ax.grid(alpha=0.3)


def _heat(ax: Axes, cells: dict[tuple[str, str], Cell], network: str) -> None:
    logs = np.array([[np.median(cells[v, network].inputs[source].M_0[-1]) for v in VARIANTS] for source in INPUTS])
    image = ax.imshow(logs, cmap="PuOr", vmin=-8, vmax=8, aspect="auto")
    for (i, j), value in np.ndenumerate(logs):
        ax.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=8, color="white" if abs(value) > 5 else "black")
    ax.set_xticks(range(len(VARIANTS)), [v.replace(", ", ",\n").replace(" theta", "\ntheta") for v in VARIANTS], fontsize=8)
    ax.set_yticks(
        range(len(INPUTS)),
        [source.removeprefix("hadamem/").removeprefix("popgym-").removesuffix("-v0") for source in INPUTS],
        fontsize=8,
    )
    ax.set_title(f"gradient to $M_0$ at the last $T$, {network}")
    ax.figure.colorbar(image, ax=ax, label="median $\\log_{10}$ norm / median at $T$ = 1", extend="both")


def run(budget: Budget, folder: pathlib.Path, on_progress: Callable[[str], None], seed: int) -> Findings:
    """See `base.Study`."""
    size = SIZES[budget]
    cells = {}
    for network in NETWORKS:
        for variant in VARIANTS:
            file = folder / f"{network} {variant}.json"
            make = functools.partial(measure, variant, network, size, seed, on_progress)
            cells[variant, network] = cached_record(file, Cell, make)
    rows = table(cells)
    T = size.steps[-1]
    return Findings(
        question=f"Do gradients vanish or explode over {T:,} steps, the product of C over {size.product:,}, and under what?",
        rows=rows,
        conclusion=conclude(rows, T, size.product),
        figure=draw(cells, size),
        notes=_notes(size),
    )


def _notes(size: Size) -> list[str]:
    initial, trained = size.networks
    return [
        f"The gradient is that of a random projection of the output at step {size.steps[-1]:,}, in float32. Its norm is told "
        "as a decimal logarithm, relative to the median of the rows after one step. Vanished is below "
        f"{VANISHED:g}, exploded above {EXPLODED:g} or not finite. M_0 of a GRU is its hidden state. The mean of {_CHUNK} C is "
        f"over rows and entries, the median of all C after {size.product:,} steps.",
        f"{size.rows} rows of each input, shared among {initial} initial or {trained} trained networks. SHM has softmax "
        "features and a normalised read-out, as in the preset `popgym-fast`: its gradients are relative to all that is read. "
        "SHM and mLSTM begin with a layer norm, which tames heavy tails.",
        f"Trained: {size.updates:,} batches of 8 rows of the {toys.first(size.toy).about}; chance is {1 / toys.SYMBOLS}. "
        "Updates whose gradient was not finite were left out, and count as lost. Features of the toy are what the memory is "
        "given there, over more steps.",
        "Observations of tasks are those of a random policy, without resets between episodes, through a fixed random affine "
        f"map to {toys.FEATURES} features.",
    ]


STUDY = Study(
    about="do gradients vanish or explode, and under what inputs?",
    run=run,
    expected={"full": "hours", "small": "ten minutes", "tiny": "seconds"},
)
