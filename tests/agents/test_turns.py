"""Groups of environments that do not wait for each other: the same episodes, the same training whoever answers first."""

from __future__ import annotations

import pathlib
import time
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import hadamem
from hadamem.agents.config import TrainConfig
from hadamem.agents.making import make_agent, make_share
from hadamem.envs import make_vector
from hadamem.envs.vector import first_answered
from hadamem.recipes.arguments import read_train
from hadamem.run import read_metrics

HERE = __name__


class Uneven(gymnasium.Env):
    """Small pictures; steps take a random time, up to `longest` seconds, and longer in the one that is seeded with `slow`."""

    observation_space = spaces.Box(0, 255, (3, 8, 8), np.uint8)
    action_space = spaces.Box(-1, 1, (2,))

    def __init__(self, longest: float = 0.0, slow: int = -1) -> None:
        self.longest, self.slow = longest, slow

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.pause = 0.3 if seed == self.slow else 0.0
        self.left = int(self.np_random.integers(2, 9))
        return self.draw(), {}

    def step(self, action):
        time.sleep(self.pause + self.longest * np.random.default_rng().random())
        self.left -= 1
        return self.draw(), float(action[0]), False, self.left == 0, {}

    def draw(self):
        return self.np_random.integers(256, size=(3, 8, 8)).astype(np.uint8)


def trained(path: pathlib.Path, **more: Any) -> list[dict[str, float]]:
    settings = {"memory_size": 8, "num_envs": 6, "num_steps": 12, "minibatches": 2, "env_wait": 2} | more
    hadamem.PPO("gru", Uneven, **settings).learn(300, out=path)
    return [{name: value for name, value in line.items() if "second" not in name} for line in read_metrics(path)]


def test_a_training_does_not_depend_on_who_answers_first(tmp_path: pathlib.Path) -> None:
    here = trained(tmp_path / "here", env_workers=0)
    workers = trained(tmp_path / "workers", env_workers=6, env_options=["longest=0.01"])
    assert here == workers
    assert max(line["ratio_error"] for line in here) < 1e-4
    assert here != trained(tmp_path / "all", env_workers=0, env_wait=6)  # other random numbers


def test_groups_play_the_episodes_of_one(caplog: pytest.LogCaptureFixture) -> None:
    one, groups = (make_vector(Uneven, 6, seed=3, workers=0, wait=wait) for wait in (None, 3))
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "no worker processes step the environments, so that waiting for 3 of them only takes longer"
    ]
    together = one.reset()
    assert [group.num_envs for group in groups.groups] == [3, 3]
    assert torch.equal(torch.cat([group.reset() for group in groups.groups]), together)
    actions = torch.rand(6, 2)
    step = one.step(actions)
    parts = [group.step(part) for group, part in zip(groups.groups, actions.chunk(2), strict=True)]
    assert torch.equal(torch.cat([part.obs for part in parts]), step.obs)
    assert torch.equal(torch.cat([part.reward for part in parts]), step.reward)
    assert not torch.equal(*(group.random_actions() for group in groups.groups))


def test_a_slow_group_is_not_waited_for() -> None:
    groups = make_vector(Uneven, 4, seed=0, workers=2, wait=2, options={"slow": 1}).groups
    for group in groups:
        group.reset()
        group.send(group.random_actions())
    begin = time.monotonic()
    assert first_answered(groups) == 1
    groups[1].receive()
    assert first_answered(groups[:1]) == 0
    assert time.monotonic() - begin >= 0.29
    groups[0].receive()
    groups[0].close()


def test_the_state_of_groups_is_saved() -> None:
    few = ["--num-envs", "8", "--num-steps", "16", "--minibatches", "2", "--env-wait", "4", "--env-workers", "0"]
    config = read_train(["--env", "CartPole-v1", "--memory", "gru", *few]).config
    agents = [make_agent(config, make_share(config, 0)) for _ in range(2)]
    agents[0].iterate()
    agents[1].load_state_dict(agents[0].state_dict())
    one, other = (agent.state_dict()["actor"] for agent in agents)
    for name in ("noise", "state"):
        torch.testing.assert_close([group[name] for group in one["groups"]], [group[name] for group in other["groups"]])
    assert torch.equal(one["random"][1][0], other["random"][1][0])
    assert not torch.equal(one["random"][0][0], one["random"][1][0])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--env-wait", "5", "--num-envs", "64", "--no-batched"], "wait is 5, but must divide the 64 environments"),
        (["--env-wait", "8"], "wait is 8, but popgym-RepeatPreviousEasy-v0 steps all its environments at once"),
    ],
)
def test_what_cannot_be_is_told(words: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make_share(read_train([*words, "--env", "popgym-RepeatPreviousEasy-v0"]).config, 0)


def test_only_ppo_acts_in_groups() -> None:
    with pytest.raises(ValueError, match="env_wait is 8, but only PPO"):
        TrainConfig(agent="r2d2", env_wait=8)
