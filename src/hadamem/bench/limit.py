"""The peak speed of this processor, and the floor that follows from it: the least time of a kernel of the Hadamard recurrence.

Per element of M and step, with tanh_outer calibration (an operation is a fused multiply-add, or a product or sum that is not
part of one; work that is done once per row or once per step is not counted):

* forward: 1 tanh (with the product in it), and 3 operations: M C, + a k, h += M q.
* backward: C and M again, 1 tanh and 2 operations; then 13: dM += dh q, M_t from M_{t-1} (2), dq, dk, da, dC = dM M_{t-1}, its
  slope C (2 - C) (3), du, dw, dM C.

Memory traffic is not part of the floor: a kernel that keeps M in the cache moves O(H) numbers a step, not O(H^2).
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit

from ..ops.elementary import one_plus_tanh
from ..ops.simd import LANES, load, store


@dataclass(frozen=True)
class Work:
    """Numbers of operations for an element of M in a step."""

    tanh: int
    fma: int


FORWARD = Work(tanh=1, fma=3)
BACKWARD = Work(tanh=1, fma=15)

_SIZE = 2048  # number of floats, which with their results fill a third of a first-level cache
_ROUNDS = 100_000


@njit(nogil=True, error_model="numpy")
def _tanh(x, y, rounds):  # type: ignore[no-untyped-def]
    for _ in range(rounds):
        for j in range(0, x.size, LANES):
            store(y, j, one_plus_tanh(load(x, j)))


@njit(nogil=True, error_model="numpy")
def _fma(x, y, rounds):  # type: ignore[no-untyped-def]
    """Compute ten independent chains, so that the latency of their operations is hidden."""
    f = load(x, 0)
    a, b, c, d, e = f, f, f, f, f
    g, h, i, j, k = f, f, f, f, f
    for _ in range(rounds):
        for _ in range(0, x.size, LANES * 10):
            a, b, c, d, e = a * f + f, b * f + f, c * f + f, d * f + f, e * f + f
            g, h, i, j, k = g * f + f, h * f + f, i * f + f, j * f + f, k * f + f
    store(y, 0, a + b + c + d + e + g + h + i + j + k)


def _seconds(function: Callable[[int], None], threads: int, repeats: int) -> float:
    """Median time of function(0), ..., function(threads - 1) in parallel threads."""
    time.sleep(0.1)  # torch's threads spin for a while after its last operator
    seconds = []
    for _ in range(repeats):
        workers = [threading.Thread(target=function, args=(n,)) for n in range(threads)]
        begin = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def _rate(kernel: Callable[..., None], operations: float, threads: int, repeats: int) -> float:
    """Operations per second of `threads` threads together."""
    data = [(torch.rand(_SIZE).mul_(0.5).numpy(), torch.empty(_SIZE).numpy()) for _ in range(threads)]
    kernel(*data[0], 1)
    return operations * _ROUNDS * threads / _seconds(lambda n: kernel(*data[n], _ROUNDS), threads, repeats)


def _copy_bandwidth(threads: int, repeats: int) -> float:
    """Bytes per second, read and written, of copies too large for any cache."""
    pairs = [(np.ones(2**24, np.float32), np.ones(2**24, np.float32)) for _ in range(threads)]
    return threads * 2 * pairs[0][0].nbytes / _seconds(lambda n: np.copyto(pairs[n][1], pairs[n][0]), threads, repeats)


@dataclass(frozen=True)
class Rates:
    """Numbers of tanh and of fused multiply-adds that `threads` threads together compute in a nanosecond."""

    threads: int
    tanh_per_ns: float
    fma_per_ns: float


@dataclass(frozen=True)
class Row(Rates):
    """`Rates`, and gigabytes (10^9 bytes) per second, read and written, of copies too large for any cache."""

    copy_gb_per_s: float


def rates(threads: int, repeats: int = 11) -> Rates:
    """Measure the rates of `threads` threads."""
    chains = -(-_SIZE // (LANES * 10)) * LANES * 10
    return Rates(threads, _rate(_tanh, _SIZE, threads, repeats) / 1e9, _rate(_fma, chains, threads, repeats) / 1e9)


def floor_us(limit: Rates, H: int, *parts: Work) -> float:
    """Least time of a kernel in microseconds per row and step, for FORWARD, or for FORWARD and BACKWARD."""
    tanh, fma = sum(part.tanh for part in parts), sum(part.fma for part in parts)
    return H * H * (tanh / limit.tanh_per_ns + fma / limit.fma_per_ns) / 1e3


def measure_all(on_progress: Callable[[str], None]) -> list[Row]:
    """Measure one thread, and as many threads as torch uses."""
    rows = []
    for threads in sorted({1, torch.get_num_threads()}):
        on_progress(f"{threads} threads")
        found = rates(threads)
        rows.append(Row(threads, found.tanh_per_ns, found.fma_per_ns, _copy_bandwidth(threads, 11) / 1e9))
    return rows
