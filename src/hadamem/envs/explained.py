"""What a task is, in words, and its options."""

from __future__ import annotations

import functools
import inspect
import itertools
from typing import Any

import gymnasium

from .. import explained
from ..explained import Option
from .make import make_one
from .tasks import load, options_of
from .worlds import batched_world, world


def explain(id: str) -> tuple[str, list[Option]]:
    """The spaces and the description of a task, and its options with their meanings.

    Raises:
        ValueError: the id is unknown.
    """
    name, limit = load(id), None
    if (known := options_of(name)) is not None:
        make: Any = world(name)
        documented = make.func if isinstance(make, functools.partial) else make
        task = batched_world(name, 1)
        observation, action, limit = task.single_observation_space, task.single_action_space, task.max_steps
    else:
        env = make_one(id, {})
        documented, known = _documented(type(env.unwrapped)), _arguments(type(env.unwrapped))
        observation, action = env.observation_space, env.action_space
        limit = None if env.spec is None else env.spec.max_episode_steps
        env.close()
    lines = [f"observation: {observation}", f"action: {action}"]
    lines += [f"steps of an episode: at most {limit:,}"] if limit else []
    return "\n".join([*lines, "", explained.description(documented)]).strip(), explained.options(documented, known)


def _documented(cls: type) -> type:
    """The class, or the nearest of those that it is made from, that says something about the task."""
    theirs = itertools.takewhile(lambda base: base is not gymnasium.Env, cls.__mro__)
    return next((base for base in theirs if base.__doc__), cls)


def _arguments(cls: type) -> dict[str, inspect.Parameter]:
    """The arguments of a class of environments that can be given as options."""
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = {name: p for name, p in inspect.signature(cls).parameters.items() if p.kind in plain}
    return {name: p for name, p in known.items() if name != "render_mode"}
