"""What a step of N environments takes: in this process, in worker processes of ours, and in those of Gymnasium."""

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
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv

from ..envs import VectorEnvironment, make_vector, tasks
from ..envs.workers import WorkerEnvironments
from .memories import in_turn, ratio

_MOST_ROUNDS = 1000  # the time ends them


class Sleeping(gymnasium.Env[Any, Any]):
    """An environment that waits 5 ms for something in every step, as one that talks to another program does."""

    observation_space = spaces.Box(-1, 1, (4,))
    action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[np.ndarray, dict[str, object]]:
        """Zeros."""
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action: object) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        """Zeros, after 5 ms."""
        time.sleep(0.005)
        return np.zeros(4, np.float32), 0.0, False, False, {}


SLEEPING = f"{__name__}:Sleeping"


@dataclass(frozen=True)
class Row:
    """What was measured.

    Attributes:
        env: id of the environments.
        workers: number of worker processes, "default" with what that was, or "gymnasium" with one for each environment
            (without shared memory where it cannot have that).
        ms_per_step: milliseconds for one step of all environments, the median of some turns.
        times_as_fast: as in this process, the median of the ratios within a turn.
    """

    env: str
    workers: str
    ms_per_step: float
    times_as_fast: float


def measure_all(
    on_progress: Callable[[str], None], ids: Sequence[str], num_envs: int, workers: Sequence[int], seconds: float
) -> list[Row]:
    """Rows for 0, each of `workers`, the default and Gymnasium's AsyncVectorEnv.

    Args:
        on_progress: is told what is measured.
        ids: of the environments.
        num_envs: copies side by side.
        workers: numbers of processes.
        seconds: for each row, about.

    Raises:
        ValueError: an id is not known, or its environments cannot be stepped.
    """
    rows = []
    for id in ids:
        on_progress(id)
        with ExitStack() as stack:
            steps: dict[str, Callable[[], None]] = {}
            for setting in dict.fromkeys((0, *workers, None)):
                # as they would be in training, but for tasks of ours that step in one array: workers are not for those
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
    return rows


def _with_gymnasium(name: str, num_envs: int) -> tuple[str, AsyncVectorEnv]:
    """It does less than ours: its observations are not yet columns, and nothing that an environment gives is checked."""
    makers = [partial(gymnasium.make, name, disable_env_checker=True)] * num_envs
    try:
        return f"gymnasium ({num_envs})", AsyncVectorEnv(makers)
    except ValueError:  # its shared memory cannot hold a space without a fixed size, such as MiniGrid's missions
        return f"gymnasium without shared memory ({num_envs})", AsyncVectorEnv(makers, shared_memory=False)


def _step(env: VectorEnvironment) -> None:
    env.step(env.random_actions())


def _step_of_gymnasium(env: AsyncVectorEnv) -> None:
    env.step(env.action_space.sample())
