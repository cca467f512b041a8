"""Training by several processes together (see --processes of hadamem train): its speed, and what it would be if the processes
had nothing to tell each other but the mean of their gradients."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from .. import distributed
from ..agents.config import TrainConfig
from ..agents.ppo import PPO
from ..agents.training import make_agent, make_share
from ..recipes.presets import preset_config
from .envs import Sleeping
from .train import ENV

SLOW = f"{Sleeping.__module__}:{Sleeping.__name__}"
_ROLLOUTS = {SLOW: (16, 16, 2)}  # environments, steps, minibatches
_ROLLOUT = 256, 64, 8
_CALLS = 50  # of the mean of gradients


@dataclass(frozen=True)
class Row:
    """What was measured, each process with one thread.

    Attributes:
        env, memory: of the case.
        processes: how many.
        steps_per_s: environment steps per second, of all of them.
        times_as_fast: as one process; in each round in turn, the median of the ratios.
        averaging_ms: milliseconds for the mean of the gradients, once.
        expected: `times_as_fast`, if an iteration took as long as one of a process alone with its share of the environments,
            and as all those means of gradients.
    """

    env: str
    memory: str
    processes: int
    steps_per_s: float
    times_as_fast: float
    averaging_ms: float
    expected: float


def _case(env: str, memory: str, processes: int, share_of: int = 1) -> TrainConfig:
    num_envs, num_steps, minibatches = _ROLLOUTS.get(env, _ROLLOUT)
    config = preset_config("fast", env, memory)
    assert config.ppo is not None
    ppo = replace(config.ppo, num_envs=num_envs // share_of, num_steps=num_steps, epochs=4, minibatches=minibatches)
    return replace(config, ppo=ppo, processes=processes, threads=1, env_workers=0)


def iterate(config: TrainConfig, iterations: int) -> tuple[float, float]:
    """What each process does. Returns the median of the seconds of an iteration, and those of a mean of gradients."""
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
    envs: Sequence[str] = (ENV, SLOW),
    memories: Sequence[str] = ("shm", "gru"),
    processes: Sequence[int] = (1, 2),
    rounds: int = 3,
    iterations: int = 4,
) -> list[Row]:
    """All environments, memories and numbers of processes, of which 1 is always one, in turn."""
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
                each = statistics.median(averaging[count])
                alone = [one / (part + 4 * minibatches * each) for one, part in zip(together[1], share[count], strict=True)]
                faster = [one / seconds for one, seconds in zip(together[1], together[count], strict=True)]
                speed = num_envs * num_steps / statistics.median(together[count])
                times, expected = statistics.median(faster), statistics.median(alone)
                rows.append(Row(env, memory, count, speed, times, each * 1e3, expected))
    return rows
