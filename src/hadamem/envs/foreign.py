"""A vector of environments that somebody else made, with the end of episodes told in our way."""

from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from .border import raise_as_theirs


class ForeignVector(VectorEnv):
    """Any `gymnasium.vector.VectorEnv`, beginning the next episode in the step in which one ends, as `Environments` does.

    One that does so by itself (`AutoresetMode.SAME_STEP`) passes as it is; one that waits to be told (`DISABLED`) is told. One
    that begins with the next step (`NEXT_STEP`) ignores an action then; here that step is the last of the episode: its last
    observation is answered by an action that does nothing and is not paid. Returns stay, episodes are a step longer.

    Args:
        id: what it is called in messages.
        env: the vector.
    """

    def __init__(self, id: str, env: VectorEnv) -> None:
        self.id, self.env, self.num_envs = id, env, env.num_envs
        self.single_observation_space, self.single_action_space = env.single_observation_space, env.single_action_space
        # not its own: EnvPool's are those of a single environment
        self.observation_space = batch_space(env.single_observation_space, self.num_envs)
        self.action_space = batch_space(env.single_action_space, self.num_envs)
        self.mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.metadata = dict(env.metadata) | {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = env.render_mode
        self._ended = np.zeros((2, self.num_envs), np.bool_)  # terminated, truncated; told with the next step
        self._final: dict[str, Any] = {}

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode everywhere."""
        self._ended[:] = False
        try:
            return self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise_as_theirs(f"{self.id}, reset", error)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance all environments, see `Environments.step`."""
        try:
            observation, reward, terminated, truncated, info = self.env.step(actions)
            ended, reward = np.array([terminated, truncated], np.bool_), np.array(reward, np.float64)
            if self.mode == AutoresetMode.DISABLED and ended.any():
                info = self._final_of(observation, info)
                observation, _ = self.env.reset(options={"reset_mask": ended.any(0)})
        except Exception as error:
            raise_as_theirs(f"{self.id}, step", error)
        if self.mode == AutoresetMode.NEXT_STEP:
            over, final = self._ended, self._final
            self._ended, self._final = ended, self._final_of(observation, info) if ended.any() else {}
            return observation, np.where(over.any(0), 0.0, reward), over[0], over[1], final
        return observation, reward, ended[0], ended[1], info

    def render(self) -> tuple[Any, ...] | None:
        """What each environment draws."""
        return self.env.render()

    def close_extras(self, **kwargs: Any) -> None:
        """Nothing: it belongs to whoever made it."""

    def _final_of(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        """Last observations, an object for each environment, and infos, under the names that Gymnasium has for them."""
        final = np.empty(self.num_envs, object)
        for i, own in enumerate(iterate(self.observation_space, observation)):
            final[i] = deepcopy(own)
        return {"final_obs": final, "final_info": info}
