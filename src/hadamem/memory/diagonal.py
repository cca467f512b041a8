"""The base class of LRU and S5: a recurrence with a constant complex diagonal between two dense maps.

LRU and S5 differ in the parameters of the diagonal.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import linear_recurrence
from .base import Memory, State, as_complex, as_real


class Diagonal(Memory):
    """h_t = decay * h_{t-1} + gain * (B x_t), y_t = Re(C h_t) + D x_t, with h, B, C, decay and gain complex.

    All parameters are real: `write` holds B as (N, D, 2), and `read` holds C as (output_size, 2 N), where each real part is
    followed by the negative of its imaginary part.
    """

    size_argument = "state_size"

    def __init__(self, input_size: int, output_size: int, state_size: int, backend: str) -> None:
        super().__init__(input_size, output_size)
        if state_size < 1:
            raise ValueError(f"state_size is {state_size}; it must be at least 1")
        self.state_size, self.backend = state_size, backend
        self.write = nn.Parameter(torch.randn(state_size, input_size, 2) / math.sqrt(2 * input_size))
        self.read = nn.Linear(2 * state_size, output_size, bias=False)
        nn.init.normal_(self.read.weight, std=1 / math.sqrt(state_size))
        self.skip = nn.Linear(input_size, output_size, bias=False)
        nn.init.normal_(self.skip.weight, std=1 / math.sqrt(input_size))

    @abstractmethod
    def decay_and_gain(self) -> tuple[Tensor, Tensor]:
        """The decay, (N,) complex, and the gain, (N,) real or complex."""

    def initial_state(self, batch_size: int) -> State:
        """A state of zeros."""
        return {"hidden": self._complex_zeros(batch_size, self.state_size)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        decay, gain = self.decay_and_gain()
        write = torch.view_as_real(gain[:, None] * as_complex(self.write.flatten(-2)))
        into = as_complex(F.linear(x, write.transpose(1, 2).flatten(0, 1).to(x.dtype)))
        h, last = linear_recurrence(decay, into, start=start, state=state["hidden"], backend=self.backend)
        return self.read(as_real(h, x.dtype)) + self.skip(x), {"hidden": last}
