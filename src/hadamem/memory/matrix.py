"""The base class of matrix memories that differ mainly in their calibration."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..ops import hadamard_memory
from .base import Memory, State


class MatrixMemory(Memory):
    """M_t = M_{t-1} * C_t + a_t k_t^T, read as M_t q_t, with a layer norm and a linear map before it and a linear map after it.

    Args:
        input_size: D, features of x.
        output_size: features of the output.
        memory_size: H, size of the vectors that are written and read.
        maps: number of features that `project` computes from x.
        extra_rows: number of rows of M beyond H.
        backend: backend of `hadamem.ops.hadamard_memory`.
    """

    size_argument = "memory_size"

    def __init__(
        self, input_size: int, output_size: int, memory_size: int, maps: int, extra_rows: int = 0, backend: str = "auto"
    ) -> None:
        super().__init__(input_size, output_size)
        if memory_size < 1:
            raise ValueError(f"memory_size is {memory_size}; it must be at least 1")
        self.memory_size, self.extra_rows, self.backend = memory_size, extra_rows, backend
        self.norm = nn.LayerNorm(input_size)
        self.project = nn.Linear(input_size, maps, bias=False)
        self.output = nn.Linear(memory_size, output_size)

    def initial_state(self, batch_size: int) -> State:
        """A state with an empty memory."""
        return {"memory": self._wide_zeros(batch_size, self.memory_size + self.extra_rows, self.memory_size)}

    def _recall(
        self, calibration: str, factors: Sequence[Tensor], a: Tensor, k: Tensor, q: Tensor, start: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Call `hadamard_memory` in the dtype of `a` (under autocast, sums and exponentials come as float32)."""
        k, q, *factors = (x.to(a.dtype) for x in (k, q, *factors))
        return hadamard_memory(
            a, k, q, calibration=calibration, factors=factors, start=start, state=memory, backend=self.backend
        )
