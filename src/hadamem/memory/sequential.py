"""What the recurrent networks share that are nonlinear in their state: a loop over time, with resets by selection.

A selection is one small operator a step, which a loop of small operators hardly feels. torch's fused cells cannot select:
for them a step that empties the state is inserted instead (`resets.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def scan(step: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, state: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """s_t = step(inputs_t, s_{t-1}), where start[t] with zero for s_{t-1}.

    Args:
        step: of (B, D) and (B, N) to (B, N).
        inputs: (B, T, D).
        state: before the first step, (B, N).
        start: (B, T) bool.

    Returns:
        all s (B, T, N), and the last.
    """
    states = []
    for into, reset in zip(inputs.unbind(1), start[..., None].unbind(1), strict=True):
        state = step(into, torch.where(reset, 0, state)).to(state.dtype)  # autocast narrows it
        states.append(state)
    return torch.stack(states, dim=1), state.clone()  # gradients need the state itself, which the caller may change in place
