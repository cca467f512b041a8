"""A short causal convolution that does not reach across the beginning of an episode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops.convolution import causal_convolution


class CausalConvolution(nn.Module):
    """y_t = silu(bias + sum_i w_i * x_{t-i}), separately for each feature, over the last `width` steps of the episode.

    The sum is initialised as the identity plus small random weights. `backend` as in `ops.hadamard_memory`.
    """

    def __init__(self, features: int, width: int, backend: str = "auto") -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1")
        self.width, self.backend = width, backend
        weight = torch.empty(width, features).uniform_(-1 / width, 1 / width)
        weight[0] += 1
        self.weight = nn.Parameter(weight)  # for the current step, the step before, ...
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor, before: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """See `ops.convolution.causal_convolution`; the last inputs have the dtype of `before`."""
        y, after = causal_convolution(x, before, start, self.weight, self.bias, self.backend)
        return y, after.to(before.dtype)
