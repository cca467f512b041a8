"""Gated linear attention: linear attention that forgets, with a separate rate for each column of its matrix."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import State
from .matrix import MatrixMemory


class GLA(MatrixMemory):
    """Gated linear attention (Yang et al. 2023, arXiv:2312.06635): a gate for each column of the matrix.

        M_t = M_{t-1} * (1 g_t^T) + v_t k_t^T           g_t = sigmoid(W_2 W_1 x_t + c) ^ (1 / 16), a number near 1 per column
        y_t = W_o (norm(M_t q_t) * silu(W_r x_t))       k_t = W_k x_t / sqrt(H), q_t = W_q x_t, v_t = W_v x_t, x normed

    Args:
        input_size: features of x.
        output_size: features of the output.
        memory_size: H; M is (H, H).
        rank: rank of the linear map that computes the gate.
        backend: backend of `hadamem.ops.hadamard_memory`.

    State: "memory" (B, H, H).
    """

    paper: ClassVar[str] = "Yang et al. 2023, arXiv:2312.06635"

    def __init__(
        self, input_size: int, output_size: int, memory_size: int = 32, *, rank: int = 16, backend: str = "auto"
    ) -> None:
        super().__init__(input_size, output_size, memory_size, 4 * memory_size + rank, backend=backend)
        self.sizes = [memory_size] * 4 + [rank]
        self.gate = nn.Linear(rank, memory_size)
        self.read_norm = nn.LayerNorm(memory_size)

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        v, k, q, r, low = self.project(self.norm(x)).split(self.sizes, dim=-1)
        g = torch.exp(F.logsigmoid(self.gate(low)) / 16)
        h, memory = self._recall("column", (g,), v, k * self.memory_size**-0.5, q, start, state["memory"])
        return self.output(self.read_norm(h) * F.silu(r)), {"memory": memory}
