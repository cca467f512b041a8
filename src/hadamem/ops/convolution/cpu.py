"""The causal convolution on the CPU: tensors in, tensors out. The kernels themselves are in `kernels.py`."""

from __future__ import annotations

import math

from torch import Tensor

from ..call import pack
from ..simd import LANES
from ..threads import run, splits_for, threads_for
from .kernels import BACKWARD, FORWARD, regions


def _run(x: Tensor, width: int, backward: bool, tensors: dict[str, Tensor | None]) -> None:
    B, T, D = x.shape
    work = float(B) * T * D * width
    splits = splits_for(B, math.ceil(D / LANES), work)
    numbers = {"units": B * splits, "splits": splits, "T": T, "D": D, "width": width}
    call, _held = pack((BACKWARD if backward else FORWARD)._fields, numbers, tensors)
    run(regions()[backward].address, call, threads_for(B * splits, work), work)


def forward(x: Tensor, before: Tensor, start: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """y (B, T, D) and the last inputs, (B, width - 1, D). All float32."""
    y, after = x.new_empty(x.shape), before.new_empty(before.shape)
    inputs = {"x": x, "before": before, "start": start, "weight": weight, "bias": bias}
    _run(x, len(weight), False, {**inputs, "y": y, "after": after})
    return y, after


def backward(
    x: Tensor, before: Tensor, start: Tensor, weight: Tensor, bias: Tensor, dy: Tensor, dafter: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x, `before`, the weight and the bias."""
    dx, dbefore = x.new_empty(x.shape), before.new_empty(before.shape)
    dweight, dbias = (x.new_zeros(len(x), *of.shape) for of in (weight, bias))  # each sequence has its own sums
    inputs = {"x": x, "before": before, "start": start, "weight": weight, "bias": bias, "dy": dy, "dafter": dafter}
    outputs = {"dx": dx, "dbefore": dbefore, "dweight": dweight, "dbias": dbias}
    _run(x, len(weight), True, {**inputs, **outputs})
    return dx, dbefore, dweight.sum(0), dbias.sum(0)
