"""The linear recurrence on the CPU: tensors in, tensors out. The kernels themselves are in `kernels.py`."""

from __future__ import annotations

import math

from torch import Tensor

from ..call import pack
from ..simd import LANES
from ..threads import run, splits_for, threads_for
from .kernels import BACKWARD, FORWARD, regions


def _run(x: Tensor, constant: bool, backward: bool, tensors: dict[str, Tensor | None]) -> None:
    """Call a kernel for tensors like `x` (B, T, N), on a number of threads that suits the amount of work."""
    B, T, N = x.shape
    W = 2 * N if x.is_complex() else N
    vectors = math.ceil(W / LANES)
    work = float(B) * T * W
    splits = splits_for(B, vectors, work)
    names = (BACKWARD if backward else FORWARD)._fields
    call, _held = pack(names, {"units": B * splits, "splits": splits, "T": T, "W": W}, tensors)
    run(regions(x.is_complex(), constant)[backward].address, call, threads_for(B * splits, work), work)


def forward(decay: Tensor, x: Tensor, start: Tensor, state: Tensor) -> Tensor:
    """y (B, T, N). All float32 or complex64."""
    y = x.new_empty(x.shape)
    _run(x, decay.dim() == 1, False, {"decay": decay, "x": x, "start": start, "state": state, "y": y})
    return y


def backward(decay: Tensor, start: Tensor, state: Tensor, y: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the decay, x and the initial state, from the gradient of y."""
    constant = decay.dim() == 1
    ddecay = decay.new_empty(state.shape if constant else decay.shape)
    dx, dstate = dy.new_empty(dy.shape), state.new_empty(state.shape)
    inputs = {"decay": decay, "start": start, "state": state, "y": y, "dy": dy}
    _run(dy, constant, True, {**inputs, "ddecay": ddecay, "dx": dx, "dstate": dstate})
    return ddecay.sum(0) if constant else ddecay, dx, dstate
