"""Recipe files: the defaults of a training as readable TOML, for `hadamem train --recipe FILE`.

The keys are the fields of TrainConfig, and "preset", which sets all values that the file leaves out. A table with the agent's
name, such as [ppo], and one for its network, such as [ppo.network], hold the fields of their configurations. The value None is
written as "none".
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
from ..disk import write_whole
from .presets import PRESETS, default_preset, preset_config

#: fields that belong to a machine or to a single run, and are not part of a recipe
_NOT_WRITTEN = OF_THE_MACHINE | {"seed", "evaluate_every", "evaluate_episodes"}


@dataclass(frozen=True)
class Recipe:
    """The content of a recipe file.

    Attributes:
        path: the file.
        preset: the preset that sets all values that the file leaves out.
        agent: the learning algorithm.
        values: other fields of TrainConfig by name, without the agent's configuration.
        algorithm: fields of the agent's configuration by name, without those of its network.
        network: fields of the configuration of the agent's network, by name.
    """

    path: pathlib.Path
    preset: str
    agent: str
    values: Mapping[str, Any]
    algorithm: Mapping[str, Any]
    network: Mapping[str, Any]

    def apply(self, config: TrainConfig) -> TrainConfig:
        """The configuration with the values of the recipe. Options of the task are only used for the recipe's own task, and the
        size and options of the memory only for the recipe's own memory.

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
    """Merge options given as name=value; an option in `second` replaces one of the same name in `first`."""
    names = {option.partition("=")[0] for option in second}
    return (*(option for option in first if option.partition("=")[0] not in names), *second)


def read_recipe(path: pathlib.Path) -> Recipe:
    """Read a recipe file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not TOML, a key is unknown, or a value has the wrong type.
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
    """Write a configuration as a recipe file: the values that differ from the preset, with the task and the memory.

    Args:
        path: the file.
        config: the configuration to write.
        preset: preset that sets all values that the file leaves out.
        always: fields of the agent's configuration to write even where they equal the preset's.
        comments: lines of comment at the beginning of the file.
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
    """The values of a table, checked and converted to the types of the configuration's fields."""
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
