"""What agents that learn from a replay have in common: acting into it, and learning as often as that allows.

SHM calibrates with random rows of theta, drawn by a clock. Each episode is given a clock when it starts; the policy plays it
with that clock, the replay keeps it, and whoever meets the episode again begins with it. So learning and target network see the
same rows for the same data, today and at the next update.
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
    """What every agent that learns from a replay can be set."""

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
    """Adam's learning rate"""
    gamma: float = 0.99
    """discount factor of future rewards, per step: 0 counts only the next reward, near 1 the distant ones too"""
    tau: float = 0.005
    """fraction of the way that the target network moves towards the learning one at each update"""
    max_grad_norm: float | None = None
    """largest norm of a network's gradient; longer ones are scaled down to it; None: no limit"""
    normalise_rewards: bool = True
    """whether rewards are divided by the running deviation of their discounted sum, so that their scale does not matter"""

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
    """A policy, its environments and its replay. `iterate` is one round of acting and learning. Of processes that train
    together, each acts in its share of the environments, has a replay of its own, and learns from its share of every batch.

    Args:
        policy: who acts, on its device.
        env: the environments to act in, of this process.
        config: environments, batches and replay are those of all processes together.
        folder: where the replay lies; None for in memory.
        store_states: keep the policy's state where a slice of an episode begins, so that it can be learned from with it.
    """

    own: tuple[str, ...] = ("actor", "clock", "replay", "running")
    #: Networks that a checkpoint holds, beside the optimiser.
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
        all_terms = [self._learn_once() for _ in range(updates)]
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
        """The actions (B, K) of the next step, which explore."""

    def _terminal(self, step: Transition) -> Tensor:
        """(B,) bool, after which of these steps no value comes."""
        return step.terminated

    @abstractmethod
    def _learn_once(self) -> dict[str, Tensor]:
        """One update from the replay; its terms."""

    def _follow(self, target: nn.Module, network: nn.Module) -> None:
        """Let a target network take a step towards the one that learns."""
        with torch.no_grad():
            torch._foreach_lerp_(list(target.parameters()), list(network.parameters()), self.config.tau)

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on, but for the entries of the replay, which are in its file."""
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
        """Go on from `state_dict`."""
        self.step = saved["step"]
        self.updates_due = saved["updates_due"] if "updates_due" in saved else saved["owed"]  # its older name
        scale = dict(saved["reward_scale"])
        running = scale.pop("running", saved.get("running"))  # an older checkpoint has it there
        self.reward_scale.load_state_dict(scale)
        for name in (*self.networks, "optimiser"):
            getattr(self, name).load_state_dict(saved[name])
        if "actor" in saved:
            self.clock, self.reward_scale.running = saved["clock"].cpu(), running
            self.actor.load_state_dict(saved["actor"])
            self.replay.load_state_dict(saved["replay"])
        self.episode_stats.returns.extend(saved["returns"])


def _where(rows: Tensor, there: Tensor, elsewhere: Tensor) -> Tensor:
    """`there` in the rows (B,) that are true, `elsewhere` in the others."""
    return elsewhere if there is elsewhere else torch.where(rows.view(-1, *[1] * (there.dim() - 1)), there, elsewhere)
