"""Training of a run folder from a configuration: building the agent, the loop, checkpoints, stopping and resuming."""

from __future__ import annotations

import importlib
import logging
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch

from .. import distributed, tracking
from ..envs import VectorEnvironment
from ..envs.from_python import HERE
from ..networks import Policy
from ..run import (
    Run,
    RunError,
    first_line,
    has_checkpoint,
    is_best_of_a_run,
    read_checkpoint,
    read_config,
    read_last_metrics,
    read_metrics,
)
from .config import TrainConfig, load_config, seed_for
from .evaluation import MAX_STEPS, Evaluation, evaluate
from .interruption import shown, stop_asked
from .making import Agent, draw_apart, make_agent, make_environment, make_policy, make_share, share_of_environments
from .progress import Progress
from .random_state import random_state, set_random_state

_log = logging.getLogger("hadamem")
_FEWEST_UPDATES = 50
_LONG = 1000  # steps of an environment in which an episode usually ends
_SMALL_WORK = 1e9  # steps in a minibatch times weights; at about 5e7, two threads on two free cores were slower than one


def _load_triton() -> None:
    """Load Triton before the environments: optimisers load it, and it crashes if a software renderer has loaded its LLVM."""
    with suppress(ImportError):
        importlib.import_module("triton")


def check_device(device: str) -> None:
    """Raise a ValueError if a device does not exist, with a shorter message than torch's, which has many lines."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        there = ", ".join(["cpu"] + [f"cuda:{n}" for n in range(torch.cuda.device_count())])
        raise ValueError(f"device is {device!r}; this machine has: {there}") from error


def load_policy(path: pathlib.Path, device: str = "cpu", env: str | None = None) -> tuple[Policy, TrainConfig]:
    """The trained policy of a run folder, and its configuration; `env` replaces the environment in the configuration."""
    check_device(device)
    config = load_config(path)
    config.device, config.env = device, env or config.env
    checkpoint = read_checkpoint(path, device)
    made = make_environment(config, 1, 0)
    made.require(checkpoint.get("spaces", made.described))
    policy = make_policy(config, made)
    made.close()
    with fitting(path / "checkpoint.pt"):
        policy.load_state_dict(checkpoint["agent"]["policy"])
    return policy.eval(), config


@contextmanager
def fitting(file: pathlib.Path) -> Iterator[None]:
    """Within this context, which loads a checkpoint's content, errors about content that does not fit become a RunError."""
    try:
        yield
    except (RunError, torch.OutOfMemoryError):
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        problem = f"it does not fit the configuration ({type(error).__name__}: {first_line(error)})"
        raise RunError.damaged(file, problem) from error


def few_updates(config: TrainConfig) -> str | None:
    """Advice for a run that makes too few updates to learn anything; None if it makes enough."""
    if config.ppo is not None:
        rollout = config.ppo.num_envs * config.ppo.num_steps
        updates, enough = math.ceil(config.steps / rollout), _FEWEST_UPDATES * rollout
        advice = "lower --num-envs or --num-steps, whose product is a rollout"
    else:
        assert config.off_policy is not None
        warmup, rate = config.off_policy.warmup_steps, config.off_policy.updates_per_step
        updates, enough = max(0, int((config.steps - warmup) * rate)), warmup + math.ceil(_FEWEST_UPDATES / rate)
        advice = "lower --warmup-steps, or raise --updates-per-step"
    if updates >= _FEWEST_UPDATES:
        return None
    return (
        f"{config.steps:,} steps allow only {updates} updates, too few to learn much: raise --steps to {enough:,}, or {advice}"
    )


def no_ends(env: VectorEnvironment, steps: int, mean_return: float) -> str | None:
    """Advice for a run that ended hardly any episode in `steps` steps of all environments together; None if all is well."""
    each = steps // (sum(group.num_envs for group in env.groups) * distributed.size())
    if not (env.endless and each >= _LONG and math.isnan(mean_return)):
        return None
    return (
        f"hardly an episode has ended in {each:,} steps of each environment, and nothing limits their length: an agent that "
        "does not find the end learns little. --env-options max_episode_steps=N limits them"
    )


def train(
    config: TrainConfig,
    path: pathlib.Path,
    resume: bool = False,
    progress: Callable[[str, int, int], Progress] = Progress,
) -> bool:
    """Train, writing the run folder `path`; with `resume`, continue from its checkpoint, or anew if it has none yet.

    Ctrl-C, a SIGTERM, or a SIGHUP (the terminal was closed) ends the run after the current iteration, with a checkpoint; a
    second Ctrl-C or SIGTERM ends it at once.

    Args:
        config: configuration of the training.
        path: folder of the run.
        resume: continue the run in that folder.
        progress: makes the object that shows the progress, from a name, the steps of the run, and the steps made before.

    Returns:
        Whether the run is complete.

    Raises:
        ValueError: the folder or the configuration cannot be used; the folder is unchanged then.
    """
    tracking.require(config.track)
    if resume and is_best_of_a_run(path):
        raise ValueError(f"{path} holds a policy alone; resume {path.parent}, or begin a new run with --start-from {path}")
    if config.processes > 1 and config.env.startswith(HERE):
        raise ValueError(
            f"{config.env} can be made by this program only, and not by {config.processes} processes; give its id, or a class "
            "or function of a module"
        )
    if config.processes > 1:
        share_of_environments(config, config.processes)  # told before processes start, which takes seconds
    with distributed.processes(config.processes, _train, config, path, resume, device=config.device):
        return _train(config, path, resume, progress)


def _train(
    config: TrainConfig, path: pathlib.Path, resume: bool, progress: Callable[[str, int, int], Progress] = Progress
) -> bool:
    """The training in each process; the first process writes the folder and shows the progress."""
    first = distributed.is_first()
    config, path = distributed.gathered((replace(config, processes=distributed.size()), path))[0]
    if not first:
        _log.setLevel(logging.ERROR)  # only the first process logs notices
    with ExitStack() as stack:
        run = stack.enter_context(Run.open(path)) if resume and first else None
        device = distributed.local_device(config.device)
        check_device(device)
        torch.manual_seed(seed_for(config.seed, "network"))
        saved = read_checkpoint(path, device) if resume and has_checkpoint(path) else None
        if saved is not None:
            _check_steps(config.steps, saved["agent"]["step"], path)
        elif run is not None and (last := read_last_metrics(path)) is not None:
            step = f"{last['step']:,}"
            raise RunError(f"{path} has metrics up to step {step}, but no checkpoint.pt to go on from; begin a new run")
        _load_triton()
        env = stack.enter_context(closing(make_share(config, 0 if saved is None else saved["agent"]["step"])))
        if saved is not None:
            env.require(saved.get("spaces", env.described))
        agent = make_agent(config, env, path)
        if config.start_from is not None and saved is None:
            _start_from(agent, config)
        stack.enter_context(threads_of(config, agent.policy))
        seconds, metrics = 0.0, {"return": float("nan")}
        if saved is not None:
            with fitting(path / "checkpoint.pt"):
                _go_on(agent, saved, config)
            seconds = saved["seconds"]
            metrics |= read_last_metrics(path) or {}
            if agent.step >= config.steps and (path / "result.json").exists():
                return True
        if run is not None:
            run.start(config, agent.step)
        elif first:
            run = stack.enter_context(Run.create(path, config))
        distributed.gathered(None)  # wait until the first process has made the folder
        if advice := few_updates(config):
            _log.warning("%s", advice)
        update = _nothing
        if first:
            update = stack.enter_context(shown(progress(f"{config.memory} on {config.env}", config.steps, agent.step)))
        stop = stack.enter_context(stop_asked(say=first))
        made_for = {"spaces": env.described, "interface": env.interface.to_json()}

        def save() -> None:
            state = agent.state_dict()
            own = {"agent": {name: state[name] for name in agent.own}, "random": random_state()}
            others = distributed.gathered(own)[1:]
            if run is not None:
                run.save({"agent": state, **made_for, "random": own["random"], "others": others, "seconds": seconds})

        if saved is None:
            save()  # so that even a run that is killed at once can be resumed
        told, began_at = False, agent.step
        best = max((line.get("evaluation_return", -math.inf) for line in read_metrics(path)), default=-math.inf)
        saved_at, stopped = time.monotonic(), bool(stop)
        while agent.step < config.steps and not stopped:
            begin = time.monotonic()
            steps_before = agent.step
            metrics = agent.iterate(update)
            metrics["steps_per_second"] = (agent.step - steps_before) / (time.monotonic() - begin)
            every = config.evaluate_every
            if first and every is not None and agent.step // every > steps_before // every:
                metrics |= _evaluate(config, agent.policy)
                if metrics["evaluation_return"] > best and run is not None:
                    best = metrics["evaluation_return"]
                    learned = {"step": agent.step, "policy": agent.policy.state_dict()}
                    own = {"agent": learned, "random": random_state(), "seconds": seconds}
                    run.save_best(own | made_for, {"steps": agent.step, "evaluation_return": best})
            seconds += time.monotonic() - begin
            if run is not None:
                run.log(agent.step, metrics | {"seconds": seconds})
            update(agent.step, metrics["return"])
            if not told and (advice := no_ends(env, agent.step - began_at, metrics["return"])):
                _log.warning("%s", advice)
                told = True
            must_save = agent.must_save or time.monotonic() - saved_at > config.checkpoint_every
            stopped, must_save = distributed.any_of([bool(stop), must_save])
            if must_save:
                save()
                saved_at = time.monotonic()
        save()
        complete = agent.step >= config.steps
        if complete and run is not None:
            run.finish({"steps": agent.step, "seconds": seconds, "return": _or_none(metrics["return"])})
    return complete


def _go_on(agent: Agent, saved: dict[str, Any], config: TrainConfig) -> None:
    """Load a checkpoint into an agent and the random generators."""
    state, parts = saved["agent"], [saved, *saved.get("others", [])]
    if len(parts) == distributed.size():
        part = parts[distributed.rank()]
        agent.load_state_dict(state | {name: part["agent"][name] for name in agent.own if name in part["agent"]})
        set_random_state(part["random"])
    else:
        _log.warning(
            "%d processes go on with what %d have learned: new episodes begin%s", distributed.size(), len(parts),
            ", and the replay is filled anew" if config.off_policy is not None else "",
        )  # fmt: skip
        agent.load_state_dict({name: value for name, value in state.items() if name not in agent.own})
        draw_apart(config, agent.step)


def _start_from(agent: Agent, config: TrainConfig) -> None:
    """Give an agent the policy of the run that `config.start_from` names."""
    assert config.start_from is not None
    path = pathlib.Path(config.start_from)
    policy, theirs = load_policy(path, env=config.env)
    same = ("agent", "memory", "memory_size", "memory_options", "inputs")
    differing = [f"{name} is {getattr(theirs, name)!r}" for name in same if getattr(theirs, name) != getattr(config, name)]
    if theirs.algorithm.network != config.algorithm.network:
        differing.append("the network around the memory has other options")
    if differing:
        raise ValueError(f"{path} has another policy than this training: there, {'; '.join(differing)}; give the same options")
    agent.policy.load_state_dict(policy.state_dict())


def _nothing(*_: object) -> None:
    pass


@contextmanager
def threads_of(config: TrainConfig, policy: Policy) -> Iterator[int]:
    """Context in which torch and the kernels use the threads of a training.

    Their number is the configured one, or else this process's share of the machine's threads if a gradient step is large. If it
    is small, torch uses one thread, and the kernels and the products of matrices in gradient steps use one or this share,
    whichever is faster at the time.

    Yields:
        The largest number of threads in use.
    """
    before = torch.get_num_threads()
    share = max(1, before // distributed.local_size())
    rows, steps = _batch(config)
    small = config.threads is None and rows * steps * sum(weight.numel() for weight in policy.parameters()) < _SMALL_WORK
    with ExitStack() as stack:
        if small:
            from ..ops.threads import adapting  # it opens libraries, which importing hadamem must not do

            stack.enter_context(adapting(share, (rows, rows * steps), policy.parameters()))
        stack.callback(torch.set_num_threads, before)
        torch.set_num_threads(config.threads or (1 if small else share))
        yield config.threads or share


def _batch(config: TrainConfig) -> tuple[int, int]:
    """The rows of a process's gradient step, and their environment steps; roughly, if they come from a replay."""
    if config.off_policy is not None:
        rows, steps = config.off_policy.batch_size, config.off_policy.num_steps
    else:
        assert config.ppo is not None
        rows, steps = config.ppo.num_envs // config.ppo.minibatches, config.ppo.num_steps
    return max(1, rows // distributed.size()), steps


def _check_steps(steps: int, done: int, path: pathlib.Path) -> None:
    """Raise a ValueError if `steps` is less than the run has made, unless its own configuration has that number of steps."""
    if steps < done and steps != read_config(path)["steps"]:
        raise ValueError(f"steps is {steps}; it must be more than the {done:,} that the run in {path} has made")


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
) -> Evaluation:
    """Evaluate a policy on the task of a configuration, with its `evaluate_options`; see `evaluate`.

    Args:
        config: configuration of the run.
        policy: the policy that plays; None: random actions.
        seed: seed of all random generators.
        episodes: number of episodes; None: every task once if the environment has a list of tasks, otherwise 200.
        num_envs: largest number of environments to step in parallel.
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
    """Greedy play on the same episodes every time; it does not affect the random numbers of the training."""
    random = random_state()
    result = evaluate_task(config, policy, seed_for(config.seed, "evaluation during training"), config.evaluate_episodes)
    set_random_state(random)
    success = math.nan if result.success_rate is None else result.success_rate
    return {"evaluation_return": result.mean, "evaluation_success": success}


def _or_none(value: float) -> float | None:
    return value if value == value else None
