"""Wrappers that make a task of memory out of any Gymnasium environment."""

from collections.abc import Iterable
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces

#: Which entries of an observation are velocities, by the name of the environment in any version.
VELOCITIES: dict[str, tuple[int, ...]] = {
    "Acrobot": (4, 5),
    "CartPole": (1, 3),
    "LunarLander": (2, 3, 5),
    "LunarLanderContinuous": (2, 3, 5),
    "MountainCar": (1,),
    "MountainCarContinuous": (1,),
    "Pendulum": (2,),
    "Ant": tuple(range(13, 27)),
    "HalfCheetah": tuple(range(8, 17)),
    "Hopper": tuple(range(5, 11)),
    "InvertedDoublePendulum": (5, 6, 7),
    "InvertedPendulum": (2, 3),
    "Reacher": (6, 7),
    "Swimmer": tuple(range(3, 8)),
    "Walker2d": tuple(range(8, 17)),
}


class MaskVelocity(gymnasium.ObservationWrapper, gymnasium.utils.RecordConstructorArgs):
    """Leaves velocities out of the observation: they have to be found out from positions seen before.

    Args:
        env: with a Box of one axis as observation space.
        indices: the entries to leave out; none: the velocities of a known classic-control, Box2D or MuJoCo environment.

    Raises:
        ValueError: another observation space, indices that it does not have or that are all it has, or none given for an
            environment that is not known.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], indices: Iterable[int] | None = None) -> None:
        indices = None if indices is None else tuple(indices)
        gymnasium.utils.RecordConstructorArgs.__init__(self, indices=indices)
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"MaskVelocity needs observations in a Box of one axis; these are in {space}")
        name = env.spec.name if env.spec else type(env.unwrapped).__name__
        if indices is None and name not in VELOCITIES:
            raise ValueError(
                f"which entries are velocities is not known for {name}: give indices. Known: {', '.join(VELOCITIES)}"
            )
        hidden = sorted(set(VELOCITIES[name] if indices is None else indices))
        if not set(hidden) < set(range(space.shape[0])):
            raise ValueError(f"indices are {hidden}; they must be some, not all, of 0 to {space.shape[0] - 1}")
        self._kept = np.delete(np.arange(space.shape[0]), hidden)
        self.observation_space = spaces.Box(space.low[self._kept], space.high[self._kept], dtype=space.dtype.type)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """The entries that are left."""
        return observation[self._kept]


class RepeatTrials(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Several inner episodes with one task as one episode: what was learned in the first helps in the next (RL^2).

    At the end of an inner episode the next begins at once. The observation that comes then is its first, and the flag that
    is appended to each observation is 1 there and in the last observation of all. The whole is terminated or truncated as
    its last inner episode is. The last info holds `inner_returns`, and `success` if any inner episode had it.

    An environment that draws a task at reset names it in the info as `task` and is given it back as
    `reset(options={"task": ...})`, as those of hadamem do; any other keeps only what it does not draw anew.

    Args:
        env: with a Box of one axis as observation space.
        trials: inner episodes.

    Raises:
        ValueError: another observation space, or fewer than one trial.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], trials: int = 2) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"RepeatTrials needs observations in a Box of one axis; these are in {space}")
        if trials < 1:
            raise ValueError(f"trials is {trials}; it must be at least 1")
        self.trials = trials
        self._dtype = space.dtype
        self.observation_space = spaces.Box(self._with(space.low, 0), self._with(space.high, 1), dtype=space.dtype.type)
        self._options: dict[str, Any] | None = None
        self._returns: list[float] = []
        self._successes: list[bool] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the first inner episode, with another task unless `options` say which."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._options = {**(options or {}), "task": info["task"]} if "task" in info else options
        self._returns, self._successes = [0.0], []
        return self._with(observation, 0), info

    def step(self, action: Any) -> tuple[np.ndarray, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take one step, which may be the last of an inner episode."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._returns[-1] += float(reward)
        if not (terminated or truncated):
            return self._with(observation, 0), reward, False, False, info
        if "success" in info:
            self._successes.append(bool(info["success"]))
        if len(self._returns) < self.trials:
            info = {name: value for name, value in info.items() if name not in ("success", "inner_returns")}
            observation, _ = self.env.reset(options=self._options)
            self._returns.append(0.0)
            return self._with(observation, 1), reward, False, False, info
        info = {**info, "inner_returns": np.array(self._returns)}
        if self._successes:
            info["success"] = any(self._successes)
        return self._with(observation, 1), reward, terminated, truncated, info

    def _with(self, observation: np.ndarray, flag: int) -> np.ndarray:
        return np.append(observation, flag).astype(self._dtype)
