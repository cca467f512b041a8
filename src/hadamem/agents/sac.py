"""Soft actor-critic (Haarnoja et al., 2018; for discrete actions Christodoulou, 2019) for policies with a memory.

Actor, critic and target critic each run their own memory over the replayed sequences once per update. The losses of actor,
critic and temperature are computed with the same weights, before a single optimiser step.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import distributed
from ..checks import check_fields
from ..envs import VectorEnvironment
from ..envs.vector import Transition
from ..networks import Categorical, SACNetworkConfig, SoftActor, TwinCritic
from .learning import fast_products
from .not_finite import not_finite
from .off_policy import OffPolicy, OffPolicyConfig
from .replay import Batch


@dataclass
class SACConfig(OffPolicyConfig):
    """Options of SAC."""

    temperature: float = 1.0
    """weight of the policy's entropy, in reward per nat; only its initial value if --tune-temperature is on"""
    tune_temperature: bool = True
    """whether the temperature is adjusted until the policy's entropy matches --target-entropy"""
    target_entropy: float | None = None
    """entropy, in nats, that --tune-temperature aims at; None: minus the number of continuous action dimensions, or half the
    entropy of uniformly random discrete actions"""
    terminal_at_goal: bool = False
    """treat a step whose info has `at_goal` as the end of the episode when learning values, even if the episode continues (as
    in the code of the SHM paper)"""
    actor_memory: str | None = None
    """memory of the actor, by name, at its default size (gru in the code of the SHM paper); None: the same as the critic's"""
    network: SACNetworkConfig = field(default_factory=SACNetworkConfig)
    """the networks around the memories"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, ("temperature",), above=0)
        check_fields(self, ("target_entropy",))


class SAC(OffPolicy):
    """Actor, critics, their environments and replay; see `OffPolicy`.

    Args:
        policy: the actor, on its device.
        critic: the pair of critics, on the same device.
        env, config, folder: see `OffPolicy`.
    """

    policy: SoftActor
    config: SACConfig
    networks = ("policy", "critic", "target")

    def __init__(
        self,
        policy: SoftActor,
        critic: TwinCritic,
        env: VectorEnvironment,
        config: SACConfig,
        folder: pathlib.Path | None = None,
    ) -> None:
        super().__init__(policy, env, config, folder)
        self.critic = critic
        self.target = deepcopy(critic).requires_grad_(False)
        self.log_temperature = torch.tensor(math.log(config.temperature), device=self.device, requires_grad=True)
        learned = [*policy.parameters(), *critic.parameters()] + [self.log_temperature] * config.tune_temperature
        self.optimiser = torch.optim.Adam(learned, lr=config.learning_rate, fused=True)
        self.discrete = isinstance(policy.head, Categorical)

    def _choose(self) -> Tensor:
        return self.actor.act(greedy=False)

    def _terminal(self, step: Transition) -> Tensor:
        return step.terminated | step.at_goal if self.config.terminal_at_goal else step.terminated

    def _learn_once(self) -> dict[str, Tensor]:
        return self.update(self.replay.sample(self.batch_size))

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Make one gradient step of actor, critic and temperature, and move the target critic towards the critic."""
        config = self.config
        batch = Batch(*(leaf.to(self.device) for leaf in batch))
        steps = distributed.mean(batch.mask.sum().double())
        with fast_products():
            losses, terms = self.losses(batch, steps)
            loss = torch.stack(losses).sum()
            if not loss.isfinite():
                networks = {"policy": self.policy, "critic": self.critic, "target": self.target}
                data = {"observations": batch.obs, "rewards": batch.reward}
                raise not_finite(self.step, terms, networks, data, partial(self.losses, batch, steps))
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # the gradient of the sum is that of each loss, since each weight is in one loss only
        distributed.average_gradients(weight for group in self.optimiser.param_groups for weight in group["params"])
        if config.max_grad_norm is not None:
            for network in (self.policy, self.critic):
                nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
        self.optimiser.step()
        self._follow(self.target, self.critic)
        return terms

    def losses(self, batch: Batch, steps: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The losses of critic, actor and temperature, each a mean over the steps to learn from, and the terms to report.
        `steps`: number of steps to learn from in a process's batch, averaged over the processes."""
        config, obs = self.config, self.policy.normaliser(batch.obs)
        here = obs[:, :-1]
        weight = batch.mask.to(obs.dtype) / steps.to(obs.dtype)
        temperature = self.log_temperature.exp().detach()
        nothing_before = torch.zeros(obs.shape[:2], dtype=torch.bool, device=obs.device)
        parameters, _ = self.policy(batch.obs, self.policy.initial_state(len(obs), batch.clock), nothing_before)
        choice = self._choice(parameters)

        with torch.no_grad():
            features = self.target.features(obs, batch.clock)
            value, _ = self._soft_value(self.target, features, obs, choice, temperature)
            target = batch.reward / self.reward_scale.deviation + config.gamma * torch.where(batch.terminal, 0, value[:, 1:])
        features = self.critic.features(here, batch.clock)
        if isinstance(self.policy.head, Categorical):
            every = self.critic.values(features, here)
            q = every.gather(-1, batch.action.expand(2, *batch.action.shape)).squeeze(-1)
        else:
            q = self.critic.values(features, here, self.policy.head.normalise(batch.action))
        critic_loss = ((q - target).square().sum(0) * weight).sum()

        with _frozen(self.critic):
            choice_here = (part[:, :-1] for part in choice)
            value, entropy = self._soft_value(self.critic, features.detach(), here, tuple(choice_here), temperature)
        actor_loss = -(value * weight).sum()
        entropy = (entropy.detach() * weight).sum()
        losses = [critic_loss, actor_loss]
        if config.tune_temperature:
            losses.append(self.log_temperature.exp() * (entropy - self._target_entropy(here, weight)))
        terms = {"critic_loss": critic_loss, "actor_loss": actor_loss, "entropy": entropy, "temperature": temperature}
        terms["q"] = (q.mean(0) * weight).sum()
        return losses, {name: term.detach() for name, term in terms.items()}

    def _target_entropy(self, obs: Tensor, weight: Tensor) -> Tensor | float:
        """The entropy that the temperature is tuned towards. Default: for discrete actions half the entropy of uniformly random
        legal actions, for continuous ones minus their number of dimensions."""
        head = self.policy.head
        if self.config.target_entropy is not None:
            return self.config.target_entropy
        if not isinstance(head, Categorical):
            return -head.action_size
        if self.policy.legal.mask is None:
            return 0.5 * math.log(head.size)
        return (0.5 * self.policy.legal.legal(obs).sum(-1).log() * weight).sum()

    def _choice(self, parameters: Tensor) -> tuple[Tensor, ...]:
        """The policy's choice: a random action and its log-density, or the log-probabilities of all discrete actions."""
        head = self.policy.head
        return (torch.log_softmax(parameters, dim=-1),) if isinstance(head, Categorical) else head.draw(parameters)

    def _soft_value(
        self, critic: TwinCritic, features: Tensor, obs: Tensor, choice: tuple[Tensor, ...], temperature: Tensor
    ) -> tuple[Tensor, Tensor]:
        """V = E[min(Q_1, Q_2) - temperature log pi] under the policy's choice, and the entropy -E[log pi]; both (B, T)."""
        if self.discrete:
            (log_pi,) = choice
            pi = log_pi.exp()
            entropy = -(pi * log_pi).sum(-1)
            q = (pi * critic.values(features, obs).amin(0)).sum(-1)
        else:
            action, log_prob = choice
            entropy = -log_prob
            q = critic.values(features, obs, action).amin(0)
        return q + temperature * entropy, entropy

    def state_dict(self) -> dict[str, Any]:
        """See `OffPolicy`."""
        return super().state_dict() | {"log_temperature": self.log_temperature.detach()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """See `OffPolicy`."""
        super().load_state_dict(saved)
        with torch.no_grad():
            self.log_temperature.copy_(saved["log_temperature"])


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Within this context, the network's weights get no gradients, but gradients flow through the network to its inputs."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
