"""xLSTM's scalar memory."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import slstm
from ..ops.reference import slstm_empty
from .base import Memory, State

ForgetGate = Literal["sigmoid", "exponential"]
_FORGET_GATES = get_args(ForgetGate)


class SLSTM(Memory):
    """xLSTM's scalar memory, sLSTM (Beck et al. 2024, arXiv:2405.04517, Section 2.2): an LSTM with exponential gates.

        c_t = f_t c_{t-1} + i_t tanh(z_t)       i_t = exp(i'_t)
        n_t = f_t n_{t-1} + i_t                 f_t = sigmoid(f'_t) or exp(f'_t)
        h_t = sigmoid(o_t) c_t / n_t
        (z, o, i', f')_t = W x_t + R h_{t-1} + b

    R has one block for each head: heads do not read each other. c and n are stored divided by exp(m), where m is the largest
    exponent so far (`hadamem.ops.slstm`). b starts at 0, except for f', for which f rises from sigmoid(3) to sigmoid(6) over
    the features of a head.

    Args:
        input_size: features of x.
        output_size: features of the output.
        hidden_size: H; an output layer follows if it differs from output_size. Default: output_size.
        heads: number of heads, into which H is divided.
        forget_gate: "sigmoid" or "exponential".

    State: "hidden", "cell", "normaliser" and "stabiliser" (h, c, n, m), each (B, H); m is -inf before the first step.
    """

    paper: ClassVar[str] = "Beck et al. 2024, arXiv:2405.04517"
    names: ClassVar[tuple[str, ...]] = ("hidden", "cell", "normaliser", "stabiliser")

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int | None = None,
        *,
        heads: int = 4,
        forget_gate: ForgetGate = "sigmoid",
    ) -> None:
        super().__init__(input_size, output_size)
        if forget_gate not in _FORGET_GATES:
            raise ValueError(f"forget_gate is {forget_gate!r}; it must be one of {', '.join(_FORGET_GATES)}")
        H = self.hidden_size = output_size if hidden_size is None else hidden_size
        if heads < 1 or H % heads:
            raise ValueError(f"hidden_size is {H}; it must be a multiple of heads, {heads}")
        self.heads, self.forget_gate = heads, forget_gate
        d = H // heads
        self.input = nn.Linear(input_size, 4 * H)
        with torch.no_grad():
            forget = torch.linspace(3, 6, d)
            self.input.bias.zero_().view(heads, 4, d)[:, 3] = forget if forget_gate == "sigmoid" else F.logsigmoid(forget)
        self.recurrent = nn.Parameter(torch.empty(heads, d, 4 * d).uniform_(-1, 1) / math.sqrt(d))
        self.output = nn.Identity() if output_size == H else nn.Linear(H, output_size)

    def initial_state(self, batch_size: int) -> State:
        """A state with an empty memory."""
        empty = slstm_empty(self.recurrent).flatten()
        return {name: value.repeat(batch_size, self.hidden_size) for name, value in zip(self.names, empty, strict=True)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        before = torch.stack([state[name].unflatten(1, (self.heads, -1)) for name in self.names], dim=1)
        inputs = self.input(x).unflatten(2, (self.heads, 4, -1))
        h, last = slstm(inputs, self.recurrent, start, before, self.forget_gate == "exponential")
        return self.output(h.flatten(2)), dict(zip(self.names, last.flatten(2).unbind(1), strict=True))
