"""What the learning algorithms have in common around a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import distributed


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Of all weights."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def gradient_step(loss: Tensor, optimiser: torch.optim.Optimizer, network: nn.Module, max_norm: float | None) -> Tensor | None:
    """One step of a network's optimiser, the gradient averaged over the processes and cut to a norm of `max_norm`.

    Returns:
        The norm before it was cut; None without a limit.
    """
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    distributed.average_gradients(network.parameters())
    norm = None if max_norm is None else nn.utils.clip_grad_norm_(network.parameters(), max_norm)
    optimiser.step()
    return norm


def mean_terms(all_terms: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """The mean of each term of the last gradient step over all steps that have it, and over the processes."""
    names = list(all_terms[-1])
    means = [torch.stack([terms[name] for terms in all_terms if name in terms]).mean() for name in names]
    return dict(zip(names, distributed.mean(torch.stack(means)).tolist(), strict=True))
