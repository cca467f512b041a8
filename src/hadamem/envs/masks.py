"""Masks of legal actions, read from any of the places where environments give them."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from .actions import action_counts, flat_mask

KEY = "action_mask"


class MaskReader:
    """Reads the mask of legal actions of one environment.

    It uses the first of these sources that exists: the key "action_mask" of a Dict observation, with a number for each choice;
    a method `action_masks()` of the environment or of a wrapper; "action_mask" in the info of `reset` and `step`.

    Args:
        env: the environment.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self._space = env.action_space
        self._counts = action_counts(self._space)
        self._method: Callable[[], Any] | None = None
        self._in_observation = bool(self._counts) and masked_by_key(env.observation_space, env.action_space)
        if self._counts and not self._in_observation and env.has_wrapper_attr("action_masks"):
            self._method = env.get_wrapper_attr("action_masks")

    def said(self, observation: Any, info: Any) -> Any:
        """The current mask, in the environment's own form; None if it gives none. `action_masks()` may raise anything."""
        if not self._counts:
            return None
        if self._in_observation:
            return observation[KEY]
        if self._method is not None:
            return self._method()
        return info.get(KEY) if isinstance(info, dict) else None

    def checked(self, mask: Any) -> np.ndarray:
        """A result of `said`, checked and converted to a new array; see `checked_mask`."""
        return checked_mask(self._space, self._counts, mask)


def checked_mask(space: spaces.Space[Any], counts: list[int], mask: Any) -> np.ndarray:
    """A mask of the actions of a space, as a new array (sum of counts,) uint8.

    Raises:
        ValueError: `mask` is not a mask for this action space, or allows no action.
    """
    if mask is None:
        raise ValueError(f"there is no {KEY}, though there was one before")
    try:
        flat = flat_mask(space, mask).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{KEY} is no mask of {space}: {error}") from None
    if flat.shape != (sum(counts),):
        raise ValueError(f"{KEY} has {flat.size} numbers; {space} has {sum(counts)} choices")
    legal = flat == 1
    if not (legal | (flat == 0)).all():
        raise ValueError(f"{KEY} holds {flat[~legal & (flat != 0)][0]}; it must hold 1 for legal choices and 0 for others")
    for place, group in enumerate(np.split(legal, np.cumsum(counts)[:-1])):
        if not group.any():
            raise ValueError(f"{KEY} allows none of the {len(group)} choices of the action's integer {place}")
    return legal.astype(np.uint8)


def masked_by_key(observation: spaces.Space[Any], action: spaces.Space[Any]) -> bool:
    """Whether the key "action_mask" of an observation space holds a mask of the action space, and not something else."""
    if not isinstance(observation, spaces.Dict) or KEY not in observation.spaces:
        return False
    try:
        mask = flat_mask(action, observation[KEY].sample())
    except (TypeError, ValueError):  # the key holds something else
        return False
    return mask.size > 0 and mask.size == sum(action_counts(action))


def without_mask(observation: spaces.Space[Any], action: spaces.Space[Any]) -> spaces.Space[Any]:
    """An observation space without its mask of legal actions, if it has one."""
    if not masked_by_key(observation, action):
        return observation
    assert isinstance(observation, spaces.Dict)
    return spaces.Dict({key: space for key, space in observation.spaces.items() if key != KEY})
