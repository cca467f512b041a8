"""Resets for networks that know of none, such as torch's fused GRU and LSTM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: x (T, B, D) and states (B, ...) before it to y (T, B, N) and the states after it.
Run = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]


def run_with_resets(run: Run, x: Tensor, states: list[Tensor], start: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Apply `run` to rows in which any step may begin anew, from states of zero.

    Args:
        run: a network over full rows.
        x: (B, T, D).
        states: before the first step, each (B, ...).
        start: (B, T) bool.

    Returns:
        y (B, T, N), and the states after the last step.
    """
    states = [torch.where(start[:, :1], 0, s) for s in states]
    if x.shape[1] == 1 or not bool(start[:, 1:].any()):
        y, states = run(x.transpose(0, 1), states)
        return y.transpose(0, 1), states
    return _run_segments(run, x, states, start.cpu())


@torch.compiler.disable  # shapes that depend on data
def _run_segments(run: Run, x: Tensor, states: list[Tensor], start: Tensor) -> tuple[Tensor, list[Tensor]]:
    """A row with resets is several sequences that know nothing of each other, each of a length of its own.

    They advance in strides, all that are long enough for the next stride side by side. The last strides are all powers of two
    below the first, and so sum up to any length: nothing is padded, and no step runs in a batch of its own.
    """
    B, T, _ = x.shape
    begins = start.clone()
    begins[:, 0] = True
    at = begins.flatten().nonzero().flatten()  # where in (B T) each segment begins
    left = torch.diff(at, append=at.new_tensor([B * T]))
    ends = ((at + left) % T == 0).nonzero().flatten().to(x.device)  # each row has one segment that reaches its end
    row, goes_on = (at // T).to(x.device), (at % T == 0).to(x.device)
    states = [torch.where(goes_on[:, None], s[row], 0) for s in states]
    parts, places = [], []
    for stride in _strides(int(left.max())):
        who = (left >= stride).nonzero().flatten()
        if len(who):
            parts.append((stride, who.to(x.device)))
            places.append((at[who] + torch.arange(stride)[:, None]).flatten())
            at[who] += stride
            left[who] -= stride
    order = torch.cat(places)
    back = torch.empty_like(order)
    back[order] = torch.arange(B * T)
    order, back = order.to(x.device), back.to(x.device)
    ys = []
    ordered = _Permute.apply(x.flatten(0, 1), order, back).split([len(place) for place in places])
    for (stride, who), part in zip(parts, ordered, strict=True):
        y, after = run(part.unflatten(0, (stride, -1)), [s.index_select(0, who) for s in states])
        states = [s.index_copy(0, who, new) for s, new in zip(states, after, strict=True)]
        ys.append(y.flatten(0, 1))
    y = _Permute.apply(torch.cat(ys), back, order).unflatten(0, (B, T))
    return y, [s[ends] for s in states]


def _strides(longest: int) -> list[int]:
    """Of segments up to that long: four to seven equal ones, then its half, quarter and so on to 1."""
    powers = [2**n for n in reversed(range(max(1, longest.bit_length() - 2)))]
    return [powers[0]] * (longest // powers[0]) + powers[1:]


class _Permute(torch.autograd.Function):
    """x[order], whose gradient torch would sum up row by row, as if a row could be taken twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(order, back)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        order, back = ctx.saved_tensors
        return _Permute.apply(dy, back, order), None, None
