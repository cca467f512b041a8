"""Every backend of the Hadamard recurrence next to the form in which SHM was released."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..ops import hadamard_memory
from .limit import BACKWARD, FORWARD, floor_us
from .limit import measure as measure_limit
from .measure import in_fresh_process, median_seconds, peak_extra_mb

SIZES = ((8, 256, 128), (64, 64, 24), (8, 1024, 32), (64, 128, 32))
BACKENDS = ("released", "reference", "parallel", "cpu")
LONG = (1, 8192, 64)
JAX = pathlib.Path(__file__).parents[3] / "benchmarks" / "jax_scan.py"  # in a checkout; needs the extra [bench]
TUNED_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "8000000000"}


def released_form(u: Tensor, w: Tensor, a: Tensor, k: Tensor, q: Tensor) -> Tensor:
    """SHM the way it was published: all C_t and writes materialised as (B, T, H, H), a Python loop over slices of them, the
    states stacked, then read. The gradient of every slice is a zero tensor of the full size: quadratic in T."""
    C = 1 + torch.tanh(u[..., :, None] * w[..., None, :])
    write = a[..., :, None] * k[..., None, :]
    M = torch.zeros_like(C[:, 0])
    states = []
    for t in range(u.shape[1]):
        M = M * C[:, t] + write[:, t]
        states.append(M)
    return torch.einsum("btvk,btk->btv", torch.stack(states, dim=1), q)


def _function(backend: str) -> Callable[..., Tensor]:
    if backend == "released":
        return released_form
    return lambda u, w, a, k, q: hadamard_memory(a, k, q, factors=(u, w), backend=backend)[0]


def measure(backend: str, B: int, T: int, H: int) -> dict[str, Any]:
    """One row, in this process: microseconds per row and step, and megabytes above the inputs."""
    torch.manual_seed(0)
    function = _function(backend)

    def inputs(T: int) -> tuple[list[Tensor], Tensor]:
        made = [torch.randn(B, T, H).mul_(0.3).requires_grad_() for _ in range(5)]
        return made, torch.randn(B, T, H)

    def forward_backward(tensors: list[Tensor], gradient: Tensor) -> None:
        torch.autograd.grad(function(*tensors), tensors, gradient)

    forward_backward(*inputs(2))  # compile, open the thread pool
    tensors, gradient = inputs(T)
    extra = peak_extra_mb(lambda: forward_backward(tensors, gradient))
    both = median_seconds(lambda: forward_backward(tensors, gradient))
    with torch.no_grad():
        forward = median_seconds(lambda: function(*tensors))
    per_step = 1e6 / (B * T)
    row = {"backend": backend, "B": B, "T": T, "H": H, "forward_us": forward * per_step}
    row |= {"forward_backward_us": both * per_step, "extra_mb": extra}
    limit = measure_limit(torch.get_num_threads())  # in this process too: what else runs here slows both
    row["forward_floor_us"] = floor_us(limit, H, FORWARD)
    row["forward_backward_floor_us"] = floor_us(limit, H, FORWARD, BACKWARD)
    return row


def measure_all(told: Callable[[str], None]) -> list[dict[str, Any]]:
    """All backends at all sizes, each in a fresh process.

    The fastest and the released form also under an allocator that keeps what it has: large fresh allocations are slow on some
    machines, and it is mostly the released form that makes them. And one long row, with one thread and with all.
    """
    rows = []

    def add(name: str, *arguments: object, **environment: str) -> None:
        told(f"{name} at (B, T, H) = {arguments[1:4]}")
        rows.append(in_fresh_process(__name__, *arguments, environment=environment) | {"backend": name})

    for size in SIZES:
        for backend in BACKENDS:
            add(backend, backend, *size)
        for backend in ("released", "cpu"):
            add(f"{backend} (tuned)", backend, *size, **TUNED_ALLOCATOR)
        if JAX.exists() and importlib.util.find_spec("jax"):
            told(f"JAX at (B, T, H) = {size}")
            rows.append(in_fresh_process(str(JAX), *size) | {"extra_mb": None})
    add("cpu (one thread)", "cpu", *LONG, 1)
    add("cpu", "cpu", *LONG)
    return rows


if __name__ == "__main__":
    if len(sys.argv) > 5:
        torch.set_num_threads(int(sys.argv[5]))
    print(json.dumps(measure(sys.argv[1], *map(int, sys.argv[2:5]))))
