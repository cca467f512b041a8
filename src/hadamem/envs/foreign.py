"""Adapter for vectors of environments from other libraries: it reports the ends of episodes as hadamem's own vectors do."""

from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from .border import THEIRS, raise_as_theirs


class ForeignVector(VectorEnv):
    """Any `gymnasium.vector.VectorEnv`, made to begin the next episode in the step in which one ends, as `Environments` does.

    A vector with `AutoresetMode.SAME_STEP` does so already, and one with `DISABLED` is reset here. One with `NEXT_STEP` resets
    in the step after the end and ignores that step's action. Here that step counts as the last step of the episode: its
    action has no effect, and its reward is 0. So returns are unchanged, and episodes are one step longer.

    Args:
        id: name of the vector in messages.
        env: the vector of environments.
    """

    def __init__(self, id: str, env: VectorEnv) -> None:
        self.id, self.env, self.num_envs = id, env, env.num_envs
        self.single_observation_space, self.single_action_space = env.single_observation_space, env.single_action_space
        # made here, since EnvPool's own batch spaces are those of a single environment
        self.observation_space = batch_space(env.single_observation_space, self.num_envs)
        self.action_space = batch_space(env.single_action_space, self.num_envs)
        self.mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.metadata = dict(env.metadata) | {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = env.render_mode
        self._ended = np.zeros((2, self.num_envs), np.bool_)  # terminated, truncated; reported with the next step
        self._final: dict[str, Any] = {}

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode everywhere."""
        self._ended[:] = False
        try:
            return self.env.reset(seed=seed, options=options)
        except THEIRS as error:
            raise_as_theirs(f"{self.id}, reset", error)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance all environments, see `Environments.step`."""
        try:
            observation, reward, terminated, truncated, info = self.env.step(actions)
            ended, reward = np.array([terminated, truncated], np.bool_), np.array(reward, np.float64)
            if self.mode == AutoresetMode.DISABLED and ended.any():
                info = self._final_of(observation, info)
                observation, _ = self.env.reset(options={"reset_mask": ended.any(0)})
        except THEIRS as error:
            raise_as_theirs(f"{self.id}, step", error)
        if self.mode == AutoresetMode.NEXT_STEP:
            over, final = self._ended, self._final
            self._ended, self._final = ended, self._final_of(observation, info) if ended.any() else {}
            return observation, np.where(over.any(0), 0.0, reward), over[0], over[1], final
        return observation, reward, ended[0], ended[1], info

    def render(self) -> tuple[Any, ...] | None:
        """The rendering of each environment."""
        return self.env.render()

    def close_extras(self, **kwargs: Any) -> None:
        """Do nothing: the program that made the vector also closes it."""

    def _final_of(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        """The last observations (an object for each environment) and infos, under Gymnasium's names for them."""
        final = np.empty(self.num_envs, object)
        for i, own in enumerate(iterate(self.observation_space, observation)):
            final[i] = deepcopy(own)
        return {"final_obs": final, "final_info": info}
