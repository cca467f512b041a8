"""Elman's network: the simple recurrent network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import Memory, State, current_weights
from .sequential import scan


class Elman(Memory):
    """Simple recurrent network (Elman, 1990, Cognitive Science 14), torch.nn.RNN's arithmetic.

        h_t = tanh(W x_t + U h_{t-1} + b)

    Args:
        input_size: features of x.
        output_size: features of the output.
        hidden_size: size of h; an output layer follows if it differs from output_size. Default: output_size.

    State: "hidden" (B, hidden_size).
    """

    paper = "Elman 1990"

    def __init__(self, input_size: int, output_size: int, hidden_size: int | None = None) -> None:
        super().__init__(input_size, output_size)
        self.hidden_size = output_size if hidden_size is None else hidden_size
        self.project = nn.Linear(input_size, self.hidden_size)
        self.recurrent = nn.Linear(self.hidden_size, self.hidden_size, bias=False)
        self.output = nn.Identity() if self.hidden_size == output_size else nn.Linear(self.hidden_size, output_size)

    def initial_state(self, batch_size: int) -> State:
        """A state of zeros."""
        return {"hidden": self._zeros(batch_size, self.hidden_size)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        U = current_weights(self.recurrent, "weight")[0].T
        h, last = scan(lambda into, h: torch.tanh(torch.addmm(into, h, U)), self.project(x), state["hidden"], start)
        return self.output(h), {"hidden": last}
