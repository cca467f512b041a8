"""The border to environments written by others: their observations, rewards and infos are checked and copied here.

An exception raised by an environment is reported as the environment's error. The message about a value that is not in its space
says which environment and step it came from.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import cache
from types import TracebackType
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from .layout import first_outside
from .masks import KEY, MaskReader
from .parts import seen_parts

_log = logging.getLogger("hadamem")
_INT64 = np.dtype(np.int64)

# Modules between hadamem and an environment's own code; a traceback of an environment's error is shown without their frames.
_BETWEEN = (
    "hadamem.",
    "gymnasium.core",
    "gymnasium.wrappers.",
    "gymnasium.envs.registration",
    "importlib",
    "_frozen_importlib",
)


#: What an environment's code raises by its own fault. exit() in an environment must not look like the end of a training.
THEIRS = (Exception, SystemExit)


class EnvironmentFailedError(RuntimeError):
    """An exception in the code of an environment. Its `__cause__` is that exception, with a traceback that begins there."""


@cache
def notice(text: str) -> None:
    """Log a text once per process, on the logger "hadamem": one line on stderr unless logging is set up otherwise."""
    _log.warning(text)


def place(id: str, number: int, step: int) -> str:
    """The place of an error in words: the environment's id and number, and the step of its episode (0: the reset)."""
    return f"{id}, environment {number}, {f'step {step:,} of the episode' if step else 'reset'}"


class Environments(VectorEnv):
    """N environments of one kind, stepped one after the other; an environment whose episode ends begins the next one at once.

    Only the entries of the infos that `Episode` and `Transition` report, and masks, are read; other entries are ignored.

    Args:
        id: name of the environments in messages.
        num_envs: N.
        make: makes one environment.
        observe: names of the parts of an observation that are read, see `seen_parts`; none given: all parts.
        first: number of the first environment in messages.
        batch: arrays that every batch of observations is written to, as `create_empty_array` makes them; None: new arrays.

    Attributes:
        has_time_limit: whether Gymnasium truncates the episodes after some number of steps.
        needed_inputs: see the function `needed_inputs`.

    Raises:
        EnvironmentFailedError: in the constructor, `reset`, `step`, `render` and `close`: an environment raised an exception.
        ValueError: in the constructor, `reset` and `step`: a result of an environment does not fit its spaces.
    """

    def __init__(
        self,
        id: str,
        num_envs: int,
        make: Callable[[], gymnasium.Env[Any, Any]],
        observe: Sequence[str] = (),
        first: int = 0,
        batch: Any = None,
    ) -> None:
        self.id, self.num_envs, self._first = id, num_envs, first
        self._max_steps: int | None = None
        self.envs: list[gymnasium.Env[Any, Any]] = []
        self._steps = [0] * num_envs  # steps of the current episodes
        for i in range(num_envs):
            try:
                env = make()
            except gymnasium.error.Error:  # not installed, not registered
                raise
            except TypeError as error:  # Gymnasium raises it for wrong options, and in place of any other TypeError
                cause = error.__cause__ if isinstance(error.__cause__, TypeError) else error
                if all(_module(frame).startswith(_BETWEEN) for frame in _frames(cause.__traceback__)):
                    raise
                self._fail(i, cause, "when it was made")
            except THEIRS as error:
                self._fail(i, error, "when it was made")
            self.envs.append(env)
            for name in ("observation_space", "action_space"):
                wanted, this = getattr(self.envs[0], name), getattr(env, name)
                if this != wanted:
                    raise ValueError(
                        f"{id}: environment {first + i} has the {name} {this}, but environment {first} has {wanted}"
                    )
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = dict(self.envs[0].metadata) | {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = self.envs[0].render_mode
        self._seen, _ = seen_parts(self.single_observation_space, self.single_action_space, observe)
        self._masks = [MaskReader(env) for env in self.envs]
        self._masked: bool | None = None  # the first reset says whether there are masks
        self._batch = create_empty_array(self._seen, num_envs) if batch is None else batch
        spec = self.envs[0].spec
        self.has_time_limit = spec is not None and bool(spec.max_episode_steps)
        self.needed_inputs = needed_inputs(self.envs[0].unwrapped)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode everywhere; environment i is seeded with `seed + i`, or keeps its generator if `seed` is None."""
        assert not isinstance(seed, list)
        info: dict[str, Any] = {}
        observations = [
            self._begin(i, info, seed=None if seed is None else seed + i, options=options) for i in range(self.num_envs)
        ]
        return self._gather(observations), info

    def step(self, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance all environments. The last observations and infos of episodes are in the info, under Gymnasium's names.

        If the environments have masks, "action_mask" in the info belongs to the returned observations, and "action_mask" in
        "final_info" to the last observations. The next step overwrites the returned observations.
        """
        observations: list[Any] = []
        rewards: list[Any] = []
        flags = np.zeros((2, self.num_envs), np.bool_)
        info: dict[str, Any] = {}
        final_info: dict[str, Any] = {}
        for i, action in enumerate(iterate(self.action_space, actions)):
            self._steps[i] += 1
            try:
                result = self.envs[i].step(action)
            except THEIRS as error:
                self._fail(i, error)
            if not isinstance(result, tuple) or len(result) != 5:
                self._refuse(i, f"step() must return observation, reward, terminated, truncated and info, not {_short(result)}")
            observation, reward, terminated, truncated, own_info = result
            if type(terminated) is not bool:
                terminated = self._flag(i, "terminated", terminated)
            if type(truncated) is not bool:
                truncated = self._flag(i, "truncated", truncated)
            if terminated or truncated or self._steps[i] == self._max_steps:
                flags[:, i] = terminated, truncated or self._steps[i] == self._max_steps
                self._add(info, "final_obs", deepcopy(observation), i)  # the reset may write into the same array
                self._read(own_info, ("at_goal", "success", "is_success", "inner_returns"), final_info, i)
                with suppress(ValueError):  # an episode that is over need not have legal actions
                    self._read_mask(observation, own_info, final_info, i)
                observation = self._begin(i, info)
            else:
                self._read(own_info, ("at_goal",), info, i)
                self._read_mask(observation, own_info, info, i)
            observations.append(observation)
            rewards.append(reward)
        if final_info or "final_obs" in info:
            info |= {"final_info": final_info, "_final_info": flags.any(0)}
        batch = self._gather(observations)
        return batch, self._gather_rewards(rewards), *flags, info

    def cut_after(self, max_steps: int) -> None:
        """Truncate all episodes after `max_steps` steps."""
        self._max_steps = max_steps

    def render(self) -> tuple[Any, ...] | None:
        """The rendering of each environment, or None without a `render_mode`."""
        if self.render_mode is None:
            return None
        pictures = []
        for i, env in enumerate(self.envs):
            try:
                pictures.append(env.render())
            except THEIRS as error:
                self._fail(i, error)
        return tuple(pictures)

    def close_extras(self, **kwargs: Any) -> None:
        """Close every environment."""
        for i, env in enumerate(self.envs):
            try:
                env.close()
            except THEIRS as error:
                self._fail(i, error, "when it was closed")

    def _begin(self, i: int, info: dict[str, Any], **how: Any) -> Any:
        self._steps[i] = 0
        try:
            result = self.envs[i].reset(**how)
        except THEIRS as error:
            self._fail(i, error)
        if not isinstance(result, tuple) or len(result) != 2:
            self._refuse(i, f"reset() must return observation and info, not {_short(result)}")
        self._read_mask(*result, info, i)
        return result[0]

    def _read_mask(self, observation: Any, own_info: Any, info: dict[str, Any], i: int) -> None:
        """Add an environment's mask of legal actions for an observation to the info of all environments."""
        try:
            said = self._masks[i].said(observation, own_info)
        except THEIRS as error:
            self._fail(i, error)
        if self._masked is None:
            self._masked = said is not None
        if said is not None and not self._masked:
            notice(f"{self.id}: the {KEY} of step() is not used, because reset() gives none")
        elif self._masked:
            try:
                self._add(info, KEY, self._masks[i].checked(said), i)
            except ValueError as error:
                self._refuse(i, str(error))

    def _gather(self, observations: list[Any]) -> Any:
        self._batch = gather(self._seen, observations, self._batch, self._place)
        return self._batch

    def _gather_rewards(self, rewards: list[Any]) -> np.ndarray:
        try:
            gathered = np.array(rewards)
        except Exception:  # arrays of unequal shapes, and any error that an object's own code raises
            gathered = np.empty(0)
        if gathered.shape != (self.num_envs,) or gathered.dtype.kind not in "biuf":
            for i, reward in enumerate(rewards):
                if _number(reward) is None:
                    self._refuse(i, f"reward must be one number, not {_short(reward)}")
        return gathered.astype(np.float64, copy=False)

    def _flag(self, i: int, name: str, value: Any) -> bool:
        if (number := _number(value)) is None:
            self._refuse(i, f"{name} must be True or False, not {_short(value)}")
        return bool(number)

    def _read(self, own_info: Any, names: tuple[str, ...], info: dict[str, Any], i: int) -> None:
        """Add the entries `names` of one environment's info to the info of all environments, as Gymnasium merges infos."""
        if not isinstance(own_info, dict):
            return
        for name in names:
            if name in own_info:
                value = _numbers(own_info[name]) if name == "inner_returns" else _truth(own_info[name])
                if value is not None:
                    self._add(info, name, value, i)

    def _add(self, info: dict[str, Any], name: str, value: Any, i: int) -> None:
        """Set an entry of the info for environment i; `_name` marks the environments that have the entry `name`."""
        if name not in info:
            info |= {name: np.full(self.num_envs, None, object), f"_{name}": np.zeros(self.num_envs, np.bool_)}
        info[name][i] = value
        info[f"_{name}"][i] = True

    def _place(self, i: int) -> str:
        return place(self.id, self._first + i, self._steps[i])

    def _refuse(self, i: int, text: str) -> NoReturn:
        raise ValueError(f"{self._place(i)}: {text}")

    def _fail(self, i: int, error: Exception | SystemExit, when: str | None = None) -> NoReturn:
        raise_as_theirs(f"{self.id}, environment {self._first + i}, {when}" if when else self._place(i), error)


def needed_inputs(env: Any) -> list[str]:
    """Which of the previous action and reward an environment says its agent needs as inputs, as POPGym's environments do."""
    return [name for name in ("action", "reward") if getattr(env, f"obs_requires_prev_{name}", False)]


def raise_as_theirs(where: str, error: Exception | SystemExit) -> NoReturn:
    """Raise an exception from an environment's code as an EnvironmentFailedError; `where` names the place in the message.

    Exceptions raised by hadamem's own code are raised unchanged.
    """
    frames = list(_frames(error.__traceback__))
    if _module(frames[-1]).startswith("hadamem.") and len(frames) > 1:
        raise error
    theirs = [frame for frame in frames if not _module(frame).startswith(_BETWEEN)]
    error.__traceback__ = theirs[0] if theirs else frames[-1]
    who = "the environment's own code raised" if theirs else "what the environment gave led to"
    raise EnvironmentFailedError(f"{where}: {who} {type(error).__name__}: {error}") from error


def gather(space: spaces.Space[Any], observations: list[Any], batch: Any, where: Callable[[int], str]) -> Any:
    """Write observations of single environments into `batch`. `where` gives the place of an observation, for error messages."""
    try:
        gathered = concatenate(space, observations, batch)
    except Exception:
        _require_match(space, observations, where)
        raise
    if _wrapped(space, observations, gathered):
        _require_match(space, observations, where)
    return gathered


def _require_match(space: spaces.Space[Any], observations: list[Any], where: Callable[[int], str]) -> None:
    for i, observation in enumerate(observations):
        if (text := _mismatch(space, observation, "obs")) is not None:
            raise ValueError(f"{where(i)}: in the observation, {text}") from None


def _wrapped(space: spaces.Space[Any], observations: list[Any], gathered: Any) -> bool:
    """Whether integers are others after numpy's cast to the type of their space, which could not hold them."""
    if isinstance(space, spaces.Dict):
        return any(_wrapped(child, [each[key] for each in observations], gathered[key]) for key, child in space.spaces.items())
    if isinstance(space, spaces.Tuple):
        return any(_wrapped(child, [each[i] for each in observations], gathered[i]) for i, child in enumerate(space.spaces))
    dtype = space.dtype
    if dtype is None or dtype.kind not in "iu":
        return False
    cast = any(getattr(each, "dtype", _INT64) != dtype for each in observations)  # numpy makes numbers of Python an int64
    return cast and not np.array_equal(np.stack(observations), gathered)


def _frames(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _module(frame: TracebackType) -> str:
    return str(frame.tb_frame.f_globals.get("__name__", ""))


def _truth(value: Any) -> bool | None:
    number = _number(value)
    return None if number is None or number != number else bool(number)


def _numbers(value: Any) -> np.ndarray | None:
    try:
        return np.asarray(value, np.float64).ravel()
    except Exception:  # strings, sequences of unequal lengths, and any error that an object's own code raises
        return None


def _number(value: Any) -> float | None:
    """A single number, or None if the value is anything else."""
    try:
        array = np.asarray(value)
    except Exception:  # sequences of unequal lengths, and any error that an object's own code raises
        return None
    return float(array) if array.ndim == 0 and array.dtype.kind in "biuf" else None


def _mismatch(space: spaces.Space[Any], value: Any, name: str) -> str | None:
    """How the shape or the type of an observation differs from its space, in words; None if they agree."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        for key, child in space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces):
            try:
                part = value[key]
            except (KeyError, IndexError, TypeError):
                return f"{name} has no {key!r}: it is {_short(value)}, but its space is {space}"
            if (text := _mismatch(child, part, f"{name}.{key}")) is not None:
                return text
        return None
    try:
        array = np.asarray(value)
    except Exception:
        return f"{name} is no array: {_short(value)}"
    if array.shape != space.shape:
        return f"{name} has shape {array.shape}, but its space is {space}"
    if space.dtype is not None:
        if not np.can_cast(array.dtype, space.dtype, "same_kind"):
            return f"{name} is {array.dtype}, but its space is {space}"
        if (outside := first_outside(array, space.dtype)) is not None:
            return f"{name} holds {array[outside]}, which is not in {space}"
    return None


def _short(value: Any) -> str:
    text = f"array of shape {value.shape}" if isinstance(value, np.ndarray) and value.ndim else repr(value)
    return text if len(text) <= 100 else f"{text[:100]} ..."
