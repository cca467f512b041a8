"""The part that agents with a replay share: acting, storing the steps in the replay, and learning from it.

SHM calibrates with random rows of its table theta, chosen by a counter called the clock. Each episode starts with a random
clock; the policy plays the episode with that clock, the replay stores it, and every later pass over the episode starts with it.
So the learning network and the target network use the same rows for the same data, in every update.
"""

from __future__ import annotations

import pathlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import distributed
from ..checks import check_fields
from ..envs import VectorEnvironment
from ..envs.vector import Transition
from ..networks import Categorical, QNetwork, RewardScale, SoftActor
from .learning import mean_terms
from .replay import Replay
from .rollout import EpisodeStats, Player


@dataclass
class OffPolicyConfig:
    """Options of every agent that learns from a replay."""

    num_envs: int = 10
    """number of environments that are stepped in parallel"""
    num_steps: int = 50
    """steps taken in each environment between two rounds of updates"""
    updates_per_step: float = 0.1
    """gradient updates for each environment step, on average"""
    warmup_steps: int = 5_000
    """environment steps that are played with random actions before the first update"""
    batch_size: int = 32
    """episodes (or slices of episodes, see --sequence-length) in each update"""
    replay_capacity: int = 1_000_000
    """environment steps that the replay buffer holds"""
    sequence_length: int | None = None
    """number of steps of the slices of episodes to learn from, for tasks with very long episodes; None: whole episodes"""
    burn_in: int = 0
    """steps before each slice that only bring the memory up to date and are not learned from"""
    learning_rate: float = 3e-4
    """Adam's learning rate"""
    gamma: float = 0.99
    """discount factor of future rewards, per step: 0 counts only the next reward, near 1 the distant ones too"""
    tau: float = 0.005
    """fraction by which the target network moves towards the learning network at each update"""
    max_grad_norm: float | None = None
    """largest norm of a network's gradient; a gradient with a larger norm is scaled down to it; None: no limit"""
    normalise_rewards: bool = True
    """whether rewards are divided by the running standard deviation of their discounted sum, so that their scale does not
    matter"""

    def __post_init__(self) -> None:
        check_fields(self, ("num_envs", "num_steps", "batch_size", "replay_capacity", "sequence_length"), at_least=1)
        check_fields(self, ("updates_per_step", "learning_rate", "max_grad_norm"), above=0)
        check_fields(self, ("gamma", "tau"), at_least=0, at_most=1)
        check_fields(self, ("warmup_steps",), at_least=0)
        if not 0 <= self.burn_in <= (self.sequence_length or 0):
            raise ValueError(
                f"burn_in is {self.burn_in}; it must be between 0 and sequence_length, which is {self.sequence_length}: "
                "whole episodes need none"
            )


class OffPolicy(ABC):
    """A policy, its environments and its replay. `iterate` is one round of acting and learning. If several processes train
    together, each acts in its share of the environments, has its own replay, and learns from its share of every batch.

    Args:
        policy: the policy that acts, on its device.
        env: the environments of this process.
        config: options; numbers of environments, batch size and replay capacity are totals over all processes.
        folder: folder of the replay's file; None: the replay is kept in memory.
        store_states: store the policy's state at the beginning of each slice of an episode, so that learning can start with it.
    """

    own: tuple[str, ...] = ("actor", "clock", "replay", "running")
    #: Names of the networks that a checkpoint holds.
    networks: ClassVar[tuple[str, ...]]
    optimiser: torch.optim.Optimizer
    config: OffPolicyConfig

    def __init__(
        self,
        policy: SoftActor | QNetwork,
        env: VectorEnvironment,
        config: OffPolicyConfig,
        folder: pathlib.Path | None = None,
        store_states: bool = False,
    ) -> None:
        self.policy, self.step, self.updates_due = policy, 0, 0.0
        self.config = config
        self.device = next(policy.parameters()).device
        self.actor = Player(policy, env)
        self.clock = torch.zeros(env.num_envs, dtype=torch.int64)
        self.batch_size = distributed.share(config.batch_size, "batch_size")
        number = f"-{distributed.rank()}" if distributed.rank() else ""
        self.replay = Replay(
            env,
            policy.head.action_size,
            isinstance(policy.head, Categorical),
            -(-config.replay_capacity // distributed.size()),
            config.sequence_length,
            config.burn_in,
            most_unsaved=4 * config.num_steps,
            path=None if folder is None else folder / f"replay{number}.bin",
            state=(self.actor.state or None) if store_states and config.sequence_length is not None else None,
        )
        self.reward_scale = RewardScale(env.num_envs, config.gamma, config.normalise_rewards).to(self.device)
        self.episode_stats = EpisodeStats(config.num_envs)

    @property
    def must_save(self) -> bool:
        """Whether another iteration could overwrite replay entries that the last checkpoint refers to."""
        return self.replay.unsaved + 2 * self.config.num_steps > self.replay.spare

    def iterate(self, on_step: Callable[[int], None] | None = None) -> dict[str, float]:
        """Act for `num_steps` steps in each environment, make the updates due for them, and return metrics. `on_step` is called
        with the environment steps so far."""
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
        all_terms = [self._learn_once() for _ in range(updates)]
        if all_terms:
            metrics |= mean_terms(all_terms)
        return metrics

    def _act(self) -> Transition:
        """Take one step in every environment and store it in the replay."""
        actor, config = self.actor, self.config
        start = actor.start.cpu()
        self.clock = torch.where(start, torch.randint(2**62, start.shape), self.clock)
        began = self.policy.encoder.memory.begin_at(actor.state, self.clock.to(self.device))
        actor.state = {name: _where(actor.start, began[name], leaf) for name, leaf in actor.state.items()}
        obs, state, action = actor.obs, actor.state, self._choose()
        if self.step < config.warmup_steps:
            action = actor.env.random_actions()
        action = action.cpu()
        step = actor.step(action)
        self.replay.add(obs.cpu(), start, self.clock, action, step, self._terminal(step), state)
        self.step += config.num_envs
        return step

    @abstractmethod
    def _choose(self) -> Tensor:
        """The actions (B, K) of the next step, including exploration."""

    def _terminal(self, step: Transition) -> Tensor:
        """(B,) bool, true for steps after which the value is 0."""
        return step.terminated

    @abstractmethod
    def _learn_once(self) -> dict[str, Tensor]:
        """Make one update from a batch of the replay, and return the terms of its loss."""

    def _follow(self, target: nn.Module, network: nn.Module) -> None:
        """Move the weights of a target network towards those of the learning network, by the fraction `tau`."""
        with torch.no_grad():
            torch._foreach_lerp_(list(target.parameters()), list(network.parameters()), self.config.tau)

    def state_dict(self) -> dict[str, Any]:
        """The state that `load_state_dict` continues from, without the replay's entries, which are in the replay's file."""
        return {
            "step": self.step,
            **{name: getattr(self, name).state_dict() for name in (*self.networks, "optimiser", "reward_scale")},
            "updates_due": self.updates_due,
            "returns": list(self.episode_stats.returns),
            "running": self.reward_scale.running,
            "clock": self.clock,
            "actor": self.actor.state_dict(),
            "replay": self.replay.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self.step = saved["step"]
        self.updates_due = saved["updates_due"] if "updates_due" in saved else saved["owed"]  # name in older checkpoints
        scale = dict(saved["reward_scale"])
        running = scale.pop("running", saved.get("running"))  # older checkpoints have it in "reward_scale"
        self.reward_scale.load_state_dict(scale)
        for name in (*self.networks, "optimiser"):
            getattr(self, name).load_state_dict(saved[name])
        if "actor" in saved:
            self.clock, self.reward_scale.running = saved["clock"].cpu(), running
            self.actor.load_state_dict(saved["actor"])
            self.replay.load_state_dict(saved["replay"])
        self.episode_stats.returns.extend(saved["returns"])


def _where(rows: Tensor, there: Tensor, elsewhere: Tensor) -> Tensor:
    """`there` where `rows` (B,) is true, `elsewhere` in the other rows."""
    return elsewhere if there is elsewhere else torch.where(rows.view(-1, *[1] * (there.dim() - 1)), there, elsewhere)
