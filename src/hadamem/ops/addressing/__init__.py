"""What the heads of SHM write, and under which keys: from one product of the input with all maps to the arguments of
`hadamard_memory`.

`address` is the function, `cpu` and `kernels` compute it in one pass over memory; in torch it takes about thirty operators.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import checks, reference

_EPSILON = 1e-5


@dataclass(frozen=True)
class Heads:
    """The heads of a memory, in this order.

    Attributes:
        size: H.
        lag: number of heads that find by how long ago something was written.
        mirror: number of heads that read backwards what was written forwards.
        epoch: number of heads whose keys are the orders of magnitude of the step.
        content: number of heads that find by content.
        softmax: whether the feature map of k and q that find by content is softmax; else it is relu(.) / sum relu(.).
        rectified: whether the maps after the gate go through relu.
    """

    size: int
    lag: int
    mirror: int
    epoch: int
    content: int
    softmax: bool
    rectified: bool

    @property
    def number(self) -> int:
        """The number of all heads."""
        return self.lag + self.mirror + self.epoch + self.content


def address(
    x: Tensor,
    heads: Heads,
    position: Tensor | None = None,
    lag_turns: Tensor | None = None,
    mirror_turns: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keys, queries, gated values and factors of calibration, from the maps of the input.

    Args:
        x: (B, T, heads * (3 H + 1 + R)): for each head k, q, v, the gate and R further numbers.
        heads: the heads.
        position: (B, T) int64, the step within the episode, if any head finds by time.
        lag_turns: `turns(heads.lag, H)`, if there are heads that find by lag.
        mirror_turns: `turns(heads.mirror, H)`, if there are mirror heads.
        backend: as in `hadamard_memory`; "auto" and "cpu" use the fused kernels for float32 on the CPU.

    Returns:
        k, q and sigmoid(gate) * v, each (B * heads, T, H), and the further numbers, (B * heads, T, R).
    """
    arguments = (x, position, lag_turns, mirror_turns)
    known = [argument for argument in arguments if argument is not None]
    if checks.pick(backend, x) != "cpu" or x.dtype != torch.float32 or checks.route(*known) != "kernels":
        return _defined(*arguments, heads)
    if torch.is_grad_enabled() and x.requires_grad:
        return _Address.apply(*arguments, heads)
    from . import cpu

    return cpu.forward(*arguments, heads)


class _Address(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, position: Any, lag_turns: Any, mirror_turns: Any, heads: Heads) -> Any:
        from . import cpu

        k, q, a, rest = cpu.forward(x, position, lag_turns, mirror_turns, heads)
        ctx.heads = heads
        ctx.save_for_backward(x, position, lag_turns, mirror_turns, k, q)
        return k, q, a, rest

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        from . import cpu

        x, position, lag_turns, mirror_turns, k, q = ctx.saved_tensors
        others = position, lag_turns, mirror_turns, ctx.heads
        if checks.route(*gradients) == "kernels":
            dx = cpu.backward(x, *others, (k, q), gradients)
        else:
            (dx,) = reference.gradients(lambda x: _defined(x, *others), (x,), gradients)
        return dx, None, None, None, None


def _defined(
    x: Tensor, position: Tensor | None, lag_turns: Tensor | None, mirror_turns: Tensor | None, heads: Heads
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The definition of `address` in torch."""
    H = heads.size
    k, q, v, gate, rest = by_head(x, heads.number).split([H, H, H, 1, x.shape[-1] // heads.number - 3 * H - 1], dim=-1)
    if heads.content < heads.number:
        assert position is not None
        k, q = _by_relation(k, q, position, lag_turns, mirror_turns, heads)
    else:
        k, q = _by_content(k, heads), _by_content(q, heads)
    return k, q, torch.sigmoid(gate) * v, torch.relu(rest) if heads.rectified else rest


def by_head(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads * N) -> (B * heads, T, N)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1) if heads > 1 else x


def _by_relation(
    k: Tensor, q: Tensor, position: Tensor, lag_turns: Tensor | None, mirror_turns: Tensor | None, heads: Heads
) -> tuple[Tensor, Tensor]:
    """k and q, each (B * heads, T, H), from their maps, if there are heads that find by time."""
    both = torch.stack([k, q]).unflatten(1, (-1, heads.number))
    of_lag, of_mirror, of_epoch, of_content = both.split([heads.lag, heads.mirror, heads.epoch, heads.content], dim=2)
    parts = []
    if lag_turns is not None:
        parts.append(turned(of_lag, position, lag_turns))
    if mirror_turns is not None:
        parts.append(
            torch.stack([turned(part, position, mirror_turns, sign) for part, sign in zip(of_mirror, (1, -1), strict=True)])
        )
    if heads.epoch:
        keys = epochs(position, heads.size).to(k.dtype)[:, None].expand_as(of_epoch[0])
        parts.append(torch.stack([keys, _by_content(of_epoch[1], heads)]))
    k, q = torch.cat([*parts, _by_content(of_content, heads)], dim=2).flatten(1, 2)
    return k, q


def _by_content(x: Tensor, heads: Heads) -> Tensor:
    if heads.softmax:
        return torch.softmax(x, dim=-1)
    x = torch.relu(x)
    return x / (_EPSILON + x.sum(dim=-1, keepdim=True))


def turns(heads: int, size: int) -> Tensor:
    """The cosines and sines for `turned`: (period, 2, heads, size // 2) float64, a row for each position modulo the period."""
    pairs = size // 2
    period = 4 * heads * pairs  # of position times speed, in integers: angles are exact, however long an episode is
    speed = 2 * torch.arange(heads * pairs).unflatten(0, (pairs, heads)).T + 1
    angle = ((torch.arange(period)[:, None, None] * speed) % period).double() * (2 * math.pi / period)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def turned(x: Tensor, position: Tensor, table: Tensor, sign: float = 1.0) -> Tensor:
    """The unit vectors of x, with each pair of numbers rotated by an angle that is the position times the speed of the pair.

    The speeds of the N pairs of all heads are (j + 1/2) pi / N. So for two vectors that are equal before the rotation, the
    product, summed over the heads, is largest at equal positions, and 0 at positions that differ by 1 to 2 N - 1.

    Args:
        x: (..., B, heads, T, H).
        position: (B, T) int64.
        table: `turns(heads, H)`.
        sign: -1 where the rotation is the opposite one.

    Returns:
        (..., B, heads, T, H); if H is odd, the last number is not rotated.
    """
    cos, sin = table[position % len(table)].to(x.dtype).permute(2, 0, 3, 1, 4)  # each (B, heads, T, pairs)
    x = F.normalize(x, dim=-1, eps=1e-3)
    if x.shape[-1] % 2:
        return torch.cat([turn_pairs(x[..., :-1], sign * sin, cos), x[..., -1:]], dim=-1)
    return turn_pairs(x, sign * sin, cos)


def turn_pairs(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Rotate the pairs (x_i, x_{i + d/2}) of the last dimension d, each by its own angle; sin and cos (..., d/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(a * sin, b, cos)], dim=-1)


def epochs(position: Tensor, size: int) -> Tensor:
    """Keys by the order of magnitude of the step within the episode: (B, T) int64 -> (B, T, size) float32.

    Epoch n is the 2^n steps from 2^n - 1 on. The key of its steps is 2^-n at entry n, and 0 elsewhere: so entry n of a memory
    with these keys is a mean over an epoch, and entry 0 is the first step. The last entry is that of all further epochs.
    """
    epoch = torch.arange(size, device=position.device).clamp(max=62)
    begun = position[..., None] >= 2**epoch - 1
    running = begun & ~F.pad(begun[..., 1:], (0, 1))
    return running * torch.exp2(-epoch.float())
