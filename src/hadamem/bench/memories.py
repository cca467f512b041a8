"""The cost of every memory with resets, at equal state size and at equal parameter count, next to torch.nn.GRU without."""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from ..measure import in_fresh_process, median_seconds, peak_extra_mb
from ..memory import MEMORIES, Memory, State, make_memory, memory_options
from ..options import read_json
from ..text import as_text, columns

FEATURES = 64  # of input and output
SHAPE = (64, 128)  # (B, T)
LONG = (8, 1024)  # (B, T) of the comparison with a loop over time
LENGTHS = (64, 256, 1024, 4096, 16384)  # lengths T in the plot, of one row
EPISODE = 50  # mean number of steps of an episode
TARGETS = {"state": 4096, "parameters": 25_000}  # bytes of the state of one row; number of parameters
TORCH_GRU = "torch.nn.GRU"
ON_OPERATOR = {"fwp": {"rule": "sum"}}  # options that a memory needs to run on a shared operator


@dataclass(frozen=True)
class Row:
    """The cost of a memory.

    Attributes:
        memory: its name.
        size: its size; None if it has no size.
        state_bytes: bytes of the state of one row.
        parameters: number of learned parameters.
        forward_us, forward_backward_us: microseconds for one step of one row with resets.
        resets: ratio of `forward_backward_us` to the time without resets; None if resets have no effect.
        acting_us: microseconds for one row of a single step, forward.
        extra_mb: megabytes above the inputs at the peak, forward and backward.
    """

    memory: str
    size: int | None
    state_bytes: Annotated[int, "state, bytes"]
    parameters: int
    forward_us: Annotated[float, "forward"]
    forward_backward_us: Annotated[float, "both ways"]
    resets: float | None
    acting_us: Annotated[float, "acting"]
    extra_mb: Annotated[float, "extra MB"]


@dataclass(frozen=True)
class LoopRow:
    """Microseconds for one step of one row of a memory on the shared operators, and of the same memory with a loop over time in
    PyTorch; and how many times as fast it is on the operators."""

    memory: str
    fused_us: Annotated[float, "fused"]
    loop_us: Annotated[float, "loop"]
    times_faster: Annotated[float, "faster"]


@dataclass(frozen=True)
class GRURow:
    """Microseconds for one step of one row of the memory gru with resets and of torch.nn.GRU without, and their ratio."""

    size: int
    gru_us: Annotated[float, "gru"]
    torch_us: Annotated[float, TORCH_GRU]
    ratio: float


@dataclass(frozen=True)
class LengthsRow:
    """Microseconds for one step of one row, for each length of a sequence."""

    memory: str
    lengths: list[int]
    us: list[float]


@dataclass(frozen=True)
class Tables:
    """The tables of `measure_all`: costs at equal state size, costs at equal parameter count, the shared operators compared
    with loops, the memory gru compared with torch.nn.GRU, and costs by length."""

    state: list[Row] = field(default_factory=list)
    parameters: list[Row] = field(default_factory=list)
    loop: list[LoopRow] = field(default_factory=list)
    gru: list[GRURow] = field(default_factory=list)
    lengths: list[LengthsRow] = field(default_factory=list)


class TorchGRU(Memory):
    """torch.nn.GRU without resets, for comparison: it ignores `start`."""

    def __init__(self, input_size: int, output_size: int, hidden_size: int) -> None:
        super().__init__(input_size, output_size)
        self.rnn = nn.GRU(input_size, hidden_size, batch_first=True)
        self.output = nn.Identity() if hidden_size == output_size else nn.Linear(hidden_size, output_size)

    def initial_state(self, batch_size: int) -> State:
        """A state of zeros."""
        return {"hidden": self._zeros(batch_size, self.rnn.hidden_size)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        y, last = self.rnn(x, state["hidden"][None].contiguous())
        return self.output(y), {"hidden": last[0]}


def build(name: str, size: int | None, **options: Any) -> Memory:
    """Make a memory of the registry, or torch.nn.GRU, with FEATURES inputs and outputs."""
    if name == TORCH_GRU:
        return TorchGRU(FEATURES, FEATURES, size or FEATURES)
    return make_memory(name, FEATURES, FEATURES, size, **options)


def state_bytes(memory: Memory) -> int:
    """Bytes of the state of one row."""
    return sum(leaf.numel() * leaf.element_size() for leaf in memory.initial_state(1).values())


def count_parameters(memory: Memory) -> int:
    """Number of learned parameters."""
    return sum(p.numel() for p in memory.parameters())


_COUNTS: dict[str, Callable[[Memory], int]] = {"state": state_bytes, "parameters": count_parameters}


def size_for(name: str, equal: str) -> int | None:
    """The size, a multiple of 4 (it is divided among heads), with which "state" or "parameters" is nearest to TARGETS.

    None (the memory's default) if the size does not change "state" or "parameters".
    """

    def count(fours: int) -> int:
        return _COUNTS[equal](build(name, 4 * fours))

    target, low, high = TARGETS[equal], 1, 2
    if count(low) == count(high):
        return None
    while count(high) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle) >= target else (middle, high)
    return 4 * min((low, high), key=lambda fours: abs(count(fours) - target))


class Case:
    """A memory, a random input, and resets at random steps."""

    def __init__(self, memory: Memory, B: int, T: int) -> None:
        torch.manual_seed(0)
        self.memory, self.steps = memory, B * T
        self.x, self.gradient = torch.randn(B, T, FEATURES), torch.randn(B, T, FEATURES)
        self.state = memory.initial_state(B)
        self.resets, self.no_resets = torch.rand(B, T) < 1 / EPISODE, torch.zeros(B, T, dtype=torch.bool)
        self.parameters = list(memory.parameters())

    @torch.no_grad()
    def forward(self, start: Tensor) -> None:
        """Run the memory forward."""
        self.memory(self.x, self.state, start)

    def both_ways(self, start: Tensor) -> None:
        """Run the memory forward and backward, with gradients of the parameters and of x."""
        x = self.x.requires_grad_()
        y, _ = self.memory(x, self.state, start)
        torch.autograd.grad(y, [x, *self.parameters], self.gradient, allow_unused=True)
        self.x = x.detach()


def warm_up(memory: Memory) -> None:
    """Compile or load the kernels of a memory, and start the thread pool."""
    small = Case(memory, 2, 3)
    small.both_ways(small.resets)


def in_turn(calls: dict[str, Callable[[], Any]], steps: int, seconds: float = 4.0, rounds: int = 9) -> dict[str, list[float]]:
    """Microseconds per step of each call in each round. In a round, calls take turns, so that other work on the machine slows
    all alike. At least three rounds are made, so that a median is not that of the first, cold round, then more while there is
    time; quick calls are repeated within a round."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - begin > seconds:
            break
        for name, call in calls.items():
            found[name].append(1e6 * _seconds(call) / steps)
    return found


def _seconds(call: Callable[[], Any], at_least: float = 0.05) -> float:
    """The mean duration of as many calls as fill `at_least` seconds."""
    count, begin = 0, time.perf_counter()
    while (taken := time.perf_counter() - begin) < at_least or not count:
        call()
        count += 1
    return taken / count


def ratio(found: dict[str, list[float]], above: str, below: str) -> float:
    """The median over rounds of the ratio of two calls' times within a round."""
    return statistics.median(a / b for a, b in zip(found[above], found[below], strict=True))


def measure(name: str, equal: str, shape: tuple[int, int] = SHAPE) -> Row:
    """Measure the cost of one memory at a shape (B, T)."""
    size = size_for(name, equal)
    memory = build(name, size)
    warm_up(memory)
    case = Case(memory, *shape)
    extra = peak_extra_mb(lambda: case.both_ways(case.resets))
    calls: dict[str, Callable[[], Any]] = {
        "forward": lambda: case.forward(case.resets),
        "forward_backward": lambda: case.both_ways(case.resets),
        "without_resets": lambda: case.both_ways(case.no_resets),
    }
    found = in_turn(calls, case.steps)
    acting = Case(memory, shape[0], 1)
    return Row(
        memory=name,
        size=size if size is not None or name not in MEMORIES else getattr(memory, MEMORIES[name].size_argument, None),
        state_bytes=state_bytes(memory),
        parameters=count_parameters(memory),
        forward_us=statistics.median(found["forward"]),
        forward_backward_us=statistics.median(found["forward_backward"]),
        resets=None if name == TORCH_GRU else ratio(found, "forward_backward", "without_resets"),
        acting_us=1e6 * median_seconds(lambda: acting.forward(acting.no_resets), budget=0.5) / shape[0],
        extra_mb=extra,
    )


def measure_loop(name: str, shape: tuple[int, int] = LONG) -> LoopRow:
    """Compare a memory of default size with the same memory as a loop over time in PyTorch, forward and backward."""
    cases, options = {}, ON_OPERATOR.get(name, {})
    for backend in ("auto", "reference"):
        torch.manual_seed(0)
        cases[backend] = Case(build(name, None, backend=backend, **options), *shape)
    found = in_turn({b: lambda case=case: case.both_ways(case.resets) for b, case in cases.items()}, shape[0] * shape[1])  # type: ignore[misc]
    label = " ".join([name, *(f"{option}={value}" for option, value in options.items())])
    fused, loop = (statistics.median(found[backend]) for backend in ("auto", "reference"))
    return LoopRow(label, fused, loop, ratio(found, "reference", "auto"))


def measure_gru(size: int = 256, shape: tuple[int, int] = SHAPE) -> GRURow:
    """Compare the memory gru with resets and torch.nn.GRU without resets."""
    ours, theirs = (Case(build(name, size), *shape) for name in ("gru", TORCH_GRU))
    calls = {"gru": lambda: ours.both_ways(ours.resets), TORCH_GRU: lambda: theirs.both_ways(theirs.no_resets)}
    found = in_turn(calls, ours.steps)
    mine, torchs = statistics.median(found["gru"]), statistics.median(found[TORCH_GRU])
    return GRURow(size, mine, torchs, ratio(found, "gru", TORCH_GRU))


def measure_lengths(name: str, lengths: Sequence[int] = LENGTHS) -> LengthsRow:
    """Measure microseconds per step, forward and backward, of one row of each length with resets, at equal parameter count."""
    memory, taken = build(name, size_for(name, "parameters")), []
    warm_up(memory)
    for T in lengths:
        case = Case(memory, 1, T)
        taken.append(1e6 * median_seconds(lambda case=case: case.both_ways(case.resets), budget=0.5) / T)  # type: ignore[misc]
    return LengthsRow(name, list(lengths), taken)


def with_backends(names: Sequence[str]) -> list[str]:
    """The memories that run on the shared operators, which have a loop over time to compare with."""
    return [name for name in names if "backend" in memory_options(name)]


def measure_all(names: Sequence[str], lengths: bool, on_progress: Callable[[str], None]) -> Tables:
    """Measure all tables for memories by name, each row in a fresh process; costs by length only with `lengths`."""
    jobs = [("state", name) for name in [*names, TORCH_GRU]]
    jobs += [("parameters", name) for name in [*names, TORCH_GRU]]
    jobs += [("loop", name) for name in with_backends(names)]
    jobs += [("gru", "gru")] * ("gru" in names)
    jobs += [("lengths", name) for name in [*names, TORCH_GRU] if lengths]
    tables: dict[str, list[Any]] = {}
    for i, (table, name) in enumerate(jobs):
        on_progress(f"{i + 1} of {len(jobs)}: {name}, {table}")
        tables.setdefault(table, []).append(in_fresh_process(__name__, table, name))
    return read_json(Tables, tables)


def shown(tables: Tables) -> dict[str, list[dict[str, str]]]:
    """The tables as texts, by their titles."""
    titles = {
        "state": f"At equal state size, about {TARGETS['state']:,} bytes (where it depends on the size):",
        "parameters": f"At equal parameter count, about {TARGETS['parameters']:,}:",
        "loop": f"The models on the shared operators beside their own loop over time in PyTorch, both ways at {LONG}:",
        "gru": f"GRU with resets beside torch.nn.GRU without, both ways at {SHAPE}:",
        "lengths": "One row of T steps, both ways:",
    }
    formats = {"resets": _times, "faster": _times, "ratio": _times, "extra MB": "{:,.1f}".format}
    found = {}
    for table, title in titles.items():
        rows = [_by_length(row) if isinstance(row, LengthsRow) else columns(row) for row in getattr(tables, table)]
        if rows:
            found[title] = [{head: formats.get(head, as_text)(value) for head, value in row.items()} for row in rows]
    return found


def _by_length(row: LengthsRow) -> dict[str, Any]:
    return {"memory": row.memory} | {f"{T:,}": us for T, us in zip(row.lengths, row.us, strict=True)}


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def draw_lengths(rows: Sequence[LengthsRow], file: pathlib.Path) -> None:
    """Draw the cost of a step against the length of the sequence, a line for each memory, on log axes."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    for i, row in enumerate(rows):
        style = ("-", "--", ":")[i // len(colours)] if row.memory != TORCH_GRU else "k-."
        axes.plot(row.lengths, row.us, style, marker="o", markersize=3, color=colours[i % 20], label=row.memory)
    axes.set(xscale="log", yscale="log", xlabel="T, steps of one row (mean episode length 50)")
    axes.set(ylabel="µs per step, forward and backward", title=f"about {TARGETS['parameters']:,} parameters each")
    axes.set_xticks(rows[0].lengths, [f"{T:,}" for T in rows[0].lengths])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, ncols=2, loc="center left", bbox_to_anchor=(1, 0.5))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    what, name = sys.argv[1:]
    others: dict[str, Callable[[str], LoopRow | GRURow | LengthsRow]] = {
        "loop": measure_loop,
        "gru": lambda _: measure_gru(),
        "lengths": measure_lengths,
    }
    print(json.dumps(asdict(measure(name, what) if what in TARGETS else others[what](name))))
