"""Gated delta net: a matrix memory that overwrites the value stored under a key."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import delta_memory
from .base import Memory, State


class DeltaNet(Memory):
    """Gated delta net (Yang et al. 2024, arXiv:2412.06464): a fast weight matrix trained by one gated delta step a time step.

        M_t = g_t M_{t-1} (1 - b_t k_t k_t^T) + b_t v_t k_t^T       g_t = sigmoid(w_g x_t + c_g), b_t = sigmoid(w_b x_t)
        k_t = unit(silu(W_k x_t)), q_t = unit(silu(W_q x_t)), v_t = silu(W_v x_t)
        y_t = W_o (norm(M_t q_t) * silu(W_z x_t))                   x after a layer norm, unit(a) = a / |a|

    g_t makes the whole matrix decay, and b_t is how much of the value at the key k_t is replaced. At initialisation g is about
    0.99 (with several heads: spread from 0.9 to 0.999).

    The released blocks have a convolution in front, and g_t = sigmoid(-(w_g x_t + c_g))^A with A learned for each head and
    initialised uniformly in (0, 16); here A is 1.

    Args:
        input_size: features of x.
        output_size: features of the output.
        memory_size: H; M is (H, H) for each head.
        heads: number of matrices side by side.

    State: "memory" (B, heads, H, H).
    """

    paper: ClassVar[str] = "Yang et al. 2024, arXiv:2412.06464"
    size_argument = "memory_size"

    def __init__(self, input_size: int, output_size: int, memory_size: int = 32, *, heads: int = 1) -> None:
        super().__init__(input_size, output_size)
        for name, size in (("memory_size", memory_size), ("heads", heads)):
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        self.memory_size, self.heads = memory_size, heads
        self.norm = nn.LayerNorm(input_size)
        self.project = nn.Linear(input_size, heads * (4 * memory_size + 2), bias=False)
        forget = torch.logspace(-1, -3, heads) if heads > 1 else torch.full((1,), 0.01)
        self.decay_bias = nn.Parameter(torch.logit(1 - forget))
        self.read_norm = nn.LayerNorm(memory_size)
        self.output = nn.Linear(heads * memory_size, output_size)

    def initial_state(self, batch_size: int) -> State:
        """A state with an empty memory."""
        return {"memory": self._wide_zeros(batch_size, self.heads, self.memory_size, self.memory_size)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        H, heads = self.memory_size, self.heads
        parts = self.project(self.norm(x)).unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1)  # heads become rows
        vkq, z, decay, beta = parts.split([3 * H, H, 1, 1], dim=-1)
        v, k, q = F.silu(vkq).chunk(3, dim=-1)
        h, memory = delta_memory(
            v,
            F.normalize(k, dim=-1),
            F.normalize(q, dim=-1),
            torch.sigmoid(beta[..., 0]),
            F.logsigmoid(decay[..., 0] + self.decay_bias.repeat(x.shape[0])[:, None]),
            start=start.repeat_interleave(heads, dim=0),
            state=state["memory"].flatten(0, 1),
        )
        h = (self.read_norm(h) * F.silu(z)).unflatten(0, (-1, heads)).transpose(1, 2).flatten(2)
        return self.output(h), {"memory": memory.unflatten(0, (-1, heads))}
