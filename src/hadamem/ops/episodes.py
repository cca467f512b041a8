"""Steps within episodes."""

from __future__ import annotations

import torch
from torch import Tensor


def episode_steps(start: Tensor, before: Tensor) -> Tensor:
    """For each step, how many earlier steps its episode has, (B, T) int64.

    Args:
        start: (B, T) bool, whether a step is the first of an episode.
        before: that number for the first step, used if this step is not a start: (B,) or (1,), int64.
    """
    if start.shape[1] == 1:
        return torch.where(start, 0, before[:, None])
    t = torch.arange(start.shape[1], device=start.device)
    return t - torch.where(start, t, -before[:, None]).cummax(dim=1).values
