"""Linear attention: attention with a product of features instead of the softmax, and so a sum that never forgets."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from .base import State
from .matrix import MatrixMemory

_EPSILON = 1e-5


class LinearAttention(MatrixMemory):
    """Linear transformer (Katharopoulos et al. 2020, arXiv:2006.16236): a sum of keys and values, divided by that of keys.

        M_t = M_{t-1} + v_t f(k_t)^T,  z_t = z_{t-1} + f(k_t)       f(a) = elu(a) + 1
        y_t = W_o (M_t f(q_t) / (z_t f(q_t)))                       k_t, q_t, v_t = W_k x_t, W_q x_t, W_v x_t, x normed

    In place of W_o, POPGym's version has a perceptron of two layers with ReLUs, to whose output it adds a linear map of that
    output.

    Args:
        input_size: features of x.
        output_size: features of the output.
        memory_size: H; M is (H, H).
        backend: backend of `hadamem.ops.hadamard_memory`.

    State: "memory" (B, H + 1, H), M and below it z.
    """

    paper: ClassVar[str] = "Katharopoulos et al. 2020, arXiv:2006.16236"

    def __init__(self, input_size: int, output_size: int, memory_size: int = 32, *, backend: str = "auto") -> None:
        super().__init__(input_size, output_size, memory_size, 3 * memory_size, extra_rows=1, backend=backend)

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        v, k, q = self.project(self.norm(x)).chunk(3, dim=-1)
        h, memory = self._recall("ones", (), F.pad(v, (0, 1), value=1), F.elu(k) + 1, F.elu(q) + 1, start, state["memory"])
        return self.output(h[..., :-1] / (h[..., -1:] + _EPSILON)), {"memory": memory}
