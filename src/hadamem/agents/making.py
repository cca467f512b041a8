"""Making what a configuration speaks of: its environments, its policy, its agent."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, Protocol

import gymnasium
import torch

from .. import distributed
from ..envs import VectorEnvironment, make_vector, tasks
from ..envs.changes import Changes
from ..envs.interface import Interface
from ..envs.make import make_one
from ..memory import parse_options
from ..networks import ActorCritic, MemoryChoice, Policy, QNetwork, SoftActor, TwinCritic
from .cloning import Cloning
from .config import TrainConfig, seed_for
from .ppo import PPO
from .r2d2 import R2D2
from .sac import SAC


def make_environment(config: TrainConfig, num_envs: int, seed: int, **more: Any) -> VectorEnvironment:
    """The task of a configuration, `num_envs` times; `more` options of the environment, such as its render_mode."""
    inputs = config.inputs
    if inputs is None and config.off_policy is not None:
        inputs = config.off_policy.network.inputs
    return make_vector(
        config.env,
        num_envs,
        seed,
        inputs,
        config.batched,
        tasks.parse_options(config.env, config.env_options) | more,
        config.joint_actions,
        _changes(config),
        config.observe,
        config.channels,
        config.env_workers,
    )


def make_single(config: TrainConfig) -> gymnasium.Env[Any, Any]:
    """One environment of the task of a configuration, as it is, without rows."""
    return make_one(config.env, tasks.parse_options(config.env, config.env_options), _changes(config))


def _changes(config: TrainConfig) -> Changes | None:
    changes = Changes(config.wrappers, config.frame_skip, config.gray, config.resize)
    return None if changes == Changes() else changes


def make_policy(config: TrainConfig, env: VectorEnvironment | Interface) -> Policy:
    """The network that acts, untrained, on its device."""
    policy: Policy
    if config.ppo is not None:
        memory = _memory(config)
        choice = memory.name, memory.size, memory.options
        policy = ActorCritic(env.layout, env.action_space, *choice, config.ppo.network)
    elif config.r2d2 is not None:
        policy = QNetwork(env.layout, env.action_space, _memory(config), config.r2d2.network)
    else:
        assert config.sac is not None
        other = config.sac.actor_memory
        memory = _memory(config) if other is None else MemoryChoice(other)
        policy = SoftActor(env.layout, env.action_space, memory, config.sac.network)
    policy.described = env.described
    return policy.to(distributed.local_device(config.device))


def _memory(config: TrainConfig) -> MemoryChoice:
    return MemoryChoice(config.memory, config.memory_size, parse_options(config.memory, config.memory_options))


class Agent(Protocol):
    """What the training loop knows of a learning algorithm.

    Attributes:
        policy: who acts.
        step: environment steps so far, of all processes.
        own: parts of its state that are this process's; the others are the same in all processes that train together.
    """

    policy: Any
    step: int
    own: tuple[str, ...]

    @property
    def must_save(self) -> bool:
        """Whether a checkpoint is needed before the next iteration."""

    def iterate(self, on_step: Callable[[int], None] | None = None) -> dict[str, float]:
        """A round of acting and learning. `on_step` is called after each step with the environment steps so far.

        Returns:
            metrics, among them the mean return of the latest episodes as "return", NaN while too few have ended.
        """

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on with; the weights of the policy as "policy"."""

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from there; without the parts `own`, with new episodes."""


def make_agent(config: TrainConfig, env: VectorEnvironment, folder: pathlib.Path | None = None) -> Agent:
    """The agent of a configuration; `folder` is where it may keep what does not fit into a checkpoint, such as a replay."""
    policy = make_policy(config, env)
    if isinstance(policy, ActorCritic):
        assert config.ppo is not None
        draw_apart(config)
        if config.data is not None:
            return Cloning(policy, env.interface, config.ppo, config.steps, config.data)
        return PPO(policy, env, config.ppo, config.steps)
    if isinstance(policy, QNetwork):
        assert config.r2d2 is not None
        draw_apart(config)
        return R2D2(policy, env, config.r2d2, folder)
    assert isinstance(policy, SoftActor)
    assert config.sac is not None
    critic = TwinCritic(env.layout, policy.head, _memory(config), config.sac.network)
    critic.to(next(policy.parameters()).device)
    draw_apart(config)
    return SAC(policy, critic, env, config.sac, folder)


def draw_apart(config: TrainConfig, step: int = 0) -> None:
    """Let this process draw other numbers than those it trains together with."""
    if distributed.rank() or step:
        torch.manual_seed(seed_for(config.seed, f"process {distributed.rank()} after {step}"))


def make_share(config: TrainConfig, step: int) -> VectorEnvironment:
    """The environments of this process, for a training that has made so many steps."""
    num_envs = distributed.share(config.algorithm.num_envs, "num_envs")
    if config.ppo is not None and num_envs % config.ppo.minibatches:
        raise ValueError(f"minibatches is {config.ppo.minibatches}; it must divide the {num_envs} environments of each process")
    # where environments cannot be saved, a resumed run must not meet its first episodes again
    seed = seed_for(config.seed, f"environment after {step}" if step else "environment")
    env = make_environment(config, num_envs, seed + distributed.rank() * num_envs)
    if env.num_envs != num_envs:
        env.close()
        raise ValueError(f"num_envs is {config.algorithm.num_envs}, but {env.id} is a vector of {env.num_envs} environments")
    return env
