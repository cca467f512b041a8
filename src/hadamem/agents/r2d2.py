"""R2D2, recurrent Q-learning (Kapturowski et al., 2019, "Recurrent experience replay in distributed reinforcement learning").

One network with a memory gives the values of all discrete actions; it learns from replayed episodes or slices of episodes. A
slice begins with the memory state that was stored when it was played, and its first `burn_in` steps bring that state up to date
with the current weights. Sequences with larger errors are replayed more often. Each environment explores with its own epsilon.

Unlike the paper, the target network moves a little at every update, and rewards are divided by the standard deviation of their
discounted sum instead of squashing the values.
"""

from __future__ import annotations

import pathlib
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import distributed
from ..checks import check_fields
from ..envs import VectorEnvironment
from ..memory import State
from ..networks import QNetwork, SACNetworkConfig
from .learning import fast_products, gradient_step
from .not_finite import not_finite
from .off_policy import OffPolicy, OffPolicyConfig
from .replay import Batch

_PRIORITY_EXPONENT, _WEIGHT_EXPONENT = 0.9, 0.6  # Section 2.3 of the paper
_OF_LARGEST = 0.9  # weight of a sequence's largest error in its priority; the rest is the weight of its mean error


@dataclass
class R2D2Config(OffPolicyConfig):
    """Options of R2D2."""

    n_step: int = 5
    """number of steps n of n-step returns: rewards that are summed before the value of the state after them is added"""
    epsilon: float = 0.4
    """probability of a random action in the environment that explores most; the others explore less, down to epsilon^8"""
    prioritised: bool = True
    """whether sequences with large errors are replayed more often, with a smaller weight in the loss to compensate"""
    network: SACNetworkConfig = field(default_factory=SACNetworkConfig)
    """the network around the memory"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, ("n_step",), at_least=1)
        check_fields(self, ("epsilon",), at_least=0, at_most=1)


class R2D2(OffPolicy):
    """A network of action values, its environments and replay; see `OffPolicy`.

        L = w huber(y_t - Q(o_t, a_t))
        y_t = r_t + gamma r_{t+1} + ... + gamma^n Q'(o_{t+n}, argmax_a Q(o_{t+n}, a))

    Q': the target network; w: (N p)^-0.6 for a sequence drawn with probability p out of N, divided by the largest such weight
    in the batch.

    Args:
        policy: the network, on its device.
        env, config, folder: see `OffPolicy`.
    """

    policy: QNetwork
    config: R2D2Config
    networks = ("policy", "target")

    def __init__(
        self, policy: QNetwork, env: VectorEnvironment, config: R2D2Config, folder: pathlib.Path | None = None
    ) -> None:
        super().__init__(policy, env, config, folder, store_states=True)
        self.target = deepcopy(policy).requires_grad_(False)
        self.optimiser = torch.optim.Adam(policy.parameters(), lr=config.learning_rate, fused=True)
        number = distributed.rank() * env.num_envs + torch.arange(env.num_envs)
        self.epsilon = (config.epsilon ** (1 + 7 * number / max(1, config.num_envs - 1)))[:, None]

    def _choose(self) -> Tensor:
        best = self.actor.act(greedy=True).cpu()
        anything = self.actor.env.random_actions().reshape(best.shape)
        return torch.where(torch.rand(self.epsilon.shape) < self.epsilon, anything, best)

    def _learn_once(self) -> dict[str, Tensor]:
        exponent = _PRIORITY_EXPONENT if self.config.prioritised else 0.0
        drawn, probability = self.replay.draw(self.batch_size, exponent)
        weight = probability.float() ** -_WEIGHT_EXPONENT
        sequences = self.replay.sequences[drawn]
        terms, errors = self.update(self.replay.gather(sequences), *self.replay.beginning(sequences), weight / weight.max())
        self.replay.priority[drawn] = errors.double().numpy()
        return terms

    def update(self, batch: Batch, state: State | None, first: Tensor, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Make one gradient step, and move the target network towards the learning network.

        Args:
            batch: B sequences.
            state: state of the policy before the first steps of the sequences; None: the initial state.
            first: (B,) bool, whether the first step of each sequence is the first of an episode.
            weight: (B,) weights of the sequences in the loss.

        Returns:
            The terms, and the priorities (B,) that the sequences should have.
        """
        batch = Batch(*(leaf.to(self.device) for leaf in batch))
        state = self.policy.initial_state(len(first)) if state is None else {k: v.to(self.device) for k, v in state.items()}
        state = self.policy.encoder.memory.begin_at(state, batch.clock)
        again = partial(self.loss, batch, state, first.to(self.device), weight.to(self.device))
        with fast_products():
            loss, terms, error = again()
            if not loss.isfinite():
                data = {"observations": batch.obs, "rewards": batch.reward}
                networks = {"policy": self.policy, "target": self.target}
                raise not_finite(self.step, terms, networks, data, again)
            gradient_step(loss, self.optimiser, self.policy, self.config.max_grad_norm)
        self._follow(self.target, self.policy)
        mean = error.sum(1) / batch.mask.sum(1).clamp(min=1)
        return terms, (_OF_LARGEST * error.amax(1) + (1 - _OF_LARGEST) * mean + 1e-6).cpu()

    def loss(self, batch: Batch, state: State, first: Tensor, weight: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The loss, a mean over the steps to learn from; its terms; and the errors (B, T), 0 where nothing is learned."""
        start = F.pad(first[:, None], (0, batch.reward.shape[1]))
        values, _ = self.policy(batch.obs, state, start)
        q = values[:, :-1].gather(-1, batch.action).squeeze(-1)
        with torch.no_grad():
            next_values, _ = self.target(batch.obs, state, start)
            best = values.argmax(-1, keepdim=True)
            target = self._targets(batch, next_values.gather(-1, best).squeeze(-1))
        error = torch.where(batch.mask, target - q, 0)
        steps = distributed.mean(batch.mask.sum().double()).to(q.dtype)
        loss = (F.huber_loss(error, torch.zeros_like(error), reduction="none") * weight[:, None]).sum() / steps
        terms = {"q_loss": loss, "q": torch.where(batch.mask, q, 0).sum() / steps}
        return loss, {name: term.detach() for name, term in terms.items()}, error.detach().abs()

    def _targets(self, batch: Batch, value: Tensor) -> Tensor:
        """Targets y (B, T) from the values (B, T + 1) of the best actions; near the end of a sequence they sum fewer rewards.

        y^1_t = r_t + gamma V_{t+1}        y^n_t = r_t + gamma y^{n-1}_{t+1}
        """
        reward = batch.reward / self.reward_scale.deviation
        gamma = torch.where(batch.terminal, 0, self.config.gamma)
        one = reward + gamma * value[:, 1:]
        ends = ~F.pad(batch.mask, (0, 1))[:, 1:]  # the last step of a sequence, or a burn-in step
        target = one
        for _ in range(self.config.n_step - 1):
            target = torch.where(ends, one, reward + gamma * F.pad(target, (0, 1))[:, 1:])
        return target
