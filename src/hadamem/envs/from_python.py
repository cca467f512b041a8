"""Ids for environments given as Python objects, since runs, sweeps and pages refer to environments by id."""

import importlib
import itertools
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import gymnasium
from gymnasium.vector import VectorEnv

#: Prefix of the ids of environments that only the Python program which defined them can make.
HERE = "python."

_numbers = itertools.count()
_vectors: dict[str, VectorEnv] = {}


def id_of(env: Any) -> str:
    """An id from which `make_vector` makes the environment.

    Args:
        env: an id; a class; a function that makes an environment; an environment, which is copied; or a vector of environments,
            which is used as it is.

    Returns:
        An id is returned unchanged. For a class or function of a module, "package.module:name", which the command line
        understands, too. Otherwise an id that is valid only in this process.

    Raises:
        ValueError: `env` is anything else, or an environment that cannot be copied.
    """
    if isinstance(env, str):
        return env
    if isinstance(env, VectorEnv):
        known = next((id for id, there in _vectors.items() if there is env), None)
        id = known or f"{HERE}{type(env).__name__}-{next(_numbers)}"
        _vectors[id] = env
        return id
    if isinstance(env, gymnasium.Env):
        try:
            deepcopy(env)
        except Exception as error:
            raise ValueError(
                f"{env} cannot be copied ({type(error).__name__}: {error}); give its class, or a function that makes it"
            ) from error
        return _register(type(env.unwrapped).__name__, lambda render_mode=None: deepcopy(env))
    if not callable(env):
        raise ValueError(
            f"env is {env!r}; it must be an id, a class, a function that makes one, an environment, or a VectorEnv"
        )
    module, name = getattr(env, "__module__", ""), getattr(env, "__qualname__", type(env).__name__)
    if module != "__main__" and name.isidentifier() and getattr(importlib.import_module(module), name, None) is env:
        return f"{module}:{name}"
    return _register(name.rpartition(".")[2].strip("<>"), env)


def vector_of(id: str) -> VectorEnv | None:
    """The vector of environments that `id_of` has given this id; None if there is none."""
    return _vectors.get(id)


def register_callable(id: str, make: Callable[..., gymnasium.Env[Any, Any]]) -> str:
    """Register a class or function of a module with Gymnasium, and return the id under which Gymnasium makes it."""
    name = id.replace(":", ".")
    if name not in gymnasium.registry:
        gymnasium.register(name, make)
    return name


def _register(name: str, make: Callable[..., gymnasium.Env[Any, Any]]) -> str:
    id = f"{HERE}{name}-{next(_numbers)}"
    gymnasium.register(id, make)
    return id
