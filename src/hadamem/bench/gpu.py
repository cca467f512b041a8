"""The Hadamard recurrence on a GPU: the fused kernels compared with the released form of SHM, and with plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..measure import median_seconds
from ..ops import hadamard_memory
from .ops import SIZES, Cost, released_form

BACKENDS = ("released", "reference", "parallel", "gpu")
WIDE = ((1024, 128, 32), (256, 256, 128))  # rollouts that fill a GPU


def measure(backend: str, size: tuple[int, int, int], device: str = "cuda") -> Cost:
    """Measure one backend at one size (B, T, H); the megabytes are those of the GPU's memory."""
    B, T, H = size
    tensors = [torch.randn(B, T, H, device=device).mul_(0.3).requires_grad_() for _ in range(5)]
    gradient = torch.randn(B, T, H, device=device)
    start, state = torch.zeros(B, T, dtype=torch.bool, device=device), torch.zeros(B, H, H, device=device)

    def function(u: Tensor, w: Tensor, a: Tensor, k: Tensor, q: Tensor) -> Tensor:
        if backend == "released":
            return released_form(u, w, a, k, q)
        return hadamard_memory(a, k, q, factors=(u, w), start=start, state=state, backend=backend)[0]

    @torch.no_grad()
    def forward() -> None:
        function(*tensors)
        torch.cuda.synchronize()

    def both_ways() -> None:
        torch.autograd.grad(function(*tensors), tensors, gradient)
        torch.cuda.synchronize()

    for call in (forward, both_ways):  # the first calls compile
        call()
    forward_us, both_us = (1e6 * median_seconds(call) / (B * T) for call in (forward, both_ways))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    both_ways()
    return Cost(backend, B, T, H, forward_us, both_us, (torch.cuda.max_memory_allocated() - before) / 1e6)


def measure_all(on_progress: Callable[[str], None]) -> list[Cost]:
    """Measure all backends at all sizes; measurements that do not fit into the GPU's memory are left out.

    Raises:
        ValueError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise ValueError("there is no GPU here that torch can use")
    rows = []
    for size in (*SIZES, *WIDE):
        for backend in BACKENDS:
            on_progress(f"{backend} at (B, T, H) = {size}")
            try:
                rows.append(measure(backend, size))
            except torch.OutOfMemoryError:
                on_progress(f"{backend} at (B, T, H) = {size} does not fit into the GPU's memory")
            torch.cuda.empty_cache()
    return rows
