"""Wrappers that turn a Gymnasium environment into a task that requires memory."""

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
    """Leaves velocities out of the observation, so that the agent has to infer them from previous positions.

    Args:
        env: an environment whose observation space is a Box with one axis.
        indices: the entries to leave out; None: the velocities of a known classic-control, Box2D or MuJoCo environment.

    Raises:
        ValueError: the observation space is another one; or the indices are out of range, or all entries; or no indices are
            given for an environment that is not in `VELOCITIES`.
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
        """The observation without the velocities."""
        return observation[self._kept]


class RepeatTrials(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Several inner episodes with one task as one episode, so that what was found out in the first helps in the next (RL^2).

    At the end of an inner episode the next one begins at once, and the observation is the first of that next one. A flag is
    appended to each observation; it is 1 in the first observation after an inner episode and in the very last observation. The
    episode is terminated or truncated as its last inner episode is. Its last info holds `inner_returns`, and `success` (whether
    any inner episode succeeded) if the inner episodes report success.

    An environment that draws a task at reset has to give it in the info as `task` and accept it in
    `reset(options={"task": ...})`, as the tasks of hadamem do. Otherwise the inner episodes share only what `reset` does not
    draw anew.

    Args:
        env: an environment whose observation space is a Box with one axis.
        trials: number of inner episodes.

    Raises:
        ValueError: the observation space is another one, or `trials` is less than 1.
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
        """Begin the first inner episode, with the task in `options` or a newly drawn one."""
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
