"""Wrappers put around an environment before it is played: any wrappers, and those of Gymnasium that shrink pictures."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import GrayscaleObservation, MaxAndSkipObservation, ResizeObservation

from .border import THEIRS, raise_as_theirs


@dataclass(frozen=True)
class Changes:
    """The wrappers put around each environment, in this order from the inside: `wrappers`, frame skip, gray, resize.

    Args:
        wrappers: "package.module:name" of classes or functions that take an environment and return one.
        frame_skip: steps for which an action is repeated; each pixel of the picture is the brighter of the last two pictures.
        gray: whether colour pictures (H, W, 3) are converted to gray (H, W).
        resize: height and width to which pictures are resized, in pixels.
    """

    wrappers: tuple[str, ...] = ()
    frame_skip: int = 1
    gray: bool = False
    resize: tuple[int, int] | None = None

    def apply(self, env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
        """Put the wrappers around an environment.

        Raises:
            ValueError: a wrapper cannot be found, takes more than an environment, or returns none, or an option for pictures is
                used without pictures.
            EnvironmentFailedError: importing the module of a wrapper raised an exception.
        """
        for name in self.wrappers:
            wrapper = _wrapper(name)
            try:
                env = wrapper(env)
            except TypeError as error:
                if error.__traceback__ is not None and error.__traceback__.tb_next is not None:  # raised inside the wrapper
                    raise
                raise ValueError(
                    f"wrapper {name} cannot be called with the environment alone ({error}); "
                    "a function of your own that takes the environment can call it with more"
                ) from error
            if not isinstance(env, gymnasium.Env):
                raise ValueError(f"wrapper {name} gave {env!r}; it must give a gymnasium.Env")
        if self.frame_skip > 1:
            _require_picture(env, "frame_skip", (2, 3))
            env = MaxAndSkipObservation(env, self.frame_skip)
        if self.gray:
            _require_picture(env, "gray", (3,))
            env = GrayscaleObservation(env)
        if self.resize is not None:
            _require_picture(env, "resize", (2, 3))
            env = ResizeObservation(env, self.resize)
        return env


def _wrapper(name: str) -> Callable[[gymnasium.Env[Any, Any]], Any]:
    module, colon, attribute = name.rpartition(":")
    if not colon or not attribute.isidentifier():
        raise ValueError(f"wrapper {name!r} must be package.module:name, the name of a class or a function there")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise ValueError(f"cannot import {module!r} of the wrapper {name!r}: {error}") from error
    except THEIRS as error:
        raise_as_theirs(f"importing {module!r} of the wrapper {name!r}", error)
    if not callable(found):
        raise ValueError(f"wrapper {name!r}: {module} has no class or function {attribute!r}")
    return found


def _require_picture(env: gymnasium.Env[Any, Any], option: str, axes: tuple[int, ...]) -> None:
    space = env.observation_space
    picture = isinstance(space, spaces.Box) and space.dtype == np.uint8
    if not picture or len(shape := space.shape or ()) not in axes or (option == "gray" and shape[-1] != 3):
        shapes = "(H, W, 3)" if option == "gray" else "(H, W) or (H, W, C)"
        raise ValueError(
            f"{option} is for pictures, bytes of shape {shapes}; the observations here are in {space}. A wrapper can make them "
            "pictures first, see the option wrappers"
        )
