"""Milliseconds of the Hadamard memory, forward and backward, by what a step leaves of it: a number that is almost nothing costs
x86 ten times as much as others, unless the kernels count it as nothing.

    python benchmarks/forgetting.py
"""

from __future__ import annotations

import statistics
import time

import torch

from hadamem.ops import hadamard_memory

B, T, H, REPEATS = 32, 1000, 32, 7


def milliseconds(kept: float) -> float:
    """Of a call, median: one thing is written at the first step, of which each step leaves a share."""
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
    milliseconds(1.0)  # compiles
    for kept in (1.0, 0.99, 0.95, 0.9, 0.8, 0.5):
        print(f"kept {kept}: {milliseconds(kept):.0f} ms")
