"""Helpers of memories with a window: the sine code of the step within the episode, and attention to the latest steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops.addressing import turn_pairs


def sine_code(position: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Sines and cosines of integer positions (...), in wavelengths from 2 pi to 10,000 times that: (..., size)."""
    half = (size + 1) // 2
    wide = torch.promote_types(dtype, torch.float32)
    angle = position[..., None] * 1e4 ** (-torch.arange(half, device=position.device, dtype=wide) / half)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[..., :size].to(dtype)


def rotate(x: Tensor, position: Tensor) -> Tensor:
    """Rotate each pair of features by an angle that grows with the position (Su et al. 2021, arXiv:2104.09864).

    x: (B, T, heads, d) with d even, position: (B, T). The inner product of two rotated vectors depends on the positions only by
    their distance.
    """
    sin, cos = sine_code(position, x.shape[-1], x.dtype)[:, :, None].chunk(2, dim=-1)
    return turn_pairs(x, sin, cos)


def visible(step: Tensor, window: int) -> Tensor:
    """Which keys each query may see, (B n, 1, Q, Q + window - 1) bool, for T queries cut into n blocks of Q = min(T, window).

    The keys of a block are its own and those of the window - 1 steps before it. A query sees the keys that lie inside the
    window and not before the beginning of its episode, which is given by `step` (B, T). This takes O(T window) memory, not
    O(T^2).
    """
    B, T = step.shape
    Q = min(T, window)
    n = -(-T // Q)
    step = F.pad(step, (0, n * Q - T)).reshape(B * n, 1, Q, 1)
    query, key = (torch.arange(size, device=step.device) for size in (Q, Q + window - 1))
    distance = query[:, None] + window - 1 - key
    return (distance >= 0) & (distance <= step.clamp(max=window - 1))


class WindowAttention(nn.Module):
    """Causal attention (after a layer norm) of each step to itself and the window - 1 steps of its episode before it.

    The output of a step with NaN or inf, or with a number whose square overflows in the norm, is zero, and other steps see that
    step as zeros: an attention weight of 0 would still let NaN through to the next episode. In a residual network, the NaN
    then remains in its own step.

    Args:
        size: D, number of features.
        heads: number of heads, each with D / heads features.
        window: W.
        rotary: rotate keys and queries by their position.
    """

    def __init__(self, size: int, heads: int, window: int, *, rotary: bool = False) -> None:
        super().__init__()
        if heads < 1:
            raise ValueError(f"heads is {heads}; it must be at least 1")
        parts = 2 * heads if rotary else heads
        if size % parts:
            raise ValueError(f"hidden_size is {size}; it must be a multiple of {parts}, for {heads} heads")
        self.size, self.heads, self.window, self.rotary = size, heads, window, rotary
        self.norm = nn.LayerNorm(size)
        self.project = nn.Linear(size, 3 * size, bias=False)
        self.output = nn.Linear(size, size)

    def forward(self, x: Tensor, cache: Tensor, step: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            x: (B, T, D).
            cache: keys and values of the W - 1 steps before, finite, (B, W - 1, 2 D).
            step: (B, T), the step within the episode.
            mask: `visible(step, W)`.

        Returns:
            (B, T, D), and the keys and values of the last W - 1 steps, also of earlier episodes.
        """
        B, T, D = x.shape
        W, heads = self.window, self.heads
        finite = x.abs().amax(dim=-1, keepdim=True) < torch.finfo(torch.promote_types(x.dtype, torch.float32)).max ** 0.4
        q, kv = self.project(self.norm(torch.where(finite, x, 0))).split([D, 2 * D], dim=-1)
        if self.rotary:
            q, k, v = (part.unflatten(-1, (heads, -1)) for part in (q, *kv.chunk(2, dim=-1)))
            q, kv = rotate(q, step).flatten(2), torch.cat([rotate(k, step), v], dim=2).flatten(2)
        kv = torch.cat([cache.to(kv.dtype), kv], dim=1)

        Q = mask.shape[2]
        rest = -T % Q
        last = kv[:, T:].to(cache.dtype)
        if rest:
            q, kv = F.pad(q, (0, 0, 0, rest)), F.pad(kv, (0, 0, 0, rest))
        q = q.reshape(-1, Q, heads, D // heads).transpose(1, 2)
        blocks = kv.unfold(1, Q + W - 1, Q).transpose(2, 3)
        k, v = blocks.reshape(-1, Q + W - 1, 2, heads, D // heads).permute(2, 0, 3, 1, 4)
        y = self.attend(q, k, v, mask).transpose(1, 2).reshape(B, T + rest, D)[:, :T]
        return torch.where(finite, self.output(y), 0), last

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Queries (N, heads, Q, d), keys and values (N, heads, Q + W - 1, d), mask of `visible` -> shape of the queries."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class RelativeWindowAttention(WindowAttention):
    """Attention that depends on the distance of a key (Transformer-XL, Dai et al. 2019, arXiv:1901.02860, Section 3.3).

        score(i, j) = (q_i + u) k_j + (q_i + w) r_{i - j}       r: a linear map of the sine code of the distance

    Arguments as `WindowAttention`.
    """

    def __init__(self, size: int, heads: int, window: int) -> None:
        super().__init__(size, heads, window)
        self.relative = nn.Linear(size, size, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, 1, size // heads))
        self.distance_bias = nn.Parameter(torch.zeros(heads, 1, size // heads))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """See WindowAttention."""
        N, heads, Q, d = q.shape
        W = self.window
        distance = torch.arange(W - 1, -1, -1, device=q.device)
        r = self.relative(sine_code(distance, heads * d, self.distance_bias.dtype)).view(W, heads, d).permute(1, 2, 0)
        score = ((q + self.distance_bias) @ r) / math.sqrt(d)  # (N, heads, Q, W), by distance
        # from distances to keys: shift row i by i places to the right, by reading the padded array with rows one shorter
        score = F.pad(score, (0, Q)).flatten(2)[..., : Q * (Q + W - 1)].view(N, heads, Q, Q + W - 1)
        score = torch.where(mask, score, -torch.inf)
        return F.scaled_dot_product_attention(q + self.content_bias, k, v, attn_mask=score)
