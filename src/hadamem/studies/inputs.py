"""Inputs of memories in a study: noise of several kinds, and recorded observations of tasks. All are (B, T, D) float32."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..envs import make_vector
from ..ops import linear_recurrence

#: The tasks whose observations are recorded: a sequence of cards, a position in the wind, and pictures.
TASKS = ("popgym-AutoencodeEasy-v0", "hadamem/Wind-v0", "hadamem/VisualMatch-v0")
_KEPT = 0.99  # coefficient of AR(1)


def autocorrelated(B: int, T: int, D: int) -> Tensor:
    """AR(1) of variance 1: x_t = 0.99 x_{t-1} + noise, started from its stationary distribution."""
    noise = torch.randn(B, T, D) * math.sqrt(1 - _KEPT**2)
    decay, start = torch.full((D,), _KEPT), torch.zeros(B, T, dtype=torch.bool)
    y, _ = linear_recurrence(decay, noise, start=start, state=torch.randn(B, D))
    return y


#: Kinds of noise: independent features of mean 0, and of variance 1 if it is finite; Bernoulli's are 0 or 1, like symbols.
NOISE: dict[str, Callable[[int, int, int], Tensor]] = {
    "Gaussian": lambda *shape: torch.randn(shape),
    "uniform": lambda *shape: (2 * torch.rand(shape) - 1) * math.sqrt(3),
    "Bernoulli 1/2": lambda *shape: torch.bernoulli(torch.full(shape, 0.5)),
    "Student t, 2 degrees": lambda *shape: torch.distributions.StudentT(torch.tensor(2.0)).sample(shape),
    "AR(1) 0.99": autocorrelated,
}


@functools.cache
@torch.no_grad()
def recorded(task: str, B: int, T: int, D: int, seed: int) -> Tensor:
    """Observations of a random policy in B environments, one episode after the other, mapped to D features by a linear layer
    with PyTorch's default initialisation."""
    env = make_vector(task, B, seed, inputs=("obs",))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = torch.nn.Linear(env.layout.size, D)
    x = torch.empty(B, T, D)
    observation = env.reset()
    for t in range(T):
        x[:, t] = encoder(observation)
        observation = env.step(env.random_actions()).obs
    env.close()
    return x
