"""Minimal gated recurrent unit (arXiv 2410.01201)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops import linear_recurrence
from .base import Memory, State


class MinGRU(Memory):
    """Minimal gated recurrent unit (Feng et al., 2024, arXiv 2410.01201, Section 3.1).

        z_t = sigmoid(W_z x_t + b_z)              how much of it is new
        h_t = (1 - z_t) * h_{t-1} + z_t * (W_h x_t + b_h)

    Unlike in a GRU, gate and candidate do not depend on h: the recurrence is linear in h, and all steps can be computed at
    once.

    Args:
        input_size: features of x.
        output_size: features of the output.
        hidden_size: size of h; an output layer follows if it differs from output_size. Default: output_size.
        backend: backend of `hadamem.ops.linear_recurrence`.

    State: "hidden" (B, hidden_size).
    """

    paper = "Feng et al. 2024, arXiv:2410.01201"

    def __init__(self, input_size: int, output_size: int, hidden_size: int | None = None, backend: str = "auto") -> None:
        super().__init__(input_size, output_size)
        self.hidden_size = output_size if hidden_size is None else hidden_size
        self.backend = backend
        self.project = nn.Linear(input_size, 2 * self.hidden_size)
        self.output = nn.Identity() if self.hidden_size == output_size else nn.Linear(self.hidden_size, output_size)

    def initial_state(self, batch_size: int) -> State:
        """A state of zeros."""
        return {"hidden": self._wide_zeros(batch_size, self.hidden_size)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        gate, candidate = self.project(x).chunk(2, dim=-1)
        keep, new = torch.sigmoid(-gate), torch.sigmoid(gate) * candidate
        h, last = linear_recurrence(keep, new, start=start, state=state["hidden"], backend=self.backend)
        return self.output(h), {"hidden": last}
