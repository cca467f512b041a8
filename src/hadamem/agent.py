"""Agents from Python: the same training as on the command line, in three lines.

agent = hadamem.PPO("shm", env)
agent.learn(100_000)
agent.evaluate()
"""

from __future__ import annotations

import copy
import difflib
import operator
import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, Self

import numpy as np

from .agents.config import ALGORITHMS, TrainConfig, seed_for
from .agents.evaluation import Evaluation
from .agents.ppo import PPOConfig
from .agents.training import evaluate_task, train
from .checks import check_number
from .cli.progress import show_progress
from .deploy import Acting, ActingState, Trained, read_trained
from .envs.from_python import id_of, vector_of
from .memory import memory_class
from .recipes.file import merge_options
from .recipes.presets import default_preset, preset_config
from .run import read_checkpoint, read_last_metrics

#: Options that are tuples of texts.
_SEVERAL = {field.name for field in fields(TrainConfig) if "tuple[str, ...]" in str(field.type)}


class Agent:
    """An agent with a memory, as `hadamem train` trains it.

    Example:
        >>> agent = PPO("gru", "CartPole-v1", memory_size=8, num_envs=4, num_steps=16, minibatches=1)
        >>> metrics = agent.learn(128)
        >>> agent.steps >= 128, agent.evaluate(2).episodes
        (True, 2)

    Args:
        memory: name of the memory; `hadamem list memories` shows all names.
        env: an id, a class, a function that makes an environment, an environment (copies of it are played), or a
            `gymnasium.vector.VectorEnv`.
        preset: recipe that sets the defaults of the options; None: the first preset of this algorithm.
        memory_options: options of the memory; each replaces the preset's option of the same name.
        options: all other options of `hadamem train`, by their names with underscores: memory_size, seed, env_options, gamma,
            learning_rate, ... Options as name=value may also be a dict, and wrappers may be classes or functions of a module.

    Raises:
        ValueError: there is no such memory, preset or memory option, or a value is out of range.
        TypeError: there is no option of such a name.
    """

    _algorithm: ClassVar[str]

    def __init__(
        self,
        memory: str = "shm",
        env: Any = "popgym-RepeatPreviousEasy-v0",
        *,
        preset: str | None = None,
        memory_options: Mapping[str, Any] | Sequence[str] = (),
        **options: Any,
    ) -> None:
        memory_class(memory)  # report a mistyped name before doing anything else
        self.env = id_of(env)
        self._preset, self._memory = default_preset(self._algorithm, preset), memory
        self._options = {name: _as_option(name, value) for name, value in options.items()}
        self._memory_options = _as_option("memory_options", memory_options)
        self._own_folder: tempfile.TemporaryDirectory[str] | None = None
        self.path: pathlib.Path | None = None  # the run's folder, once there is a run, or the file of a packed policy
        self._acting: Acting | None = None
        self._trained: Trained | None = None
        self.config = self._configure(None)

    def learn(self, steps: int, out: str | pathlib.Path | None = None) -> dict[str, Any]:
        """Train for `steps` environment steps; each further call trains for that many more.

        With a linear schedule, learning rate and entropy bonus fall to zero over all steps of the run. A second call makes the
        run longer, so it begins with a higher learning rate than the first call ended with. Ctrl-C ends the training with a
        checkpoint; calling `learn` again continues it.

        Args:
            steps: number of environment steps.
            out: folder of the run, written during the training, so that it survives a kill; None: a temporary folder, deleted
                with the agent (`save` copies it). Only for the first call.

        Returns:
            The metrics of the last iteration.

        Raises:
            RuntimeError: the agent was loaded from a packed file, which lacks what further training needs.
            ValueError: `out` is given, but the agent has a run folder already.
        """
        steps = operator.index(steps)  # of NumPy's integers, Python's
        if self.path is not None and self.path.is_file():
            raise RuntimeError(f"{self.path} holds a policy and no run: to learn on, load the folder that it was packed from")
        self._acting = self._trained = None
        if self.path is None:
            self.config = self._configure(steps)
            if out is None:
                self._own_folder = tempfile.TemporaryDirectory(prefix="hadamem-")
                out = pathlib.Path(self._own_folder.name) / "run"
            train(self.config, pathlib.Path(out), progress=show_progress)
            self.path = pathlib.Path(out)
        else:
            if out is not None:
                raise ValueError(f"out is {out}, but the run is in {self.path} already; `save` copies it")
            self.config = replace(self.config, steps=self.steps + steps)
            train(self.config, self.path, resume=True, progress=show_progress)
        return read_last_metrics(self.path) or {}

    @property
    def steps(self) -> int:
        """Number of environment steps that the agent has been trained on so far."""
        if self.path is None:
            return 0
        return self._read().steps if self.path.is_file() else read_checkpoint(self.path)["agent"]["step"]

    def evaluate(self, episodes: int | None = None, *, greedy: bool = True, seed: int = 0) -> Evaluation:
        """Play whole episodes.

        Args:
            episodes: how many; None: 200, or every task once where the environment has a list of tasks.
            greedy: take the most likely action instead of a random one.
            seed: seed of the environments; their episodes differ from those of the training.
        """
        if episodes is not None:
            check_number("episodes", episodes, at_least=1)
        policy = self._read().policy
        return evaluate_task(self.config, policy, seed_for(seed, "evaluation"), episodes, greedy=greedy)

    def act(
        self,
        observation: Any,
        *,
        reward: Any = None,
        mask: Any = None,
        start: Any = None,
        greedy: bool = True,
    ) -> Any:
        """The action for an observation, both in the environment's own spaces. The agent keeps its memory state between calls.

        The environment is not needed. The weights and the statistics that normalise observations stay as they are. The agent
        knows its previous action; a policy that was trained with the previous reward as an input needs it as `reward`.

        Example:
            >>> agent = PPO("gru", "CartPole-v1", memory_size=8, num_envs=4, num_steps=16, minibatches=1)
            >>> metrics = agent.learn(128)
            >>> agent.act([0.0, 0.1, 0.0, -0.1]) in (0, 1)
            True

        Args:
            observation: one observation, as `env.step` returns it; after `reset(batch=N)` a batch of N, as a Gymnasium vector
                environment returns them.
            reward: reward of the previous step, a number, or (N,) for a batch; for policies with the input reward. It is
                ignored at the first step of an episode.
            mask: mask of legal actions, in any form that environments give it, or N of them for a batch; for policies that
                were trained with masks, unless the observation contains the mask.
            start: (N,) bool, which observations of a batch are the first of an episode. Directly after `reset` all are.
            greedy: take the most likely action instead of one drawn by torch's generator.

        Returns:
            The action, or N actions for a batch, as the environment takes it.

        Raises:
            ValueError: the observation is not in its space, or a reward or mask is missing or wrong; the agent is unchanged.
            RuntimeError: the agent has learned nothing yet.
        """
        return self._player().act(observation, reward, mask, start, greedy)

    def reset(self, batch: int | None = None) -> None:
        """Let a new episode begin with the next observation, in one environment or in each of `batch` environments."""
        self._player().reset(batch)

    def act_from(
        self,
        state: ActingState | None,
        observation: Any,
        *,
        reward: Any = None,
        mask: Any = None,
        greedy: bool = True,
    ) -> tuple[Any, ActingState]:
        """Like `act` for one observation, but with the agent's state passed in and returned instead of kept.

        Args:
            state: the state that the previous call returned; it is not changed. None: an episode begins.
            observation, reward, mask, greedy: see `act`.

        Returns:
            The action, and the state for the next call.
        """
        player, begins = self._player(), np.full(1, state is None)
        return player.step(observation, player.begin() if state is None else state, begins, reward, mask, greedy)

    def clone(self) -> Self:
        """An agent that shares the weights but has its own state of the memory, for another episode or thread."""
        self._player()
        other = copy.copy(self)
        assert self._acting is not None
        other._acting = self._acting.clone()
        return other

    def save(self, path: str | pathlib.Path) -> None:
        """Copy the run folder, or the file of a packed policy, to `path`, where `load` and the commands can open it.

        Raises:
            FileExistsError: `path` exists already.
            RuntimeError: the agent has learned nothing yet.
        """
        if (source := self._source()).is_dir():
            shutil.copytree(source, path)
        elif pathlib.Path(path).exists():
            raise FileExistsError(f"{path} is there already")
        else:
            shutil.copyfile(source, path)

    def _source(self) -> pathlib.Path:
        if self.path is None:
            raise RuntimeError("the agent has learned nothing yet; call learn(steps) first")
        return self.path

    def _read(self) -> Trained:
        """The trained policy, read from the file once and then kept."""
        if self._trained is None:
            self._trained = read_trained(self._source(), self.config.device)
        return self._trained

    def _player(self) -> Acting:
        if self._acting is None:
            trained = self._read()
            self._acting = Acting(trained.policy, trained.interface)
        return self._acting

    def _configure(self, steps: int | None) -> TrainConfig:
        """The preset's configuration for this number of steps, with the agent's options put in."""
        config = preset_config(self._preset, self.env, self._memory, steps)
        options = dict(self._options)
        if (vector := vector_of(self.env)) is not None:
            own = {"num_envs": vector.num_envs} if config.ppo is None else _rollout_of(vector.num_envs, config.ppo)
            options = own | options
        algorithm: Any = config.algorithm
        network = replace(algorithm.network, **_take(algorithm.network, options))
        algorithm = replace(algorithm, **_take(algorithm, options), network=network)
        changes: dict[str, Any] = {config.agent: algorithm, **_take(config, options)}
        if options:
            name = next(iter(options))
            known = [field.name for part in (config, algorithm, algorithm.network) for field in fields(part)]
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise TypeError(f"there is no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        merged = merge_options(config.memory_options, self._memory_options)
        return replace(config, memory_options=merged, **changes)


class PPO(Agent):
    """Proximal policy optimisation with a memory; see `Agent`."""

    _algorithm = "ppo"


class SAC(Agent):
    """Soft actor-critic with a memory; see `Agent`."""

    _algorithm = "sac"


class R2D2(Agent):
    """Recurrent Q-learning with a memory, for discrete actions; see `Agent`."""

    _algorithm = "r2d2"


def load(path: str | pathlib.Path, env: Any = None, device: str = "cpu") -> Agent:
    """Load an agent from a run folder, to act, evaluate or learn on, or from a file that `hadamem pack` made, to act and
    evaluate. Acting works without the environment installed.

    Args:
        path: the run folder or the packed file.
        env: the environment, see `Agent`; None: the one that the run was trained on, unless only a Python program can make it.
        device: device of the policy when acting and evaluating; further training uses the run's own device.

    Raises:
        ValueError: the path is neither, or the spaces of the environment are not those that the policy was trained with.
    """
    path = pathlib.Path(path)
    trained = read_trained(path, device, None if env is None else id_of(env))
    config = trained.config
    made = {kind._algorithm: kind for kind in (PPO, SAC, R2D2)}[config.agent]
    agent = made(config.memory, config.env)
    agent.path, agent.config, agent._trained = path, config, trained
    return agent


def _take(config: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Remove from `options`, and return, those that are fields of `config` and not configurations themselves."""
    elsewhere = {"network", *ALGORITHMS, "env", "agent", "memory", "steps", "memory_options"}
    names = {field.name for field in fields(config)} - elsewhere
    return {name: options.pop(name) for name in list(options) if name in names}


def _rollout_of(num_envs: int, config: PPOConfig) -> dict[str, int]:
    """PPO options for `num_envs` environments that keep the size of a rollout about the same as in `config`."""
    size = config.num_envs * config.num_steps
    most = max(1, min(config.minibatches, num_envs))
    minibatches = next(n for n in range(most, 0, -1) if num_envs % n == 0)
    return {"num_envs": num_envs, "num_steps": max(16, size // num_envs), "minibatches": minibatches}


def _as_option(name: str, value: Any) -> Any:
    """An option as `TrainConfig` has it, from what a Python program may give: NumPy's numbers; a dict for texts name=value; one
    text, or one wrapper, for a tuple of them; wrappers themselves for their names."""
    if name in _SEVERAL and (isinstance(value, str) or callable(value)):
        value = (value,)
    if isinstance(value, Mapping):
        plain = {key: _plain(item) for key, item in value.items()}
        return tuple(f"{key}={item if isinstance(item, str) else repr(item)}" for key, item in plain.items())
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else _plain(value)


def _plain(value: Any) -> Any:
    """A number of NumPy as Python's, a class or function as package.module:name; anything else unchanged."""
    if callable(value):
        return f"{value.__module__}:{getattr(value, '__qualname__', repr(value))}"
    return value.item() if isinstance(value, np.generic) else value
