"""The states of torch's global random generators, as tensors that a checkpoint can hold."""

from __future__ import annotations

import torch
from torch import Tensor


def random_state() -> list[Tensor]:
    """The states of torch's CPU generator, then of each GPU's generator."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


def set_random_state(states: list[Tensor]) -> None:
    """Set the states that `random_state` returned; those of GPUs only if there are as many as there were."""
    torch.set_rng_state(states[0].cpu())
    if len(states) == 1 + torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states[1:]])
