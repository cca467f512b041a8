"""The configuration of a training run: its task, agent and memory, and how to train."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .. import tracking
from ..checks import check_fields
from ..envs.layout import Channels
from ..networks.precision import Precision
from ..options import read_json
from ..run import RunError, read_config
from .ppo import PPOConfig
from .r2d2 import R2D2Config
from .sac import SACConfig

#: Settings of the machine. They do not change what is learned, except through random numbers and rounding.
OF_THE_MACHINE = frozenset({"device", "threads", "env_workers", "env_wait", "processes", "track", "checkpoint_every"})

#: Classes of options of the learning algorithms, by the name of the algorithm.
ALGORITHMS: dict[str, type[PPOConfig] | type[SACConfig] | type[R2D2Config]] = {
    "ppo": PPOConfig,
    "sac": SACConfig,
    "r2d2": R2D2Config,
}


@dataclass
class TrainConfig:
    """Configuration of a training run: its task, agent and memory, and how to train."""

    env: str = "popgym-RepeatPreviousEasy-v0"
    """task to train on: any Gymnasium id, or package.module:Name-v0 for an environment of your own"""
    env_options: tuple[str, ...] = ()
    """options of the task as name=value, which are passed to its environment as keyword arguments"""
    agent: Literal["ppo", "sac", "r2d2"] = "ppo"
    """learning algorithm: PPO (on-policy), soft actor-critic or R2D2 (off-policy, R2D2 for discrete actions only); each has its
    own options"""
    memory: str = "shm"
    """memory of the agent, by name; `hadamem list memories` shows all names"""
    memory_size: int | None = None
    """size of the memory, in its own unit (SHM: H of its H x H matrix; GRU: hidden units); None: the memory's own default"""
    memory_options: tuple[str, ...] = ()
    """options of the memory as name=value, which `hadamem list memories NAME` explains; each replaces the preset's option of
    that name"""
    steps: int = 1_000_000
    """environment steps to train for, all environments together"""
    data: str | None = None
    """recorded episodes to imitate instead of acting, as `hadamem clone` does: the id of a Minari data set, or its folder"""
    start_from: str | None = None
    """folder of a run with the same memory and network; the training starts with its policy. None: random weights"""
    seed: int = 0
    """seed of all random generators"""
    inputs: tuple[str, ...] | None = None
    """inputs of the agent: obs, action and reward, where action and reward are those of the previous step; None: obs, with PPO
    also the inputs that the task says it needs, with SAC and R2D2 also action and reward if their embedding size is not 0"""
    observe: tuple[str, ...] = ()
    """parts of a nested observation that the agent sees, by name, such as position or goal.position; none given: all parts"""
    channels: Channels | None = None
    """whether the first or the last axis of pictures holds the channels; None: decided by the shape of the pictures"""
    wrappers: tuple[str, ...] = ()
    """wrappers of the environment, each package.module:name of a class or function that takes the environment; the first one is
    the innermost"""
    frame_skip: int = 1
    """steps for which each action is repeated, in environments whose observations are pictures"""
    gray: bool = False
    """whether colour pictures are converted to gray"""
    resize: tuple[int, int] | None = None
    """height and width to which pictures are resized, in pixels, such as 84 84; needs OpenCV (hadamem[pictures])"""
    joint_actions: bool = False
    """whether an action of several choices (MultiDiscrete, MultiBinary) is played as a single choice among all combinations, so
    that a policy can avoid one particular combination; with more combinations, exploration takes longer"""
    batched: bool = True
    """whether to use the batched version of the task, if it has one, which is faster and gives the same episodes"""
    env_workers: int | None = None
    """processes that step the environments in parallel; 0: none, this process steps one environment after the other; None:
    chosen from the time of a step, measured at the start. The episodes do not depend on it. Not for batched tasks"""
    env_wait: int | None = None
    """environments that PPO waits for before it acts in them, while the others step; must divide the environments of each
    process. Less than all is faster where steps of --env-workers take long, or not always equally long. None: all. Not for
    batched tasks"""
    processes: int = 1
    """processes on this machine that train together, each with its share of the environments and of every minibatch, and with a
    GPU of its own if the device is cuda; under torchrun, torchrun sets their number, on any number of machines"""
    device: str = "cpu"
    """device that the networks run on: cpu, cuda, cuda:1, ..."""
    precision: Precision = "float32"
    """number format of products of matrices in the encoder and the memory, in training: bfloat16 is for GPUs; processors gain
    nothing. Weights, memory states, heads and losses stay float32, and the trained policy acts in float32"""
    threads: int | None = None
    """number of processor threads to use; None: all if gradient steps are large; if they are small, one, and the memory's own
    kernels use all of them whenever that is faster, which leaves the results as they are"""
    track: tuple[str, ...] = ()
    """where the metrics are shown besides TensorBoard: wandb, mlflow or both; their own environment variables configure them,
    such as WANDB_MODE=offline"""
    checkpoint_every: float = 20.0
    """seconds between checkpoints"""
    evaluate_every: int | None = None
    """environment steps between evaluations during training, which play the same episodes every time, greedily; the policy with
    the best evaluation is kept in the folder best inside the run folder. None: never"""
    evaluate_episodes: int | None = None
    """episodes of each evaluation during training; None: every task once if the environment has a list of tasks, otherwise
    200"""
    evaluate_options: tuple[str, ...] = ()
    """options of the task as name=value for evaluations, added to --env-options and replacing those of the same name, such as
    split=eval"""
    ppo: PPOConfig | None = None
    """options of PPO; None unless it is the agent"""
    sac: SACConfig | None = None
    """options of SAC; None unless it is the agent"""
    r2d2: R2D2Config | None = None
    """options of R2D2; None unless it is the agent"""

    def __post_init__(self) -> None:
        counts = ("steps", "memory_size", "processes", "threads", "evaluate_every", "evaluate_episodes", "frame_skip", "resize")
        check_fields(self, (*counts, "env_wait"), at_least=1)
        check_fields(self, ("seed", "checkpoint_every", "env_workers"), at_least=0)
        tracking.check_names(self.track)
        for name, made in ALGORITHMS.items():
            if name == self.agent and getattr(self, name) is None:
                setattr(self, name, made())
            elif name != self.agent and getattr(self, name) is not None:
                raise ValueError(f"there are options for {name}, but the agent is {self.agent}")
        if self.env_wait is not None and self.agent != "ppo":
            raise ValueError(f"env_wait is {self.env_wait}, but only PPO acts in groups of environments, not {self.agent}")
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
    """The configuration from a dict that `dataclasses.asdict` made of it, also after saving as JSON.

    Raises:
        ValueError: a field is unknown, of another type, or out of range.
    """
    return read_json(TrainConfig, saved)


def load_config(path: pathlib.Path) -> TrainConfig:
    """The configuration of a run folder.

    Raises:
        NoRunError: the folder is not a run folder.
        RunError: config.json is damaged, or written by a version with other settings.
    """
    saved = read_config(path)
    try:
        return config_from_dict(saved)
    except ValueError as error:
        raise RunError.damaged(path / "config.json", error) from error


def seed_for(seed: int, purpose: str) -> int:
    """A separate seed for each purpose, unrelated to the seeds derived from neighbouring values of `seed`."""
    words = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1)
    return int(words[0] >> 2)  # environment i adds i to the seed: leave room below the largest integer
