"""Independently recurrent network (arXiv 1803.04831)."""

from __future__ import annotations

import functools
import itertools
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from .base import Memory, State, clamped
from .sequential import scan

Activation = Literal["relu", "tanh"]


class IndRNN(Memory):
    """Independently recurrent neural network (Li et al., 2018, arXiv 1803.04831, Section 3).

        h_t = activation(W x_t + u * h_{t-1} + b)       |u| <= 2^(1 / horizon)

    A unit depends only on its own past; the next of the `layers` layers mixes the units. The bound on u (Section 4 of the
    paper) keeps a ReLU from growing to more than twice its value over `horizon` steps. Here u is clamped in the forward pass
    (the authors clip it after each step of the optimiser), and a u beyond the bound still has the gradient that leads back
    inside.

    Args:
        input_size: features of x.
        output_size: features of the output.
        hidden_size: size of h; an output layer follows if it differs from output_size. Default: output_size.
        layers: number of layers, one on top of the other; the default is POPGym's.
        activation: "relu" or "tanh".
        horizon: number of steps in the bound on u.

    State: "hidden" (B, layers, hidden_size).
    """

    paper = "Li et al. 2018, arXiv:1803.04831"

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int | None = None,
        layers: int = 2,
        activation: Activation = "relu",
        horizon: int = 1024,
    ) -> None:
        super().__init__(input_size, output_size)
        if activation not in get_args(Activation):
            raise ValueError(f"activation is {activation!r}; it must be one of {', '.join(get_args(Activation))}")
        for name, value in (("layers", layers), ("horizon", horizon)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self.hidden_size = output_size if hidden_size is None else hidden_size
        self.activation = torch.relu if activation == "relu" else torch.tanh
        self.limit = 2 ** (1 / horizon)
        sizes = [input_size, *[self.hidden_size] * layers]
        self.project = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))
        self.recurrent = nn.Parameter(torch.rand(layers, self.hidden_size))
        self.output = nn.Identity() if self.hidden_size == output_size else nn.Linear(self.hidden_size, output_size)

    def initial_state(self, batch_size: int) -> State:
        """A state of zeros."""
        return {"hidden": self._zeros(batch_size, *self.recurrent.shape)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        last = []
        limited = clamped(self.recurrent, -self.limit, self.limit)
        for project, u, h in zip(self.project, limited, state["hidden"].unbind(1), strict=True):
            x, h = scan(functools.partial(self._step, u), project(x), h, start)
            last.append(h)
        return self.output(x), {"hidden": torch.stack(last, dim=1)}

    def _step(self, u: Tensor, into: Tensor, h: Tensor) -> Tensor:
        return self.activation(torch.addcmul(into, u, h))
