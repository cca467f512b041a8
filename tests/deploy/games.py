"""Environments whose observations are random, with every kind of space; they keep the actions that they were given."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

LENGTH = 6  # steps of an episode


class Game(gymnasium.Env):
    """Random observations and rewards, which depend on the seed only."""

    played: ClassVar[list[Any]] = []  # by all of them
    observation_space: spaces.Space = spaces.Box(-2, 2, (3,), np.float64)
    action_space: spaces.Space = spaces.Discrete(3, start=5)

    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space = copy.deepcopy(self.observation_space)

    def mask(self) -> Any:
        return None

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.t = 0
        return self.observe()

    def observe(self) -> tuple[Any, dict[str, Any]]:
        mask = self.mask()
        return self.observation_space.sample(), {} if mask is None else {"action_mask": mask}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.played.append(copy.deepcopy(action))
        self.t += 1
        observation, info = self.observe()
        return observation, float(self.np_random.normal()), self.t == LENGTH, False, info


class Clipped(Game):
    """Integers and floats, with bounds."""

    observation_space = spaces.Dict(
        {"tag": spaces.Text(5), "place": spaces.Discrete(4, start=-1), "speed": spaces.Box(-1, 1, (2, 2))}
    )
    action_space = spaces.Box(np.array([-0.1, 0], np.float32), np.array([0.1, 1], np.float32))


class Pictures(Game):
    """A picture and two choices, some of which the info says are legal."""

    observation_space = spaces.Tuple([spaces.Box(0, 255, (20, 20, 3), np.uint8), spaces.Text(3), spaces.MultiBinary(2)])
    action_space = spaces.MultiDiscrete([3, 2])

    def mask(self) -> Any:
        return np.concatenate([np.roll([1, 1, 0], self.np_random.integers(3)), [1, 1]]).astype(np.int8)


class MaskInside(Game):
    """A mask that is part of the observation."""

    observation_space = spaces.Dict({"action_mask": spaces.MultiBinary(3), "code": spaces.MultiDiscrete([3, 2])})

    def observe(self) -> tuple[Any, dict[str, Any]]:
        observation, info = super().observe()
        observation["action_mask"] = np.roll(np.array([1, 1, 0], np.int8), self.np_random.integers(3))
        return observation, info


class Nested(Game):
    """Actions in parts, and a method that says which are legal."""

    action_space = spaces.Dict({"go": spaces.Box(-1, 1, (2,)), "pick": spaces.Discrete(3, start=1)})

    def observe(self) -> tuple[Any, dict[str, Any]]:
        self.legal = {"pick": np.roll([0, 1, 1], self.np_random.integers(3))}
        return super().observe()

    def action_masks(self) -> Any:
        return self.legal


class Unsorted(Game):
    """Parts in another order than that of the alphabet, which Gymnasium keeps where they are given as keywords."""

    observation_space = spaces.Dict(speed=spaces.Box(-1, 1, (3,)), place=spaces.Discrete(3), colour=spaces.Discrete(3))
    action_space = spaces.Dict(turn=spaces.Discrete(3), go=spaces.Box(-1, 1, (2,)))


GAMES = (Game, Clipped, Pictures, MaskInside, Nested, Unsorted)


def batched(space: spaces.Space, values: list[Any]) -> Any:
    """As a vector environment has them."""
    batch_space(space, len(values))
    return concatenate(space, values, create_empty_array(space, len(values)))
