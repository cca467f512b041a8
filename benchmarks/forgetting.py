"""Milliseconds of the Hadamard memory, forward and backward, by the share of it that each step keeps: x86 computes ten times as
long with denormal numbers as with others, unless the kernels count them as 0.

    python benchmarks/forgetting.py
"""

from __future__ import annotations

import statistics
import time

import torch

from hadamem.ops import hadamard_memory

B, T, H, REPEATS = 32, 1000, 32, 7


def milliseconds(kept: float) -> float:
    """Median milliseconds of a call. The memory is written at the first step only, and each step keeps the share `kept`."""
    a, k = torch.zeros(B, T, H), torch.zeros(B, T, H)
    a[:, 0], k[:, 0] = 1, 1
    q, shares = torch.randn(B, T, H).requires_grad_(), torch.full((B, T), kept).requires_grad_()
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        h, _ = hadamard_memory(a, k, q, calibration="scalar", factors=[shares])
        h.sum().backward()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


if __name__ == "__main__":
    torch.set_num_threads(1)
    milliseconds(1.0)  # the first call compiles the kernels
    for kept in (1.0, 0.99, 0.95, 0.9, 0.8, 0.5):
        print(f"kept {kept}: {milliseconds(kept):.0f} ms")
