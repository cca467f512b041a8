"""Makes the environments, the policy and the agent that a configuration describes."""

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
from ..networks.precision import set_precision
from .cloning import Cloning
from .config import TrainConfig, seed_for
from .ppo import PPO
from .r2d2 import R2D2
from .sac import SAC


def make_environment(config: TrainConfig, num_envs: int, seed: int, wait: int | None = None, **more: Any) -> VectorEnvironment:
    """Make `num_envs` environments of a configuration's task, in groups of `wait` (see `make_vector`); `more`: further options
    of the task, such as render_mode."""
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
        wait,
    )


def make_single(config: TrainConfig) -> gymnasium.Env[Any, Any]:
    """Make one environment of a configuration's task as a plain Gymnasium environment, in its own spaces."""
    return make_one(config.env, tasks.parse_options(config.env, config.env_options), _changes(config))


def _changes(config: TrainConfig) -> Changes | None:
    changes = Changes(config.wrappers, config.frame_skip, config.gray, config.resize)
    return None if changes == Changes() else changes


def make_policy(config: TrainConfig, env: VectorEnvironment | Interface) -> Policy:
    """Make the policy of a configuration, untrained, on the device of this process."""
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
    """The interface of a learning algorithm to the training loop.

    Attributes:
        policy: the policy that acts.
        step: environment steps so far, of all processes.
        own: names of the parts of `state_dict` that differ between processes that train together; all other parts are equal.
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
            metrics, including "return", the mean return of the latest episodes (NaN while too few episodes have ended).
        """

    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to continue the training; the weights of the policy are under "policy"."""

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from `saved`; if the parts named in `own` are missing, new episodes begin."""


def make_agent(config: TrainConfig, env: VectorEnvironment, folder: pathlib.Path | None = None) -> Agent:
    """Make the agent of a configuration. In `folder` it may keep data that is too large for a checkpoint, such as a replay."""
    policy = make_policy(config, env)
    set_precision(policy, config.precision)
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
    set_precision(critic, config.precision)
    draw_apart(config)
    return SAC(policy, critic, env, config.sac, folder)


def draw_apart(config: TrainConfig, step: int = 0) -> None:
    """Seed this process so that it draws other random numbers than the processes that it trains together with."""
    if distributed.rank() or step:
        torch.manual_seed(seed_for(config.seed, f"process {distributed.rank()} after {step}"))


def share_of_environments(config: TrainConfig, processes: int) -> int:
    """The number of environments of each of so many processes; raises a ValueError if they cannot be shared out."""
    num_envs = distributed.share(config.algorithm.num_envs, "num_envs", processes)
    if config.ppo is not None and num_envs % config.ppo.minibatches:
        raise ValueError(f"minibatches is {config.ppo.minibatches}; it must divide the {num_envs} environments of each process")
    return num_envs


def make_share(config: TrainConfig, step: int) -> VectorEnvironment:
    """Make this process's share of the environments, for a training that has made `step` steps."""
    num_envs = share_of_environments(config, distributed.size())
    # if environments cannot be saved, a resumed run must not play its first episodes again
    seed = seed_for(config.seed, f"environment after {step}" if step else "environment")
    env = make_environment(config, num_envs, seed + distributed.rank() * num_envs, config.env_wait)
    if sum(group.num_envs for group in env.groups) != num_envs:
        env.close()
        raise ValueError(f"num_envs is {config.algorithm.num_envs}, but {env.id} is a vector of {env.num_envs} environments")
    return env
