"""A network without memory, as the control in comparisons."""

from __future__ import annotations

from torch import Tensor, nn

from .base import Memory, State


class MLP(Memory):
    """Two layers applied to each step alone. The state is empty.

        y_t = relu(W_2 relu(W_1 x_t + b_1) + b_2)

    Args:
        input_size: features of x.
        output_size: features of the output.
        hidden_size: size of the hidden layer. Default: output_size.
    """

    def __init__(self, input_size: int, output_size: int, hidden_size: int | None = None) -> None:
        super().__init__(input_size, output_size)
        self.hidden_size = output_size if hidden_size is None else hidden_size
        self.layers = nn.Sequential(
            nn.Linear(input_size, self.hidden_size), nn.ReLU(), nn.Linear(self.hidden_size, output_size), nn.ReLU()
        )

    def initial_state(self, batch_size: int) -> State:
        """An empty dict."""
        return {}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        return self.layers(x), {}
