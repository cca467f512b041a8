"""Stable Hadamard Memory (arXiv 2410.10132, Section 3.2)."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import hadamard_memory
from .base import Memory, State

Theta = Literal["random", "fixed", "learned"]
FeatureMap = Literal["relu_sum", "softmax"]
_THETAS, _FEATURE_MAPS = get_args(Theta), get_args(FeatureMap)
_EPSILON = 1e-5


def hashed_rows(clock: Tensor, rows: int) -> Tensor:
    """A uniformly random number in [0, rows) for every value of the clock (int64), the same one whenever it is asked for.

    Two rounds of a 32-bit finaliser (multiply, xor-shift): neighbouring clocks give unrelated rows.
    """
    mask = 0xFFFFFFFF
    x = (clock ^ (clock >> 32)) & mask
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & mask
    x = ((x ^ (x >> 15)) * 0x735A2D97) & mask
    x = x ^ (x >> 15)
    return (x * rows) >> 32


class SHM(Memory):
    r"""Stable Hadamard Memory: a matrix M_t = M_{t-1} * C_t + U_t, read as h_t = M_t q_t (Eqs. 4-8 of the paper).

        C_t = 1 + tanh(theta_t v_c(x_t)^T)       calibration: erases (towards 0) or strengthens (towards 2) each entry
        U_t = eta(x_t) v(x_t) k(x_t)^T           what is written, behind a gate in (0, 1)

    theta_t is a random row of a learned table of `rows` rows, so that successive C_t are uncorrelated and their products
    neither vanish nor explode (Proposition 4). The row is drawn by hashing a clock that is part of the state: replaying a
    sequence from a stored state meets the same rows.

    The defaults are the released arithmetic: layer norm on the input, k and q = relu(.) / sum relu(.), no bias in any
    projection, an output layer. What the paper's text describes and the released code left undone (a row that is really
    random) is on by default.

    Args:
        input_size: D, features of x.
        output_size: features of the output.
        memory_size: H; M is (H, H).
        theta: "random" (the paper), "fixed" (always the first row, which is what the released POPGym code computes), or
            "learned" (a linear map of x).
        rows: L, rows of the table of theta.
        feature_map: of k and q, "relu_sum" (released) or "softmax".
        read_norm: layer norm on h; the released read-out is of order 1/H and learns slowly.
        shortcut: add a linear map of the (normalised) input to h, as the released agents do.
        backend: of `hadamem.ops.hadamard_memory`.

    State: "memory" (B, H, H) and "clock" (B,) int64, which starts at a random draw and never resets.
    """

    paper = "Le et al. 2025, arXiv:2410.10132"

    def __init__(
        self,
        input_size: int,
        output_size: int,
        memory_size: int = 32,
        *,
        theta: Theta = "random",
        rows: int = 128,
        feature_map: FeatureMap = "relu_sum",
        read_norm: bool = False,
        shortcut: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__(input_size, output_size)
        for name, choice, allowed in (("theta", theta, _THETAS), ("feature_map", feature_map, _FEATURE_MAPS)):
            if choice not in allowed:
                raise ValueError(f"{name} is {choice!r}; it must be one of {', '.join(allowed)}")
        for name, size in (("memory_size", memory_size), ("rows", rows)):
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        self.memory_size, self.theta, self.rows = memory_size, theta, rows
        self.feature_map, self.backend = feature_map, backend
        H = memory_size
        self.norm = nn.LayerNorm(input_size)
        # k, q, v, v_c (and theta), and the gate: every map of x in one matrix product
        self.sizes = [H, H, H, H, 1] + [H] * (theta == "learned")
        self.project = nn.Linear(input_size, sum(self.sizes), bias=False)
        if theta != "learned":
            bound = math.sqrt(6 / (rows + H))  # Xavier, over the whole table also when only its first row is used
            self.table = nn.Parameter(torch.empty(rows if theta == "random" else 1, H).uniform_(-bound, bound))
        self.read_norm = nn.LayerNorm(H) if read_norm else nn.Identity()
        self.shortcut = nn.Linear(input_size, H) if shortcut else None
        self.output = nn.Linear(H, output_size)

    def initial_state(self, batch_size: int) -> State:
        """An empty memory, and a clock at a random draw from torch's global generator."""
        memory = self._wide_zeros(batch_size, self.memory_size, self.memory_size)
        return {"memory": memory, "clock": torch.randint(2**62, (batch_size,)).to(memory.device)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        x = self.norm(x)
        k, q, v, v_c, gate, *theta = self.project(x).split(self.sizes, dim=-1)
        clock = state["clock"][:, None] + torch.arange(x.shape[1], device=x.device)
        v = torch.sigmoid(gate) * v
        h, memory = hadamard_memory(
            v,
            self._features(k).to(v.dtype),  # under autocast, softmax and the table are float32
            self._features(q).to(v.dtype),
            calibration="tanh_outer",
            factors=((theta[0] if theta else self._theta(clock)).to(v.dtype), v_c),
            start=start,
            state=state["memory"],
            backend=self.backend,
        )
        h = self.read_norm(h)
        if self.shortcut is not None:
            h = h + self.shortcut(x)
        return self.output(h), {"memory": memory, "clock": state["clock"] + x.shape[1]}

    def _theta(self, clock: Tensor) -> Tensor:
        rows = hashed_rows(clock, self.rows) if self.theta == "random" else torch.zeros_like(clock)
        return F.embedding(rows, self.table)

    def _features(self, x: Tensor) -> Tensor:
        if self.feature_map == "softmax":
            return torch.softmax(x, dim=-1)
        x = torch.relu(x)
        return x / (_EPSILON + x.sum(dim=-1, keepdim=True))
