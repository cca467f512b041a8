"""The fused CPU backend: tensors in, tensors out. The kernels themselves are in `cpu_kernels.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from .cpu_kernels import CHUNK, DENSE, KINDS, ROW, ROWS, TANH, regions
from .simd import LANES
from .threads import run, threads_for, work_space


def _padded(V: int, K: int) -> tuple[int, int]:
    return math.ceil(V / ROWS) * ROWS, math.ceil(K / LANES) * LANES


def saved_shape(B: int, T: int, V: int, K: int) -> tuple[int, int, int, int]:
    """Shape of the checkpoints: M, padded, at the start of every chunk."""
    VP, KP = _padded(V, K)
    return B, math.ceil(T / min(T, CHUNK)), VP, KP


def _splits(B: int, V: int, work: float) -> int:
    """Into how many shares the rows of one sequence are cut, so that every thread gets the same number of units."""
    threads = threads_for(B * V, work)
    return min(threads // math.gcd(B, threads), math.ceil(V / ROWS))


def _run(
    region: Any, size: int, B: int, T: int, V: int, K: int, splits: int, work: float, tensors: list[Tensor | None]
) -> None:
    """Call a region of the kernels on as many threads as the work is worth, with `size` floats of scratch each."""
    threads = threads_for(B * splits, work)
    space = work_space(threads, size)
    held = [x if x is None or x.is_contiguous() else x.detach().contiguous() for x in tensors]
    numbers = [0, 0, B * splits, splits, min(T, CHUNK), B, T, V, K, space.ctypes.data, space.shape[1]]
    run(region.address, np.array(numbers + [0 if x is None else x.data_ptr() for x in held], np.int64), threads)


def _factors(kind: int, factors: list[Tensor], a: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The calibration's factors as the kernels want them: one of the rows, one of the columns (or C itself)."""
    if kind == ROW:
        return factors[0].unsqueeze(-1).expand_as(a), None
    if kind == TANH:
        return factors[0], factors[1]
    return None, factors[0] if factors else None


def forward(
    calibration: str, factors: list[Tensor], a: Tensor, k: Tensor, q: Tensor, start: Tensor, state: Tensor, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """h (B, T, V), the last M (B, V, K) and, if `save`, M at the start of every chunk (else empty). All float32."""
    kind = KINDS[calibration]
    (B, T, V), K = a.shape, k.shape[2]
    VP, KP = _padded(V, K)
    chunk = min(T, CHUNK)
    h, last = a.new_empty((B, T, V)), a.new_empty((B, V, K))
    saved = a.new_empty(saved_shape(B, T, V, K)) if save else None
    left, right = _factors(kind, factors, a)
    work = float(B) * T * V * K
    splits = _splits(B, V, work)
    size = chunk * (3 * KP + 3 * VP) + (chunk * ROWS * KP if kind == DENSE else 0) + VP * KP
    _run(regions(kind)[0], size, B, T, V, K, splits, work, [left, right, a, k, q, start, state, h, last, saved])
    return h, last, a.new_empty(0) if saved is None else saved


def backward(
    calibration: str,
    factors: list[Tensor],
    a: Tensor,
    k: Tensor,
    q: Tensor,
    start: Tensor,
    saved: Tensor,
    dh: Tensor,
    dlast: Tensor,
) -> tuple[list[Tensor], Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the factors, a, k, q and the initial state, from those of h and of the last M."""
    kind = KINDS[calibration]
    (B, T, V), K = a.shape, k.shape[2]
    VP, KP = _padded(V, K)
    chunk = min(T, CHUNK)
    work = 2.0 * B * T * V * K
    splits = _splits(B, V, work)
    left, right = _factors(kind, factors, a)
    dleft = None if left is None else a.new_empty((B, T, V))
    dright = None if right is None else a.new_empty(right.shape if kind == DENSE else (splits, B, T, K))
    da, dk, dq = a.new_empty((B, T, V)), a.new_empty((splits, B, T, K)), a.new_empty((splits, B, T, K))
    dstate = a.new_empty((B, V, K))
    size = chunk * (6 * KP + 5 * VP) + 2 * chunk * ROWS * KP + VP * KP + 32 * LANES
    tensors = [left, right, a, k, q, start, saved, dh, dlast, dleft, dright, da, dk, dq, dstate]
    _run(regions(kind)[1], size, B, T, V, K, splits, work, tensors)
    if dright is not None and kind != DENSE:
        dright = _sum_shares(dright)
    gradients = [x for x in (dleft, dright) if x is not None]
    if kind == ROW:
        gradients = [gradients[0].sum(-1)]
    return gradients, da, _sum_shares(dk), _sum_shares(dq), dstate


def _sum_shares(partial: Tensor) -> Tensor:
    return partial[0] if partial.shape[0] == 1 else partial.sum(0)
