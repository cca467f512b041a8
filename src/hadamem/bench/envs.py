"""The time of a step of N environments in this process, in hadamem's worker processes, and in those of Gymnasium; and the time
of a step with a policy that acts in them, if it waits for all of them, or for some."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv

from ..agents.making import make_policy
from ..agents.rollout import Rollout
from ..agents.turns import actor
from ..envs import VectorEnvironment, make_vector, tasks
from ..envs.workers import WorkerEnvironments
from ..networks import ActorCritic
from ..recipes.presets import preset_config
from .memories import in_turn, ratio

_MOST_ROUNDS = 1000  # so many that the time limit ends the rounds
_ROLLOUT = 32  # steps


class Sleeping(gymnasium.Env[Any, Any]):
    """An environment that waits 5 ms in every step, like one that communicates with another program."""

    observation_space = spaces.Box(-1, 1, (4,))
    action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[np.ndarray, dict[str, object]]:
        """Return zeros."""
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action: object) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        """Return zeros after 5 ms."""
        time.sleep(0.005)
        return np.zeros(4, np.float32), 0.0, False, False, {}


class Uneven(Sleeping):
    """An environment that waits 5 ms in a step on average, but from step to step shorter or longer: an exponential time."""

    def step(self, action: object) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        """Return zeros after a random time."""
        time.sleep(self.np_random.exponential(0.005))
        return np.zeros(4, np.float32), 0.0, False, False, {}


SLEEPING, UNEVEN = f"{__name__}:Sleeping", f"{__name__}:Uneven"


@dataclass(frozen=True)
class Row:
    """The result of one measurement.

    Attributes:
        env: id of the environments.
        workers: number of worker processes, "default" with the default number, or "gymnasium" with one process for each
            environment (without shared memory if it cannot hold the observations).
        ms_per_step: milliseconds for one step of all environments, the median over rounds.
        times_as_fast: speed relative to that in this process, the median over rounds of the ratio within a round.
    """

    env: str
    workers: str
    ms_per_step: float
    times_as_fast: float


def measure_all(
    on_progress: Callable[[str], None], ids: Sequence[str], num_envs: int, workers: Sequence[int], seconds: float
) -> tuple[list[Row], list[Acting]]:
    """Measure environments with 0 workers, each number in `workers`, the default number, and Gymnasium's AsyncVectorEnv; and
    with a policy, in the default number of workers.

    Args:
        on_progress: function that is called with the id of the environments that are measured next.
        ids: ids of the environments.
        num_envs: number of copies of each environment.
        workers: numbers of worker processes.
        seconds: approximate duration of the measurement of each row.

    Raises:
        ValueError: an id is not known, or its environments cannot be stepped.
    """
    rows, acting = list[Row](), list[Acting]()
    for id in ids:
        on_progress(id)
        with ExitStack() as stack:
            used, steps = 0, dict[str, Callable[[], None]]()
            for setting in dict.fromkeys((0, *workers, None)):
                # as in training, except that hadamem's tasks do not step in one array, since that would not use workers
                env = make_vector(id, num_envs, 0, batched=False, workers=setting)
                stack.callback(env.close)
                env.reset()
                inner = env._env
                used = len(inner.envs) if isinstance(inner, WorkerEnvironments) else 0
                steps[str(used) if setting is not None else f"default ({used})"] = partial(_step, env)
            label, theirs = _with_gymnasium(tasks.load(id), num_envs)
            stack.callback(theirs.close)
            theirs.reset(seed=0)
            steps[label] = partial(_step_of_gymnasium, theirs)
            found = in_turn(steps, 1, seconds * len(steps), _MOST_ROUNDS)
        rows += [Row(id, name, statistics.median(times) / 1e3, ratio(found, "0", name)) for name, times in found.items()]
        on_progress(f"{id}, with a policy")
        acting += _measure_acting(id, num_envs, used, seconds)
    return rows, acting


@dataclass(frozen=True)
class Acting:
    """The result of one measurement of acting.

    Attributes:
        env: id of the environments.
        workers: number of worker processes, the default one.
        waits_for: number of environments that the policy waits for (--env-wait of hadamem train).
        ms_per_step: milliseconds for one step of all environments with the policy's actions, the median over rounds.
        times_as_fast: speed relative to waiting for all, the median over rounds of the ratio within a round.
    """

    env: str
    workers: int
    waits_for: int
    ms_per_step: float
    times_as_fast: float


def _measure_acting(id: str, num_envs: int, workers: int, seconds: float) -> list[Acting]:
    """Measure the rollouts of PPO with its usual memory, waiting for all environments, a half of them and a quarter.

    Args:
        id, num_envs, seconds: see `measure_all`.
        workers: number of worker processes.
    """
    config = preset_config("fast", id, "shm")
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)  # as in training: a second thread, which waits in a loop, would keep workers from stepping
        rollouts: dict[str, Callable[[], Any]] = {}
        for wait in (num_envs // part for part in (1, 2, 4) if num_envs % part == 0):
            env = make_vector(id, num_envs, 0, batched=False, workers=workers, wait=wait)
            stack.callback(env.close)
            policy = make_policy(config, env)
            assert isinstance(policy, ActorCritic)
            rollout = Rollout.empty(policy, env, _ROLLOUT, torch.device("cpu"))
            rollouts[str(wait)] = partial(actor(policy, env).collect, rollout, gamma=0.99)
        found = in_turn(rollouts, _ROLLOUT, seconds * len(rollouts), _MOST_ROUNDS)
    rows = []
    for wait_for, times in found.items():
        faster = ratio(found, str(num_envs), wait_for)
        rows.append(Acting(id, workers, int(wait_for), statistics.median(times) / 1e3, faster))
    return rows


def _with_gymnasium(name: str, num_envs: int) -> tuple[str, AsyncVectorEnv]:
    """Gymnasium's AsyncVectorEnv and its label. It does less than hadamem's workers: observations are not turned into
    columns, and the results of an environment are not checked."""
    makers = [partial(gymnasium.make, name, disable_env_checker=True)] * num_envs
    try:
        return f"gymnasium ({num_envs})", AsyncVectorEnv(makers)
    except ValueError:  # its shared memory cannot hold a space without a fixed size, such as MiniGrid's missions
        return f"gymnasium without shared memory ({num_envs})", AsyncVectorEnv(makers, shared_memory=False)


def _step(env: VectorEnvironment) -> None:
    env.step(env.random_actions())


def _step_of_gymnasium(env: AsyncVectorEnv) -> None:
    env.step(env.action_space.sample())
