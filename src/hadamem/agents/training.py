"""From a configuration to a trained run folder: building, the loop, checkpoints, stopping and going on."""

from __future__ import annotations

import pathlib
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..envs import VectorEnvironment, make_vector, tasks
from ..memory import parse_options
from ..networks import ActorCritic, NetworkConfig
from ..run import Run, read_checkpoint, read_config
from .ppo import PPO, PPOConfig
from .progress import Progress


@dataclass
class TrainConfig:
    """What to train on what, and how."""

    env: str = "popgym-RepeatPreviousEasy-v0"
    """task: any Gymnasium id, or package.module:Name-v0 for one of your own"""
    env_options: tuple[str, ...] = ()
    """options of the task, as name=value: the keyword arguments of its environment"""
    memory: str = "shm"
    """memory by name, see `hadamem list memories`"""
    memory_size: int | None = None
    """size in the memory's own measure (SHM: H of its H x H matrix; GRU: hidden units); none: the preset's or its own"""
    memory_options: tuple[str, ...] = ()
    """further options of the memory, as name=value; see `hadamem list memories`"""
    steps: int = 1_000_000
    """environment steps to train for"""
    seed: int = 0
    """of everything random"""
    inputs: tuple[str, ...] | None = None
    """what the agent is fed: obs, action, reward (the last two of the previous step); none: obs, and what of the
    others the task says that it needs"""
    batched: bool = True
    """use the batched version of a task, equal step by step to single environments, where there is one"""
    device: str = "cpu"
    """of the network: cpu, cuda, ..."""
    threads: int | None = None
    """processor threads to use; none: all"""
    checkpoint_every: float = 20.0
    """seconds between checkpoints"""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """of the agent"""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must not be negative")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; it must be at least 1")
        if self.memory_size is not None and self.memory_size < 1:
            raise ValueError(f"memory_size is {self.memory_size}; it must be at least 1")


def config_from_dict(saved: dict[str, Any]) -> TrainConfig:
    """The configuration that a run folder holds."""
    ppo = dict(saved["ppo"])
    ppo["network"] = NetworkConfig(**ppo["network"])
    inputs = None if saved["inputs"] is None else tuple(saved["inputs"])
    options = {name: tuple(saved.get(name, ())) for name in ("env_options", "memory_options")}
    return TrainConfig(**{**saved, **options, "inputs": inputs, "ppo": PPOConfig(**ppo)})


def seed_for(seed: int, purpose: str) -> int:
    """A seed of its own for every purpose, unrelated to those of neighbouring seeds."""
    words = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1)
    return int(words[0] >> 2)  # environments count up from it: stay clear of the largest


def make_environment(config: TrainConfig, num_envs: int, seed: int) -> VectorEnvironment:
    """The task of a configuration, `num_envs` times."""
    options = tasks.parse_options(config.env, config.env_options)
    return make_vector(config.env, num_envs, seed, inputs=config.inputs, batched=config.batched, **options)


def make_policy(config: TrainConfig, env: VectorEnvironment) -> ActorCritic:
    """The network of a configuration, untrained, on its device."""
    options = parse_options(config.memory, config.memory_options)
    policy = ActorCritic(env.layout, env.action_space, config.memory, config.memory_size, options, config.ppo.network)
    return policy.to(config.device)


def check_device(device: str) -> None:
    """Raise a ValueError where a device is not there; torch's own words run over many lines."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        there = ", ".join(["cpu"] + [f"cuda:{n}" for n in range(torch.cuda.device_count())])
        raise ValueError(f"device is {device!r}; here there are: {there}") from error


def load_policy(path: pathlib.Path, device: str = "cpu") -> tuple[ActorCritic, TrainConfig]:
    """The trained policy of a run folder, and its configuration."""
    check_device(device)
    config = config_from_dict(read_config(path))
    config.device = device
    checkpoint = read_checkpoint(path, device)
    env = make_environment(config, 1, 0)
    policy = make_policy(config, env)
    env.close()
    policy.load_state_dict(checkpoint["agent"]["policy"])
    return policy.eval(), config


def train(config: TrainConfig, path: pathlib.Path, resume: bool = False) -> bool:
    """Train, writing the run folder `path`; with `resume`, go on from its checkpoint.

    Ctrl-C (or a SIGTERM) ends the run after the current iteration, with a checkpoint; a second one ends it at once.

    Returns:
        Whether the run is complete.
    """
    check_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(seed_for(config.seed, "network"))
    saved = read_checkpoint(path, config.device) if resume else None
    # where environments cannot be saved, a resumed run must not meet its first episodes again
    purpose = "environment" if saved is None else f"environment after {saved['agent']['step']}"
    env = make_environment(config, config.ppo.num_envs, seed_for(config.seed, purpose))
    agent = PPO(make_policy(config, env), env, config.ppo, config.steps)
    seconds = 0.0
    if saved is not None:
        agent.load_state_dict(saved["agent"])
        _set_random_state(saved["random"])
        seconds = saved["seconds"]
    folder = Run.resume(path, agent.step, config) if resume else Run.create(path, config)
    with folder as run, Progress(f"{config.memory} on {config.env}", config.steps, agent.step) as bar, _stop() as stop:

        def save() -> None:
            run.save({"agent": agent.state_dict(), "random": _random_state(), "seconds": seconds})

        if not resume:
            save()  # from its first moment on, a run that is killed can go on
        saved_at, metrics = time.monotonic(), {"return": float("nan")}
        while agent.step < config.steps and not stop:
            begin = time.monotonic()
            steps_before = agent.step
            metrics = agent.iterate()
            took = time.monotonic() - begin
            seconds += took
            metrics["steps_per_second"] = (agent.step - steps_before) / took
            run.log(agent.step, metrics | {"seconds": seconds})
            bar.update(agent.step, metrics["return"], metrics["steps_per_second"])
            if time.monotonic() - saved_at > config.checkpoint_every:
                save()
                saved_at = time.monotonic()
        save()
        complete = agent.step >= config.steps
        if complete:
            run.finish({"steps": agent.step, "seconds": seconds, "return": _or_none(metrics["return"])})
    env.close()
    return complete


def _random_state() -> list[torch.Tensor]:
    """Of the processor's generator, then of each GPU's."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


def _set_random_state(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0].cpu())
    if len(states) == 1 + torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states[1:]])


def _or_none(value: float) -> float | None:
    return value if value == value else None


@contextmanager
def _stop() -> Iterator[list[int]]:
    """A list that is no longer empty once the user has asked to stop."""
    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        asked.append(number)
        print("\nstopping after this iteration, with a checkpoint; once more: at once", file=sys.stderr, flush=True)
        for which, handler in before.items():  # the next one ends the program at once
            signal.signal(which, handler)

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: its owner decides when to stop
        yield asked
        return
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
