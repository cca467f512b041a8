"""Converts a configuration back to a command line that trains it."""

from __future__ import annotations

import shlex
from dataclasses import fields, is_dataclass, replace
from typing import Any

from ..agents.config import OF_THE_MACHINE, TrainConfig
from ..memory import memory_options
from .presets import PRESETS, default_preset, preset_config


def train_command(config: TrainConfig) -> str:
    """A `hadamem train` command for a configuration: it names the most similar preset of the agent and all options that differ
    from it, without the settings of the machine."""
    usual = default_preset(config.agent, None)
    presets = [usual, *(name for name, recipe in PRESETS.items() if recipe["agent"] == config.agent and name != usual)]
    nearest: list[str] = min((_words(config, preset, preset == usual) for preset in presets), key=len)
    return shlex.join(nearest)


def _words(config: TrainConfig, preset: str, usual: bool) -> list[str]:
    words = ["hadamem", "train", "--env", config.env, "--memory", config.memory, "--agent", config.agent]
    words += [] if usual else ["--preset", preset]
    default = preset_config(preset, config.env, config.memory, config.steps)
    default = replace(default, steps=preset_config(preset, config.env, config.memory).steps)  # so that other steps are shown
    # a memory option of the preset applies unless another value is given, even if that is the memory's own default
    names = {option.partition("=")[0] for option in config.memory_options}
    of_memory = memory_options(config.memory)
    unsaid = [name for option in default.memory_options if (name := option.partition("=")[0]) not in names]
    options = [*config.memory_options, *(f"{name}={str(of_memory[name].default).lower()}" for name in unsaid)]
    options = [option for option in dict.fromkeys(options) if option not in default.memory_options]
    config = replace(config, memory_options=tuple(options))
    words += _differences(config, replace(default, env=config.env, memory=config.memory, memory_options=()))
    return [*words, "--seed", str(config.seed)]


def _differences(chosen: Any, default: Any) -> list[str]:
    words = []
    for field in fields(chosen):
        value, usual = getattr(chosen, field.name), getattr(default, field.name)
        option = field.name.replace("_", "-")
        if is_dataclass(value):
            words += _differences(value, usual)
        elif value == usual or field.name in OF_THE_MACHINE or field.name == "seed":
            continue
        elif isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, tuple):
            words += [f"--{option}", *map(str, value)]
        else:
            words += [f"--{option}", str(value)]
    return words
