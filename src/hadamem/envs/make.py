"""Makes vectors of environments from an id, a class, a function, an environment or a vector of environments."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from . import tasks
from .border import Environments, notice
from .changes import Changes
from .foreign import ForeignVector
from .from_python import id_of, vector_of
from .layout import Channels
from .popgym import TASKS
from .trying import Make, try_one, usual_workers
from .vector import INPUTS, VectorEnvironment
from .workers import WorkerEnvironments
from .worlds import world


def make_vector(
    env: Any,
    num_envs: int,
    seed: int,
    inputs: Sequence[str] | None = None,
    batched: bool = True,
    options: Mapping[str, Any] | None = None,
    joint_actions: bool = False,
    changes: Changes | None = None,
    observe: Sequence[str] = (),
    channels: Channels | None = None,
    workers: int | None = None,
    wait: int | None = None,
    **env_kwargs: Any,
) -> VectorEnvironment:
    """Make N environments of one kind.

    Example:
        >>> env = make_vector("CartPole-v1", num_envs=3, seed=0)
        >>> obs = env.reset()
        >>> step = env.step(env.random_actions())
        >>> step.obs.shape, step.reward.tolist()
        (torch.Size([3, 4]), [1.0, 1.0, 1.0])

    Args:
        env: a Gymnasium id ("CartPole-v1", "popgym-BattleshipEasy-v0"), also of an installed package that requires
            Gymnasium; "package.module:Name-v0" for an id that is registered by importing `package.module`;
            "package.module:name" for a class or a function of that module; or anything else that `id_of` takes.
        num_envs: N, at least 1; a vector of environments has its own number, and this one is ignored.
        seed: not negative; environment i is seeded with `seed + i`.
        inputs: parts of an observation: some of "obs", "action" (of the previous step) and "reward" (of the previous step),
            always in this order. Default: "obs", and those of the other two that the task says it needs.
        batched: use the batched version of a task if it has one. It equals single environments step by step.
        options: keyword arguments of the environment itself; with any of these, POPGym tasks are not batched.
        joint_actions: play a MultiDiscrete or MultiBinary as one Discrete, with a choice for every combination.
        changes: wrappers put around each environment; with any of these, tasks are not batched.
        observe: names of the parts of a nested observation that are seen, such as "position" or "goal.position"; none: all.
        channels: whether the first or the last axis of pictures holds the channels; None: decided by their shapes.
        workers: number of processes that step the environments; 0: this process; None: chosen from the time of some steps of
            another such environment. The episodes do not depend on it. Not for batched tasks and vectors of environments.
        wait: make groups of so many environments, and return the first of these; see `VectorEnvironment.groups`. Not for
            batched tasks and vectors of environments. None: one group of all.
        **env_kwargs: further keyword arguments of the environment, like `options`.

    Raises:
        ValueError: an id, input or space is unknown, or an argument is out of range.
    """
    env_kwargs = {**(options or {}), **env_kwargs}
    if num_envs < 1:
        raise ValueError(f"num_envs is {num_envs}, but must be at least 1")
    if seed < 0:
        raise ValueError(f"seed is {seed}, but must not be negative")
    if workers is not None and workers < 0:
        raise ValueError(f"workers is {workers}, but must be at least 0")
    if wait is not None and (wait < 1 or num_envs % wait):
        raise ValueError(f"wait is {wait}, but must divide the {num_envs} environments")
    if inputs is not None and (not inputs or not set(inputs) <= set(INPUTS)):
        raise ValueError(f"inputs are {list(inputs)}, but must be some of {list(INPUTS)}")
    id = id_of(env)
    made = vector_of(id)
    vectors: list[VectorEnv]
    try:
        if made is not None and changes is not None:
            raise ValueError(f"{id} is a vector of environments, which hadamem cannot wrap; wrap them before making the vector")
        if made is not None:
            vectors = [ForeignVector(id, made)]
        elif batched and changes is None and (make := world(id)) is not None:
            vectors = [make(num_envs, **env_kwargs)]
        elif batched and changes is None and id in TASKS and not env_kwargs:
            vectors = [TASKS[id](num_envs)]
        else:
            make_it = partial(_make, tasks.load(id), env_kwargs, changes)
            vectors = _one_by_one(id, num_envs, make_it, observe, workers, wait or num_envs)
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv) as error:
        raise tasks.unknown(id) from error
    except TypeError as error:
        raise ValueError(f"{id} cannot be made{f' with {env_kwargs}' if env_kwargs else ''}: {error}") from error
    groups: list[VectorEnvironment] = []
    try:
        if wait not in (None, num_envs) and len(vectors) == 1:
            raise ValueError(
                f"wait is {wait}, but {id} steps all its environments at once; leave it out, or set batched to False"
            )
        for number, vector in enumerate(vectors):
            first = number * (wait or 0)
            groups.append(VectorEnvironment(id, vector, seed + first, inputs, joint_actions, observe, channels))
        groups[0].groups = groups
        return groups[0]
    except Exception:
        for vector in vectors:
            vector.close()
        raise


def make_one(id: str, options: Mapping[str, Any], changes: Changes | None = None) -> gymnasium.Env[Any, Any]:
    """Make one plain Gymnasium environment, with the wrappers in `changes`; see `make_vector`.

    Raises:
        ValueError: the id is unknown, or belongs to a vector of environments.
    """
    if vector_of(id) is not None:
        raise ValueError(f"{id} is a vector of environments; a single environment is needed here")
    try:
        return _make(tasks.load(id), dict(options), changes)
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv) as error:
        raise tasks.unknown(id) from error


def _one_by_one(id: str, num_envs: int, make: Make, observe: Sequence[str], workers: int | None, wait: int) -> list[VectorEnv]:
    """Vectors of `wait` single environments, stepped one after the other in this process or in worker processes."""
    groups = num_envs // wait
    if num_envs > 1 and workers != 0 and (kind := try_one(repr((id, make)), id, make)) is not None:
        workers = usual_workers(kind, num_envs) if workers is None else min(workers, num_envs)
        if workers > 0:
            each = -(-workers // groups)
            return [WorkerEnvironments(id, wait, each, make, kind, observe, group, groups) for group in range(groups)]
    if groups > 1:
        notice(f"{id}: no worker processes step the environments, so that waiting for {wait} of them only takes longer")
    return [Environments(id, wait, make, observe, first=group * wait) for group in range(groups)]


def _make(id: str, kwargs: dict[str, Any], changes: Changes | None) -> gymnasium.Env[Any, Any]:
    made: str | EnvSpec = id
    if reserved := kwargs.keys() & {"id", "disable_env_checker"}:  # names of `make`'s own parameters: it takes them in a spec
        made = deepcopy(gymnasium.spec(id))
        made.kwargs |= {name: kwargs[name] for name in reserved}
        kwargs = {name: value for name, value in kwargs.items() if name not in reserved}
    # Gymnasium's checker would check the first steps of every copy, and repeat its warnings for each
    env = gymnasium.make(made, disable_env_checker=True, **kwargs)
    return env if changes is None else changes.apply(env)
