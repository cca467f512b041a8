"""Independently recurrent network (arXiv 1803.04831)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from .base import Memory, State

Activation = Literal["relu", "tanh"]


class IndRNN(Memory):
    """Independently recurrent neural network (Li et al., 2018, arXiv 1803.04831, Section 3).

        h_t = activation(W x_t + u * h_{t-1} + b)       |u| <= 2^(1 / horizon)

    A unit sees of the past only itself. The bound on u (Section 4 of the paper) keeps a ReLU from growing to more than twice
    its value over `horizon` steps.

    Args:
        input_size: features of x.
        output_size: features of the output.
        hidden_size: of h; an output layer follows if it differs from output_size. Default: output_size.
        activation: "relu" or "tanh".
        horizon: steps.

    State: "hidden" (B, hidden_size).
    """

    paper = "Li et al. 2018, arXiv:1803.04831"

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int | None = None,
        activation: Activation = "relu",
        horizon: int = 1024,
    ) -> None:
        super().__init__(input_size, output_size)
        if activation not in get_args(Activation):
            raise ValueError(f"activation is {activation!r}; it must be one of {', '.join(get_args(Activation))}")
        if horizon < 1:
            raise ValueError(f"horizon is {horizon}; it must be at least 1")
        self.hidden_size = output_size if hidden_size is None else hidden_size
        self.activation = torch.relu if activation == "relu" else torch.tanh
        self.limit = 2 ** (1 / horizon)
        self.project = nn.Linear(input_size, self.hidden_size)
        self.recurrent = nn.Parameter(torch.rand(self.hidden_size))
        self.output = nn.Identity() if self.hidden_size == output_size else nn.Linear(self.hidden_size, output_size)

    def initial_state(self, batch_size: int) -> State:
        """Zeros."""
        return {"hidden": self._zeros(batch_size, self.hidden_size)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        u = self.recurrent.clamp(-self.limit, self.limit)
        h, hs = state["hidden"], []
        for into, reset in zip(self.project(x).unbind(1), start[..., None].unbind(1), strict=True):
            h = self.activation(torch.addcmul(into, u, torch.where(reset, 0, h)))
            hs.append(h)
        return self.output(torch.stack(hs, dim=1)), {"hidden": h}
