"""From a configuration back to the command line that trains it."""

from __future__ import annotations

import shlex
from dataclasses import fields, is_dataclass, replace
from typing import Any

from ..agents.training import TrainConfig
from .recipes import default_preset, preset_config

_WHERE = {"device", "threads", "checkpoint_every"}  # of the machine, not of what is learned


def train_command(config: TrainConfig) -> str:
    """The `hadamem train` of a configuration: what differs from its agent's default preset, on a machine of one's own."""
    words = ["hadamem", "train", "--env", config.env, "--memory", config.memory, "--agent", config.agent]
    preset = preset_config(default_preset(config.agent, None), config.env, config.memory)
    there = set(preset.memory_options)
    config = replace(config, memory_options=tuple(dict.fromkeys(o for o in config.memory_options if o not in there)))
    words += _differences(config, replace(preset, env=config.env, memory=config.memory, memory_options=()))
    return shlex.join([*words, "--seed", str(config.seed)])


def _differences(given: Any, default: Any) -> list[str]:
    words = []
    for field in fields(given):
        value, usual = getattr(given, field.name), getattr(default, field.name)
        option = field.name.replace("_", "-")
        if is_dataclass(value):
            words += _differences(value, usual)
        elif value == usual or field.name in _WHERE or field.name == "seed":
            continue
        elif isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, tuple):
            words += [f"--{option}", *map(str, value)]
        else:
            words += [f"--{option}", str(value)]
    return words
