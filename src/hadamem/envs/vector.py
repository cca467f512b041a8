"""N copies of any Gymnasium environment behind one interface: tensors of actions in, float tensors of observations out."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import create_empty_array
from torch import Tensor

from .batched import BatchedTask, generator_state, set_generator_state
from .border import Environments, gather, needed_inputs, notice, place
from .infos import at_goal, inner_returns, success
from .interface import Interface, MaskPlace
from .layout import Channels, Encoder, InvalidValueError, first_not_finite
from .masks import KEY, masked_by_key
from .parts import seen_parts
from .point import PointTask
from .workers import WorkerEnvironments, first_to_answer

INPUTS = ("obs", "action", "reward")

# A notice says that an observation is wide if it has more numbers than _WIDE; pictures with up to _CHANNELS channels, which are
# stored as bytes, are exempt.
_WIDE, _CHANNELS = 10_000, 16


class Episode(NamedTuple):
    """A finished episode: undiscounted sum of rewards, number of steps, whether it succeeded (None if the environment does not
    say), and the returns of inner episodes if there are several."""

    return_: float
    length: int
    success: bool | None
    inner_returns: tuple[float, ...] = ()


class Transition(NamedTuple):
    """The result of one step of N environments. All tensors are new, and later steps do not change them.

    Attributes:
        obs: (N, D) float32; where an episode ended, the first observation of the next one.
        reward: (N,) float32.
        terminated: (N,) bool, the episode reached a terminal state, after which the value is 0.
        truncated: (N,) bool, the episode was cut off: bootstrap from `final_obs`. Never true where `terminated` is.
        start: (N,) bool, `obs` is the first of an episode: terminated or truncated.
        final_obs: (N, D) float32, the last observation of the episodes that were truncated, zeros in all other rows;
            its action and reward inputs are those of the step just made. None if nothing was truncated.
        episodes: the episodes that ended, in the order of the true entries of `start`.
        at_goal: (N,) bool, whether the info of this step says that it ended in the goal; all false if the info says nothing.
    """

    obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    start: Tensor
    final_obs: Tensor | None
    episodes: list[Episode]
    at_goal: Tensor


class VectorEnvironment:
    """N environments with automatic resets, whose observations are float32 rows of D columns. Made by `make_vector`.

    Attributes:
        id: the id that the environments were made from.
        num_envs: N.
        num_tasks: number of tasks that `reset` can choose from; None if the environment has no list of tasks.
        interface: the spaces and columns of the environments, with which a policy can act without the environments.
        described: see `Interface`.
        layout: meaning of the D columns of an observation. If an environment gives an `action_mask`, it is among the columns.
        observation_space: space of the seen parts of a single environment's observation, without parts of no fixed width.
        action_space: action space of a single environment, as the agent plays it. The agent acts with (N,) or (N, 1) integers
            in 0..n-1 for Discrete, (N, K) integers from 0 up for MultiDiscrete, (N, K) floats in the environment's units for
            Box, and with all of these side by side for Tuple and Dict; `step` handles a space's `start`, shape and bounds.
        start: (N,) bool array, the current observation is the first of an episode. All other parts of hadamem get it from here.
        groups: this one, and others of the same kind and number that are stepped side by side with it; `close` closes all.
    """

    def __init__(
        self,
        id: str,
        env: VectorEnv,
        seed: int,
        inputs: Sequence[str] | None = None,
        joint_actions: bool = False,
        observe: Sequence[str] = (),
        channels: Channels | None = None,
    ) -> None:
        self.id = id
        self.num_envs = env.num_envs
        self.num_tasks = len(env.tasks) if isinstance(env, PointTask) else None
        self.start = np.ones(self.num_envs, np.bool_)
        self._env = env
        self._seed: int | None = int(seed)
        self.groups: Sequence[VectorEnvironment] = (self,)
        # a separate random stream: with `seed` itself, random actions would be correlated with the first environment's draws
        env.action_space.seed(int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]))

        if inputs is None:
            needed = env.needed_inputs if isinstance(env, Environments | WorkerEnvironments) else needed_inputs(env)
            inputs = ("obs", *needed)
        inputs = [name for name in INPUTS if name in inputs]
        action = env.single_action_space
        seen, left_out = seen_parts(env.single_observation_space, action, observe)
        self.interface = Interface(seen, action, inputs, "none", joint_actions, channels)
        if self.interface.seen:
            _notice_of(id, self.interface.seen, left_out)
        # only the first reset shows whether there are masks; its result is kept for the first call of `reset`
        self._first: tuple[Any, dict[str, Any]] | None = None
        if isinstance(env, Environments | WorkerEnvironments) and self.interface.actions.counts:
            self._first = env.reset(seed=self._seed)
            self._seed = None
            if KEY in self._first[1]:
                said: MaskPlace = "key" if masked_by_key(env.single_observation_space, action) else "beside"
                self.interface = Interface(seen, action, inputs, said, joint_actions, channels)
        self.observation_space, self.action_space = seen, self.interface.action_space
        self.layout, self.described, self._actions = self.interface.layout, self.interface.described, self.interface.actions

        self._obs: Tensor | None = None
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)

    def require(self, described: dict[str, str]) -> None:
        """Check that a policy can play here that was trained in environments with this value of `described`.

        Raises:
            ValueError: the spaces differ; the message names the differences.
        """
        here = self.described
        differing = [
            f"{name}: there {described.get(name, 'nothing')}, here {here.get(name, 'nothing')}"
            for name in dict.fromkeys([*described, *here])
            if described.get(name) != here.get(name)
        ]
        if list(described) != list(here) and not differing:
            differing = [f"the order: there {', '.join(described)}; here {', '.join(here)}"]
        if differing:
            raise ValueError(f"the policy was trained in other spaces than those of {self.id}: {'; '.join(differing)}")

    def reset(self, tasks: Sequence[int] | None = None) -> Tensor:
        """Begin an episode everywhere, and return the observations (N, D) float32. Only the first call seeds the environments.

        Args:
            tasks: N numbers below `num_tasks`: the task that each environment begins with.

        Raises:
            ValueError: the environment has no list of tasks, or the number of tasks is wrong.
        """
        if tasks is not None and (self.num_tasks is None or len(tasks) != self.num_envs):
            raise ValueError(
                f"{len(tasks)} tasks are asked of {self.num_envs} environments of {self.id}, "
                f"which {'choose among ' + str(self.num_tasks) if self.num_tasks else 'have no list of tasks'}"
            )
        options = None if tasks is None else {"task": tasks}
        observation, info = self._first or self._env.reset(seed=self._seed, options=options)
        self._first = self._seed = None
        self.start = np.ones(self.num_envs, np.bool_)
        self._returns[:] = self._lengths[:] = 0
        rows = np.zeros((self.num_envs, self.layout.size), np.float32)
        self._encode(observation, rows, self.start)
        self._write_mask(info, rows, np.arange(self.num_envs))
        self._obs = torch.from_numpy(rows)
        return self._obs

    def step(self, actions: Tensor | np.ndarray) -> Transition:
        """Act once in every environment; an environment whose episode ends begins the next one at once.

        Args:
            actions: (N,) or (N, K), see `action_space` above. On any device.

        Raises:
            RuntimeError: `reset` has not been called yet.
            ValueError: the actions have the wrong shape, kind or range.
        """
        self.send(actions)
        return self.receive()

    def send(self, actions: Tensor | np.ndarray) -> None:
        """Begin the step that `receive` ends: worker processes make it meanwhile. See `step`."""
        if self._obs is None:
            raise RuntimeError(f"call reset() before step() on {self.id}")
        if isinstance(actions, Tensor):
            actions = actions.detach().cpu().numpy()
        if actions.shape[:1] != (self.num_envs,):
            raise ValueError(f"actions have shape {actions.shape}, but there are {self.num_envs} environments")
        self._sent = self._actions.to_environment(actions)
        if isinstance(self._env, WorkerEnvironments):
            self._env.send(self._sent)
            self._result = self._env.receive
        else:  # a copy, since an environment may change its actions in place
            self._result = partial(self._env.step, deepcopy(self._sent))

    def receive(self) -> Transition:
        """End the step that `send` began. See `step`."""
        observation, reward, terminated, truncated, info = self._result()
        start = terminated | truncated
        truncated = truncated & ~terminated

        self._lengths += 1
        if (wrong := first_not_finite(reward)) is not None:
            i = wrong[0]
            raise ValueError(f"{place(self.id, i, self._lengths[i])}: reward is {reward[i]}; it must be a finite float32")
        rows = np.empty((self.num_envs, self.layout.size), np.float32)
        self._encode(observation, rows, start)
        self.interface.write_previous(self._sent, reward, rows)
        self._returns += reward
        final, episodes = None, []
        if np.count_nonzero(start):
            if truncated.any():
                final = torch.from_numpy(self._final(info, np.flatnonzero(truncated), rows))
            episodes = self._finish(np.flatnonzero(start), info.get("final_info", {}))
            rows[start, self.interface.history] = 0
        self._write_mask(info, rows, np.arange(self.num_envs))

        self.start = start
        self._obs = torch.from_numpy(rows)
        return Transition(
            self._obs,
            torch.from_numpy(reward.astype(np.float32)),
            torch.from_numpy(terminated),
            torch.from_numpy(truncated),
            torch.from_numpy(start.copy()),
            final,
            episodes,
            torch.from_numpy(at_goal(info, self.num_envs)),
        )

    def write_history(self, actions: np.ndarray, rewards: np.ndarray, rows: np.ndarray) -> None:
        """Fill the columns of the previous action and reward in observations that were stored without these columns.

        Args:
            actions: (M, K), as an agent gives them, for any M.
            rewards: (M,).
            rows: (M, D) float32, written in place.
        """
        self.interface.write_previous(self._actions.to_environment(actions), rewards, rows)

    def as_done(self, actions: Tensor | np.ndarray) -> np.ndarray:
        """Actions as the environments get them (with the space's `start` added, rounded and clipped), as rows (N, K)."""
        if isinstance(actions, Tensor):
            actions = actions.detach().cpu().numpy()
        return self._actions.rows(self._actions.to_environment(actions))

    def random_actions(self) -> Tensor:
        """Random legal actions, drawn by a separate generator, in the agent's form: int64, or float32 if a part is a Box."""
        actions = self._actions.from_environment(self._env.action_space.sample())
        if (leaf := self.layout.mask) is not None and self._obs is not None:
            legal = self._obs[:, leaf.columns].numpy()
            actions = self._actions.draw_legal(actions, legal, self._env.action_space.np_random)
        return torch.from_numpy(actions).to(torch.int64 if self._actions.whole else torch.float32)

    def state_dict(self) -> dict[str, Any] | None:
        """The exact state, in tensors and integers only; None if these environments cannot be saved.

        A saved state can be read with `torch.load(weights_only=True)`. If it is None, a resumed run has to use a new seed.
        """
        if not isinstance(self._env, BatchedTask) or self._obs is None:
            return None
        state = {
            "id": self.id,
            "obs": self._obs.numpy(),
            "start": self.start,
            "returns": self._returns,
            "lengths": self._lengths,
            "random_actions": generator_state(self._env.action_space.np_random),
            "env": self._env.state_dict(),
        }
        return _convert(state, np.ndarray, torch.tensor)

    def load_state_dict(self, state: dict[str, Any]) -> Tensor:
        """Continue exactly from a state that `state_dict` returned, instead of calling `reset`.

        Returns:
            The observations at the time of saving, (N, D) float32.

        Raises:
            ValueError: these environments cannot be saved, or the state belongs to other environments.
        """
        if not isinstance(self._env, BatchedTask):
            raise ValueError(f"{self.id} cannot be put into a saved state, only batched tasks can")
        here, there = (self.id, self.num_envs, self.layout.size), (state["id"], *state["obs"].shape)
        if here != there:
            raise ValueError(f"the state is of (id, environments, columns) {there}, but these are {here}")
        state = _convert(state, Tensor, lambda tensor: tensor.cpu().numpy().copy())
        self._env.load_state_dict(state["env"])
        set_generator_state(self._env.action_space.np_random, state["random_actions"])
        self.start, self._returns, self._lengths = state["start"], state["returns"], state["lengths"]
        self._seed = None
        self._obs = torch.from_numpy(state["obs"])
        return self._obs

    @property
    def endless(self) -> bool:
        """Whether episodes may go on forever: neither the task nor Gymnasium limits their length."""
        return isinstance(self._env, Environments | WorkerEnvironments) and not self._env.has_time_limit

    def cut_endless(self, max_steps: int) -> bool:
        """Truncate episodes after `max_steps` if they may go on forever.

        Returns:
            Whether this limit is now in force.
        """
        if isinstance(self._env, Environments | WorkerEnvironments) and self.endless:
            self._env.cut_after(max_steps)
        return self.endless

    def render(self) -> tuple[Any, ...] | None:
        """The rendering of each environment, a picture for "rgb_array"; None without a `render_mode`."""
        return self._env.render()

    def close(self) -> None:
        """Close the environments and free their resources."""
        for group in self.groups:
            group._env.close()

    def _encode(self, observation: Any, rows: np.ndarray, start: np.ndarray, numbers: np.ndarray | None = None) -> None:
        """Write observations (n, ...) into their columns of rows (n, D).

        `start` (n,) says which observations are the first of an episode, and `numbers` (n,) which environments they come from;
        both are only used in error messages.
        """
        if self.interface.seen is None:
            return
        try:
            self.interface.seen.write(observation, rows)
        except InvalidValueError as error:
            i = error.row if numbers is None else int(numbers[error.row])
            where = place(self.id, i, 0 if start[error.row] else int(self._lengths[i]))
            raise ValueError(f"{where}: in the observation, {error}") from None

    def _write_mask(self, info: dict[str, Any], rows: np.ndarray, numbers: np.ndarray) -> None:
        """Write the masks of the environments `numbers` (n,) into the mask's columns of rows (n, D), or zeros if not given."""
        if (leaf := self.layout.mask) is not None:
            said = info.get(KEY, np.full(self.num_envs, None))
            for row, i in zip(rows, numbers, strict=True):
                row[leaf.columns] = 0 if said[i] is None else self._actions.mask(said[i][None])[0]

    def _final(self, info: dict[str, Any], truncated: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Rows (N, D) of the last observations of truncated episodes."""
        cut = rows[truncated]
        if self.interface.seen:
            batch = gather(
                self.observation_space,
                [info["final_obs"][i] for i in truncated],
                create_empty_array(self.observation_space, len(truncated)),
                lambda k: place(self.id, int(truncated[k]), int(self._lengths[truncated[k]])),
            )
            self._encode(batch, cut, np.zeros(len(cut), np.bool_), truncated)
        self._write_mask(info.get("final_info", {}), cut, truncated)
        final = np.zeros_like(rows)
        final[truncated] = cut
        return final

    def _finish(self, ended: np.ndarray, info: dict[str, Any]) -> list[Episode]:
        episodes = [
            Episode(float(self._returns[i]), int(self._lengths[i]), success(info, i), inner_returns(info, i)) for i in ended
        ]
        self._returns[ended] = self._lengths[ended] = 0
        return episodes


def first_answered(envs: Sequence[VectorEnvironment]) -> int:
    """Wait until one of these, all of which were sent actions, can receive the result without waiting; its number."""
    return first_to_answer([env._env for env in envs])


def _notice_of(id: str, encoder: Encoder, left_out: list[str]) -> None:
    """Log notices about observations for which a user may want to set an option."""
    if left_out:
        notice(f"{id}: left out of the observation, because their width is not fixed: {', '.join(left_out)}")
    if encoder.unclear:
        notice(
            f"{id}: the shape of {', '.join(encoder.unclear)} does not tell whether the first or the last axis counts "
            "channels; the first is assumed to. Use --channels last if it is the last"
        )
    wide = [leaf for leaf in encoder.leaves if leaf.size > _WIDE and not (leaf.kind == "image" and leaf.shape[0] <= _CHANNELS)]
    if wide:
        names = [leaf.name.removeprefix("obs.") for leaf in encoder.leaves]
        sizes = ", ".join(f"{leaf.name} has {leaf.size:,} numbers" for leaf in wide)
        choose = f"; --observe chooses among {', '.join(names)}" if len(names) > 1 else ""
        notice(f"{id}: {sizes}, which takes much memory and time{choose}")


def _convert(state: dict[str, Any], kind: type, convert: Callable[[Any], Any]) -> dict[str, Any]:
    """Convert the values of type `kind` in a nested dict, and keep the other values."""
    nested = {key: _convert(value, kind, convert) for key, value in state.items() if isinstance(value, dict)}
    return {k: convert(v) if isinstance(v, kind) else v for k, v in state.items()} | nested
