"""Mamba's selective state space."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import hadamard_memory
from .base import Memory, State
from .convolution import CausalConvolution


class Mamba(Memory):
    """Mamba's S6 block (Gu & Dao 2023, arXiv:2312.00752): each feature has a small state that forgets as x says.

        u_t = silu(conv(W_u x_t))                           over the last `width` steps
        M_t = M_{t-1} * exp(-d_t A) + (d_t * u_t) k_t^T     d_t = softplus(W_2 W_1 u_t + c), k_t = W_k u_t, q_t = W_q u_t
        y_t = W_o ((M_t q_t + D * u_t) * silu(W_z x_t))     row i of d_t A is d_t[i] A[i, :]

    A is learned and positive, and initialised as 1, 2, ..., N in each row.

    Differences of the released block: its inner_size is twice the number of its input and output features; its W_1 maps to
    ceil(input features / 16) numbers, here to ceil(inner_size / 16); and its convolution starts with weights and biases uniform
    within +-1 / sqrt(width), here nearly as the identity (`CausalConvolution`).

    Args:
        input_size: features of x.
        output_size: features of the output.
        inner_size: number of rows of M and of features of u. Default: output_size.
        state_size: N, number of columns of M.
        width: number of steps that the convolution covers.
        backend: backend of `hadamem.ops.hadamard_memory`.

    State: "memory" (B, inner_size, N) and "inputs" (B, width - 1, inner_size), the last inputs of the convolution.
    """

    paper: ClassVar[str] = "Gu & Dao 2023, arXiv:2312.00752"
    size_argument = "inner_size"

    def __init__(
        self,
        input_size: int,
        output_size: int,
        inner_size: int | None = None,
        *,
        state_size: int = 16,
        width: int = 4,
        backend: str = "auto",
    ) -> None:
        super().__init__(input_size, output_size)
        E = self.inner_size = output_size if inner_size is None else inner_size
        for name, size in (("inner_size", E), ("state_size", state_size)):
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        self.state_size, self.backend = state_size, backend
        rank = math.ceil(E / 16)
        self.project = nn.Linear(input_size, 2 * E, bias=False)
        self.convolution = CausalConvolution(E, width, backend)
        self.sizes = [rank, state_size, state_size]
        self.select = nn.Linear(E, sum(self.sizes), bias=False)
        self.step = nn.Linear(rank, E)
        # as released: the initial step sizes d are log-uniform between 0.001 and 0.1
        first = torch.exp(torch.empty(E).uniform_(math.log(1e-3), math.log(1e-1)))
        self.step.bias.data = torch.log(torch.expm1(first))
        self.log_A = nn.Parameter(torch.log(torch.arange(1.0, state_size + 1)).repeat(E, 1))
        self.D = nn.Parameter(torch.ones(E))
        self.output = nn.Linear(E, output_size, bias=False)

    def initial_state(self, batch_size: int) -> State:
        """An empty memory, and zeros as previous inputs of the convolution."""
        return {
            "memory": self._wide_zeros(batch_size, self.inner_size, self.state_size),
            "inputs": self._zeros(batch_size, self.convolution.width - 1, self.inner_size),
        }

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        u, z = self.project(x).chunk(2, dim=-1)
        u, inputs = self.convolution(u, state["inputs"], start)
        low, k, q = self.select(u).split(self.sizes, dim=-1)
        d = F.softplus(self.step(low)).to(k.dtype)
        h, memory = hadamard_memory(
            (d * u).to(k.dtype),
            k,
            q,
            calibration="exp_outer",
            factors=(d, torch.exp(self.log_A).to(k.dtype)),
            start=start,
            state=state["memory"],
            backend=self.backend,
        )
        return self.output((h + self.D * u) * F.silu(z)), {"memory": memory, "inputs": inputs}
