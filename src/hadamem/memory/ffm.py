"""Fast and forgetful memory (arXiv 2310.04128)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import linear_recurrence
from .base import Memory, State, as_real, widened

_FASTEST = 0.673  # rate of the fastest trace in the released code, per step
_LEFT = 0.01  # fraction that the slowest trace keeps over `horizon` steps


class FFM(Memory):
    """Fast and forgetful memory (Morad et al., 2023, arXiv 2310.04128, Section 3).

        S_t = S_{t-1} * exp(-a + i b) + (w(x_t) * sigmoid(w_in(x_t))) 1^T       S: (m, c) complex, a: (m, 1), b: (1, c)
        g_t = sigmoid(w_out(x_t))
        y_t = norm(r(Re S_t, Im S_t)) * g_t + through(x_t) * (1 - g_t)

    Each of m traces of the input fades at its own rate a and is rotated in c contexts, each at its own frequency b, so that S
    encodes the past inputs and how long ago they were. The released code divides by powers of the decay, which needs double
    precision and limits the length; here the recurrence is computed directly, and a = exp(.) stays positive.

    Args:
        input_size: features of x.
        output_size: features of the output.
        trace_size: m.
        context_size: c.
        horizon: steps over which, at initialisation, the slowest trace fades to 1 % and the slowest context turns once.
        backend: backend of `hadamem.ops.linear_recurrence`.

    State: "traces" (B, m, c), complex.
    """

    paper = "Morad et al. 2023, arXiv:2310.04128"
    size_argument = "trace_size"

    def __init__(
        self,
        input_size: int,
        output_size: int,
        trace_size: int = 32,
        context_size: int = 4,
        horizon: int = 1024,
        backend: str = "auto",
    ) -> None:
        super().__init__(input_size, output_size)
        for name, value in (("trace_size", trace_size), ("context_size", context_size), ("horizon", horizon)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self.trace_size, self.context_size, self.backend = trace_size, context_size, backend
        self.log_rate = nn.Parameter(torch.linspace(_FASTEST, -math.log(_LEFT) / horizon, trace_size).log())
        self.frequency = nn.Parameter(2 * math.pi / torch.linspace(1, horizon, context_size))
        self.sizes = [trace_size, trace_size, output_size, output_size]
        self.project = nn.Linear(input_size, sum(self.sizes))
        self.read = nn.Linear(2 * trace_size * context_size, output_size)

    def initial_state(self, batch_size: int) -> State:
        """A state of zeros."""
        return {"traces": self._complex_zeros(batch_size, self.trace_size, self.context_size)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        traces = state["traces"]
        new, gate_in, through, gate_out = self.project(x).split(self.sizes, dim=-1)
        new = (new * torch.sigmoid(gate_in)).to(traces.dtype)[..., None].expand(-1, -1, -1, self.context_size)
        log_rate, frequency = widened(self.log_rate, self.frequency)
        size = torch.exp(-log_rate.exp())[:, None]
        decay = torch.polar(size.expand(-1, self.context_size), frequency.expand(self.trace_size, -1))
        S, last = linear_recurrence(
            decay.flatten(), new.flatten(-2), start=start, state=traces.flatten(1), backend=self.backend
        )
        gate = torch.sigmoid(gate_out)
        y = F.layer_norm(self.read(as_real(S, x.dtype)), (self.output_size,)) * gate + through * (1 - gate)
        return y, {"traces": last.unflatten(1, traces.shape[1:])}
