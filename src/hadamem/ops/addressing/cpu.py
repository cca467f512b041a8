"""`address` on the CPU: tensors in, tensors out. The kernels themselves are in `kernels.py`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor

from ..call import pack
from ..threads import run, threads_for
from .kernels import CALL, region

if TYPE_CHECKING:
    from . import Heads

_CHUNK = 8  # steps of a unit of work


def _run(x: Tensor, heads: Heads, rest_size: int, backward: bool, tensors: dict[str, Tensor | None]) -> None:
    B, T, _ = x.shape
    work = float(x.numel())
    numbers = {"units": B * math.ceil(T / _CHUNK), "chunk": _CHUNK, "T": T, "heads": heads.number, "H": heads.size}
    numbers |= {"lag": heads.lag, "mirror": heads.mirror, "epoch": heads.epoch, "rest_size": rest_size}
    numbers |= {"softmax": heads.softmax, "rectified": heads.rectified}
    numbers |= {f"{name}_period": len(turns) for name in ("lag", "mirror") if (turns := tensors[f"{name}_turns"]) is not None}
    call, _held = pack(CALL._fields, numbers, tensors)
    run(region(backward).address, call, threads_for(numbers["units"], work), work)


def forward(
    x: Tensor, position: Tensor | None, lag_turns: Tensor | None, mirror_turns: Tensor | None, heads: Heads
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """k, q, a (B * heads, T, H), and the rest (B * heads, T, R). All float32."""
    B, T, width = x.shape
    rest_size = width // heads.number - 3 * heads.size - 1
    k, q, a = (x.new_empty(B * heads.number, T, heads.size) for _ in range(3))
    rest = x.new_empty(B * heads.number, T, rest_size)
    inputs = {"x": x, "position": position, "lag_turns": lag_turns, "mirror_turns": mirror_turns}
    _run(x, heads, rest_size, False, {**inputs, "k": k, "q": q, "a": a, "rest": rest})
    return k, q, a, rest


def backward(
    x: Tensor,
    position: Tensor | None,
    lag_turns: Tensor | None,
    mirror_turns: Tensor | None,
    heads: Heads,
    outputs: tuple[Tensor, Tensor],
    gradients: tuple[Tensor, Tensor, Tensor, Tensor],
) -> Tensor:
    """The gradient of x, from k and q and the gradients of k, q, a and the rest."""
    dx = x.new_empty(x.shape)
    inputs = {"x": x, "position": position, "lag_turns": lag_turns, "mirror_turns": mirror_turns}
    names = ("k", "q", "dk", "dq", "da", "drest")
    tensors = dict(zip(names, (*outputs, *gradients), strict=True))
    _run(x, heads, gradients[3].shape[-1], True, {**inputs, **tensors, "dx": dx})
    return dx
