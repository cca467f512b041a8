"""The loop over time of recurrent networks that are nonlinear in their state, with resets by selection.

A selection is one more small operator in each step, which hardly slows down a loop of small operators. torch's fused cells
cannot select; for them, a step that empties the state is inserted instead (`resets.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def scan(step: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, state: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """s_t = step(inputs_t, s_{t-1}), with zero in place of s_{t-1} where start[t].

    Args:
        step: function of (B, D) and (B, N) that returns (B, N).
        inputs: (B, T, D).
        state: s before the first step, (B, N).
        start: (B, T) bool.

    Returns:
        all s (B, T, N), and the last s (B, N).
    """
    states = []
    for into, reset in zip(inputs.unbind(1), start[..., None].unbind(1), strict=True):
        state = step(into, torch.where(reset, 0, state)).to(state.dtype)  # autocast may have returned a narrower dtype
        states.append(state)
    return torch.stack(states, dim=1), state.clone()  # a copy that may be changed in place: gradients need the original
