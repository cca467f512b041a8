"""Training by several processes together (see --processes of hadamem train): its speed, and a prediction for other numbers of
processes, for which only the work of each process and the averaging of gradients count."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .. import distributed
from ..agents.config import TrainConfig
from ..agents.making import make_agent, make_share
from ..agents.ppo import PPO
from ..recipes.presets import preset_config
from .envs import SLEEPING
from .train import ENV

_ROLLOUTS = {SLEEPING: (16, 16, 2)}  # environments, steps, minibatches
_ROLLOUT = 256, 64, 8
EPOCHS = 4
_CALLS = 50  # number of timed averagings of gradients


@dataclass(frozen=True)
class Row:
    """The result of one measurement, with one thread in each process.

    Attributes:
        env, memory: the task and the memory.
        processes: number of processes.
        envs_each: number of environments of each process.
        iteration_ms: milliseconds of an iteration of all processes together.
        share_ms: milliseconds of an iteration of one process alone, with `envs_each` environments.
        averaging_ms: milliseconds of averaging the gradients once.
        averages: number of averagings of gradients in an iteration.
        steps_per_s: environment steps per second of all processes together.
        times_as_fast: speed relative to one process, the median over rounds of the ratio within a round.
    """

    env: str
    memory: str
    processes: int
    envs_each: int
    iteration_ms: float
    share_ms: float
    averaging_ms: float
    averages: int
    steps_per_s: float
    times_as_fast: float


@dataclass(frozen=True)
class Prediction:
    """The predicted speed of a number of processes relative to one process: if the same environments are shared out among them,
    and if each of them has as many environments as the one process."""

    env: str
    memory: str
    processes: int
    shared_out: float
    as_many_each: float


def predict(rows: Sequence[Row], processes: Sequence[int]) -> list[Prediction]:
    """Predict the speed with other numbers of processes from measurements on one machine.

        iteration = c + d (environments of a process) + averages (a + b log2 N)

    c and d are fitted to `share_ms` by least squares. a + b log2 N, the time of an all-reduce by a tree, runs through
    `averaging_ms` of the smallest and of the largest measured number of processes above 1; if these are the same, b is 0.
    """
    predictions = []
    for env, memory in dict.fromkeys((row.env, row.memory) for row in rows):
        here = [row for row in rows if (row.env, row.memory) == (env, memory)]
        d, c = np.polyfit([row.envs_each for row in here], [row.share_ms for row in here], 1)
        several = sorted((row for row in here if row.processes > 1), key=lambda row: row.processes)
        levels = [math.log2(row.processes) for row in several]
        costs = [row.averaging_ms for row in several]
        b = (costs[-1] - costs[0]) / (levels[-1] - levels[0]) if levels[-1] > levels[0] else 0.0
        one = next(row for row in here if row.processes == 1)
        for count in processes:
            averaging = one.averages * (costs[0] + b * (math.log2(count) - levels[0]))
            shared_out = one.iteration_ms / (c + d * one.envs_each / count + averaging)
            as_many_each = count * one.iteration_ms / (c + d * one.envs_each + averaging)
            predictions.append(Prediction(env, memory, count, shared_out, as_many_each))
    return predictions


def _case(env: str, memory: str, processes: int, share_of: int = 1) -> TrainConfig:
    num_envs, num_steps, minibatches = _ROLLOUTS.get(env, _ROLLOUT)
    config = preset_config("fast", env, memory)
    assert config.ppo is not None
    ppo = replace(config.ppo, num_envs=num_envs // share_of, num_steps=num_steps, epochs=EPOCHS, minibatches=minibatches)
    return replace(config, ppo=ppo, processes=processes, threads=1, env_workers=0)


def iterate(config: TrainConfig, iterations: int) -> tuple[float, float]:
    """The work of each process. Returns the median seconds of an iteration, and of an averaging of gradients."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    env = make_share(config, 0)
    agent = make_agent(config, env)
    assert isinstance(agent, PPO)
    agent.iterate()
    seconds = [_seconds(agent.iterate) for _ in range(iterations)]
    weights = list(agent.policy.parameters())
    averaging = [_seconds(lambda: distributed.average_gradients(weights)) for _ in range(_CALLS)]
    env.close()
    torch.set_num_threads(threads)
    return statistics.median(seconds), statistics.median(averaging)


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measure_all(
    on_progress: Callable[[str], None],
    envs: Sequence[str] = (ENV, SLEEPING),
    memories: Sequence[str] = ("shm", "gru"),
    processes: Sequence[int] = (1, 2),
    rounds: int = 3,
    iterations: int = 4,
) -> list[Row]:
    """Measure all environments, memories and numbers of processes (always including 1) in rounds, in which these take turns."""
    rows = []
    counts = dict.fromkeys((1, *processes))
    for env in envs:
        for memory in memories:
            together: dict[int, list[float]] = {count: [] for count in counts}
            share: dict[int, list[float]] = {count: [] for count in counts}
            averaging: dict[int, list[float]] = {count: [] for count in counts}
            for number in range(rounds):
                for count in counts:
                    on_progress(f"{env}, {memory}, {count} processes, round {number + 1} of {rounds}")
                    config = _case(env, memory, count)
                    with distributed.processes(count, iterate, config, iterations):
                        seconds, each = iterate(config, iterations)
                    together[count].append(seconds)
                    averaging[count].append(each)
                    share[count].append(iterate(_case(env, memory, 1, count), iterations)[0] if count > 1 else seconds)
            num_envs, num_steps, minibatches = _ROLLOUTS.get(env, _ROLLOUT)
            for count in counts:
                seconds, alone, each = (statistics.median(found[count]) for found in (together, share, averaging))
                faster = statistics.median(one / many for one, many in zip(together[1], together[count], strict=True))
                ms = (1e3 * seconds, 1e3 * alone, 1e3 * each)
                speed = num_envs * num_steps / seconds
                rows.append(Row(env, memory, count, num_envs // count, *ms, EPOCHS * minibatches, speed, faster))
    return rows
