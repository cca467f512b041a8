"""The linear recurrence on the CPU: tensors in, tensors out. The kernels themselves are in `linear_kernels.py`."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from ..simd import LANES
from ..threads import run, threads_for
from .kernels import regions


def _run(backward: bool, x: Tensor, constant: bool, tensors: list[Tensor]) -> None:
    """Call a kernel for tensors like `x` (B, T, N) on as many threads as the work is worth."""
    B, T, N = x.shape
    W = 2 * N if x.is_complex() else N
    vectors = math.ceil(W / LANES)
    threads = threads_for(B * vectors, float(B) * T * W)
    splits = min(threads // math.gcd(B, threads), vectors)
    held = [tensor.detach().resolve_conj().resolve_neg().contiguous() for tensor in tensors]
    numbers = [0, B * splits, splits, T, W, *(tensor.data_ptr() for tensor in held)]
    run(regions(x.is_complex(), constant)[backward].address, np.array(numbers, np.int64), threads)


def forward(decay: Tensor, x: Tensor, start: Tensor, state: Tensor) -> Tensor:
    """y (B, T, N). All float32 or complex64."""
    y = x.new_empty(x.shape)
    _run(False, x, decay.dim() == 1, [decay, x, start, state, y])
    return y


def backward(decay: Tensor, start: Tensor, state: Tensor, y: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the decay, x and the initial state, from that of y."""
    constant = decay.dim() == 1
    ddecay = decay.new_empty(state.shape if constant else decay.shape)
    dx, dstate = dy.new_empty(dy.shape), state.new_empty(state.shape)
    _run(True, dy, constant, [decay, start, state, y, dy, ddecay, dx, dstate])
    return ddecay.sum(0) if constant else ddecay, dx, dstate
