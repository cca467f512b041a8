"""End-to-end speed of training: environments, acting and learning."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..agents.ppo import PPO
from ..agents.training import make_environment, make_policy
from ..experiments.recipes import preset_config

ENV = "popgym-RepeatPreviousEasy-v0"
CASES = (("shm", 32), ("shm", 128), ("gru", 256), ("mlp", 64))


def measure(memory: str, size: int, iterations: int = 15) -> dict[str, Any]:
    """Environment steps per second of PPO with 64 environments x 128 steps, 4 epochs, 8 minibatches: the median iteration."""
    config = preset_config("fast", ENV, memory)
    config = replace(
        config,
        memory_size=size,
        ppo=replace(config.ppo, num_envs=64, num_steps=128, epochs=4, minibatches=8),
    )
    env = make_environment(config, config.ppo.num_envs, 0)
    agent = PPO(make_policy(config, env), env, config.ppo, config.steps)
    agent.iterate()
    seconds = []
    for _ in range(iterations):
        begin = time.perf_counter()
        agent.iterate()
        seconds.append(time.perf_counter() - begin)
    env.close()
    steps = config.ppo.num_envs * config.ppo.num_steps
    speed = steps / statistics.median(seconds)
    return {"agent": "ppo", "memory": memory, "memory_size": size, "steps_per_s": speed}


def measure_all(told: Callable[[str], None]) -> list[dict[str, Any]]:
    """All cases, one after the other."""
    rows = []
    for memory, size in CASES:
        told(f"{memory} of size {size}")
        rows.append(measure(memory, size))
    return rows
