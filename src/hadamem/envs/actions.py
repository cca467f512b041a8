"""Action spaces as an agent sees them, actions as rows of numbers, and masks of legal actions.

Letters: N environments, K numbers in an action.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

_LARGEST_JOINT = 4096


class Actions:
    """An action space as an agent sees it, and the conversion of its actions to the environment's and back.

    An agent acts with (N,) integers in 0..n-1 for Discrete, (N, K) integers from 0 up for MultiDiscrete, and (N, K)
    floats for Box. Box actions are in the environment's own units. A MultiBinary is treated as a MultiDiscrete with two choices
    in every place. For Tuple and Dict of these, however nested, the numbers of all parts stand side by side, as floats if any
    part is a Box.

    Args:
        space: action space of a single environment.
        joint: play a MultiDiscrete or MultiBinary as one Discrete, with a choice for every combination; the last place changes
            fastest.

    Attributes:
        space: the agent's action space: `space` as given, or a Discrete if `joint`.
        counts: number of choices for each integer of the environment's own action.
        whole: whether all numbers of an action are integers.

    Raises:
        ValueError: the action space is not supported, or cannot be played jointly.
    """

    def __init__(self, space: spaces.Space[Any], joint: bool = False) -> None:
        self._parts = [_Part(path, part) for path, part in _walk(space, ())]
        self.counts = action_counts(space)
        self.space, self._own_space, self._joint = space, space, joint
        self.whole = all(not isinstance(part.space, spaces.Box) for part in self._parts)
        if joint:
            combinations = math.prod(self.counts)
            if not isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
                raise ValueError(f"joint actions are for MultiDiscrete and MultiBinary; the action space is {space}")
            if combinations > _LARGEST_JOINT:
                raise ValueError(
                    f"{space} has {combinations:,} combinations; joint actions may have at most {_LARGEST_JOINT:,}"
                )
            self.space = spaces.Discrete(combinations)

    def to_environment(self, actions: np.ndarray) -> Any:
        """Convert an agent's actions, (N,) or (N, K), to the environment's: (N, *space.shape), nested as the space is.

        Box actions are clipped to the bounds of the space.

        Raises:
            ValueError: the shape, the kind of number or the range is wrong.
        """
        N = len(actions)
        if self._joint:
            actions = np.stack(np.unravel_index(_Part((), self.space).checked(actions), self.counts), axis=-1)
        if not self._nested:
            return self._parts[0].checked(actions)
        width = sum(part.width for part in self._parts)
        if actions.shape != (N, width):
            raise ValueError(f"actions have shape {actions.shape}, but {self.space} wants shape ({N}, {width})")
        values, first = [], 0
        for part in self._parts:
            columns = actions[:, first : first + part.width]
            first += part.width
            if not isinstance(part.space, spaces.Box) and columns.dtype.kind == "f":
                if not (columns == np.rint(columns)).all():  # nan, too
                    raise ValueError(
                        f"actions contain {columns[columns != np.rint(columns)][0]} where {part.space} wants an integer"
                    )
                columns = columns.astype(np.int64)
            values.append(part.checked(columns))
        return _nest(self._own_space, iter(values))

    def from_environment(self, actions: Any) -> np.ndarray:
        """Convert the environment's actions, (N, *space.shape) or nested, back to an agent's: (N,) or (N, K)."""
        if self._joint:
            return np.ravel_multi_index(tuple(self._parts[0].raw(actions).T), self.counts)
        if not self._nested:
            return self._parts[0].raw(actions)
        rows = []
        for part in self._parts:
            value = actions
            for key in part.path:
                value = value[key]
            rows.append(part.raw(value).reshape(len(value), part.width))
        return np.concatenate(rows, axis=1).astype(np.int64 if self.whole else np.float32)

    def rows(self, actions: Any) -> np.ndarray:
        """Write the environment's actions as rows of numbers (N, K), one row for each action."""
        if not self._nested:
            return actions.reshape(len(actions), -1)
        return self.from_environment(actions)

    @property
    def mask_size(self) -> int:
        """Number of columns of a mask of the agent's legal choices; 0 if an action has no integers."""
        return math.prod(self.counts) if self._joint else sum(self.counts)

    def mask(self, legal: np.ndarray) -> np.ndarray:
        """Convert the environment's masks (N, sum of counts) to the agent's masks (N, mask_size)."""
        if not self._joint:
            return legal
        joint = np.ones((len(legal), 1), legal.dtype)
        for group in np.split(legal, np.cumsum(self.counts)[:-1], axis=1):
            joint = (joint[:, :, None] * group[:, None, :]).reshape(len(legal), -1)
        return joint

    def draw_legal(self, actions: np.ndarray, legal: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Replace all integers of random actions, (N,) or (N, K), by legal choices that are drawn uniformly.

        Args:
            actions: actions as `from_environment` gives them; the numbers of Box parts stay unchanged.
            legal: the agent's mask (N, mask_size).
            generator: random generator for the draws.
        """
        counts = [self.mask_size] if self._joint else self.counts
        groups = np.split(legal, np.cumsum(counts)[:-1], axis=1)
        drawn = [(generator.random(group.shape) * (group > 0)).argmax(1) for group in groups]
        if actions.ndim == 1:
            return drawn[0].astype(actions.dtype)
        columns = (column for part, first in self._columns() if part.counts for column in range(first, first + part.width))
        actions = actions.copy()
        for column, choice in zip(columns, drawn, strict=True):
            actions[:, column] = choice
        return actions

    @property
    def _nested(self) -> bool:
        return isinstance(self._own_space, (spaces.Tuple, spaces.Dict))

    def _columns(self) -> Iterator[tuple["_Part", int]]:
        first = 0
        for part in self._parts:
            yield part, first
            first += part.width


class _Part:
    """A part of an action space that is not a Tuple or Dict, and its path in the nested space."""

    def __init__(self, path: tuple[Any, ...], space: spaces.Space[Any]) -> None:
        self.path, self.space = path, space
        self._shape: tuple[int, ...] = space.shape or ()  # shape of one action in the environment's form
        self.width = int(np.prod(self._shape))
        self.counts = action_counts(space)
        if self.counts:
            self._limits = np.asarray(self.counts, np.uint64).reshape(self._shape)
            self._start = getattr(space, "start", 0)  # a MultiBinary has none

    def checked(self, actions: np.ndarray) -> np.ndarray:
        """Check an agent's actions, (N,) or (N, K), and convert them to the environment's."""
        N = len(actions)
        if actions.size != N * self.width:
            raise ValueError(f"actions have shape {actions.shape}, {self._wanted(N)}")
        actions = actions.reshape(N, *self._shape)
        if isinstance(self.space, spaces.Box):
            low, high, dtype = self.space.low, self.space.high, self.space.dtype
            if np.isnan(actions).any():
                raise ValueError("actions contain nan: the policy that gave them has weights that are not finite")
            if dtype.kind not in "iu":
                return np.clip(actions, low, high).astype(dtype, copy=False)
            with np.errstate(invalid="ignore"):  # floats too large for an integer are replaced by a bound below
                whole = np.rint(actions).astype(dtype)
            return np.where(actions >= high, high, np.where(actions <= low, low, whole))
        if actions.dtype.kind not in "iu":
            raise ValueError(f"actions are {actions.dtype}, {self._wanted(N)}")
        actions = actions.astype(np.int64, copy=False)
        inside = actions.view(np.uint64) < self._limits  # as unsigned integers, negative numbers are huge
        if np.count_nonzero(inside) < inside.size:
            raise ValueError(f"actions contain {actions[~inside][0]}, {self._wanted(N)}")
        return (actions + self._start).astype(self.space.dtype, copy=False)

    def raw(self, actions: np.ndarray) -> np.ndarray:
        """Convert the environment's actions back to an agent's: (N,) for Discrete, otherwise (N, K)."""
        if isinstance(self.space, spaces.Discrete):
            return actions - self.space.start
        if self.counts:
            actions = actions.astype(np.int64) - self._start
        return actions.reshape(len(actions), self.width)

    def _wanted(self, N: int) -> str:
        if isinstance(self.space, spaces.Discrete):
            return f"but {self.space} wants shape ({N},) with integers from 0 to {self.space.n - 1}"
        if isinstance(self.space, spaces.Box):
            return f"but {self.space} wants shape ({N}, {self.width}) with floats"
        highest = [count - 1 for count in self.counts]
        return f"but {self.space} wants shape ({N}, {self.width}) with integers from 0 to {highest}"


def action_counts(space: spaces.Space[Any]) -> list[int]:
    """The number of choices for each integer of an action; a Box has no entries."""
    if isinstance(space, (spaces.Tuple, spaces.Dict)):
        return [count for _, part in _walk(space, ()) for count in action_counts(part)]
    if isinstance(space, spaces.MultiBinary):
        return [2] * int(np.prod(space.shape))
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return [int(n) for n in np.ravel(space.n if isinstance(space, spaces.Discrete) else space.nvec)]
    return []


def action_parts(space: spaces.Space[Any]) -> list[spaces.Space[Any]]:
    """The parts of an action space that are not a Tuple or Dict, in the order of their columns.

    Raises:
        ValueError: a part is not supported.
    """
    return [part for _, part in _walk(space, ())]


def flat_mask(space: spaces.Space[Any], mask: Any) -> np.ndarray:
    """A mask of legal choices as one array (sum of counts,), from any of the usual forms.

    The mask may be flat, as in sb3-contrib, or nested like the space with an array for each part, as in Gymnasium's
    `sample(mask)`: with Dict and Tuple as in the space, None or no entry for a Box, and a tuple of arrays for a MultiDiscrete.
    """
    if mask is None:
        return np.ones(sum(action_counts(space)))
    if isinstance(mask, dict) and isinstance(space, spaces.Dict):
        return np.concatenate([flat_mask(part, mask.get(key)) for key, part in space.spaces.items()])
    if isinstance(mask, (tuple, list)) and isinstance(space, spaces.Tuple):
        return np.concatenate([flat_mask(part, part_mask) for part, part_mask in zip(space.spaces, mask, strict=True)])
    if isinstance(mask, (tuple, list)) and mask and not np.isscalar(mask[0]):
        return np.concatenate([np.asarray(part).ravel() for part in mask])
    return np.asarray(mask).ravel()


def _walk(space: spaces.Space[Any], path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], spaces.Space[Any]]]:
    if isinstance(space, (spaces.Tuple, spaces.Dict)):
        items: Any = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in items:
            yield from _walk(part, (*path, key))
    elif isinstance(space, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)):
        yield path, space
    else:
        raise ValueError(
            f"action space {space} is not supported; it must be Discrete, MultiDiscrete, MultiBinary or Box, "
            "or a Tuple or Dict of these"
        )


def _nest(space: spaces.Space[Any], values: Iterator[np.ndarray]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _nest(part, values) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_nest(part, values) for part in space.spaces)
    return next(values)
