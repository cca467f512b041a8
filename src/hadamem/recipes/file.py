"""Recipe files: the defaults of a training as TOML, which `hadamem train --recipe FILE` takes and a person can read.

The keys are the fields of TrainConfig, and "preset", which gives whatever the file leaves out; a table of the agent's name, as
[ppo], and one of its network, as [ppo.network], hold the fields of their configurations. A value that may be absent is written
"none".
"""

from __future__ import annotations

import difflib
import json
import pathlib
import tomllib
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from ..agents.config import ALGORITHMS, OF_THE_MACHINE, TrainConfig
from ..run import write_whole
from .presets import PRESETS, default_preset, preset_config

#: fields of one machine or of one run, not of what is learned
_NOT_WRITTEN = OF_THE_MACHINE | {"seed", "evaluate_every", "evaluate_episodes"}


@dataclass(frozen=True)
class Recipe:
    """What a recipe file says.

    Attributes:
        path: the file.
        preset: the preset that gives whatever the file leaves out.
        agent: the learning algorithm.
        values: other fields of TrainConfig by name, without the agent's configuration.
        algorithm: fields of the agent's configuration by name, without its network's.
        network: fields of its network's configuration by name.
    """

    path: pathlib.Path
    preset: str
    agent: str
    values: Mapping[str, Any]
    algorithm: Mapping[str, Any]
    network: Mapping[str, Any]

    def apply(self, config: TrainConfig) -> TrainConfig:
        """The configuration with the values of the recipe. Options of the task count for the recipe's own task only, and the
        size and the options of the memory for its own memory only.

        Raises:
            ValueError: a value is out of range.
        """
        values = dict(self.values)
        if values.pop("env", config.env) != config.env:
            values.pop("env_options", None)
        if values.pop("memory", config.memory) != config.memory:
            values.pop("memory_size", None)
            values.pop("memory_options", None)
        if "memory_options" in values:
            values["memory_options"] = merge_options(config.memory_options, values["memory_options"])
        algorithm: Any = config.algorithm
        try:
            algorithm = replace(algorithm, network=replace(algorithm.network, **self.network), **self.algorithm)
            return replace(config, **values, **{self.agent: algorithm})
        except ValueError as error:
            raise ValueError(f"recipe {self.path}: {error}") from error


def merge_options(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """Options as name=value; one of the second takes the place of the first's of that name."""
    names = {option.partition("=")[0] for option in second}
    return (*(option for option in first if option.partition("=")[0] not in names), *second)


def read_recipe(path: pathlib.Path) -> Recipe:
    """Read a recipe file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not TOML, a key is unknown, or a value is not of its type.
    """
    if not path.is_file():
        raise FileNotFoundError(f"recipe is {str(path)!r}, which is no file; `hadamem tune` writes recipes")
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"recipe {path} is not valid TOML: {error}") from error
    named = {name: content.pop(name, None) for name in ("agent", "preset")}
    for name, value in named.items():
        if not isinstance(value, str | None):
            raise ValueError(f"recipe {path}: {name} is {value!r}; it must be a text")
    if named["agent"] not in (None, *ALGORITHMS):
        raise ValueError(f"recipe {path}: agent is {named['agent']!r}; it must be {' or '.join(ALGORITHMS)}")
    try:
        preset = default_preset(named["agent"], named["preset"])
    except ValueError as error:
        raise ValueError(f"recipe {path}: {error}") from error
    agent = PRESETS[preset]["agent"]
    algorithm = _table(path, agent, content.pop(agent, {}))
    network = _table(path, f"{agent}.network", algorithm.pop("network", {}))
    for other in ALGORITHMS.keys() & content.keys():
        raise ValueError(f"recipe {path} has options for {other}, but its agent is {agent}")
    config = ALGORITHMS[agent]
    return Recipe(
        path,
        preset,
        agent,
        _checked(path, "", content, TrainConfig, named),
        _checked(path, agent, algorithm, config),
        _checked(path, f"{agent}.network", network, type(config().network)),
    )


def write_recipe(
    path: pathlib.Path, config: TrainConfig, preset: str, always: Collection[str], comments: Sequence[str]
) -> None:
    """Write the configuration as a recipe file: what differs from the preset, for its task and its memory.

    Args:
        path: the file.
        config: with which to train.
        preset: gives whatever the file leaves out.
        always: fields of the agent's configuration to write even where they equal the preset's.
        comments: lines at the head of the file.
    """
    base = preset_config(preset, config.env, config.memory, config.steps)
    lines = [f"# {line}".rstrip() for line in comments] + [""]
    head: dict[str, Any] = {"env": config.env, "env_options": config.env_options, "agent": config.agent, "preset": preset}
    head |= {"memory": config.memory, "memory_options": config.memory_options, "steps": config.steps}
    if config.memory_size is not None:
        head["memory_size"] = config.memory_size
    head |= _differences(config, base, _NOT_WRITTEN | head.keys())
    lines += [f"{name} = {_toml(value)}" for name, value in head.items() if value != ()]
    algorithm, usual = config.algorithm, base.algorithm
    tables = {
        config.agent: {name: getattr(algorithm, name) for name in always} | _differences(algorithm, usual, set()),
        f"{config.agent}.network": _differences(algorithm.network, usual.network, set()),
    }
    for name, values in tables.items():
        if values:
            lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    write_whole(path, "\n".join(lines) + "\n")


def _differences(config: Any, base: Any, without: Collection[str]) -> dict[str, Any]:
    values = {field.name: getattr(config, field.name) for field in fields(config) if field.name not in without}
    return {name: value for name, value in values.items() if not is_dataclass(value) and value != getattr(base, name)}


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps("none" if value is None else value)


def _table(path: pathlib.Path, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"recipe {path}: {name} is {value!r}; it must be a table, [{name}]")
    return value


def _checked(
    path: pathlib.Path, table: str, values: Mapping[str, Any], config: type, more: Collection[str] = ()
) -> dict[str, Any]:
    """The values of a table as the types of the configuration's fields ask for them."""
    hints = {name: hint for name, hint in typing.get_type_hints(config).items() if name not in (*ALGORITHMS, "network")}
    checked = {}
    for name, value in values.items():
        if name not in hints:
            known = sorted({*hints, *more})
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            meant = f"did you mean {' or '.join(near)}?" if near else f"it may have: {', '.join(known)}"
            raise ValueError(f"recipe {path} has an unknown key {name!r}{f' in [{table}]' if table else ''}; {meant}")
        checked[name] = _typed(f"recipe {path}: {name}", value, hints[name])
    return checked


def _typed(what: str, value: Any, hint: Any) -> Any:
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for kind in kinds:
        if kind is types.NoneType and value == "none":
            return None
        if typing.get_origin(kind) is typing.Literal and value in typing.get_args(kind):
            return value
        if typing.get_origin(kind) is tuple and isinstance(value, list):
            if all(type(entry) is typing.get_args(kind)[0] for entry in value):
                return tuple(value)
        elif kind is float and type(value) is int:
            return float(value)
        elif type(value) is kind:
            return value
    raise ValueError(f"{what} is {value!r}; it must be {' or '.join(map(_describe, kinds))}")


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return f"a list whose entries are {_describe(typing.get_args(kind)[0])}"
    names = {types.NoneType: '"none"', bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return names.get(kind, str(kind))
