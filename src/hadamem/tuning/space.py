"""The search space of `hadamem tune`: options of the agent, the memory, its size and its options."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..agents.config import TrainConfig
from ..memory import memory_class, memory_options, parse_options
from ..recipes.arguments import Train, memory_words, read_train, task_words
from ..recipes.file import merge_options
from ..recipes.presets import default_preset

if TYPE_CHECKING:
    import optuna

#: The smallest and the largest value of options that are varied on a logarithmic scale.
_RATES = {
    "learning_rate": (1e-4, 1e-2),
    "memory_rate": (0.1, 1.0),
    "entropy_coefficient": (1e-4, 0.1),
    "temperature": (0.003, 1.0),
    "updates_per_step": (0.02, 0.5),
}
#: Factors x with a horizon of 1 / (1 - x) steps: the smallest and the largest horizon.
_HORIZONS = {"gamma": (5.0, 1000.0), "gae_lambda": (2.0, 100.0)}
#: Sizes of the batch: how many times the default may be halved (negative) or doubled.
_BATCH = {"num_envs": (-2, 2), "num_steps": (-2, 2), "epochs": (-2, 1), "minibatches": (-2, 2), "batch_size": (-1, 2)}
_MEMORY_SIZE = (-1, 1)  # the same for the size of the memory
#: Values of a memory's options that are integers. Options that are booleans, or one of a few names, are all varied.
_NUMBERS = {"layers": (1, 2), "heads": (1, 2, 4), "convolution": (0, 4)}
_NOT_SOUGHT = {"calibration"}  # not varied: the alternatives only exist for ablations

#: Options that tune itself sets for every run.
_OF_TUNE = ("--env", "--env-options", "--memory", "--memory-size", "--memory-options", "--steps", "--seed", "--evaluate-every",
            "--evaluate-episodes", "--out", "--resume", "--recipe")  # fmt: skip


@dataclass(frozen=True)
class Space:
    """The space of configurations of a search.

    Attributes:
        task: the task as "ID option=value ...".
        memories: memories, each as "NAME[:SIZE] option=value ..."; a size or an option that is given there is not varied.
        words: further options of `hadamem train`, which are not varied.
        steps: environment steps of a training.
        episodes: number of episodes of the greedy evaluation at the end of a training.
        seed: seed of the trainings.
    """

    task: str
    memories: tuple[str, ...]
    words: tuple[str, ...]
    steps: int
    episodes: int
    seed: int

    def __post_init__(self) -> None:
        if not self.memories:
            raise ValueError("memories is empty; give at least one, see `hadamem list memories`")
        if len(set(self.memories)) < len(self.memories):
            raise ValueError(f"memories is {', '.join(self.memories)}; each must be there once")
        for word in self.words:
            if (name := word.partition("=")[0].replace("_", "-")) in _OF_TUNE:
                raise ValueError(f"{name} cannot be given to all trainings; see the options in `hadamem tune --help`")

    @property
    def preset(self) -> str:
        """The preset that sets all options that are not varied."""
        train = self._read_train(self.memories[0])
        return default_preset(train.config.agent, train.preset)

    @cached_property
    def defaults(self) -> dict[str, TrainConfig]:
        """For each memory, the defaults of `hadamem train`, with a greedy evaluation at the end and one thread."""
        return {memory: self._default(memory) for memory in self.memories}

    def default_parameters(self, memory: str) -> dict[str, Any]:
        """The parameters of the trial for the default; a value outside its range is moved to the end of the range."""
        default = self.defaults[memory]
        parameters: dict[str, Any] = {"memory": memory}
        for name in self._varied(default):
            value = getattr(default.algorithm, name)
            if name in _RATES:
                parameters[name] = _clip(value, *_RATES[name])
            elif name in _HORIZONS:
                parameters[f"horizon of {name}"] = _clip(1 / (1 - value) if value < 1 else math.inf, *_HORIZONS[name])
            else:
                parameters[f"doublings of {name}"] = 0
        if _size(default) is not None and ":" not in memory.split()[0]:
            parameters[f"{memory}: doublings of size"] = 0
        for name, choices in _choices(default, memory).items():
            parameters[f"{memory}: {name}"] = choices[0]
        return parameters

    def suggest(self, trial: optuna.Trial) -> TrainConfig:
        """The configuration of a trial."""
        memory = trial.suggest_categorical("memory", self.memories)
        default = self.defaults[memory]
        return self._with_memory(trial, memory, replace(default, **{default.agent: self._algorithm(trial, default)}))

    def _algorithm(self, trial: optuna.Trial, default: TrainConfig) -> Any:
        algorithm: Any = default.algorithm
        values: dict[str, Any] = {}
        for name in self._varied(default):
            if name in _RATES:
                values[name] = float(f"{trial.suggest_float(name, *_RATES[name], log=True):.3g}")
            elif name in _HORIZONS:
                values[name] = round(1 - 1 / trial.suggest_float(f"horizon of {name}", *_HORIZONS[name], log=True), 4)
            else:
                doublings = trial.suggest_int(f"doublings of {name}", *_BATCH[name])
                values[name] = max(1, round(getattr(algorithm, name) * 2.0**doublings))
        if "minibatches" in values:  # must divide num_envs, since rows of a rollout stay whole
            values["minibatches"] = _nearest_divisor(values["minibatches"], values.get("num_envs", algorithm.num_envs))
        elif "num_envs" in values and hasattr(algorithm, "minibatches"):
            values["num_envs"] = max(1, round(values["num_envs"] / algorithm.minibatches)) * algorithm.minibatches
        return replace(algorithm, **values)

    def _with_memory(self, trial: optuna.Trial, memory: str, config: TrainConfig) -> TrainConfig:
        size = _size(config)
        if size is not None and ":" not in memory.split()[0]:
            doublings = trial.suggest_int(f"{memory}: doublings of size", *_MEMORY_SIZE)
            config = replace(config, memory_size=max(1, round(size * 2.0**doublings)))
        options = []
        for name, choices in _choices(config, memory).items():
            if (value := trial.suggest_categorical(f"{memory}: {name}", sorted(choices))) != choices[0]:
                options.append(f"{name}={value}")
        return replace(config, memory_options=merge_options(config.memory_options, options))

    def _default(self, memory: str) -> TrainConfig:
        config = self._read_train(memory).config
        config = replace(config, evaluate_every=self.steps, evaluate_episodes=self.episodes)
        return replace(config, seed=self.seed, threads=config.threads or 1)

    def _read_train(self, memory: str) -> Train:
        words = [*task_words(self.task), *memory_words(memory), "--steps", str(self.steps), *self.words]
        return read_train(words, prog="hadamem tune")

    def _varied(self, default: TrainConfig) -> list[str]:
        """Names of the agent's options that are varied, without those that are given in `words`."""
        decided = {word.partition("=")[0].replace("_", "-") for word in self.words}
        return [name for name in varied_names(default.algorithm) if f"--{name.replace('_', '-')}" not in decided]


def varied_names(agent_config: Any) -> list[str]:
    """Options of an agent that a search may vary."""
    return [name for name in (*_RATES, *_HORIZONS, *_BATCH) if hasattr(agent_config, name)]


def _size(config: TrainConfig) -> int | None:
    """The size of the memory, or the memory's default size; None if that default is not a fixed number."""
    if config.memory_size is not None:
        return config.memory_size
    default = (
        inspect.signature(memory_class(config.memory).__init__).parameters[memory_class(config.memory).size_argument].default
    )
    return default if isinstance(default, int) else None


def _choices(config: TrainConfig, memory: str) -> dict[str, list[str]]:
    """For each varied option of the memory, its values as texts, the default value first."""
    decided = {option.partition("=")[0] for option in memory.split()[1:]}
    usual = parse_options(config.memory, config.memory_options)
    by_time = sum(value for name, value in usual.items() if name.endswith("_heads"))  # shm needs at least so many heads
    found = {}
    for name, parameter in memory_options(config.memory).items():
        if name in decided | _NOT_SOUGHT:
            continue
        if typing.get_origin(parameter.annotation) is typing.Literal:
            values: Sequence[Any] = typing.get_args(parameter.annotation)
        elif parameter.annotation is bool:
            values = (False, True)
        else:
            values = [value for value in _NUMBERS.get(name, ()) if name != "heads" or value >= by_time]
        if values:
            texts = [str(value).lower() for value in (usual.get(name, parameter.default), *values)]
            found[name] = list(dict.fromkeys(texts))
    return found


def _nearest_divisor(wanted: int, number: int) -> int:
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return min(divisors, key=lambda d: abs(math.log(d / wanted)))


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
