"""Every backend of the Hadamard recurrence, compared with the released form of SHM."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from ..measure import in_fresh_process, median_seconds, peak_extra_mb, resident_mb
from ..memory import SHM
from ..ops import hadamard_memory
from ..options import read_json
from .limit import BACKWARD, FORWARD, floor_us, rates

SIZES = ((8, 256, 128), (64, 64, 24), (8, 1024, 32), (64, 128, 32))
BACKENDS = ("released", "reference", "parallel", "cpu")
LONG = (1, 8192, 64)
LARGE = ((16, 1024, 128), (1, 100_000, 64))
ROUNDS = 9
JAX = pathlib.Path(__file__).parents[3] / "benchmarks" / "jax_scan.py"  # only in a checkout; needs the extra [bench]
TUNED_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "8000000000"}


@dataclass(frozen=True)
class Cost:
    """Measurements of a backend at a size (B, T, H).

    Attributes:
        backend, B, T, H: the backend and the size.
        forward_us, forward_backward_us: microseconds for one step of one row.
        extra_mb: megabytes above the inputs at the peak, forward and backward; None: not known.
    """

    backend: str
    B: int
    T: int
    H: int
    forward_us: float
    forward_backward_us: float
    extra_mb: float | None = None


@dataclass(frozen=True)
class Row(Cost):
    """The same for a backend on the processor; for the fused kernels also the times as multiples of the floor, see `limit`."""

    forward_of_floor: float | None = None
    forward_backward_of_floor: float | None = None


@dataclass(frozen=True)
class ThreadsRow:
    """How many times as fast `threads` threads are as one."""

    B: int
    T: int
    H: int
    threads: int
    forward_faster: float
    forward_backward_faster: float


@dataclass(frozen=True)
class MemoryRow:
    """Megabytes above the inputs of one pass of the kernels, and of one training step of a whole SHM; megabytes of the process
    at its peak."""

    B: int
    T: int
    H: int
    kernels_extra_mb: float
    training_extra_mb: float
    process_mb: float


@dataclass(frozen=True)
class Tables:
    """The tables of `measure_all`."""

    sizes: list[Row]
    threads: list[ThreadsRow]
    memory: list[MemoryRow]


def released_form(u: Tensor, w: Tensor, a: Tensor, k: Tensor, q: Tensor) -> Tensor:
    """The released form of SHM: all C_t and writes are materialised as (B, T, H, H), a Python loop runs over slices of them,
    and the states are stacked, then read. The gradient of each slice is a tensor of full size: the cost is quadratic in T."""
    C = 1 + torch.tanh(u[..., :, None] * w[..., None, :])
    write = a[..., :, None] * k[..., None, :]
    M = torch.zeros_like(C[:, 0])
    states = []
    for t in range(u.shape[1]):
        M = M * C[:, t] + write[:, t]
        states.append(M)
    return torch.einsum("btvk,btk->btv", torch.stack(states, dim=1), q)


def _function(backend: str, B: int, T: int, H: int) -> Callable[..., Tensor]:
    if backend == "released":
        return released_form
    start, state = torch.zeros(B, T, dtype=torch.bool), torch.zeros(B, H, H)  # agents always pass these

    def function(u: Tensor, w: Tensor, a: Tensor, k: Tensor, q: Tensor) -> Tensor:
        return hadamard_memory(a, k, q, factors=(u, w), start=start, state=state, backend=backend)[0]

    return function


def _inputs(B: int, T: int, H: int) -> tuple[list[Tensor], Tensor]:
    made = [torch.randn(B, T, H).mul_(0.3).requires_grad_() for _ in range(5)]
    return made, torch.randn(B, T, H)


def _both_ways(function: Callable[..., Tensor], tensors: list[Tensor], gradient: Tensor) -> None:
    torch.autograd.grad(function(*tensors), tensors, gradient)


@torch.no_grad()
def _one_way(function: Callable[..., Tensor], tensors: list[Tensor]) -> None:
    function(*tensors)


def measure(backend: str, B: int, T: int, H: int, rounds: int = ROUNDS) -> Row:
    """Measure one backend at one size."""
    torch.manual_seed(0)
    _both_ways(_function(backend, B, 2, H), *_inputs(B, 2, H))  # compile, start the thread pool
    function = _function(backend, B, T, H)
    tensors, gradient = _inputs(B, T, H)
    extra = peak_extra_mb(lambda: _both_ways(function, tensors, gradient))
    ways = {
        "forward": (lambda: _one_way(function, tensors), (FORWARD,)),
        "forward_backward": (lambda: _both_ways(function, tensors, gradient), (FORWARD, BACKWARD)),
    }
    if backend != "cpu":
        once = {f"{name}_us": 1e6 * median_seconds(call) / (B * T) for name, (call, _) in ways.items()}
        return Row(backend, B, T, H, extra_mb=extra, **once)
    found: dict[str, list[float]] = {}
    for _ in range(rounds):  # kernel and floor in turn, so that other work on the machine slows both
        limit = rates(torch.get_num_threads(), repeats=3)
        for name, (call, parts) in ways.items():
            taken = 1e6 * median_seconds(call, budget=0.1) / (B * T)
            found.setdefault(f"{name}_us", []).append(taken)
            found.setdefault(f"{name}_of_floor", []).append(taken / floor_us(limit, H, *parts))
    return Row(backend, B, T, H, extra_mb=extra, **{name: statistics.median(values) for name, values in found.items()})


def measure_threads(B: int, T: int, H: int) -> ThreadsRow:
    """Measure how many times as fast all threads are as one; the two are timed in turn."""
    threads, function = torch.get_num_threads(), _function("cpu", B, T, H)
    tensors, gradient = _inputs(B, T, H)
    faster: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, call in (
            ("forward", lambda: _one_way(function, tensors)),
            ("forward_backward", lambda: _both_ways(function, tensors, gradient)),
        ):
            seconds = []
            for count in (1, threads):
                torch.set_num_threads(count)
                seconds.append(median_seconds(call, budget=0.3))
            faster.setdefault(f"{name}_faster", []).append(seconds[0] / seconds[1])
    return ThreadsRow(B, T, H, threads, **{name: statistics.median(values) for name, values in faster.items()})


def measure_memory(B: int, T: int, H: int) -> MemoryRow:
    """Measure the memory of one pass of the kernels, of one training step of a whole SHM, and of the process."""
    inputs = _inputs(B, T, H)
    kernels = peak_extra_mb(lambda: _both_ways(_function("cpu", B, T, H), *inputs))
    inputs[0].clear()
    memory, x = SHM(H, H, H), torch.randn(B, T, H)
    optimiser = torch.optim.Adam(memory.parameters())

    def step() -> None:
        memory(x)[0].square().mean().backward()
        optimiser.step()

    return MemoryRow(B, T, H, kernels, peak_extra_mb(step), resident_mb())


def measure_all(on_progress: Callable[[str], None]) -> Tables:
    """Measure all backends at all sizes, each in a fresh process; then threads and memory.

    The fused kernels and the released form are also measured with an allocator that keeps freed memory: large new allocations
    are slow on some machines, and it is mostly the released form that makes them.
    """
    rows = []

    def add(name: str, *arguments: object, **environment: str) -> None:
        on_progress(f"{name} at (B, T, H) = {arguments[1:4]}")
        rows.append(replace(read_json(Row, in_fresh_process(__name__, *arguments, environment=environment)), backend=name))

    for size in SIZES:
        for backend in BACKENDS:
            add(backend, backend, *size)
        for backend in ("released", "cpu"):
            add(f"{backend} (tuned)", backend, *size, **TUNED_ALLOCATOR)
        if JAX.exists() and importlib.util.find_spec("jax"):
            on_progress(f"JAX at (B, T, H) = {size}")
            rows.append(read_json(Row, in_fresh_process(str(JAX), *size)))
    on_progress("threads")
    threads = [read_json(ThreadsRow, in_fresh_process(__name__, "threads", *LONG))]
    on_progress("memory")
    memory = [read_json(MemoryRow, in_fresh_process(__name__, "memory", *size)) for size in LARGE]
    return Tables(rows, threads, memory)


if __name__ == "__main__":
    what, sizes = sys.argv[1], tuple(map(int, sys.argv[2:5]))
    others: dict[str, Callable[..., ThreadsRow | MemoryRow]] = {"threads": measure_threads, "memory": measure_memory}
    print(json.dumps(asdict(others[what](*sizes) if what in others else measure(what, *sizes))))
