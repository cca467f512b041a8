"""Acting in a vector of environments, and the rollouts and episode statistics that result."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..distributed import gathered
from ..envs import VectorEnvironment
from ..envs.vector import Episode, Transition
from ..memory import State
from ..networks import ActorCritic, Policy
from .packing import PackedRows, rows_for


@dataclass
class Rollout:
    """T steps of B environments. A minibatch consists of whole rows, never of single steps."""

    obs: Tensor | PackedRows  # (B, T, D)
    start: Tensor  # (B, T) bool, obs[b, t] is the first of an episode
    action: Tensor  # (B, T, K)
    log_prob: Tensor  # (B, T), of the action when it was taken
    value: Tensor  # (B, T)
    reward: Tensor  # (B, T), with gamma V(final observation) added where an episode was truncated
    end: Tensor  # (B, T) bool, the episode ended with this step
    state: State  # before the first step
    last_value: Tensor  # (B,), of the observation after the last step

    @classmethod
    def empty(cls, policy: ActorCritic, env: VectorEnvironment, num_steps: int, device: torch.device) -> Rollout:
        """Buffers for one rollout of all groups of `env`, which are reused for every rollout."""
        B, T = sum(group.num_envs for group in env.groups), num_steps
        head = policy.head

        def new(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        flags = {"dtype": torch.bool}
        return cls(
            rows_for((B, T), env.layout, device), new(B, T, **flags), new(B, T, head.action_size, dtype=head.action_dtype),
            new(B, T), new(B, T), new(B, T), new(B, T, **flags), {}, new(B),
        )  # fmt: skip

    def part(self, rows: slice) -> Rollout:
        """Some of the B rows, in the same memory, without a state."""
        obs = self.obs.part(rows) if isinstance(self.obs, PackedRows) else self.obs[rows]
        others = {name: value[rows] for name, value in vars(self).items() if name not in ("obs", "state")}
        return Rollout(obs, state={}, **others)


@dataclass
class EpisodeStats:
    """Statistics of the latest episodes."""

    num_envs: int
    returns: deque[float] = field(default_factory=lambda: deque(maxlen=100))

    def update(self, episodes: list[Episode]) -> dict[str, float]:
        """Add the episodes that ended in this process in an iteration. Returns the mean return of the latest 100 episodes, and
        the mean length and success rate of the new episodes, of all processes."""
        episodes = [episode for part in gathered(episodes) for episode in part]
        self.returns.extend(episode.return_ for episode in episodes)
        # the first episodes that end are short ones, whose returns may be unusually good or bad
        enough = len(self.returns) >= min(self.num_envs, 100)
        return {
            "return": _mean(list(self.returns)) if enough else float("nan"),
            "episode_length": _mean([episode.length for episode in episodes]),
            "success": _mean([float(episode.success) for episode in episodes if episode.success is not None]),
        }


def _mean(values: list[Any]) -> float:
    return sum(values) / len(values) if values else float("nan")


class Player:
    """A policy in a vector of environments, with the observations, starts and states before its next step.

    Args:
        policy: the policy that plays; None: random actions.
        env: the environments, in which new episodes begin.
        tasks: see `VectorEnvironment.reset`.
    """

    def __init__(self, policy: Policy | None, env: VectorEnvironment, tasks: Sequence[int] | None = None) -> None:
        self.policy, self.env = policy, env
        self.device = torch.device("cpu") if policy is None else next(policy.parameters()).device
        self.obs = env.reset(tasks).to(self.device)
        self.start = torch.ones(env.num_envs, dtype=torch.bool, device=self.device)
        self.state: State = {} if policy is None else policy.initial_state(env.num_envs)

    def act(self, greedy: bool) -> Tensor:
        """Actions (B, K) of the policy, the most likely or random ones; `state` becomes the state before the next step."""
        if self.policy is None:
            return self.env.random_actions()
        action, self.state = self.policy.act(self.obs, self.state, self.start, greedy)
        return action

    def step(self, action: Tensor) -> Transition:
        """Take a step with actions (B, K); `obs` and `start` become those of the next step."""
        self.env.send(action)
        return self.receive()

    def receive(self) -> Transition:
        """End a step that was begun with `env.send`; see `step`."""
        step = self.env.receive()
        self.obs, self.start = step.obs.to(self.device), step.start.to(self.device)
        return step

    def state_dict(self) -> dict[str, Any]:
        """The state to continue from: exactly if the environments can be saved, otherwise with new episodes."""
        return {"obs": self.obs, "start": self.start, "state": self.state, "env": self.env.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self.state = saved["state"]
        if saved["env"] is not None:
            self.obs, self.start = self.env.load_state_dict(saved["env"]).to(self.device), saved["start"]
        # else: the environments began new episodes, and `start` says so


class Actor(Player):
    """A `Player` that fills rollouts.

    Args:
        policy: the policy that plays.
        env: the environments, in which new episodes begin.
        noise_correlation: correlation of the noise of continuous actions from one step to the next.
    """

    policy: ActorCritic

    def __init__(self, policy: ActorCritic, env: VectorEnvironment, noise_correlation: float = 0.0) -> None:
        super().__init__(policy, env)
        self.noise_correlation = noise_correlation
        self.noise = torch.zeros(env.num_envs, policy.head.action_size, device=self.device)

    def play_at_random(self, num_steps: int, on_step: Callable[[int], None] | None = None) -> Tensor:
        """Observations (num_steps, B, D) of random play; new episodes begin after it. `on_step`: see `collect`."""
        return play_at_random([self], num_steps, on_step)

    def collect(self, rollout: Rollout, gamma: float, on_step: Callable[[int], None] | None = None) -> list[Episode]:
        """Fill `rollout` and return the episodes that ended. `on_step` is called after each step with the number of environment
        steps of this rollout so far."""
        episodes: list[Episode] = []
        for steps in self.play(rollout, gamma, episodes):
            if on_step is not None and steps:
                on_step(steps)
        return episodes

    @torch.no_grad()
    def play(self, rollout: Rollout, gamma: float, episodes: list[Episode]) -> Iterator[int]:
        """Fill `rollout`, and add the episodes that end to `episodes`. Whenever the environments step, it yields the number of
        environment steps of this rollout so far, and then waits for the environments only when it is asked to go on."""
        policy, head, B = self.policy, self.policy.head, self.env.num_envs
        rollout.state = self.state
        for t in range(rollout.obs.shape[1]):
            parameters, value, self.state = policy(self.obs[:, None], self.state, self.start[:, None])
            parameters = parameters[:, 0]
            action = self._sample(parameters)
            rollout.obs[:, t], rollout.start[:, t] = self.obs, self.start
            rollout.action[:, t], rollout.value[:, t] = action, value[:, 0]
            rollout.log_prob[:, t] = head.log_prob(parameters, action)
            self.env.send(action)
            yield t * B
            step = self.receive()
            rollout.reward[:, t], rollout.end[:, t] = step.reward.to(self.device), self.start
            if step.final_obs is not None:  # with the memory as it was before the reset
                going_on = torch.zeros_like(self.start)[:, None]
                final_value = policy(step.final_obs.to(self.device)[:, None], self.state, going_on)[1][:, 0]
                rollout.reward[:, t] += gamma * torch.where(step.truncated.to(self.device), final_value, 0)
            episodes += step.episodes
        rollout.last_value[:] = policy(self.obs[:, None], self.state, self.start[:, None])[1][:, 0]
        yield rollout.obs.shape[1] * B

    def _sample(self, parameters: Tensor) -> Tensor:
        """Random actions. The noise of continuous actions is correlated over the steps of an episode, and standard normal at
        each step. Independent noise would average out within a few steps, and barely move a heavy body."""
        if not self.policy.head.continuous:
            return self.policy.head.sample(parameters)
        fresh, correlation = torch.randn_like(self.noise), self.noise_correlation
        drifting = correlation * self.noise + math.sqrt(1 - correlation**2) * fresh
        self.noise = torch.where(self.start[:, None], fresh, drifting)
        return self.policy.head.sample(parameters, self.noise)

    def state_dict(self) -> dict[str, Any]:
        """See Player."""
        return super().state_dict() | {"noise": self.noise}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """See Player."""
        super().load_state_dict(saved)
        self.noise = saved["noise"]


def play_at_random(actors: Sequence[Player], num_steps: int, on_step: Callable[[int], None] | None) -> Tensor:
    """Observations (num_steps, B, D) of random play in the environments of all actors; new episodes begin after it. `on_step`
    is called after each step with the number of environment steps so far."""
    seen = []
    for t in range(num_steps):
        seen.append(torch.cat([actor.obs for actor in actors]))
        for actor in actors:
            actor.env.send(actor.env.random_actions())
        for actor in actors:
            actor.receive()
        if on_step is not None:
            on_step((t + 1) * len(seen[0]))
    for actor in actors:
        actor.obs, actor.start = actor.env.reset().to(actor.device), torch.ones_like(actor.start)
    return torch.stack(seen)


def advantages(rollout: Rollout, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimation (Schulman et al., 2016, arXiv:1506.02438, Eq. 16), (B, T).

    A_t = delta_t + gamma lambda (1 - end_t) A_{t+1}        delta_t = r_t + gamma (1 - end_t) V_{t+1} - V_t
    """
    T = rollout.reward.shape[1]
    going_on = (~rollout.end).float()
    next_value = torch.cat([rollout.value[:, 1:], rollout.last_value[:, None]], dim=1)
    delta = rollout.reward + gamma * next_value * going_on - rollout.value
    decay = gamma * gae_lambda * going_on
    result, running = torch.empty_like(delta), torch.zeros_like(rollout.last_value)
    for t in range(T - 1, -1, -1):
        running = delta[:, t] + decay[:, t] * running
        result[:, t] = running
    return result
