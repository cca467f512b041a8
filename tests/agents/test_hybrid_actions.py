"""Tuple and Dict actions: discrete choices beside continuous numbers, nested."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from hadamem.agents.config import TrainConfig
from hadamem.agents.making import make_agent, make_environment
from hadamem.agents.ppo import PPOConfig
from hadamem.envs import make_vector
from hadamem.envs.actions import Actions
from hadamem.networks import make_head
from hadamem.networks.soft_actor_critic import soft_head

NESTED = spaces.Dict(
    {
        "arm": spaces.Tuple((spaces.Box(-2, 2, (2,), np.float32), spaces.Discrete(3, start=5))),
        "buttons": spaces.MultiBinary(2),
        "speed": spaces.Box(0, 10, (), np.float64),
    }
)


class Aim(gymnasium.Env):
    """A target is shown at first: a lane, and a place on it. Paid is the right lane, less the distance to the place."""

    observation_space = spaces.Box(-1, 3, (3,), np.float32)
    action_space = spaces.Dict({"lane": spaces.Discrete(3), "place": spaces.Box(-1, 1, (1,), np.float32)})

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.lane, self.place, self.t = int(self.np_random.integers(3)), self.np_random.uniform(-0.8, 0.8), 0
        return np.array([self.lane, self.place, 1], np.float32), {}

    def step(self, action: dict[str, Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.t += 1
        reward = float(action["lane"] == self.lane) - abs(float(action["place"][0]) - self.place)
        return np.zeros(3, np.float32), reward / 4, self.t == 4, False, {}


def test_actions_arrive_nested_and_come_back() -> None:
    actions = Actions(NESTED)
    rows = np.array([[-3, 0.5, 2, 1, 0, 4], [1, 9, 0, 0, 1, -1]], np.float32)
    arrived = actions.to_environment(rows)
    assert arrived["arm"][0].tolist() == [[-2, 0.5], [1, 2]]
    assert arrived["arm"][1].tolist() == [7, 5]
    assert arrived["buttons"].tolist() == [[1, 0], [0, 1]]
    assert arrived["speed"].tolist() == [4, 0]
    dtypes = [arrived[k].dtype for k in ("buttons", "speed")] + [part.dtype for part in arrived["arm"]]
    assert dtypes == [np.int8, np.float64, np.float32, np.int64]
    back = actions.from_environment(arrived)
    assert back.tolist() == [[-2, 0.5, 2, 1, 0, 4], [1, 2, 0, 0, 1, 0]]
    assert back.dtype == np.float32


def test_all_integers_stay_integers() -> None:
    actions = Actions(spaces.Tuple((spaces.Discrete(3), spaces.MultiDiscrete([2, 4]))))
    back = actions.from_environment(actions.to_environment(np.array([[2, 1, 3]])))
    assert back.tolist() == [[2, 1, 3]]
    assert back.dtype == np.int64


@pytest.mark.parametrize(
    "rows", [[[0, 0, 3, 0, 0, 0]], [[0, 0, -1, 0, 0, 0]], [[0, 0, 0.5, 0, 0, 0]], [[0, 0, np.nan, 0, 0, 0]], [[0, 0]]]
)
def test_what_is_no_action_is_refused(rows: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="actions"):
        Actions(NESTED).to_environment(np.array(rows, np.float32))


def test_a_product_is_the_sum_of_its_parts() -> None:
    head = make_head(NESTED)
    parameters = torch.randn(5, head.size)
    action = head.sample(parameters)
    assert action.shape == (5, 6)
    assert head.size == 2 + 3 + 4 + 1
    arm, lane, buttons, speed = (
        make_head(NESTED["arm"][0]),
        make_head(NESTED["arm"][1]),
        make_head(NESTED["buttons"]),
        make_head(NESTED["speed"]),
    )
    parts = zip((arm, lane, buttons, speed), parameters.split([2, 3, 4, 1], -1), action.split([2, 1, 2, 1], -1), strict=True)
    expected = sum(part.log_prob(p, a) for part, p, a in parts)
    torch.testing.assert_close(head.log_prob(parameters, action), expected)
    assert (head.mode(parameters)[:, 2] == parameters[:, 2:5].argmax(-1)).all()


@pytest.mark.parametrize("memory", ["gru", "shm"])
def test_hybrid_play_is_learned(memory: str) -> None:
    """At random the return is about -0.3, without memory at most 0.1, and 1 is the best."""
    gymnasium.register("Aim-v0", Aim)
    try:
        config = TrainConfig(env="Aim-v0", memory=memory, inputs=("obs", "action"), steps=30_000)
        config.ppo = PPOConfig(num_envs=16, num_steps=32, minibatches=4, epochs=8, learning_rate=3e-3, gamma=0.5)
        agent = make_agent(config, make_environment(config, 16, 0))
        metrics = agent.iterate()
        assert metrics["ratio_error"] < 1e-4
        while agent.step < config.steps and not metrics["return"] > 0.4:
            metrics = agent.iterate()
        assert metrics["return"] > 0.4
    finally:
        del gymnasium.registry["Aim-v0"]


def test_a_joint_choice_is_every_combination_once() -> None:
    space = spaces.MultiDiscrete([2, 3], start=[10, 20])
    actions = Actions(space, joint=True)
    assert actions.space == spaces.Discrete(6)
    arrived = actions.to_environment(np.arange(6))
    assert arrived.tolist() == [[10, 20], [10, 21], [10, 22], [11, 20], [11, 21], [11, 22]]
    assert actions.from_environment(arrived).tolist() == [0, 1, 2, 3, 4, 5]
    assert actions.mask(np.array([[1, 0, 1, 0, 1]])).tolist() == [[1, 0, 1, 0, 0, 0]]


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([100, 100])])
def test_what_cannot_be_played_jointly(space: spaces.Space) -> None:
    with pytest.raises(ValueError, match="joint actions"):
        Actions(space, joint=True)


def test_battleship_is_played_jointly() -> None:
    env = make_vector("popgym-BattleshipEasy-v0", 3, 0, joint_actions=True)
    assert env.action_space == spaces.Discrete(64)
    env.reset()
    step = env.step(torch.tensor([0, 9, 63]))
    assert step.reward.shape == (3,)


def test_sac_says_who_can_play_it() -> None:
    with pytest.raises(ValueError, match=r"not supported by SAC.*--agent ppo"):
        soft_head(NESTED)
