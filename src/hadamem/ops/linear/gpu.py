"""The linear recurrence fused for the GPU: Triton kernels, forward and backward, in float32 and complex64.

One program computes a block of features of one sequence over all time steps, with the current y in registers. No intermediate
results are stored. Complex numbers are read in torch's format, as pairs of floats side by side. The gradient of a constant
decay is summed inside the program, written once, and added by torch: without atomics, so that results are the same bits every
time.

Triton is imported at the first call, so that this module can be imported without Triton.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import triton.language as tl

_MOST = 64  # largest number of features in a block: with larger blocks, a small batch would use few of the GPU's processors


def _load(array, index, mask, COMPLEX: tl.constexpr):  # type: ignore[no-untyped-def]
    """The real and the imaginary part; for real numbers the second result repeats the first, and is not used."""
    if COMPLEX:
        return tl.load(array + 2 * index, mask=mask, other=0.0), tl.load(array + 2 * index + 1, mask=mask, other=0.0)
    value = tl.load(array + index, mask=mask, other=0.0)
    return value, value


def _store(array, index, re, im, mask, COMPLEX: tl.constexpr):  # type: ignore[no-untyped-def]
    if COMPLEX:
        tl.store(array + 2 * index, re, mask=mask)
        tl.store(array + 2 * index + 1, im, mask=mask)
    else:
        tl.store(array + index, re, mask=mask)


def _times(a, a_im, b, b_im, COMPLEX: tl.constexpr):  # type: ignore[no-untyped-def]
    if COMPLEX:
        return a * b - a_im * b_im, a * b_im + a_im * b
    return a * b, a * b


def _forward_kernel(  # type: ignore[no-untyped-def]
    decay, x, start, state, y, T, N,
    CONSTANT: tl.constexpr, COMPLEX: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < N
    d, d_im = _load(decay, j, inside & CONSTANT, COMPLEX)
    v, v_im = _load(state, b * N + j, inside, COMPLEX)
    for t in tl.range(0, T, num_stages=STAGES):
        n = b * T + t
        if not CONSTANT:
            d, d_im = _load(decay, n * N + j, inside, COMPLEX)
        u, u_im = _load(x, n * N + j, inside, COMPLEX)
        reset = tl.load(start + n)
        v, v_im = _times(d, d_im, tl.where(reset, 0.0, v), tl.where(reset, 0.0, v_im), COMPLEX)
        v, v_im = v + u, v_im + u_im
        _store(y, n * N + j, v, v_im, inside, COMPLEX)


def _backward_kernel(  # type: ignore[no-untyped-def]
    decay, start, state, y, dy, ddecay, dx, dstate, T, N,
    CONSTANT: tl.constexpr, COMPLEX: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < N
    d, d_im = _load(decay, j, inside & CONSTANT, COMPLEX)
    first, first_im = _load(state, b * N + j, inside, COMPLEX)
    g, g_im = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)  # gradient that flows into the current step
    total, total_im = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for z in tl.range(0, T, num_stages=STAGES):
        t = T - 1 - z
        n = b * T + t
        if not CONSTANT:
            d, d_im = _load(decay, n * N + j, inside, COMPLEX)
        u, u_im = _load(dy, n * N + j, inside, COMPLEX)
        g, g_im = g + u, g_im + u_im
        _store(dx, n * N + j, g, g_im, inside, COMPLEX)
        reset = tl.load(start + n)
        p, p_im = _load(y, (n - 1) * N + j, inside & (t > 0), COMPLEX)
        p, p_im = tl.where(t > 0, p, first), tl.where(t > 0, p_im, first_im)
        s, s_im = _times(tl.where(reset, 0.0, p), -tl.where(reset, 0.0, p_im), g, g_im, COMPLEX)
        if CONSTANT:
            total, total_im = total + s, total_im + s_im
        else:
            _store(ddecay, n * N + j, s, s_im, inside, COMPLEX)
        g, g_im = _times(d, -d_im, g, g_im, COMPLEX)
        g, g_im = tl.where(reset, 0.0, g), tl.where(reset, 0.0, g_im)
    if CONSTANT:
        _store(ddecay, b * N + j, total, total_im, inside, COMPLEX)
    _store(dstate, b * N + j, g, g_im, inside, COMPLEX)


@functools.cache
def _kernels() -> tuple[Any, Any]:
    """The forward and the backward kernel."""
    global tl, _load, _store, _times  # Triton's compiler looks names up in the module
    try:
        import triton
        import triton.language as tl
    except ImportError as error:
        raise ImportError("the GPU backend needs Triton: pip install triton, or choose another backend") from error
    _load, _store, _times = triton.jit(_load), triton.jit(_store), triton.jit(_times)
    one_for_all = {"do_not_specialize": ["T", "N"]}
    return triton.jit(_forward_kernel, **one_for_all), triton.jit(_backward_kernel, **one_for_all)


def _launch(kernel: Any, x: Tensor, constant: bool, tensors: list[Tensor]) -> None:
    """Run a kernel for tensors like `x` (B, T, N)."""
    B, T, N = x.shape
    held = [tensor.resolve_conj().resolve_neg().contiguous() for tensor in tensors]
    arrays = [torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in held]
    block = min(_MOST, 1 << (N - 1).bit_length())
    options = {"CONSTANT": constant, "COMPLEX": x.is_complex(), "BLOCK": block, "STAGES": 3, "num_warps": 1}
    with torch.cuda.device_of(x):  # Triton launches on the current device
        kernel[(B, -(-N // block))](*arrays, T, N, **options)


def forward(decay: Tensor, x: Tensor, start: Tensor, state: Tensor) -> Tensor:
    """y (B, T, N). All float32 or complex64."""
    y = x.new_empty(x.shape)
    _launch(_kernels()[0], x, decay.dim() == 1, [decay, x, start, state, y])
    return y


def backward(decay: Tensor, start: Tensor, state: Tensor, y: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the decay, x and the initial state, from the gradient of y."""
    constant = decay.dim() == 1
    ddecay = decay.new_empty(state.shape if constant else decay.shape)
    dx, dstate = dy.new_empty(dy.shape), state.new_empty(state.shape)
    _launch(_kernels()[1], dy, constant, [decay, start, state, y, dy, ddecay, dx, dstate])
    return ddecay.sum(0) if constant else ddecay, dx, dstate
