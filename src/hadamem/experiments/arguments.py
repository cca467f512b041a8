"""From the words of a command line to the configuration of a training."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import tyro

from ..agents.training import TrainConfig
from ..memory import memory_class
from .recipes import default_preset, preset_config
from .train_help import show_help


@dataclass
class Train:
    """Train an agent with a memory. The folder of the run is the last line printed."""

    config: Annotated[TrainConfig, tyro.conf.OmitArgPrefixes]
    preset: str | None = None
    """recipe that sets the defaults of the other options: fast, meta-fast, credit-fast or popgym-paper for ppo; sac-fast,
    meta-paper or credit-paper for sac; None: the first of these"""
    out: pathlib.Path | None = None
    """folder that the run is written to; None: runs/TASK/MEMORY-AGENT-sSEED-TIME"""
    resume: pathlib.Path | None = None
    """continue the run in this folder with the configuration it was started with; only --steps and --device can be changed"""


def read_train(arguments: Sequence[str], prog: str = "hadamem train") -> Train:
    """What `hadamem train` is asked for. Defaults are those of the preset for this task and memory; an option of the memory
    takes the place of the preset's of that name.

    Raises:
        ValueError: no memory or no preset has such a name, or a value is out of range.
        SystemExit: the words cannot be understood, or ask for help.
    """
    chosen: dict[str, Any] = {"env": TrainConfig.env, "memory": TrainConfig.memory, "agent": None, "preset": None, "steps": ""}
    for i, word in enumerate(arguments):  # what the defaults of the other options depend on
        name, equals, value = word.removeprefix("--").partition("=")
        following = "".join(arguments[i + 1 : i + 2])
        if word.startswith("--") and name in chosen and (equals or (following and not following.startswith("--"))):
            chosen[name] = value if equals else following
    memory_class(chosen["memory"])  # a mistyped name is answered before anything else
    steps = int(chosen["steps"]) if chosen["steps"].isdecimal() else None  # what is no number, tyro answers
    preset_name = default_preset(chosen["agent"], chosen["preset"])
    preset = preset_config(preset_name, chosen["env"], chosen["memory"], steps or None)
    if {"-h", "--help", "--help-all"} & set(arguments):
        show_help(Train(preset, preset_name), prog, show_all="--help-all" in arguments)
    default = Train(replace(preset, memory_options=()))
    # of the options of all agents, only the chosen one's are there
    given = tyro.cli(Train, args=arguments, default=default, prog=prog, config=(tyro.conf.AvoidSubcommands,))
    options = given.config.memory_options
    names = {option.partition("=")[0] for option in options}
    kept = tuple(option for option in preset.memory_options if option.partition("=")[0] not in names)
    return replace(given, config=replace(given.config, memory_options=kept + options))


def task_words(text: str) -> list[str]:
    """A task as one text, "ID option=value ...", as words of `hadamem train`."""
    name, *options = text.split() or [""]
    return ["--env", name, *(["--env-options", *options] if options else [])]


def memory_words(text: str) -> list[str]:
    """A memory as one text, "NAME[:SIZE] option=value ...", as words of `hadamem train`."""
    first, *options = text.split() or [""]
    name, _, size = first.partition(":")
    words = ["--memory", name, *(["--memory-size", size] if size else [])]
    return [*words, *(["--memory-options", *options] if options else [])]


def file_name(text: str) -> str:
    """A task or a memory as a part of a path."""
    return re.sub(r"[^\w.=,+-]", ".", re.sub(r"\s+", "-", text.strip()))
