"""The interface of a policy network to all code outside its learning algorithm."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..memory import State
from .heads import Categorical, Gaussian, Product, SquashedGaussian
from .normalisation import ObservationNormaliser


class Policy(nn.Module, ABC):
    """A network from observations and a state to a distribution over actions.

    `forward` returns the parameters of the distribution first and the new state last.

    Attributes:
        head: the distribution.
        normaliser: the statistics with which `forward` normalises observations.
        described: `VectorEnvironment.described` of the environments that the policy was made for; empty if not set.
    """

    described: dict[str, str] = {}  # noqa: RUF012  replaced as a whole, never changed in place
    head: Categorical | Gaussian | Product | SquashedGaussian
    normaliser: ObservationNormaliser

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """The state before the first observation."""

    def distribution(self, obs: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """Like `forward`, but without outputs that only learning needs: the parameters and the state."""
        parameters, *_, state = self(obs, state, start)
        return parameters, state

    @torch.no_grad()
    def act(self, obs: Tensor, state: State, start: Tensor, greedy: bool) -> tuple[Tensor, State]:
        """One step: observations (B, D) and start (B,) to actions (B, K), the most likely (`greedy`) or random ones."""
        parameters, state = self.distribution(obs[:, None], state, start[:, None])
        choose = self.head.mode if greedy else self.head.sample
        return choose(parameters[:, 0]), state
