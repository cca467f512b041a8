"""The fused CPU backend: tensors in, tensors out. The kernels themselves are in `cpu_kernels.py`."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from ..threads import run, threads_for, work_space
from .cpu_kernels import CHUNK, padded_sizes, regions, space_size
from .cpu_parts import KINDS, ROWS
from .factors import empty_gradients, gradients, sides


def saved_shape(calibration: str, B: int, T: int, V: int, K: int) -> tuple[int, int, int]:
    """Shape of the checkpoints: M, as the kernels lay it out, at the start of every chunk."""
    return B, math.ceil(T / min(T, CHUNK)), padded_sizes(KINDS[calibration], V, K)[2]


def _splits(B: int, V: int, work: float) -> int:
    """Into how many shares the rows of one sequence are cut, so that every thread gets the same number of units."""
    threads = threads_for(B * V, work)
    return min(threads // math.gcd(B, threads), math.ceil(V / ROWS))


def _run(
    kind: int, backward: bool, B: int, T: int, V: int, K: int, splits: int, work: float, tensors: list[Tensor | None]
) -> None:
    """Call a kernel on as many threads as the work is worth."""
    threads = threads_for(B * splits, work)
    chunk = min(T, CHUNK)
    space = work_space(threads, space_size(kind, backward, chunk, V, K))
    held = [x if x is None or x.is_contiguous() else x.detach().contiguous() for x in tensors]
    addresses = [0 if x is None else x.data_ptr() for x in held]
    numbers = [0, 0, B * splits, splits, chunk, T, V, K, space.ctypes.data, space.shape[1], 0, *addresses]
    arguments = np.array(numbers + [0] * (B * math.ceil(T / chunk)), np.int64)
    arguments[10] = arguments.ctypes.data + 8 * len(numbers)  # the counters stand behind
    run(regions(kind)[backward].address, arguments, threads)


def forward(
    calibration: str, factors: list[Tensor], a: Tensor, k: Tensor, q: Tensor, start: Tensor, state: Tensor, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """h (B, T, V), the last M (B, V, K) and, if `save`, M at the start of every chunk (else empty). All float32."""
    kind = KINDS[calibration]
    (B, T, V), K = a.shape, k.shape[2]
    h, last = a.new_empty((B, T, V)), a.new_empty((B, V, K))
    saved = a.new_empty(saved_shape(calibration, B, T, V, K)) if save else None
    left, right = sides(calibration, factors, a)
    work = float(B) * T * V * K
    splits = _splits(B, V, work)
    _run(kind, False, B, T, V, K, splits, work, [left, right, a, k, q, start, state, h, last, saved])
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
    work = 2.0 * B * T * V * K
    splits = _splits(B, V, work)
    left, right = sides(calibration, factors, a)
    dleft, dright = empty_gradients(calibration, left, right, a, shares=1)
    da, dk, dq = a.new_empty((B, T, V)), a.new_empty((B, T, K)), a.new_empty((B, T, K))
    dstate = a.new_empty((B, V, K))
    tensors = [left, right, a, k, q, start, saved, dh, dlast, dleft, dright, da, dk, dq, dstate]
    _run(kind, True, B, T, V, K, splits, work, tensors)
    return gradients(calibration, dleft, dright), da, dk, dq, dstate
