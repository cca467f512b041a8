"""Nobody scales by hand: an environment in other units gives the same run."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from hadamem.agents.config import TrainConfig
from hadamem.agents.making import make_agent, make_environment
from hadamem.agents.ppo import PPO, PPOConfig
from hadamem.agents.sac import SAC, SACConfig


class Units(gymnasium.Wrapper):
    """Observations times `factor` plus `offset`, rewards times `reward`."""

    def __init__(self, env: gymnasium.Env, factor: Any, offset: float, reward: float) -> None:
        super().__init__(env)
        self.factor, self.offset, self.reward = np.asarray(factor), offset, reward
        self.observation_space = spaces.Box(-np.inf, np.inf, env.observation_space.shape, np.float32)

    def reset(self, **options: Any) -> tuple[Any, dict]:
        observation, info = self.env.reset(**options)
        return self._convert(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._convert(observation), reward * self.reward, terminated, truncated, info

    def _convert(self, observation: Any) -> Any:
        return (observation * self.factor + self.offset).astype(np.float32)


def make_units(task: str, factor: Any = 1.0, offset: float = 0.0, reward: float = 1.0) -> gymnasium.Env:
    return Units(gymnasium.make(task), factor, offset, reward)


gymnasium.register("Units-v0", make_units)


def make(units: dict[str, Any], id: str = "CartPole-v1", memory: str = "gru", **settings: Any) -> PPO | SAC:
    torch.manual_seed(0)
    options = tuple(f"{name}={value}" for name, value in {"task": id, **units}.items())
    config = TrainConfig(env="Units-v0", env_options=options, memory=memory, memory_size=16, steps=50_000, **settings)
    agent = make_agent(config, make_environment(config, config.algorithm.num_envs, 0))
    assert isinstance(agent, PPO | SAC)
    return agent


def ppo(**options: Any) -> dict[str, Any]:
    sizes = {"num_envs": 8, "num_steps": 32, "minibatches": 2, "epochs": 2}
    return {"ppo": PPOConfig(**sizes | options)}


@pytest.mark.parametrize(
    "units", [{"reward": 2.0**-10}, {"reward": 2.0**10}, {"factor": 2.0**-6}, {"factor": 2.0**10, "reward": 2.0**3}]
)
@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_powers_of_two_give_the_same_run(units: dict[str, float], id: str) -> None:
    runs = []
    for chosen in ({}, units):  # one after the other: they share torch's generator
        agent, run = make(chosen, id, **ppo()), []
        for _ in range(4):
            metrics = agent.iterate()
            assert metrics["ratio_error"] < 1e-4
            value = agent.rollout.value / chosen.get("reward", 1.0)
            run.append((agent.rollout.action.clone(), value, metrics["value_loss"], metrics["entropy"]))
        runs.append(run)
    for (action, value, *losses), (other_action, other_value, *other_losses) in zip(*runs, strict=True):
        assert torch.equal(action, other_action)
        assert torch.equal(value, other_value)
        assert losses == other_losses
    assert runs[0][-1][1].std() > 0


def test_powers_of_two_give_the_same_run_of_sac() -> None:
    sizes = {"num_envs": 4, "num_steps": 25, "warmup_steps": 900, "batch_size": 4, "updates_per_step": 0.02}
    settings = {"sac": SACConfig(**sizes), "agent": "sac", "inputs": ("obs", "action")}
    runs = []
    for units in ({}, {"factor": 4.0, "reward": 2.0**-9}):
        agent, run = make(units, "Pendulum-v1", **settings), []
        for _ in range(12):
            loss = agent.iterate().get("critic_loss")
            run.append((loss, agent.actor.obs[:, 3:].tolist()))  # the columns of the previous action
        runs.append(run)
    assert runs[0] == runs[1]
    assert runs[0][-1][0] > 0


@pytest.mark.parametrize("units", [{"offset": 1000.0}, {"factor": [1.0, 1.0, 1000.0, 1.0]}, {"reward": 1e4}])
def test_other_units_do_not_stop_learning(units: dict[str, Any]) -> None:
    """Random play returns 22."""
    agent = make({}, **ppo()) if not units else make({k: str(v).replace(" ", "") for k, v in units.items()}, **ppo(epochs=6))
    best = 0.0
    while agent.step < 16_000:
        best = max(best, agent.iterate()["return"])
    assert best > 60 * units.get("reward", 1.0)


def test_statistics_of_observations_stay_in_the_later_part_of_a_run() -> None:
    """They change what the policy does, which nothing limits: late in a run, it would drift away from what was learned."""
    config = TrainConfig(
        env="CartPole-v1", memory="gru", memory_size=4, steps=200, ppo=PPOConfig(num_envs=2, num_steps=8, minibatches=1)
    )
    agent = make_agent(config, make_environment(config, 2, seed=0))
    means = []
    while agent.step < 160:
        agent.iterate()
        means.append((agent.step, agent.policy.normaliser.moments.mean.clone()))
    early = [mean for step, mean in means if step <= 100]
    late = [mean for step, mean in means if step >= 104]
    assert not any(torch.equal(a, b) for a, b in pairwise(early))
    assert len(early) > 1
    assert all(torch.equal(mean, early[-1]) for mean in late)
