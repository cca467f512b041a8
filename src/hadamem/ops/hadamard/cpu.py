"""The fused CPU backend: tensors in, tensors out. The kernels themselves are in `cpu_kernels.py`."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from ..call import pack
from ..threads import run, splits_for, threads_for, work_space
from .cpu_kernels import BACKWARD, CHUNK, FORWARD, padded_sizes, regions, space_size
from .cpu_parts import KINDS, ROWS
from .factors import empty_gradients, gradients, sides


def saved_shape(calibration: str, B: int, T: int, V: int, K: int) -> tuple[int, int, int]:
    """Shape of the checkpoints: M, in the layout of the kernels, at the start of every chunk."""
    return B, math.ceil(T / min(T, CHUNK)), padded_sizes(KINDS[calibration], V, K)[2]


def _run(
    calibration: str,
    backward: bool,
    sizes: tuple[int, int, int, int],
    work: float,
    tensors: dict[str, Tensor | None],
) -> None:
    """Call a kernel, on a number of threads that suits the amount of work."""
    kind, (B, T, V, K) = KINDS[calibration], sizes
    splits = splits_for(B, math.ceil(V / ROWS), work)
    threads = threads_for(B * splits, work)
    chunk = min(T, CHUNK)
    space = work_space(threads, space_size(kind, backward, chunk, V, K))
    counters = np.zeros(B * math.ceil(T / chunk), np.int64)
    numbers = {"units": B * splits, "splits": splits, "chunk": chunk, "T": T, "V": V, "K": K}
    numbers |= {"space": space.ctypes.data, "space_size": space.shape[1], "counters": counters.ctypes.data}
    call, _held = pack((BACKWARD if backward else FORWARD)._fields, numbers, tensors)
    run(regions(kind)[backward].address, call, threads, work)


def forward(
    calibration: str, factors: list[Tensor], a: Tensor, k: Tensor, q: Tensor, start: Tensor, state: Tensor, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """h (B, T, V), the last M (B, V, K) and, if `save`, M at the start of every chunk (else empty). All float32."""
    (B, T, V), K = a.shape, k.shape[2]
    h, last = a.new_empty((B, T, V)), a.new_empty((B, V, K))
    saved = a.new_empty(saved_shape(calibration, B, T, V, K)) if save else None
    left, right = sides(calibration, factors, a)
    work = float(B) * T * V * K
    inputs = {"left": left, "right": right, "a": a, "k": k, "q": q, "start": start, "state": state}
    _run(calibration, False, (B, T, V, K), work, {**inputs, "h": h, "last": last, "saved": saved})
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
    (B, T, V), K = a.shape, k.shape[2]
    work = 2.0 * B * T * V * K
    left, right = sides(calibration, factors, a)
    dleft, dright = empty_gradients(calibration, left, right, a, shares=1)
    da, dk, dq = a.new_empty((B, T, V)), a.new_empty((B, T, K)), a.new_empty((B, T, K))
    dstate = a.new_empty((B, V, K))
    inputs = {"left": left, "right": right, "a": a, "k": k, "q": q, "start": start, "saved": saved, "dh": dh, "dlast": dlast}
    outputs = {"dleft": dleft, "dright": dright, "da": da, "dk": dk, "dq": dq, "dstate": dstate}
    _run(calibration, True, (B, T, V, K), work, {**inputs, **outputs})
    return gradients(calibration, dleft, dright), da, dk, dq, dstate
