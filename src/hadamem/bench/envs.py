"""What a step of N environments takes: in this process, in worker processes of ours, and in those of Gymnasium."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv

from ..envs import VectorEnvironment, make_vector, tasks
from ..envs.workers import WorkerEnvironments

_ROUND = 0.1  # seconds of each turn, about


class Sleeping(gymnasium.Env):
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
        times_as_fast: as in this process.
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
            steps = {}
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
            times = _take_turns(list(steps.values()), seconds)
        rows += [Row(id, name, found * 1e3, times[0] / found) for name, found in zip(steps, times, strict=True)]
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


def _take_turns(functions: Sequence[Callable[[], None]], seconds: float) -> list[float]:
    """The median time of a call of each, in seconds; they take turns, so that all meet the same machine."""
    calls, turns = [], max(1, round(seconds / _ROUND))
    for function in functions:
        function()
        begin = time.perf_counter()
        function()
        calls.append(max(1, round(_ROUND / (time.perf_counter() - begin))))
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(turns):
        for function, count, found in zip(functions, calls, times, strict=True):
            begin = time.perf_counter()
            for _ in range(count):
                function()
            found.append((time.perf_counter() - begin) / count)
    return [statistics.median(found) for found in times]
