"""Resets for networks without them, such as torch's fused GRU and LSTM: a step that empties the state is inserted before each.

One call computes all rows, whatever their resets, with at most twice the steps. Additional input features tell the network what
a step is for. It empties the state by closing gates, which multiplies the state by zero; since NaN survives such a product, see
`guard_gradients`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: Kinds of steps: read x, empty the state, or keep the state until the longer rows have ended, too.
KINDS = READ, EMPTY, KEEP = range(3)


def with_resets(x: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Insert steps that empty the state, and, at the end of rows with fewer resets, steps that keep it.

    Args:
        x: (B, T, D).
        start: (B, T) bool. A reset at the first step is left to the caller.

    Returns:
        x (T', B, D + 3) with the kind of each step, one-hot, and the places of the steps (B T) in (T' B).
    """
    B, T, _ = x.shape
    inserted = torch.nn.functional.pad(start[:, 1:].cumsum(1), (1, 0))
    at = torch.arange(T, device=x.device) + inserted
    steps = torch.arange(T + int(inserted[:, -1].max()), device=x.device)
    place = (at * B + torch.arange(B, device=x.device)[:, None]).flatten()
    kind = torch.where(steps[:, None] > at[:, -1], KEEP, EMPTY).flatten().index_fill(0, place, READ)
    return _Put.apply(x.flatten(0, 1), place, kind).unflatten(0, (len(steps), B)), place


class _Put(torch.autograd.Function):
    """Put the rows of x, with their kind, at their places. All other rows are zero except for their kind."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, place: Tensor, kind: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        ctx.features = x.shape[1]
        kinds = torch.eye(len(KINDS), dtype=x.dtype, device=x.device)
        rows = torch.nn.functional.pad(kinds, (x.shape[1], 0)).index_select(0, kind)
        rows[:, : x.shape[1]].index_copy_(0, place, x)
        return rows

    @staticmethod
    def backward(ctx: Any, d_rows: Tensor) -> Any:
        return d_rows[:, : ctx.features].index_select(0, *ctx.saved_tensors), None, None


def gather_rows(rows: Tensor, place: Tensor) -> Tensor:
    """rows[place] with a faster gradient than torch's own, for places that do not occur twice."""
    return _GatherRows.apply(rows, place)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        ctx.rows = len(rows)
        return rows.index_select(0, place)

    @staticmethod
    def backward(ctx: Any, taken: Tensor) -> Any:
        (place,) = ctx.saved_tensors
        return taken.new_zeros(ctx.rows, taken.shape[1]).index_copy_(0, place, taken), None


def guard_gradients(slow: Callable[[], list[Tensor]], ys: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """The identity, whose gradients stop at resets even where they are NaN.

    A gradient that is not finite is propagated through `slow` instead of through the fast path that made `ys`.

    Args:
        slow: computes `ys` from `inputs` step by step, selecting at resets, so that nothing passes them.
        ys: outputs of the fast path, which multiplies by zero at resets.
        inputs: tensors to which the gradients belong.
    """
    return list(_GuardedGradients.apply(slow, len(ys), *ys, *inputs))


class _GuardedGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slow: Callable[[], list[Tensor]], count: int, *ys_and_inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.slow = slow
        ctx.save_for_backward(*ys_and_inputs[count:])
        return tuple(y.view_as(y) for y in ys_and_inputs[:count])

    @staticmethod
    def backward(ctx: Any, *d_ys: Tensor) -> Any:
        inputs = ctx.saved_tensors
        if all(d_y.sum().isfinite() for d_y in d_ys):
            return None, None, *d_ys, *[None] * len(inputs)
        learned = [x for x in inputs if x.requires_grad]
        with torch.enable_grad():
            found = iter(torch.autograd.grad(ctx.slow(), learned, d_ys, allow_unused=True))
        return None, None, *[None] * len(d_ys), *[next(found) if x.requires_grad else None for x in inputs]
