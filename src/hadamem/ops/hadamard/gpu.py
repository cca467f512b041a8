"""The Hadamard recurrence fused for the GPU: Triton kernels, forward and backward, in float32.

Reasons why it is fast and needs little memory:

* The rows of M do not depend on each other. One program computes one sequence and a block of rows (BLOCK_V x K, padded
  to powers of two) and keeps that block of M in registers over all time steps. Nothing of size H x H is written per step.
* The forward pass stores M at the start of every chunk of `_CHUNK` steps. The backward pass recomputes one chunk, then
  goes back through it. Registers cannot hold a chunk of M, and a step cannot be undone (C may be zero), so M_{t-1} is
  written to scratch in global memory: a chunk of M per program, reused for every chunk. With 16 steps, the scratch of all
  programs that run at one time is about as large as the second-level cache; a longer chunk would overflow it, a shorter
  one needs more checkpoints. C_t is computed twice rather than stored: a sigmoid costs less than a write and a read.
* With STAGES = 3, the vectors of a step (and M_{t-1}) are loaded while the previous step is computed.
* Gradients that are sums over rows (of k, q and the columns' factor) are summed inside the program, written once per row
  block, and added by torch: without atomics, so that results are the same bits every time.
* 1 + tanh(x) = 2 sigmoid(2x) is accurate near zero and near two; its derivative is 1 - tanh^2 = C (2 - C).

Memory: the outputs; B * (T / chunk + chunk) * H_v * H_k floats of checkpoints and scratch; and, in the backward pass,
up to three times B * T * H_k floats of partial sums per row block. A block there has 16 rows or more, so that the partial
sums are at most three times as large as the checkpoints.

Triton is imported at the first call, so that this module can be imported without Triton.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .factors import empty_gradients, gradients, sides

if TYPE_CHECKING:
    import triton.language as tl

_CHUNK = 16  # steps between checkpoints


def _sides(left, right, n, i, j, V: tl.constexpr, K: tl.constexpr, CALIBRATION: tl.constexpr):  # type: ignore[no-untyped-def]
    """The factors of step n for rows i and columns j (for dense, C itself; for exp_outer, A). Absent factors are 1."""
    u, w = 1.0, 1.0
    if CALIBRATION == "scalar" or CALIBRATION == "tanh_outer" or CALIBRATION == "exp_outer":
        u = tl.load(left + n * V + i, mask=i < V, other=0.0)[:, None]
    if CALIBRATION == "column" or CALIBRATION == "tanh_outer":
        w = tl.load(right + n * K + j, mask=j < K, other=0.0)[None, :]
    if CALIBRATION == "dense" or CALIBRATION == "exp_outer":
        cell = i[:, None] * K + j[None, :] + (n * V * K if CALIBRATION == "dense" else 0)
        w = tl.load(right + cell, mask=(i < V)[:, None] & (j < K)[None, :], other=1.0)
    return u, w


def _calibration_matrix(u, w, CALIBRATION: tl.constexpr):  # type: ignore[no-untyped-def]
    """C of one step, or a tensor that broadcasts to it."""
    if CALIBRATION == "tanh_outer":
        return 2 * tl.sigmoid(2 * u * w)
    return tl.exp(-u * w) if CALIBRATION == "exp_outer" else u * w


def _forward_kernel(  # type: ignore[no-untyped-def]
    left, right, a, k, q, start, state, h, last, saved, B, T,
    V: tl.constexpr, K: tl.constexpr, CALIBRATION: tl.constexpr, SAVE: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    i, j = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V), tl.arange(0, BLOCK_K)
    row, column = i < V, j < K
    cell, inside = i[:, None] * K + j[None, :], row[:, None] & column[None, :]
    chunks = (T + CHUNK - 1) // CHUNK
    M = tl.load(state + b * V * K + cell, mask=inside, other=0.0)
    for c in range(chunks):
        if SAVE:
            tl.store(saved + (b * chunks + c) * V * K + cell, M, mask=inside)
        for t in tl.range(c * CHUNK, tl.minimum(T, (c + 1) * CHUNK), num_stages=STAGES):
            n = b * T + t
            u, w = _sides(left, right, n, i, j, V, K, CALIBRATION)
            at = tl.load(a + n * V + i, mask=row, other=0.0)[:, None]
            kt = tl.load(k + n * K + j, mask=column, other=0.0)[None, :]
            qt = tl.load(q + n * K + j, mask=column, other=0.0)[None, :]
            M = tl.where(tl.load(start + n), 0.0, M) * _calibration_matrix(u, w, CALIBRATION) + at * kt
            tl.store(h + n * V + i, tl.sum(M * qt, axis=1), mask=row)
    tl.store(last + b * V * K + cell, M, mask=inside)


def _backward_kernel(  # type: ignore[no-untyped-def]
    left, right, a, k, q, start, saved, dh, dlast, dleft, dright, da, dk, dq, dstate, scratch, B, T,
    V: tl.constexpr, K: tl.constexpr, CALIBRATION: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    i, j = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V), tl.arange(0, BLOCK_K)
    row, column = i < V, j < K
    cell, inside = i[:, None] * K + j[None, :], row[:, None] & column[None, :]
    chunks = (T + CHUNK - 1) // CHUNK
    part = (tl.program_id(1).to(tl.int64) * B + b) * T  # this block's first step in the partial sums (blocks, B, T, K)
    D = tl.load(dlast + b * V * K + cell, mask=inside, other=0.0)
    GA = tl.zeros_like(D)  # gradient of A
    for back in range(chunks):
        c = chunks - 1 - back
        first, steps = c * CHUNK, tl.minimum(CHUNK, T - c * CHUNK)
        # recompute the chunk forward, storing M_{t-1}
        M = tl.load(saved + (b * chunks + c) * V * K + cell, mask=inside, other=0.0)
        for s in tl.range(0, steps, num_stages=STAGES):
            n = b * T + first + s
            u, w = _sides(left, right, n, i, j, V, K, CALIBRATION)
            at = tl.load(a + n * V + i, mask=row, other=0.0)[:, None]
            kt = tl.load(k + n * K + j, mask=column, other=0.0)[None, :]
            M = tl.where(tl.load(start + n), 0.0, M)
            tl.store(scratch + (b * CHUNK + s) * V * K + cell, M, mask=inside)
            M = M * _calibration_matrix(u, w, CALIBRATION) + at * kt
        tl.debug_barrier()  # other threads of the program may read what this thread has written
        # go back through the chunk
        for z in tl.range(0, steps, num_stages=STAGES):
            s = steps - 1 - z
            n = b * T + first + s
            u, w = _sides(left, right, n, i, j, V, K, CALIBRATION)
            at = tl.load(a + n * V + i, mask=row, other=0.0)[:, None]
            kt = tl.load(k + n * K + j, mask=column, other=0.0)[None, :]
            qt = tl.load(q + n * K + j, mask=column, other=0.0)[None, :]
            ht = tl.load(dh + n * V + i, mask=row, other=0.0)[:, None]
            P = tl.load(scratch + (b * CHUNK + s) * V * K + cell, mask=inside, other=0.0)
            C = _calibration_matrix(u, w, CALIBRATION)
            D += ht * qt
            tl.store(da + n * V + i, tl.sum(D * kt, axis=1), mask=row)
            tl.store(dk + (part + first + s) * K + j, tl.sum(D * at, axis=0), mask=column)
            tl.store(dq + (part + first + s) * K + j, tl.sum((P * C + at * kt) * ht, axis=0), mask=column)
            G = D * P
            if CALIBRATION == "tanh_outer":
                G *= C * (2 - C)
            if CALIBRATION == "exp_outer":
                G *= -C
                GA += G * u
            if CALIBRATION == "scalar" or CALIBRATION == "tanh_outer" or CALIBRATION == "exp_outer":
                tl.store(dleft + n * V + i, tl.sum(G * w, axis=1), mask=row)
            if CALIBRATION == "column" or CALIBRATION == "tanh_outer":
                tl.store(dright + (part + first + s) * K + j, tl.sum(G * u, axis=0), mask=column)
            if CALIBRATION == "dense":
                tl.store(dright + n * V * K + cell, G, mask=inside)
            D = tl.where(tl.load(start + n), 0.0, D * C)
        tl.debug_barrier()  # before the next chunk overwrites the scratch
    tl.store(dstate + b * V * K + cell, D, mask=inside)
    if CALIBRATION == "exp_outer":
        tl.store(dright + b * V * K + cell, GA, mask=inside)


def _promising(configs: list[Any], arguments: dict[str, Any], **options: Any) -> list[Any]:
    """Configurations with 8 to 32 floats of M per thread (fewer leave threads idle, more spill registers), or the nearest."""

    def share(config: Any) -> float:
        return config.kwargs["BLOCK_V"] * (arguments | options)["BLOCK_K"] / (32 * config.num_warps)

    good = [config for config in configs if 8 <= share(config) <= 32]
    return good or [min(configs, key=lambda config: abs(share(config) - 16))]


def _fit_partial_sums(arguments: dict[str, Any]) -> None:
    """Resize the buffers of partial sums before a launch of the backward kernel: one slice for each row block."""
    blocks = -(-arguments["V"] // arguments["BLOCK_V"])
    for name in ("dk", "dq") if arguments["CALIBRATION"] in ("dense", "exp_outer") else ("dright", "dk", "dq"):
        if arguments[name] is not None:
            arguments[name].resize_(blocks, *arguments[name].shape[1:])


@functools.cache
def _kernels() -> tuple[Any, Any]:
    """The forward and the backward kernel, each tuned on first use for every combination of the arguments in its key."""
    global tl, _sides, _calibration_matrix  # Triton's compiler looks names up in the module
    try:
        import triton
        import triton.language as tl
    except ImportError as error:
        raise ImportError("the GPU backend needs Triton: pip install triton, or choose another backend") from error

    def tuned(function: Any, rows: tuple[int, ...], key: list[str], pre_hook: Any = None) -> Any:
        kernel = triton.jit(function, do_not_specialize=["B", "T"])  # one compilation for all lengths
        configs = [
            triton.Config({"BLOCK_V": r, "STAGES": stages}, num_warps=warps, pre_hook=pre_hook)
            for r in rows
            for warps in (1, 2, 4, 8, 16)
            for stages in (3, 1)
        ]
        if not isinstance(kernel, triton.JITFunction):  # Triton's interpreter: nothing to tune
            configs = configs[:1]
        return triton.autotune(configs, key, prune_configs_by={"early_config_prune": _promising})(kernel)

    _sides, _calibration_matrix = triton.jit(_sides), triton.jit(_calibration_matrix)
    forward = tuned(_forward_kernel, (8, 16, 32), ["B", "V", "K", "CALIBRATION", "SAVE"])
    backward = tuned(_backward_kernel, (16, 32, 64), ["B", "V", "K", "CALIBRATION"], _fit_partial_sums)
    return forward, backward


def saved_shape(calibration: str, B: int, T: int, V: int, K: int) -> tuple[int, int, int, int]:
    """Shape of the checkpoints: M at the start of every chunk."""
    return B, -(-T // _CHUNK), V, K


def _launch(kernel: Any, arrays: list[Tensor | None], sizes: tuple[int, int, int, int], **options: Any) -> None:
    B, _, V, K = sizes
    options |= {"CHUNK": _CHUNK, "BLOCK_K": 1 << (K - 1).bit_length(), "enable_fp_fusion": True}
    with torch.cuda.device_of(arrays[2]):  # a; Triton launches on the current device
        kernel[lambda meta: (B, -(-V // meta["BLOCK_V"]))](*arrays, *sizes, **options)


def forward(
    calibration: str, factors: list[Tensor], a: Tensor, k: Tensor, q: Tensor, start: Tensor, state: Tensor, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """h (B, T, V), the last M (B, V, K) and, if `save`, M at the start of every chunk (else empty). All float32."""
    kernel = _kernels()[0]
    (B, T, V), K = a.shape, k.shape[2]
    left, right = (x if x is None else x.contiguous() for x in sides(calibration, factors, a))
    a, k, q, start, state = (x.contiguous() for x in (a, k, q, start, state))
    h, last = torch.empty_like(a), torch.empty_like(state)
    saved = a.new_empty(saved_shape(calibration, B, T, V, K) if save else 0)
    arrays = [left, right, a, k, q, start, state, h, last, saved]
    _launch(kernel, arrays, (B, T, V, K), CALIBRATION=calibration, SAVE=save)
    return h, last, saved


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
    kernel = _kernels()[1]
    (B, T, V), K = a.shape, k.shape[2]
    left, right = (x if x is None else x.contiguous() for x in sides(calibration, factors, a))
    a, k, q, start, dh, dlast = (x.contiguous() for x in (a, k, q, start, dh, dlast))
    da, dstate = torch.empty_like(a), torch.empty_like(dlast)
    dk, dq = a.new_empty(0, B, T, K), a.new_empty(0, B, T, K)  # _fit_partial_sums sets the number of slices
    dleft, dright = empty_gradients(calibration, left, right, a, 0)
    scratch = a.new_empty(B, _CHUNK, V, K)
    arrays = [left, right, a, k, q, start, saved, dh, dlast, dleft, dright, da, dk, dq, dstate, scratch]
    _launch(kernel, arrays, (B, T, V, K), CALIBRATION=calibration)
    return gradients(calibration, dleft, dright), da, dk.sum(0), dq.sum(0), dstate
