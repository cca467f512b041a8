"""Conversion between an environment's spaces and a policy's rows of numbers, which does not need the environment itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from gymnasium import spaces

from .actions import Actions
from .described import space_from_json, space_to_json
from .layout import Channels, Encoder, InvalidValueError, Layout, Leaf
from .masks import KEY, checked_mask

#: Where the mask of legal actions is given: nowhere, under its key in the observation, or separately from the observation.
MaskPlace = Literal["none", "key", "beside"]


class Interface:
    """The columns and actions of a `VectorEnvironment`, made from its spaces alone. Letters: N observations, D columns.

    Args:
        observation: space of the seen parts of an observation of a single environment, which may have further parts.
        action: action space of a single environment.
        inputs: see `make_vector`, in the order given there.
        mask: where the mask of legal actions is given.
        joint_actions: see `make_vector`.
        channels: see `make_vector`.

    Attributes:
        layout: meaning of the columns.
        actions: converts the agent's actions to the environment's.
        seen: writes the seen parts of observations into their columns; None if observations are not an input of the policy.
        history: the columns of the previous action and reward.
    """

    def __init__(
        self,
        observation: spaces.Space[Any],
        action: spaces.Space[Any],
        inputs: Sequence[str] = ("obs",),
        mask: MaskPlace = "none",
        joint_actions: bool = False,
        channels: Channels | None = None,
    ) -> None:
        self.observation, self.action, self.inputs, self.mask = observation, action, tuple(inputs), mask
        self.joint_actions, self.channels = joint_actions, channels
        self.actions = Actions(action, joint_actions)
        self.seen = Encoder(observation, channels=channels) if "obs" in inputs else None
        leaves = list(self.seen.leaves) if self.seen else []
        self._mask: Leaf | None = None
        if mask != "none":
            self._mask = Leaf(f"obs.{KEY}", "vector", (self.actions.mask_size,), _end(leaves), unit=1.0, mask=True)
            leaves.append(self._mask)
        self.history = slice(_end(leaves), None)
        self._previous = Encoder(action, "action", _end(leaves)) if "action" in inputs else None
        leaves += self._previous.leaves if self._previous else ()
        self.reward = "reward" in inputs
        if self.reward:
            leaves.append(Leaf("reward", "vector", (1,), _end(leaves), measured=True))
        self.layout = Layout(tuple(leaves))

    @property
    def action_space(self) -> spaces.Space[Any]:
        """See `VectorEnvironment`."""
        return self.actions.space

    @property
    def described(self) -> dict[str, str]:
        """The leaves of the observation and the action space in words, to check that an environment fits a policy.

        Bounds of vectors are left out, since they do not change how values are converted.
        """
        words = {leaf.name: f"{leaf.kind} of shape {leaf.shape}, unit {leaf.unit}" for leaf in self.layout.leaves}
        return words | {"action space": str(self.actions.space)}

    def to_json(self) -> dict[str, Any]:
        """All constructor arguments, as values that `json` can write."""
        return {
            "observation": space_to_json(self.observation),
            "action": space_to_json(self.action),
            "inputs": list(self.inputs),
            "mask": self.mask,
            "joint_actions": self.joint_actions,
            "channels": self.channels,
        }

    @classmethod
    def from_json(cls, said: Any) -> Interface:
        """Make the interface from a result of `to_json`.

        Raises:
            ValueError: `said` is not such a result.
        """
        try:
            if said["mask"] not in get_args(MaskPlace) or said["channels"] not in (*get_args(Channels), None):
                raise ValueError(f"mask is {said['mask']!r} and channels are {said['channels']!r}")
            observation, action = space_from_json(said["observation"]), space_from_json(said["action"])
            return cls(observation, action, said["inputs"], said["mask"], bool(said["joint_actions"]), said["channels"])
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"the spaces cannot be read ({type(error).__name__}: {error})") from error

    def write(self, observations: Any, rows: np.ndarray, single: bool) -> None:
        """Write the seen parts of observations into rows (N, D).

        Args:
            observations: N observations, nested as Gymnasium's vector environments nest them, or a single observation, as its
                environment gives it.
            rows: float32, written in place.
            single: whether `observations` is a single observation.

        Raises:
            ValueError: an observation is not in the space; the message says which value, and why.
        """
        if self.seen is None:
            return
        try:
            self.seen.write_checked(observations, rows, single)
        except InvalidValueError as error:
            where = "" if single else f"row {error.row}: "
            raise ValueError(f"{where}in the observation, {error}") from None

    def write_mask(self, observations: Any, mask: Any, rows: np.ndarray, single: bool) -> None:
        """Write the masks of legal actions into rows (N, D), if the policy has masks.

        Args:
            observations: see `write`.
            mask: a mask of the action space, or N masks; None: the observations contain the masks, or the policy has none.
            rows: float32, written in place.
            single: whether `observations` is a single observation.

        Raises:
            ValueError: a mask is missing, not expected, or does not fit the action space.
        """
        if self._mask is None:
            if mask is not None:
                raise ValueError("mask is given, but the policy was trained without masks; leave it out")
            return
        if mask is None and self.mask == "key":
            try:
                mask = observations[KEY]
            except (KeyError, IndexError, TypeError):
                raise ValueError(f"the observation has no {KEY!r}, which it had in training; add it, or give mask=") from None
        if mask is None:
            raise ValueError("the policy was trained with masks of legal actions; give the one of this observation as mask=")
        counts = self.actions.counts
        for i, row in enumerate(rows):
            legal = checked_mask(self.action, counts, mask if single else row_of(mask, i))
            row[self._mask.columns] = self.actions.mask(legal[None])[0]

    def write_previous(self, actions: Any, rewards: Any, rows: np.ndarray) -> None:
        """Write N previous actions (as the environment got them) and rewards (N,) into their columns of rows (N, D)."""
        if self._previous:
            self._previous.write(actions, rows)
        if self.reward:
            rows[:, -1] = rewards


def _end(leaves: Sequence[Leaf]) -> int:
    return sum(leaf.size for leaf in leaves)


def row_of(batch: Any, i: int) -> Any:
    """One element of a nested batch."""
    if isinstance(batch, dict):
        return {key: row_of(part, i) for key, part in batch.items()}
    return tuple(row_of(part, i) for part in batch) if isinstance(batch, tuple) else batch[i]


def first_of(batch: Any) -> Any:
    """The first element of a nested batch."""
    return row_of(batch, 0)


def rows_of(batch: Any, begin: int, end: int) -> Any:
    """The elements `begin` to `end` of a nested batch, without a copy."""
    if isinstance(batch, dict):
        return {name: rows_of(part, begin, end) for name, part in batch.items()}
    if isinstance(batch, tuple) and any(isinstance(part, np.ndarray | dict | tuple) for part in batch):
        return tuple(rows_of(part, begin, end) for part in batch)
    return batch[begin:end]
