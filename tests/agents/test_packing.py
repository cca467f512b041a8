"""Pictures are bytes in a rollout: four times smaller, and the same run to the bit."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from hadamem.agents import rollout
from hadamem.agents.config import TrainConfig
from hadamem.agents.making import make_agent, make_environment
from hadamem.agents.packing import PackedRows, rows_for
from hadamem.agents.ppo import PPOConfig
from hadamem.envs import Layout, make_vector


class Mixed(gymnasium.Env):
    """A picture, a grid of codes, and numbers before, between and behind them, all at random."""

    observation_space = spaces.Dict(
        {
            "a": spaces.Box(-1, 1, (2,), np.float32),
            "grid": spaces.Box(0, 255, (5, 5, 3), np.uint8),
            "picture": spaces.Box(0, 255, (3, 40, 40), np.uint8),
            "tool": spaces.Discrete(3),
            "z": spaces.Box(-np.inf, np.inf, (1,), np.float64),
        }
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(action), bool(self.np_random.random() < 0.1), False, {}


@pytest.fixture(autouse=True)
def _registered() -> Any:
    gymnasium.register("Mixed-v0", Mixed)
    yield
    del gymnasium.registry["Mixed-v0"]


def test_what_is_read_is_what_was_written() -> None:
    env = make_vector("Mixed-v0", 4, 0, inputs=("obs", "action", "reward"))
    rows = rows_for((4, 6), env.layout, torch.device("cpu"))
    assert isinstance(rows, PackedRows)
    seen = [env.reset()] + [env.step(env.random_actions()).obs for _ in range(5)]
    for t, obs in enumerate(seen):
        rows[:, t] = obs
    whole = torch.stack(seen, 1)
    chosen = torch.tensor([2, 0])
    assert torch.equal(rows[chosen], whole[chosen])
    assert torch.equal(rows[:, 3], whole[:, 3])
    columns = torch.tensor([1, 3, 90, 4880, env.layout.size - 1])
    assert torch.equal(rows[..., columns], whole[..., columns])
    size = rows.bytes.nbytes + rows.floats.nbytes
    assert size < 0.26 * whole.nbytes


def test_the_run_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> list[dict[str, float]]:
        config = TrainConfig(env="Mixed-v0", memory="gru", memory_size=8)
        config.ppo = PPOConfig(num_envs=4, num_steps=16, minibatches=2, epochs=2)
        torch.manual_seed(0)
        agent = make_agent(config, make_environment(config, 4, 0))
        return [agent.iterate() for _ in range(3)]

    packed = run()
    floats = lambda shape, layout, device: torch.zeros(*shape, layout.size)  # noqa: E731
    monkeypatch.setattr(rollout, "rows_for", floats)
    for one, other in zip(packed, run(), strict=True):
        assert {k: v for k, v in one.items() if v == v} == {k: v for k, v in other.items() if v == v}


def test_vectors_alone_stay_a_tensor() -> None:
    layout: Layout = make_vector("CartPole-v1", 1, 0).layout
    assert isinstance(rows_for((2, 3), layout, torch.device("cpu")), torch.Tensor)
