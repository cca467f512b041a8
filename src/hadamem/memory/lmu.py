"""Legendre memory unit (NeurIPS 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import Memory, State
from .sequential import scan


class LMU(Memory):
    """Legendre memory unit (Voelker, Kajic & Eliasmith, NeurIPS 2019, Section 2).

        u_t = e_x x_t + e_h h_{t-1} + e_m m_{t-1}            one number is written at each step
        m_t = A m_{t-1} + B u_t                              its last theta steps, as Legendre coefficients
        h_t = tanh(W_x x_t + W_h h_{t-1} + W_m m_t)

    A and B are fixed: they are the delay of theta steps as a linear system of `memory_size` dimensions, discretised by a
    zero-order hold (ZOH). The argument of the tanh is one linear map of x_t, h_{t-1} and m_{t-1}, and is computed as one.

    Args:
        input_size: features of x.
        output_size: features of the output.
        hidden_size: size of h; an output layer follows if it differs from output_size. Default: output_size.
        memory_size: size of m, which is the order of the polynomials; more than theta has no benefit.
        theta: number of past steps that m represents.

    State: "hidden" (B, hidden_size) and "memory" (B, memory_size).
    """

    paper = "Voelker et al. 2019, NeurIPS"
    A: Tensor
    B: Tensor

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int | None = None,
        memory_size: int = 64,
        theta: float = 64.0,
    ) -> None:
        super().__init__(input_size, output_size)
        self.hidden_size = output_size if hidden_size is None else hidden_size
        self.memory_size = memory_size
        if memory_size < 1:
            raise ValueError(f"memory_size is {memory_size}; it must be at least 1")
        if theta <= 0:
            raise ValueError(f"theta is {theta}; it must be greater than 0")
        H, M = self.hidden_size, self.memory_size
        A, B = legendre_delay(M, theta)
        self.register_buffer("A", A.to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("B", B.to(torch.get_default_dtype()), persistent=False)
        # number of columns that belong to x, h and m
        self.sizes = [input_size, H, M]
        self.write = nn.Parameter(torch.cat([_lecun(1, input_size), _lecun(1, H), torch.zeros(1, M)], dim=1))
        self.hidden = nn.Parameter(torch.cat([_xavier(H, n) for n in self.sizes], dim=1))
        self.output = nn.Identity() if output_size == H else nn.Linear(H, output_size)

    def initial_state(self, batch_size: int) -> State:
        """A state of zeros."""
        return {"hidden": self._zeros(batch_size, self.hidden_size), "memory": self._zeros(batch_size, self.memory_size)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        D, H, M = self.sizes
        keep = torch.cat([self.A.new_zeros(M, D + H), self.A], dim=1)
        memory = keep + self.B[:, None] * self.write  # matrix from (x_t, h_{t-1}, m_{t-1}) to m_t
        W_x, W_h, W_m = self.hidden.split(self.sizes, dim=1)
        hidden = torch.cat([W_x, W_h, torch.zeros_like(W_m)], dim=1) + W_m @ memory  # the same to h_t before the tanh
        both = torch.cat([hidden, memory]).T
        recurrent = both[D:]

        def step(into: Tensor, before: Tensor) -> Tensor:
            h, m = torch.addmm(into, before, recurrent).split([H, M], dim=1)
            return torch.cat([torch.tanh(h), m], dim=1)

        s, last = scan(step, x @ both[:D], torch.cat([state["hidden"], state["memory"]], dim=1), start)
        return self.output(s[..., :H]), {"hidden": last[:, :H], "memory": last[:, H:]}


def legendre_delay(order: int, theta: float) -> tuple[Tensor, Tensor]:
    """A (order, order) and B (order,) of the paper's Eqs. 1 and 2, discretised by a zero-order hold, in float64."""
    n = torch.arange(order, dtype=torch.float64)
    row, column = n[:, None], n
    sign = torch.where(column > row, -1.0, torch.pow(-1.0, row - column + 1))
    system = torch.zeros(order + 1, order + 1, dtype=torch.float64)
    system[:order, :order] = (2 * row + 1) / theta * sign
    system[:order, order] = (2 * n + 1) / theta * torch.pow(-1.0, n)
    held = torch.linalg.matrix_exp(system)  # with B as one more column, the exponential of A also gives B's integral
    return held[:order, :order], held[:order, order]


def _lecun(rows: int, columns: int) -> Tensor:
    bound = (3 / columns) ** 0.5
    return torch.empty(rows, columns).uniform_(-bound, bound)


def _xavier(rows: int, columns: int) -> Tensor:
    return nn.init.xavier_normal_(torch.empty(rows, columns))
