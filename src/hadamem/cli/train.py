"""The commands `hadamem train` and `hadamem clone`."""

from __future__ import annotations

import json
import pathlib
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import tyro

from ..agents.cloning import open_data
from ..agents.config import TrainConfig, load_config
from ..agents.training import train as run_training
from ..distributed import is_first
from ..recipes.arguments import file_name, read_train
from ..sweeps.cluster import train_on_ray
from .console import console, say
from .progress import show_progress

#: Defaults of `hadamem clone`: smaller pieces of data than rollouts of training, since there are no environments to wait for.
_CLONING = ("--num-envs", "32", "--num-steps", "128", "--minibatches", "4")


@dataclass
class Resume:
    """Continue a run with its own configuration."""

    resume: pathlib.Path
    """folder of the run to continue"""
    steps: int | None = None
    """environment steps of the whole run, including the steps already made; None: as many as the run was started with"""
    device: str | None = None
    """device that the networks run on; None: the one that the run was started with"""
    processes: int | None = None
    """number of processes that train together; None: as many as the run was started with"""
    ray: str | None = None
    """train on the Ray cluster at this address; see `hadamem train --help-all`"""


def train(arguments: Sequence[str]) -> None:
    """Train an agent with a memory on a task"""
    resume = any(word == "--resume" or word.startswith("--resume=") for word in arguments)
    if resume:
        resumed = tyro.cli(Resume, args=arguments, prog="hadamem train")
        path = resumed.resume
        config = load_config(path)
        steps = config.steps if resumed.steps is None else resumed.steps
        processes = config.processes if resumed.processes is None else resumed.processes
        config = replace(config, steps=steps, device=resumed.device or config.device, processes=processes)
        ray = resumed.ray
    else:
        parsed = read_train(arguments)
        config, ray = parsed.config, parsed.ray
        path = parsed.out or _usual_folder(config, config.agent)
    _train_into(path, config, resume, ray)


def clone(arguments: Sequence[str]) -> None:
    """Train an agent to imitate recorded episodes, as hadamem record and Minari write them"""
    if {"-h", "--help", "--help-all"} & set(arguments):
        read_train([*_CLONING, *arguments], "hadamem clone DATA")
    if not arguments or arguments[0].startswith("-"):
        usage = "hadamem clone DATA [options of hadamem train]"
        raise ValueError(f"which episodes? {usage}; DATA is the id of a Minari data set or its folder")
    data, *words = arguments
    if not any(word == "--env" or word.startswith("--env=") for word in words):
        words += ["--env", _environment_of(data)]
    parsed = read_train([*_CLONING, *words], "hadamem clone DATA")
    config = replace(parsed.config, data=data)
    _train_into(parsed.out or _usual_folder(config, "clone"), config, ray=parsed.ray)


def _environment_of(data: str) -> str:
    spec = open_data(data).spec.env_spec
    if spec is None:
        raise ValueError(f"{data} does not say which environment its episodes are of; give it by --env")
    return spec.id


def _usual_folder(config: TrainConfig, kind: str) -> pathlib.Path:
    folder = f"{config.memory}-{kind}-s{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    return pathlib.Path("runs") / file_name(config.env) / folder


def _train_into(path: pathlib.Path, config: TrainConfig, resume: bool = False, ray: str | None = None) -> None:
    complete = train_on_ray(config, path, ray, resume) if ray else run_training(config, path, resume, show_progress)
    if not is_first():
        return
    if not complete:
        say(f"stopped; continue with: hadamem train --resume {shlex.quote(str(path))}")
    if (path / "best" / "result.json").exists():
        best = json.loads((path / "best" / "result.json").read_text())
        say(f"best evaluation: {best['evaluation_return']:.3f} after {best['steps']:,} steps, kept in {path / 'best'}")
    print(path)
    if complete and console.is_terminal:
        folder = shlex.quote(str(path))
        say(f"hadamem evaluate {folder} plays it beside random play; hadamem watch {folder} looks inside")
