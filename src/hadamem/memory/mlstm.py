"""The matrix memory of xLSTM."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import decaying_max
from .base import State
from .matrix import MatrixMemory


class MLSTM(MatrixMemory):
    """xLSTM's matrix memory (Beck et al. 2024, arXiv:2405.04517, Section 2.3): an exponential input gate, and a normaliser.

        M_t = f_t M_{t-1} + i_t v_t k_t^T,  n_t = f_t n_{t-1} + i_t k_t   i_t = exp(w_i x_t + c_i), f_t = sigmoid(w_f x_t + c_f)
        y_t = W_o (sigmoid(W_r x_t) * M_t q_t / max(|n_t q_t|, 1))        k_t = W_k x_t / sqrt(H), q_t = W_q x_t, v_t = W_v x_t

    x is taken after a layer norm. M and n are stored divided by exp(m_t), the largest weight in
    them, m_t = max(log f_t + m_{t-1}, log i_t), so that no exponential overflows.

    Args:
        input_size: features of x.
        output_size: features of the output.
        memory_size: H; M is (H, H).
        backend: backend of `hadamem.ops.hadamard_memory`.

    State: "memory" (B, H + 1, H), M and below it n, and "scale" (B,), m.
    """

    paper: ClassVar[str] = "Beck et al. 2024, arXiv:2405.04517"

    def __init__(self, input_size: int, output_size: int, memory_size: int = 32, *, backend: str = "auto") -> None:
        super().__init__(input_size, output_size, memory_size, 4 * memory_size + 2, extra_rows=1, backend=backend)
        self.sizes = [memory_size] * 4 + [1, 1]
        self.gate_bias = nn.Parameter(torch.tensor([0.0, 4.0]))  # of i and f; with 4, little is forgotten at first

    def initial_state(self, batch_size: int) -> State:
        """A state with an empty memory."""
        return super().initial_state(batch_size) | {"scale": self._wide_zeros(batch_size)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        v, k, q, r, i, f = self.project(self.norm(x)).split(self.sizes, dim=-1)
        scale = state["scale"]
        i, f = (i[..., 0] + self.gate_bias[0]).to(scale.dtype), F.logsigmoid(f[..., 0] + self.gate_bias[1]).to(scale.dtype)
        m = decaying_max(f, i, start, scale)
        before = torch.where(start, 0, torch.cat([scale[:, None], m[:, :-1]], dim=1))
        keep, write = torch.exp(f + before - m), torch.exp(i - m).to(v.dtype)
        a = F.pad(v, (0, 1), value=1) * write[..., None]
        h, memory = self._recall("scalar", (keep,), a, k * self.memory_size**-0.5, q, start, state["memory"])
        h = h[..., :-1] / torch.maximum(h[..., -1:].abs(), torch.exp(-m)[..., None].to(h.dtype))
        return self.output(torch.sigmoid(r) * h), {"memory": memory, "scale": m[:, -1]}
