"""From the words of a command line to the configuration of a training."""

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
    sac-fast, meta-paper or credit-paper for sac; r2d2-fast for r2d2; None: the first of its agent"""
    recipe: pathlib.Path | None = None
    """file of defaults, as `hadamem tune` writes it; it takes the place of --preset, and names its task and its memory, too"""
    out: pathlib.Path | None = None
    """folder that the run is written to; None: runs/TASK/MEMORY-AGENT-sSEED-TIME"""
    resume: pathlib.Path | None = None
    """continue the run in this folder with the configuration it was started with; only --steps, --device and --processes can be
    changed"""
    ray: str | None = None
    """train on the Ray cluster at this address (auto, or HOST:PORT of its head), by --processes processes wherever it has room;
    its machines must see --out under the same path, and have hadamem[ray] installed"""


def read_train(arguments: Sequence[str], prog: str = "hadamem train") -> Train:
    """What `hadamem train` is asked for. Defaults are those of the preset for this task and memory, or of a recipe file; an
    option of the memory takes the place of the default one of that name.

    Raises:
        ValueError: no memory or no preset has such a name, a value is out of range, or the recipe file is at fault.
        FileNotFoundError: there is no such recipe file.
        SystemExit: the words cannot be understood, or ask for help.
    """
    # what the defaults of the other options depend on
    chosen = dict[str, Any](env=None, memory=None, agent=None, preset=None, recipe=None, steps=None)
    for i, word in enumerate(arguments):
        name, equals, value = word.removeprefix("--").partition("=")
        following = "".join(arguments[i + 1 : i + 2])
        if word.startswith("--") and name in chosen and (equals or (following and not following.startswith("--"))):
            chosen[name] = value if equals else following
    recipe = read_recipe(pathlib.Path(chosen["recipe"])) if chosen["recipe"] else None
    if recipe is not None:
        if chosen["preset"] is not None:
            raise ValueError(f"--recipe and --preset were both given; leave --preset out: {recipe.path} says which it adds to")
        if chosen["agent"] not in (None, recipe.agent):
            raise ValueError(f"recipe {recipe.path} is for the agent {recipe.agent}, not {chosen['agent']}; leave --agent out")
        named = {**recipe.values, "agent": recipe.agent, "preset": recipe.preset}
        chosen = {name: named.get(name) if value is None else value for name, value in chosen.items()}
    env, memory = chosen["env"] or TrainConfig.env, chosen["memory"] or TrainConfig.memory
    memory_class(memory)  # a mistyped name is answered before anything else
    steps = int(chosen["steps"]) if str(chosen["steps"]).isdecimal() else None  # what is no number, tyro answers
    preset = default_preset(chosen["agent"], chosen["preset"])
    default = preset_config(preset, env, memory, steps or None)
    if recipe is not None:
        default = recipe.apply(default)
    if {"-h", "--help", "--help-all"} & set(arguments):
        show_help(Train(default, preset), prog, show_all="--help-all" in arguments)
    # of the options of all agents, only the chosen one's are there
    shown = Train(replace(default, memory_options=()))
    parsed = tyro.cli(Train, args=arguments, default=shown, prog=prog, config=(tyro.conf.AvoidSubcommands,))
    options = merge_options(default.memory_options, parsed.config.memory_options)
    return replace(parsed, config=replace(parsed.config, memory_options=options))


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
