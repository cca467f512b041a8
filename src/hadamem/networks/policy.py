"""What everyone outside a learning algorithm knows of its network."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..memory import State
from .heads import Categorical, Gaussian, Product, SquashedGaussian
from .normalisation import ObservationNormaliser


class Policy(nn.Module, ABC):
    """From observations and a state to a distribution over actions. `forward` gives its parameters first and the state last.

    Attributes:
        head: the distribution.
        normaliser: the statistics by which `forward` normalises observations.
        described: `VectorEnvironment.described` of where it was made for; empty if nobody said.
    """

    described: dict[str, str] = {}  # noqa: RUF012  replaced, never changed
    head: Categorical | Gaussian | Product | SquashedGaussian
    normaliser: ObservationNormaliser

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """Before the first observation."""

    def distribution(self, obs: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """As `forward`, without what only learning needs: the parameters and the state."""
        parameters, *_, state = self(obs, state, start)
        return parameters, state

    @torch.no_grad()
    def act(self, obs: Tensor, state: State, start: Tensor, greedy: bool) -> tuple[Tensor, State]:
        """One step: observations (B, D) and start (B,) to actions (B, K), the most likely ones or random ones."""
        parameters, state = self.distribution(obs[:, None], state, start[:, None])
        choose = self.head.mode if greedy else self.head.sample
        return choose(parameters[:, 0]), state
