"""A network whose only memory is a step counter, as the control for tasks that can be solved by counting steps."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..ops.episodes import episode_steps
from .base import Memory, State
from .window import sine_code


class PositionalMLP(Memory):
    """MLP that knows the time (Morad et al. 2023, arXiv:2303.01859): two layers and a sine code of the step in the episode.

        y_t = relu(W_2 relu(W_1 x_t + sine(t)))

    Args:
        input_size: features of x.
        output_size: features of the output.
        hidden_size: size of the hidden layer. Default: output_size.

    State: "step" (B,) int64, number of steps of the episode so far.
    """

    paper: ClassVar[str] = "Morad et al. 2023, arXiv:2303.01859"

    def __init__(self, input_size: int, output_size: int, hidden_size: int | None = None) -> None:
        super().__init__(input_size, output_size)
        self.hidden_size = output_size if hidden_size is None else hidden_size
        self.input = nn.Linear(input_size, self.hidden_size)
        self.output = nn.Sequential(nn.ReLU(), nn.Linear(self.hidden_size, output_size), nn.ReLU())

    def initial_state(self, batch_size: int) -> State:
        """Step counters of zero."""
        return {"step": torch.zeros(batch_size, dtype=torch.long, device=self.input.weight.device)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        step = episode_steps(start, state["step"])
        x = self.input(x)
        return self.output(x + sine_code(step, self.hidden_size, x.dtype)), {"step": step[:, -1] + 1}
