"""Soft actor-critic (Haarnoja et al., 2018; for discrete actions Christodoulou, 2019) for policies with a memory.

Actor, critic and target critic each run a memory of their own over whole replayed episodes, once an update: the losses of
actor, critic and temperature are all taken at the same weights, and one step follows.

SHM calibrates with random rows of theta, drawn by a clock. Each episode is given a clock when it starts; the actor plays it
with that clock, the replay keeps it, and whoever meets the episode again begins with it. So online and target critic see the
same rows for the same data, today and at the next update.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Iterator
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
from ..networks import Categorical, RewardScale, SACNetworkConfig, SoftActor, TwinCritic
from .learning import mean_terms
from .not_finite import not_finite
from .replay import Batch, Replay
from .rollout import EpisodeStats, Player


@dataclass
class SACConfig:
    """Everything that SAC can be set."""

    num_envs: int = 10
    """number of environments that are stepped side by side"""
    num_steps: int = 50
    """steps taken in each environment between two rounds of updates"""
    updates_per_step: float = 0.1
    """gradient updates for each environment step, on average"""
    warmup_steps: int = 5_000
    """environment steps that are played with random actions before the first update"""
    batch_size: int = 32
    """episodes (or slices of them, see --sequence-length) in each update"""
    replay_capacity: int = 1_000_000
    """environment steps that the replay buffer holds"""
    sequence_length: int | None = None
    """learn from slices of episodes, this many steps long, for tasks whose episodes are very long; None: from whole episodes"""
    burn_in: int = 0
    """steps before each slice that only bring the memory up to date and are not learned from"""
    learning_rate: float = 3e-4
    """Adam's learning rate, for actor, critic and temperature"""
    gamma: float = 0.99
    """discount factor of future rewards, per step: 0 counts only the next reward, near 1 the distant ones too"""
    tau: float = 0.005
    """fraction of the way that the target critic moves towards the critic at each update"""
    temperature: float = 1.0
    """weight of the policy's entropy, in reward per nat; only its initial value if --tune-temperature is on"""
    tune_temperature: bool = True
    """whether the temperature is adjusted until the policy's entropy matches --target-entropy"""
    target_entropy: float | None = None
    """entropy, in nats, that --tune-temperature aims at; None: minus the number of continuous action dimensions, or half the
    entropy of uniformly random discrete actions"""
    max_grad_norm: float | None = None
    """largest norm of the actor's and of the critic's gradient; longer ones are scaled down to it; None: no limit"""
    normalise_rewards: bool = True
    """whether rewards are divided by the running deviation of their discounted sum, so that their scale does not matter"""
    terminal_at_goal: bool = False
    """treat a step whose info has `at_goal` as the end of the episode when learning values, even where the episode goes on (as
    in the code of the SHM paper)"""
    actor_memory: str | None = None
    """memory of the actor, by name, at its default size (gru in the code of the SHM paper); None: the same as the critic's"""
    network: SACNetworkConfig = field(default_factory=SACNetworkConfig)
    """the networks around the memories"""

    def __post_init__(self) -> None:
        check_fields(self, ("num_envs", "num_steps", "batch_size", "replay_capacity", "sequence_length"), at_least=1)
        check_fields(self, ("updates_per_step", "learning_rate", "temperature", "max_grad_norm"), above=0)
        check_fields(self, ("gamma", "tau"), at_least=0, at_most=1)
        check_fields(self, ("warmup_steps",), at_least=0)
        check_fields(self, ("target_entropy",))
        if not 0 <= self.burn_in <= (self.sequence_length or 0):
            raise ValueError(
                f"burn_in is {self.burn_in}; it must be between 0 and sequence_length, which is {self.sequence_length}: "
                "whole episodes need none"
            )


class SAC:
    """Actor, critics, their environments and replay. `iterate` is one round of acting and learning. Of processes that train
    together, each acts in its share of the environments, has a replay of its own, and learns from its share of every batch.

    Args:
        policy: the actor, on its device.
        critic: on the same device.
        env: the environments to act in, of this process.
        config: see SACConfig; environments, batches and replay are those of all processes together.
        folder: where the replay lies; None for in memory.
    """

    def __init__(
        self,
        policy: SoftActor,
        critic: TwinCritic,
        env: VectorEnvironment,
        config: SACConfig,
        folder: pathlib.Path | None = None,
    ) -> None:
        self.policy, self.critic, self.config, self.step = policy, critic, config, 0
        self.target = deepcopy(critic).requires_grad_(False)
        self.device = next(policy.parameters()).device
        self.log_temperature = torch.tensor(math.log(config.temperature), device=self.device, requires_grad=True)
        learned = [*policy.parameters(), *critic.parameters()] + [self.log_temperature] * config.tune_temperature
        self.optimiser = torch.optim.Adam(learned, lr=config.learning_rate, fused=True)
        head = policy.head
        self.discrete = isinstance(head, Categorical)
        self.actor = Player(policy, env)
        self.clock = torch.zeros(env.num_envs, dtype=torch.int64)
        self.batch_size = distributed.share(config.batch_size, "batch_size")
        number = f"-{distributed.rank()}" if distributed.rank() else ""
        self.replay = Replay(
            env, head.action_size, self.discrete, -(-config.replay_capacity // distributed.size()), config.sequence_length,
            config.burn_in, most_unsaved=4 * config.num_steps, path=None if folder is None else folder / f"replay{number}.bin",
        )  # fmt: skip
        self.reward_scale = RewardScale(env.num_envs, config.gamma, config.normalise_rewards).to(self.device)
        self.updates_due = 0.0
        self.episode_stats = EpisodeStats(config.num_envs)

    own: tuple[str, ...] = ("actor", "clock", "replay", "running")

    @property
    def must_save(self) -> bool:
        """Whether another iteration could overwrite what the last checkpoint needs."""
        return self.replay.unsaved + 2 * self.config.num_steps > self.replay.spare

    def iterate(self, on_step: Callable[[int], None] | None = None) -> dict[str, float]:
        """Act for some steps, learn as often as that allows, and return metrics; `on_step` is called with the environment steps
        so far."""
        config, seen, steps = self.config, list[Tensor](), list[Transition]()
        for _ in range(config.num_steps):
            seen.append(self.actor.obs)
            steps.append(self._act())
            if on_step is not None:
                on_step(self.step)
        self.policy.normaliser.update(torch.stack(seen))
        reward, end = torch.stack([step.reward for step in steps], 1), torch.stack([step.start for step in steps], 1)
        self.reward_scale.update(reward.to(self.device), end.to(self.device))
        metrics = self.episode_stats.update([episode for step in steps for episode in step.episodes])
        (nothing_learned,) = distributed.any_of([self.step <= config.warmup_steps or not self.replay.settle()])
        if nothing_learned:
            return metrics
        self.updates_due += config.updates_per_step * config.num_envs * config.num_steps
        updates, self.updates_due = int(self.updates_due), self.updates_due % 1
        all_terms = [self.update(self.replay.sample(self.batch_size)) for _ in range(updates)]
        if all_terms:
            metrics |= mean_terms(all_terms)
        return metrics

    def _act(self) -> Transition:
        """One step in every environment, into the replay."""
        actor, config = self.actor, self.config
        start = actor.start.cpu()
        self.clock = torch.where(start, torch.randint(2**62, start.shape), self.clock)
        began = self.policy.encoder.memory.begin_at(actor.state, self.clock.to(self.device))
        actor.state = {name: _where(actor.start, began[name], leaf) for name, leaf in actor.state.items()}
        obs, action = actor.obs, actor.act(greedy=False)
        if self.step < config.warmup_steps:
            action = actor.env.random_actions()
        action = action.cpu()
        step = actor.step(action)
        terminal = step.terminated | step.at_goal if config.terminal_at_goal else step.terminated
        self.replay.add(obs.cpu(), start, self.clock, action, step, terminal)
        self.step += config.num_envs
        return step

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of actor, critic and temperature, and one of the target towards the critic."""
        config = self.config
        batch = Batch(*(leaf.to(self.device) for leaf in batch))
        steps = distributed.mean(batch.mask.sum().double())
        losses, terms = self.losses(batch, steps)
        loss = torch.stack(losses).sum()
        if not loss.isfinite():
            networks = {"policy": self.policy, "critic": self.critic, "target": self.target}
            data = {"observations": batch.obs, "rewards": batch.reward}
            raise not_finite(self.step, terms, networks, data, partial(self.losses, batch, steps))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # no weight is in two of them
        distributed.average_gradients(weight for group in self.optimiser.param_groups for weight in group["params"])
        if config.max_grad_norm is not None:
            for network in (self.policy, self.critic):
                nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.target.parameters()), list(self.critic.parameters()), config.tau)
        return terms

    def losses(self, batch: Batch, steps: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The losses of critic, actor and temperature, each a mean over the steps to learn from, and what to tell. `steps`: how
        many there are to learn from in the batch of a process, on average over the processes."""
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
        """What the temperature aims at: by default half of what the legal actions allow, or minus the number of floats."""
        head = self.policy.head
        if self.config.target_entropy is not None:
            return self.config.target_entropy
        if not isinstance(head, Categorical):
            return -head.action_size
        if self.policy.legal.mask is None:
            return 0.5 * math.log(head.size)
        return (0.5 * self.policy.legal.legal(obs).sum(-1).log() * weight).sum()

    def _choice(self, parameters: Tensor) -> tuple[Tensor, ...]:
        """What the policy does: one drawn action and its log-density, or the log-probabilities of all discrete actions."""
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
        """All that `load_state_dict` needs to go on, but for the entries of the replay, which are in its file."""
        return {
            "step": self.step,
            "policy": self.policy.state_dict(),
            "critic": self.critic.state_dict(),
            "target": self.target.state_dict(),
            "log_temperature": self.log_temperature.detach(),
            "optimiser": self.optimiser.state_dict(),
            "reward_scale": self.reward_scale.state_dict(),
            "updates_due": self.updates_due,
            "returns": list(self.episode_stats.returns),
            "running": self.reward_scale.running,
            "clock": self.clock,
            "actor": self.actor.state_dict(),
            "replay": self.replay.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.step = saved["step"]
        self.updates_due = saved["updates_due"] if "updates_due" in saved else saved["owed"]  # its older name
        scale = dict(saved["reward_scale"])
        running = scale.pop("running", saved.get("running"))  # an older checkpoint has it there
        self.reward_scale.load_state_dict(scale)
        for name in ("policy", "critic", "target", "optimiser"):
            getattr(self, name).load_state_dict(saved[name])
        if "actor" in saved:
            self.clock, self.reward_scale.running = saved["clock"].cpu(), running
            self.actor.load_state_dict(saved["actor"])
            self.replay.load_state_dict(saved["replay"])
        with torch.no_grad():
            self.log_temperature.copy_(saved["log_temperature"])
        self.episode_stats.returns.extend(saved["returns"])


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for its weights, though through it."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _where(rows: Tensor, there: Tensor, elsewhere: Tensor) -> Tensor:
    """`there` in the rows (B,) that are true, `elsewhere` in the others."""
    return elsewhere if there is elsewhere else torch.where(rows.view(-1, *[1] * (there.dim() - 1)), there, elsewhere)
