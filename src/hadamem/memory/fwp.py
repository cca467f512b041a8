"""Fast weight programmer: a matrix that a slow network writes and reads."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from ..ops import delta_memory, hadamard_memory
from .base import Memory, State

Rule = Literal["sum", "delta"]
_RULES = get_args(Rule)
_EPSILON = 1e-5


class FWP(Memory):
    """Fast weight programmer (Schlag et al. 2021, arXiv:2102.11174): what is written is added, or replaces what was there.

        sum:    M_t = M_{t-1} + v_t k_t^T
        delta:  M_t = M_{t-1} + b_t (v_t - M_{t-1} k_t) k_t^T           b_t = sigmoid(w x_t)
        y_t = W_o (M_t q_t + W_s x_t)                                   x after a layer norm
        k_t = f(W_k x_t), q_t = f(W_q x_t), v_t = W_v x_t               f(a) = relu(a) / sum relu(a)

    POPGym's version has the sum rule and passes M_t q_t through a perceptron of two layers with ReLUs, to whose output it adds
    a linear map of that output (and not of x).

    Args:
        input_size: features of x.
        output_size: features of the output.
        memory_size: H; M is (H, H).
        rule: "delta" (what the paper proposes) or "sum".
        backend: backend of `hadamem.ops.hadamard_memory`, which computes the sum rule; the delta rule has no choice of
            backends.

    State: "memory" (B, H, H).
    """

    paper: ClassVar[str] = "Schlag et al. 2021, arXiv:2102.11174"
    size_argument = "memory_size"

    def __init__(
        self, input_size: int, output_size: int, memory_size: int = 32, *, rule: Rule = "delta", backend: str = "auto"
    ) -> None:
        super().__init__(input_size, output_size)
        if rule not in _RULES:
            raise ValueError(f"rule is {rule!r}; it must be one of {', '.join(_RULES)}")
        if rule == "delta" and backend != "auto":
            raise ValueError(f"backend is {backend!r}; with rule=delta it must be auto, other backends are for rule=sum")
        if memory_size < 1:
            raise ValueError(f"memory_size is {memory_size}; it must be at least 1")
        H = self.memory_size = memory_size
        self.rule, self.backend = rule, backend
        self.norm = nn.LayerNorm(input_size)
        self.sizes = [H, H, H] + [1] * (rule == "delta")
        self.project = nn.Linear(input_size, sum(self.sizes), bias=False)
        self.shortcut = nn.Linear(input_size, H)
        self.output = nn.Linear(H, output_size)

    def initial_state(self, batch_size: int) -> State:
        """A state with an empty memory."""
        return {"memory": self._wide_zeros(batch_size, self.memory_size, self.memory_size)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        x = self.norm(x)
        v, k, q, *beta = self.project(x).split(self.sizes, dim=-1)
        k, q = _features(k), _features(q)
        if self.rule == "delta":
            h, memory = delta_memory(v, k, q, torch.sigmoid(beta[0][..., 0]), start=start, state=state["memory"])
        else:
            h, memory = hadamard_memory(v, k, q, calibration="ones", start=start, state=state["memory"], backend=self.backend)
        return self.output(h + self.shortcut(x)), {"memory": memory}


def _features(x: Tensor) -> Tensor:
    x = torch.relu(x)
    return x / (_EPSILON + x.sum(dim=-1, keepdim=True))
