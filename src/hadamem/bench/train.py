"""End-to-end speed of training: environments, acting and learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..agents.config import TrainConfig
from ..agents.making import make_agent, make_environment
from ..agents.sac import SAC
from ..envs import VectorEnvironment
from ..measure import median_seconds
from ..networks.precision import Precision
from ..recipes.presets import preset_config

ENV = "popgym-RepeatPreviousEasy-v0"  # the task of all measurements on one task with PPO
CASES: dict[str, tuple[tuple[str, int], ...]] = {
    "ppo": (("shm", 32), ("shm", 128), ("gru", 256), ("mlp", 64)),
    "sac": (("shm", 24), ("gru", 64), ("mlp", 64)),
}
ABOUT = {
    "ppo": f"environment steps per second of PPO on {ENV}, 64 environments x 128 steps, 4 epochs, 8 minibatches",
    "sac": "updates per second of SAC on hadamem/Wind-v0, 64 whole episodes of 100 steps, released sizes, one kind of memory",
}


@dataclass(frozen=True)
class Row:
    """The speed of an agent with a memory: environment steps (PPO) or gradient updates (SAC) per second."""

    agent: str
    memory: str
    memory_size: int
    per_second: float


def ppo_on_one_task(memory: str, size: int, device: str = "cpu") -> tuple[TrainConfig, VectorEnvironment]:
    """The configuration that is measured with PPO, see ABOUT, and its environments."""
    config = preset_config("fast", ENV, memory)
    assert config.ppo is not None
    ppo = replace(config.ppo, num_envs=64, num_steps=128, epochs=4, minibatches=8)
    config = replace(config, memory_size=size, ppo=ppo, device=device)
    return config, make_environment(config, ppo.num_envs, 0)


def measure_ppo(memory: str, size: int, device: str = "cpu", precision: Precision = "float32", iterations: int = 15) -> Row:
    """Measure environment steps per second of PPO, by the median time of an iteration of acting and learning."""
    config, env = ppo_on_one_task(memory, size, device)
    ppo, agent = config.ppo, make_agent(replace(config, precision=precision), env)
    assert ppo is not None
    speed = ppo.num_envs * ppo.num_steps / median_seconds(agent.iterate, budget=1e9, most=iterations)
    env.close()
    return Row("ppo", memory, size, speed)


def measure_sac(memory: str, size: int, device: str = "cpu", precision: Precision = "float32", updates: int = 30) -> Row:
    """Measure gradient updates per second of SAC, by the median time of an update, sampling included."""
    config = preset_config("meta-paper", "hadamem/Wind-v0", memory)
    assert config.sac is not None
    sac = replace(config.sac, actor_memory=None)
    config = replace(config, memory_size=size, sac=sac, device=device, precision=precision)
    env = make_environment(config, sac.num_envs, 0)
    agent = make_agent(config, env)
    assert isinstance(agent, SAC)
    while agent.step < sac.warmup_steps:  # random episodes, and no update yet
        agent.iterate()
    agent.replay.settle()
    speed = 1 / median_seconds(lambda: agent.update(agent.replay.sample(sac.batch_size)), budget=1e9, most=updates)
    env.close()
    return Row("sac", memory, size, speed)


def measure_all(
    agent: str, on_progress: Callable[[str], None], device: str = "cpu", precision: Precision = "float32"
) -> list[Row]:
    """Measure all cases of an agent, one after the other."""
    rows = []
    for memory, size in CASES[agent]:
        on_progress(f"{memory} of size {size}")
        rows.append((measure_ppo if agent == "ppo" else measure_sac)(memory, size, device, precision))
    return rows
