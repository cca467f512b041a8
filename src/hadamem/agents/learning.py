"""Steps that the learning algorithms share: learning rate, gradient step, and means of the loss terms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .. import distributed
from ..networks import ActorCritic


def adam(policy: ActorCritic, rate: float, memory_rate: float, epsilon: float) -> torch.optim.Adam:
    """Adam for a policy with the learning rate `rate`, and `memory_rate` times that for the recurrent weights of its memory."""
    apart = set() if memory_rate == 1 else set(policy.memory.recurrent_weights())
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in policy.parameters() if (weight in apart) == recurrent], "relative": relative}
        for recurrent, relative in ((False, 1.0), (True, memory_rate))
    ]
    optimiser = torch.optim.Adam([group for group in groups if group["params"]], eps=epsilon, fused=True)
    set_learning_rate(optimiser, rate)
    return optimiser


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all weights; a group of `adam` has a rate relative to it."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("relative", 1.0)


@contextmanager
def fast_products() -> Iterator[None]:
    """Context of a gradient step, in which products of matrices use several threads where that is faster."""
    from ..ops import threads  # it opens libraries, which importing hadamem must not do

    with threads.products():
        yield


def gradient_step(loss: Tensor, optimiser: torch.optim.Optimizer, network: nn.Module, max_norm: float | None) -> Tensor | None:
    """One step of a network's optimiser, with the gradient averaged over the processes and clipped to the norm `max_norm`.

    Returns:
        The norm of the gradient before clipping; None if there is no limit.
    """
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    distributed.average_gradients(network.parameters())
    norm = None if max_norm is None else nn.utils.clip_grad_norm_(network.parameters(), max_norm)
    optimiser.step()
    return norm


def mean_terms(all_terms: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """The mean over gradient steps and processes of each term that the last step has; steps without the term are left out."""
    names = list(all_terms[-1])
    means = [torch.stack([terms[name] for terms in all_terms if name in terms]).mean() for name in names]
    return dict(zip(names, distributed.mean(torch.stack(means)).tolist(), strict=True))
