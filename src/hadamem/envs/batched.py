"""Tasks that step all environments in one array: their base classes, and a single environment made from such a task.

Each environment owns a random generator, seeded as Gymnasium seeds it, so that environment i of a batch equals a single
environment that was reset with its seed. Letters: N environments, T time.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space


def generator_state(generator: np.random.Generator) -> tuple[int, int, int, int]:
    """The exact state of a PCG64 generator as plain integers."""
    state = generator.bit_generator.state
    return state["state"]["state"], state["state"]["inc"], state["has_uint32"], state["uinteger"]


def set_generator_state(generator: np.random.Generator, numbers: tuple[int, int, int, int]) -> None:
    """Put a PCG64 generator into a state that `generator_state` returned."""
    state, inc, has_uint32, uinteger = numbers
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": state, "inc": inc},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }


class BatchedTask(VectorEnv):
    """N environments of one task, with same-step autoreset.

    A subclass defines how an episode begins (`_begin`), how all environments advance (`_advance`), and their observations
    (`_observe`). Its whole state is in the attributes named in `mutable`: arrays, or an int that all environments share.
    """

    obs_requires_prev_action = False
    obs_requires_prev_reward = False
    max_steps: int
    mutable: tuple[str, ...]

    def __init__(self, num_envs: int, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.num_envs = num_envs
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._generators: list[np.random.Generator] = []
        self._all = np.arange(num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode everywhere; environment i is seeded with `seed + i`, or keeps its generator if `seed` is None."""
        if seed is not None or not self._generators:
            if seed is None or isinstance(seed, int):
                seed = [None if seed is None else seed + i for i in range(self.num_envs)]
            self._generators = [seeding.np_random(s)[0] for s in seed]
        self._begin(self._all)
        return self._observe(), _masked(self._info(), np.ones(self.num_envs, np.bool_))

    def step(self, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance all environments. An environment whose episode ends begins the next one at once; its last observation is in
        the info."""
        reward, terminated, truncated = self._advance(actions)
        observation, own_info, info = self._observe(), self._info(), {}
        done = terminated | truncated
        if np.count_nonzero(done):
            rows = np.flatnonzero(done)
            final = np.full(self.num_envs, None, object)
            for i in rows:
                final[i] = tuple(o[i] for o in observation) if isinstance(observation, tuple) else observation[i]
            final_info = _masked(own_info | self._final_info(), done)
            info = {"final_obs": final, "_final_obs": done, "final_info": final_info, "_final_info": done.copy()}
            self._begin(rows)
            observation, own_info = self._observe(), self._info()
        return observation, reward, terminated, truncated, info | _masked(own_info, np.ones(self.num_envs, np.bool_))

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture (height, width, 3) uint8 of each environment, or None without a `render_mode`."""
        return None if self.render_mode is None else tuple(map(self._picture, range(self.num_envs)))

    def state_dict(self) -> dict[str, Any]:
        """The whole state: arrays, ints, and the random generators as tuples of ints."""
        state: dict[str, Any] = {"generators": [generator_state(g) for g in self._generators]}
        return state | {name: deepcopy(getattr(self, name)) for name in self.mutable}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly from a state that `state_dict` returned."""
        self._generators = [seeding.np_random(0)[0] for _ in self._all]
        for generator, numbers in zip(self._generators, state["generators"], strict=True):
            set_generator_state(generator, numbers)
        for name in self.mutable:
            setattr(self, name, deepcopy(state[name]))

    @abstractmethod
    def _begin(self, rows: np.ndarray) -> None:
        """Begin a new episode in the environments `rows` (ascending indices)."""

    @abstractmethod
    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take one step: reward (N,) float64, terminated and truncated (N,) bool."""

    @abstractmethod
    def _observe(self) -> Any:
        """Return the current observation of all environments, in new arrays."""

    def _info(self) -> dict[str, np.ndarray]:
        """The entries of the info of every reset and step, as new arrays with N rows."""
        return {}

    def _final_info(self) -> dict[str, np.ndarray]:
        """Further entries of the info at the last step of an episode; rows of environments that go on are not used."""
        return {}

    def _picture(self, i: int) -> np.ndarray:
        """Environment i as a picture, (height, width, 3) uint8."""
        raise NotImplementedError(f"{type(self).__name__} cannot be drawn")


class FixedLength(BatchedTask):
    """Tasks whose episodes all take `max_steps`: all environments begin and end together and share one clock.

    A subclass defines the random draws of an episode (`_draw`) and a step (`_move`), during which `clock` is the number
    of steps made before. Episodes end by truncation if `truncates` is true, otherwise by termination.
    """

    truncates = False

    def __init__(
        self,
        num_envs: int,
        max_steps: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        render_mode: str | None = None,
    ) -> None:
        super().__init__(num_envs, observation_space, action_space)
        self.max_steps = max_steps
        self.clock = 0
        self.render_mode = render_mode

    def _begin(self, rows: np.ndarray) -> None:
        self.clock = 0
        self._draw()

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        reward = self._move(actions)
        self.clock += 1
        over, never = np.full(self.num_envs, self.clock == self.max_steps), np.zeros(self.num_envs, np.bool_)
        return (reward, never, over) if self.truncates else (reward, over, never)

    @abstractmethod
    def _draw(self) -> None:
        """Draw an episode for every environment, from its own generator."""

    @abstractmethod
    def _move(self, actions: np.ndarray) -> np.ndarray:
        """Take one step: reward (N,) float64."""


class SingleTask(gymnasium.Env[Any, Any]):
    """One environment of a batched task, as an ordinary Gymnasium environment without autoreset.

    Args:
        make: makes the batched task.
        **options: options of the task.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  Gymnasium's own name

    def __init__(self, make: Callable[..., BatchedTask], **options: Any) -> None:
        self.batch = make(1, **options)
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space
        self.render_mode = self.batch.render_mode
        self.obs_requires_prev_action = self.batch.obs_requires_prev_action
        self.obs_requires_prev_reward = self.batch.obs_requires_prev_reward

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, see `BatchedTask.reset`."""
        observation, _ = self.batch.reset(seed=seed, options=options)
        self._np_random = self.batch._generators[0]
        return observation[0], _first(self.batch._info())

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        reward, terminated, truncated = self.batch._advance(np.asarray(action)[None])
        done = bool(terminated[0]), bool(truncated[0])
        own_info = self.batch._info() | (self.batch._final_info() if any(done) else {})
        return self.batch._observe()[0], float(reward[0]), *done, _first(own_info)

    def render(self) -> np.ndarray | None:
        """A picture, (height, width, 3) uint8, or None without a `render_mode`."""
        pictures = self.batch.render()
        return pictures[0] if pictures else None


def settings(variants: Mapping[str, Mapping[str, Any]], variant: str, **overrides: Any) -> SimpleNamespace:
    """The settings of a variant, where `overrides` that are not None replace the variant's values.

    Raises:
        ValueError: there is no such variant.
    """
    if variant not in variants:
        raise ValueError(f"variant is {variant!r}; it must be one of {', '.join(variants)}")
    return SimpleNamespace(**{**variants[variant], **{name: value for name, value in overrides.items() if value is not None}})


def require_positive(**numbers: float) -> None:
    """Raise a ValueError for the first number that is not above zero."""
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name} is {number}; it must be above 0")


def _masked(own_info: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, Any]:
    """An info in the form of Gymnasium's vector environments: `_name` says for which environments `name` is valid."""
    return own_info | {f"_{name}": mask.copy() for name in own_info}


def _first(own_info: dict[str, np.ndarray]) -> dict[str, Any]:
    """The info of the only environment; entries that are a single number become plain Python numbers."""
    return {name: values[0] if values.ndim > 1 else values[0].item() for name, values in own_info.items()}
