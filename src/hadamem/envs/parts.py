"""Selection of the parts of a nested observation that an agent sees."""

from collections.abc import Sequence
from typing import Any

from gymnasium import spaces

from .masks import without_mask


def seen_parts(
    observation: spaces.Space[Any], action: spaces.Space[Any], observe: Sequence[str] = ()
) -> tuple[spaces.Space[Any], list[str]]:
    """The parts of an observation that an agent sees: the parts asked for, without a mask of actions and parts without fixed
    width.

    Args:
        observation: observation space of a single environment.
        action: action space of the environment.
        observe: names of parts, such as "position" or "goal.position"; none given: all parts.

    Returns:
        The space of the seen parts, and the parts left out because their width is not fixed, such as "obs.mission (Text)".

    Raises:
        ValueError: the observation has no part of such a name.
    """
    space = without_mask(observation, action)
    return without_unsized(_chosen(space, observe, space) if observe else space)


def _items(space: spaces.Space[Any]) -> list[tuple[Any, spaces.Space[Any]]]:
    if isinstance(space, spaces.Dict):
        return list(space.spaces.items())
    return list(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else []


def _chosen(space: spaces.Space[Any], names: Sequence[str], whole: spaces.Space[Any], before: str = "") -> spaces.Space[Any]:
    rest: dict[Any, spaces.Space[Any]] = {}
    known = set()
    for key, child in _items(space):
        name = f"{before}{key}"
        below = [asked for asked in names if asked.startswith(f"{name}.")]
        if name in names:
            rest[key] = child
        elif below:
            rest[key] = _chosen(child, below, whole, f"{name}.")
        known |= {name, *below}
    if unknown := [asked for asked in names if asked not in known]:
        raise ValueError(f"no part of the observation is called {unknown[0]!r}; there are {', '.join(_names(whole)) or 'none'}")
    return spaces.Dict(rest)


def _names(space: spaces.Space[Any], before: str = "") -> list[str]:
    names = []
    for key, child in _items(space):
        names += [f"{before}{key}", *_names(child, f"{before}{key}.")]
    return names


def without_unsized(space: spaces.Space[Any], name: str = "obs") -> tuple[spaces.Space[Any], list[str]]:
    """Leave out the parts of a Dict or Tuple that have no fixed width (Text, Sequence, Graph, ...).

    A Tuple that loses a part becomes a Dict whose keys are the positions of the remaining parts, so that every path into an
    observation stays valid.

    Args:
        space: space of a single environment, however nested.
        name: name of the space, used in the names of the parts left out.

    Returns:
        The remaining space, and the parts left out, such as "obs.mission (Text)". If nothing remains, the unchanged space,
        which `Encoder` then refuses.
    """
    if not isinstance(space, (spaces.Tuple, spaces.Dict)):
        return space, [] if _sized(space) else [f"{name} ({type(space).__name__})"]
    rest: dict[Any, spaces.Space[Any]] = {}
    left_out: list[str] = []
    for key, child in _items(space):
        child, lost = without_unsized(child, f"{name}.{key}")
        left_out += lost
        if _sized(child):
            rest[key] = child
    return (spaces.Dict(rest) if left_out and rest else space), left_out


def _sized(space: spaces.Space[Any]) -> bool:
    """Whether every part of a space has a fixed width."""
    if isinstance(space, (spaces.Tuple, spaces.Dict)):
        return all(_sized(child) for _, child in _items(space))
    return isinstance(space, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box))
