"""Conversion of Gymnasium spaces to JSON and back, so that a policy can act without its environment."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """Convert a Box, Discrete, MultiDiscrete, MultiBinary, or a Tuple or Dict of these, to values that `json` can write.

    Bounds that are equal everywhere become one number. Numbers that are not finite become "inf", "-inf" and "nan", since JSON
    has no such numbers.

    Raises:
        ValueError: the space is of any other kind.
    """
    match space:
        case spaces.Dict():
            return {"kind": "Dict", "parts": [[key, space_to_json(part)] for key, part in space.spaces.items()]}
        case spaces.Tuple():
            return {"kind": "Tuple", "parts": [space_to_json(part) for part in space.spaces]}
        case spaces.Discrete():
            return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": _name(space)}
        case spaces.MultiDiscrete():
            return {"kind": "MultiDiscrete", "n": space.nvec.tolist(), "start": space.start.tolist(), "dtype": _name(space)}
        case spaces.MultiBinary():
            return {"kind": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
        case spaces.Box():
            bounds = {"low": _numbers(space.low), "high": _numbers(space.high)}
            return {"kind": "Box", "shape": list(space.shape), "dtype": _name(space), **bounds}
    raise ValueError(f"a {type(space).__name__} space cannot be kept as JSON")


def space_from_json(said: Any) -> spaces.Space[Any]:
    """Convert a result of `space_to_json` back to the space.

    Raises:
        ValueError: `said` is not such a result.
    """
    try:
        match said["kind"]:
            case "Dict":
                # pairs, since Gymnasium sorts the keys of a dict, and the order is that of the policy's inputs
                return spaces.Dict([(key, space_from_json(part)) for key, part in said["parts"]])
            case "Tuple":
                return spaces.Tuple([space_from_json(part) for part in said["parts"]])
            case "Discrete":
                discrete = spaces.Discrete(said["n"], start=said["start"])
                return _of_type(discrete, said["dtype"])
            case "MultiDiscrete":
                dtype = np.dtype(said["dtype"]).type
                return spaces.MultiDiscrete(np.asarray(said["n"]), dtype=dtype, start=np.asarray(said["start"]))
            case "MultiBinary":
                return spaces.MultiBinary(said["n"])
            case "Box":
                dtype, shape = np.dtype(said["dtype"]), tuple(said["shape"])
                return spaces.Box(_array(said["low"], shape, dtype), _array(said["high"], shape, dtype), shape, dtype.type)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no space can be made of {str(said)[:200]} ({type(error).__name__}: {error})") from error
    raise ValueError(f"there is no space of the kind {said['kind']!r}")


def _name(space: spaces.Space[Any]) -> str:
    return np.dtype(space.dtype).name


def _of_type(space: spaces.Discrete, name: str) -> spaces.Discrete:
    """A Discrete space with its original dtype, which older versions of Gymnasium only accept if it is int64."""
    if np.dtype(space.dtype) != np.dtype(name):
        return spaces.Discrete(int(space.n), start=int(space.start), dtype=np.dtype(name).type)
    return space


def _numbers(values: np.ndarray) -> Any:
    """One number if all values are equal, otherwise nested lists."""
    first = values.flat[0] if values.size else values.dtype.type(0)
    return _number(first) if (values == first).all() else _nested(values)


def _nested(values: np.ndarray) -> Any:
    return [_nested(part) for part in values] if values.ndim else _number(values[()])


def _number(value: Any) -> Any:
    plain = value.item()
    return plain if np.isfinite(plain) else str(plain)


def _array(said: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if not isinstance(said, list):
        return np.full(shape, float(said) if isinstance(said, str) else said, dtype)
    return np.array([float(x) if isinstance(x, str) else x for x in _flat(said)], dtype).reshape(shape)


def _flat(said: list[Any]) -> list[Any]:
    return [x for part in said for x in (_flat(part) if isinstance(part, list) else [part])]
