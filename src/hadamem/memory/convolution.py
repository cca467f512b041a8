"""A short causal convolution that does not reach across the beginning of an episode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .window import episode_steps


class CausalConvolution(nn.Module):
    """y_t = bias + sum_i w_i * x_{t-i}, separately for each feature, over the last `width` steps of the episode.

    It is initialised as the identity plus small random weights.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1")
        self.width = width
        weight = torch.empty(width, features).uniform_(-1 / width, 1 / width)
        weight[0] += 1
        self.weight = nn.Parameter(weight)  # for the current step, the step before, ...
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor, before: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """The result, (B, T, features), and the last inputs, for the next call.

        Args:
            x: (B, T, features).
            before: the last width - 1 inputs, (B, width - 1, features), zeros for steps before the episode.
            start: (B, T) bool, the first steps of episodes.
        """
        T, lags = x.shape[1], torch.arange(self.width, device=x.device)
        age = episode_steps(start, lags[-1:])  # inputs in the state belong to this episode, or are zero
        x = torch.cat([before, x], dim=1)
        y: Tensor = self.bias
        for lag in range(self.width):
            past = x[:, self.width - 1 - lag : self.width - 1 - lag + T]
            y = y + self.weight[lag] * torch.where((lag <= age)[..., None], past, 0)
        keep = lags[: self.width - 1].flip(0) <= age[:, -1:]
        return y, torch.where(keep[..., None], x[:, T:], 0)
