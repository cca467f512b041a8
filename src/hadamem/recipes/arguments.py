"""Parses the command-line arguments of a training into its configuration."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import tyro

from ..agents.config import TrainConfig
from ..memory import memory_class
from .file import merge_options, read_recipe
from .presets import default_preset, preset_config
from .train_help import show_help


@dataclass
class Train:
    """Train an agent with a memory. The folder of the run is the last line printed."""

    config: Annotated[TrainConfig, tyro.conf.OmitArgPrefixes]
    preset: str | None = None
    """recipe that sets the defaults of the other options: fast, popgym-fast, meta-fast, credit-fast or popgym-paper for ppo;
    sac-fast, meta-paper or credit-paper for sac; r2d2-fast for r2d2; None: the first of these for the agent"""
    recipe: pathlib.Path | None = None
    """file of defaults, as `hadamem tune` writes it; it is used instead of --preset, and also names a task and a memory"""
    out: pathlib.Path | None = None
    """folder that the run is written to; None: runs/TASK/MEMORY-AGENT-sSEED-TIME"""
    resume: pathlib.Path | None = None
    """continue the run in this folder with the configuration it was started with; only --steps, --device and --processes can be
    changed"""
    ray: str | None = None
    """train on the Ray cluster at this address (auto, or HOST:PORT of its head), with --processes processes on any of its
    machines; they must see --out under the same path, and have hadamem[ray] installed"""


def read_train(arguments: Sequence[str], prog: str = "hadamem train") -> Train:
    """Parse the arguments of `hadamem train`. Defaults are those of the preset for this task and memory, or of a recipe file;
    an option of the memory replaces the default option of the same name.

    Raises:
        ValueError: there is no memory or preset of such a name, a value is out of range, or the recipe file is wrong.
        FileNotFoundError: there is no such recipe file.
        SystemExit: the arguments cannot be parsed, or ask for help.
    """
    # options on which the defaults of the other options depend
    chosen = dict[str, Any](env=None, memory=None, agent=None, preset=None, recipe=None, steps=None)
    for i, word in enumerate(arguments):
        name, equals, value = word.removeprefix("--").partition("=")
        following = "".join(arguments[i + 1 : i + 2])
        if word.startswith("--") and name in chosen and (equals or (following and not following.startswith("--"))):
            chosen[name] = value if equals else following
    recipe = read_recipe(pathlib.Path(chosen["recipe"])) if chosen["recipe"] else None
    if recipe is not None:
        if chosen["preset"] is not None:
            raise ValueError(f"--recipe and --preset were both given; leave --preset out: {recipe.path} names its preset")
        if chosen["agent"] not in (None, recipe.agent):
            raise ValueError(f"recipe {recipe.path} is for the agent {recipe.agent}, not {chosen['agent']}; leave --agent out")
        named = {**recipe.values, "agent": recipe.agent, "preset": recipe.preset}
        chosen = {name: named.get(name) if value is None else value for name, value in chosen.items()}
    env, memory = chosen["env"] or TrainConfig.env, chosen["memory"] or TrainConfig.memory
    memory_class(memory)  # report a mistyped name before doing anything else
    steps = int(chosen["steps"]) if str(chosen["steps"]).isdecimal() else None  # tyro reports a value that is no number
    preset = default_preset(chosen["agent"], chosen["preset"])
    default = preset_config(preset, env, memory, steps or None)
    if recipe is not None:
        default = recipe.apply(default)
    if {"-h", "--help", "--help-all"} & set(arguments):
        show_help(Train(default, preset), prog, show_all="--help-all" in arguments)
    # only the chosen agent has options here
    shown = Train(replace(default, memory_options=()))
    parsed = tyro.cli(Train, args=arguments, default=shown, prog=prog, config=(tyro.conf.AvoidSubcommands,))
    options = merge_options(default.memory_options, parsed.config.memory_options)
    return replace(parsed, config=replace(parsed.config, memory_options=options))


def task_words(text: str) -> list[str]:
    """Convert a task given as one text, "ID option=value ...", to arguments of `hadamem train`."""
    name, *options = text.split() or [""]
    return ["--env", name, *(["--env-options", *options] if options else [])]


def memory_words(text: str) -> list[str]:
    """Convert a memory given as one text, "NAME[:SIZE] option=value ...", to arguments of `hadamem train`."""
    first, *options = text.split() or [""]
    name, _, size = first.partition(":")
    words = ["--memory", name, *(["--memory-size", size] if size else [])]
    return [*words, *(["--memory-options", *options] if options else [])]


def file_name(text: str) -> str:
    """Convert the text of a task or a memory to a name for a file or folder."""
    return re.sub(r"[^\w.=,+-]", ".", re.sub(r"\s+", "-", text.strip()))
