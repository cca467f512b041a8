"""What to train on what, and how: the configuration of a run."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .. import tracking
from ..checks import check_fields
from ..envs.layout import Channels
from ..options import read_json
from ..run import RunError, read_config
from .ppo import PPOConfig
from .r2d2 import R2D2Config
from .sac import SACConfig

#: Settings of the machine. What is learned does not depend on them, but for numbers drawn and roundings.
OF_THE_MACHINE = frozenset({"device", "threads", "env_workers", "processes", "track", "checkpoint_every"})

#: Learning algorithms by name, each with the class of its options.
ALGORITHMS: dict[str, type[PPOConfig] | type[SACConfig] | type[R2D2Config]] = {
    "ppo": PPOConfig,
    "sac": SACConfig,
    "r2d2": R2D2Config,
}


@dataclass
class TrainConfig:
    """What to train on what, and how."""

    env: str = "popgym-RepeatPreviousEasy-v0"
    """task to train on: any Gymnasium id, or package.module:Name-v0 for one of your own"""
    env_options: tuple[str, ...] = ()
    """options of the task as name=value, which are passed to its environment as keyword arguments"""
    agent: Literal["ppo", "sac", "r2d2"] = "ppo"
    """learning algorithm: PPO (on-policy), soft actor-critic or R2D2 (off-policy, R2D2 for discrete actions); each has options
    of its own"""
    memory: str = "shm"
    """memory of the agent, one of those that `hadamem list memories` shows"""
    memory_size: int | None = None
    """size of the memory, in its own unit (SHM: H of its H x H matrix; GRU: hidden units); None: the memory's own default"""
    memory_options: tuple[str, ...] = ()
    """options of the memory as name=value, as `hadamem list memories` shows them; each replaces the preset's of that name"""
    steps: int = 1_000_000
    """environment steps to train for, all environments together"""
    data: str | None = None
    """recorded episodes to imitate instead of acting, as `hadamem clone` does: the id of a Minari data set, or its folder"""
    start_from: str | None = None
    """folder of a run of the same memory and network, whose policy is where the training starts; None: random weights"""
    seed: int = 0
    """seed of all random generators"""
    inputs: tuple[str, ...] | None = None
    """inputs of the agent: obs, action and reward, where the last two are those of the previous step; None: obs, with PPO also
    those that the task declares to need, and with SAC or R2D2 those with an embedding of at least one feature"""
    observe: tuple[str, ...] = ()
    """parts of a nested observation that the agent sees, by their names, as position or goal.position; none: all"""
    channels: Channels | None = None
    """whether the first or the last axis of pictures counts channels; None: their shapes tell"""
    wrappers: tuple[str, ...] = ()
    """wrappers of the environment, package.module:name of classes or functions that take it, the first innermost"""
    frame_skip: int = 1
    """steps for which each action is repeated, in environments whose observations are pictures"""
    gray: bool = False
    """whether pictures in colour become gray"""
    resize: tuple[int, int] | None = None
    """height and width to which pictures are resized, in pixels, such as 84 84; needs OpenCV (hadamem[pictures])"""
    joint_actions: bool = False
    """whether an action of several choices (MultiDiscrete, MultiBinary) is played as one, with a choice for every combination:
    then a policy can say "any of these but that one"; the more combinations, the longer it takes to try them"""
    batched: bool = True
    """whether to use the batched version of the task where there is one; it is faster and gives the same episodes"""
    env_workers: int | None = None
    """processes that step the environments side by side; 0: none, this process steps one after the other; None: what pays for
    environments of this kind, found out at the start (not for batched tasks). Episodes are the same"""
    processes: int = 1
    """processes of this machine that train together, each with its share of the environments and of every minibatch; with a GPU
    for each if the device is cuda. Started by torchrun, the training has as many as that says, on any number of machines"""
    device: str = "cpu"
    """device that the networks run on: cpu, cuda, cuda:1, ..."""
    threads: int | None = None
    """number of processor threads to use; None: one where a gradient step is small, for which more only wait for each other,
    else all"""
    track: tuple[str, ...] = ()
    """where the metrics are shown beside TensorBoard: wandb, mlflow or both; their own environment variables say how, as
    WANDB_MODE=offline"""
    checkpoint_every: float = 20.0
    """seconds between checkpoints"""
    evaluate_every: int | None = None
    """environment steps between evaluations during training, which play the same episodes every time, greedily; the policy that
    did best is kept in the folder best of the run's own. None: never"""
    evaluate_episodes: int | None = None
    """episodes of each evaluation during training; None: every task once where the environment has a list of tasks, 200
    elsewhere"""
    evaluate_options: tuple[str, ...] = ()
    """options of the task as name=value that take the place of --env-options in every evaluation, such as split=eval"""
    ppo: PPOConfig | None = None
    """options of PPO; None unless it is the agent"""
    sac: SACConfig | None = None
    """options of SAC; None unless it is the agent"""
    r2d2: R2D2Config | None = None
    """options of R2D2; None unless it is the agent"""

    def __post_init__(self) -> None:
        counts = ("steps", "memory_size", "processes", "threads", "evaluate_every", "evaluate_episodes", "frame_skip", "resize")
        check_fields(self, counts, at_least=1)
        check_fields(self, ("seed", "checkpoint_every", "env_workers"), at_least=0)
        tracking.check_names(self.track)
        for name, made in ALGORITHMS.items():
            if name == self.agent and getattr(self, name) is None:
                setattr(self, name, made())
            elif name != self.agent and getattr(self, name) is not None:
                raise ValueError(f"there are options for {name}, but the agent is {self.agent}")
        if self.data is not None and self.agent != "ppo":
            raise ValueError(f"data is imitated by PPO's policy, but the agent is {self.agent}")

    @property
    def algorithm(self) -> PPOConfig | SACConfig | R2D2Config:
        """The options of the agent."""
        algorithm: PPOConfig | SACConfig | R2D2Config = getattr(self, self.agent)
        return algorithm

    @property
    def off_policy(self) -> SACConfig | R2D2Config | None:
        """The options of the agent if it learns from a replay."""
        return self.sac or self.r2d2


def config_from_dict(saved: dict[str, Any]) -> TrainConfig:
    """The configuration that `dataclasses.asdict` made such a dict of, be it as JSON.

    Raises:
        ValueError: a field is unknown, of another type, or out of range.
    """
    return read_json(TrainConfig, saved)


def load_config(path: pathlib.Path) -> TrainConfig:
    """The configuration of a run folder.

    Raises:
        NoRunError: it is no run folder.
        RunError: its config.json is damaged, or of a version with other settings.
    """
    saved = read_config(path)
    try:
        return config_from_dict(saved)
    except ValueError as error:
        raise RunError.damaged(path / "config.json", error) from error


def seed_for(seed: int, purpose: str) -> int:
    """A seed of its own for every purpose, unrelated to those of neighbouring seeds."""
    words = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1)
    return int(words[0] >> 2)  # environments count up from it: stay clear of the largest
