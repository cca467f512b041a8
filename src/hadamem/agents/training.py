"""From a configuration to a trained run folder: building, the loop, checkpoints, stopping and going on."""

from __future__ import annotations

import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch

from ..envs import VectorEnvironment, make_vector, tasks
from ..memory import parse_options
from ..networks import ActorCritic, MemoryChoice, NetworkConfig, Policy, SACNetworkConfig, SoftActor, TwinCritic
from ..run import Run, read_checkpoint, read_config
from .evaluation import MAX_STEPS, evaluate
from .ppo import PPO, PPOConfig
from .progress import Progress
from .sac import SAC, SACConfig


@dataclass
class TrainConfig:
    """What to train on what, and how."""

    env: str = "popgym-RepeatPreviousEasy-v0"
    """task: any Gymnasium id, or package.module:Name-v0 for one of your own"""
    env_options: tuple[str, ...] = ()
    """options of the task, as name=value: the keyword arguments of its environment"""
    agent: Literal["ppo", "sac"] = "ppo"
    """learning algorithm; its own options are below"""
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
    """what the agent is fed: obs, action, reward (the last two of the previous step); none: obs, and of the others what
    the task says that it needs (ppo), or what has an embedding (sac)"""
    batched: bool = True
    """use the batched version of a task, equal step by step to single environments, where there is one"""
    device: str = "cpu"
    """of the network: cpu, cuda, ..."""
    threads: int | None = None
    """processor threads to use; none: all"""
    checkpoint_every: float = 20.0
    """seconds between checkpoints"""
    evaluate_every: int | None = None
    """environment steps between evaluations during training, greedily and always on the same episodes; none: never"""
    evaluate_episodes: int | None = None
    """of each of them; none: every task once where the environment has a list of tasks, 200 elsewhere"""
    evaluate_options: tuple[str, ...] = ()
    """options of the task that differ in every evaluation, such as split=eval"""
    ppo: PPOConfig | None = None
    """of the agent, if it is ppo"""
    sac: SACConfig | None = None
    """of the agent, if it is sac"""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must not be negative")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; it must be at least 1")
        for name in ("memory_size", "evaluate_every", "evaluate_episodes"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.agent == "ppo" and self.ppo is None:
            self.ppo = PPOConfig()
        if self.agent == "sac" and self.sac is None:
            self.sac = SACConfig()
        for other in {"ppo", "sac"} - {self.agent}:
            if getattr(self, other) is not None:
                raise ValueError(f"there are options for {other}, but the agent is {self.agent}")

    @property
    def algorithm(self) -> PPOConfig | SACConfig:
        """The options of the agent."""
        algorithm = self.ppo if self.agent == "ppo" else self.sac
        assert algorithm is not None
        return algorithm


def config_from_dict(saved: dict[str, Any]) -> TrainConfig:
    """The configuration that a run folder holds."""
    saved = _tuples(saved)
    for name, config, network in (("ppo", PPOConfig, NetworkConfig), ("sac", SACConfig, SACNetworkConfig)):
        if (given := saved.get(name)) is not None:
            saved[name] = config(**{**given, "network": network(**given["network"])})
    return TrainConfig(**saved)


def _tuples(saved: dict[str, Any]) -> dict[str, Any]:
    """JSON knows lists only; configurations hold tuples."""
    nested = {key: _tuples(value) for key, value in saved.items() if isinstance(value, dict)}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()} | nested


def seed_for(seed: int, purpose: str) -> int:
    """A seed of its own for every purpose, unrelated to those of neighbouring seeds."""
    words = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1)
    return int(words[0] >> 2)  # environments count up from it: stay clear of the largest


def make_environment(config: TrainConfig, num_envs: int, seed: int, **more: Any) -> VectorEnvironment:
    """The task of a configuration, `num_envs` times; `more` options of the environment, such as its render_mode."""
    inputs = config.inputs
    if inputs is None and config.sac is not None:
        inputs = config.sac.network.inputs
    options = tasks.parse_options(config.env, config.env_options) | more
    return make_vector(config.env, num_envs, seed, inputs=inputs, batched=config.batched, **options)


def make_policy(config: TrainConfig, env: VectorEnvironment) -> Policy:
    """The network that acts, untrained, on its device."""
    policy: Policy
    if config.ppo is not None:
        memory = _memory(config)
        choice = memory.name, memory.size, memory.options
        policy = ActorCritic(env.layout, env.action_space, *choice, config.ppo.network)
    else:
        assert config.sac is not None
        other = config.sac.actor_memory
        memory = _memory(config) if other is None else MemoryChoice(other)
        policy = SoftActor(env.layout, env.action_space, memory, config.sac.network)
    policy.described = env.described
    return policy.to(config.device)


def _memory(config: TrainConfig) -> MemoryChoice:
    return MemoryChoice(config.memory, config.memory_size, parse_options(config.memory, config.memory_options))


class Agent(Protocol):
    """What the training loop knows of a learning algorithm.

    Attributes:
        policy: who acts.
        step: environment steps so far.
    """

    policy: Any
    step: int

    @property
    def must_save(self) -> bool:
        """Whether a checkpoint is needed before the next iteration."""

    def iterate(self) -> dict[str, float]:
        """A round of acting and learning, and how it went; with the mean return of the latest episodes as "return"."""

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on with; the weights of the policy as "policy"."""

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from there."""


def make_agent(config: TrainConfig, env: VectorEnvironment, folder: pathlib.Path | None = None) -> Agent:
    """The agent of a configuration; `folder` is where it may keep what does not fit into a checkpoint, such as a replay."""
    policy = make_policy(config, env)
    if isinstance(policy, ActorCritic):
        assert config.ppo is not None
        return PPO(policy, env, config.ppo, config.steps)
    assert isinstance(policy, SoftActor)
    assert config.sac is not None
    critic = TwinCritic(env.layout, policy.head, _memory(config), config.sac.network).to(config.device)
    return SAC(policy, critic, env, config.sac, folder)


def check_device(device: str) -> None:
    """Raise a ValueError where a device is not there; torch's own words run over many lines."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        there = ", ".join(["cpu"] + [f"cuda:{n}" for n in range(torch.cuda.device_count())])
        raise ValueError(f"device is {device!r}; here there are: {there}") from error


def load_policy(path: pathlib.Path, device: str = "cpu") -> tuple[Policy, TrainConfig]:
    """The trained policy of a run folder, and its configuration."""
    check_device(device)
    config = config_from_dict(read_config(path))
    config.device = device
    checkpoint = read_checkpoint(path, device)
    env = make_environment(config, 1, 0)
    env.require(checkpoint.get("spaces", env.described))
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
    env = make_environment(config, config.algorithm.num_envs, seed_for(config.seed, purpose))
    if saved is not None:
        env.require(saved.get("spaces", env.described))
    agent = make_agent(config, env, path)
    seconds = 0.0
    if saved is not None:
        agent.load_state_dict(saved["agent"])
        _set_random_state(saved["random"])
        seconds = saved["seconds"]
    folder = Run.resume(path, agent.step, config) if resume else Run.create(path, config)
    bar = Progress(f"{config.memory} on {config.env}", config.steps, agent.step)
    with folder as run, bar, _stop() as stop, _telling_where(path):

        def save() -> None:
            run.save({"agent": agent.state_dict(), "spaces": env.described, "random": _random_state(), "seconds": seconds})

        if not resume:
            save()  # from its first moment on, a run that is killed can go on
        saved_at, metrics = time.monotonic(), {"return": float("nan")}
        while agent.step < config.steps and not stop:
            begin = time.monotonic()
            steps_before = agent.step
            metrics = agent.iterate()
            metrics["steps_per_second"] = (agent.step - steps_before) / (time.monotonic() - begin)
            every = config.evaluate_every
            if every is not None and agent.step // every > steps_before // every:
                metrics |= _evaluate(config, agent.policy)
            seconds += time.monotonic() - begin
            run.log(agent.step, metrics | {"seconds": seconds})
            bar.update(agent.step, metrics["return"], metrics["steps_per_second"])
            if agent.must_save or time.monotonic() - saved_at > config.checkpoint_every:
                save()
                saved_at = time.monotonic()
        save()
        complete = agent.step >= config.steps
        if complete:
            run.finish({"steps": agent.step, "seconds": seconds, "return": _or_none(metrics["return"])})
    env.close()
    return complete


@contextmanager
def _telling_where(path: pathlib.Path) -> Iterator[None]:
    """Add to whatever ends a training where its last checkpoint is."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the work up to the last checkpoint is in {path}")
        raise


def evaluate_task(
    config: TrainConfig,
    policy: Policy | None,
    seed: int,
    episodes: int | None = None,
    num_envs: int = 50,
    greedy: bool = True,
    progress: Callable[[int, int], None] | None = None,
    max_steps: int = MAX_STEPS,
    partial: bool = False,
) -> dict[str, Any]:
    """Play the task of a configuration as it is evaluated; see `evaluate`, and `evaluate_options` of TrainConfig.

    Args:
        config: of the run.
        policy: who plays; None for random actions.
        seed: of everything random.
        episodes: how many; None: every task once where the environment has a list of tasks, 200 elsewhere.
        num_envs: environments side by side, at most.
        greedy, progress, max_steps, partial: see `evaluate`.
    """
    config = replace(config, env_options=config.env_options + config.evaluate_options)
    env = make_environment(config, 1, 0)
    num_tasks = None if episodes else env.num_tasks
    env.close()
    episodes = episodes or num_tasks or 200
    torch.manual_seed(seed)
    env = make_environment(config, num_tasks or min(episodes, num_envs), seed)
    try:
        tasks = range(num_tasks) if num_tasks else None
        return evaluate(env, policy, episodes, greedy, progress, tasks, max_steps, partial)
    finally:
        env.close()


def _evaluate(config: TrainConfig, policy: Policy) -> dict[str, float]:
    """Greedy play on the same episodes every time; the training goes on as if it had not been."""
    random = _random_state()
    result = evaluate_task(config, policy, seed_for(config.seed, "evaluation during training"), config.evaluate_episodes)
    _set_random_state(random)
    return {"evaluation_return": result["mean"], "evaluation_success": result.get("success_rate", float("nan"))}


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
