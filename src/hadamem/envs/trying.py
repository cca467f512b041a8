"""Finds out, from a few steps of one environment, what kind it is and whether worker processes are worth it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pathlib
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import gymnasium

from ..distributed import end_with_parent
from ..measure import processors
from .border import Environments

Make = Callable[[], gymnasium.Env[Any, Any]]

#: A forked worker inherits all objects of this process, also functions defined in a notebook, and starts within milliseconds.
PROCESSES: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
PATIENCE = 60.0  # seconds without an answer from a worker after which a notice is logged
_PROBE = 0.05, 20  # largest number of seconds, and of steps, for timing an environment
_EXCHANGE = 3.5e-4  # seconds that the communication with workers adds to a step
_LOAD, _LOOKS = pathlib.Path("/proc/loadavg"), 10  # where Linux tells how many threads run, and how often it is asked
_GAIN = 0.7  # workers are used if they reduce the time of a step below this fraction of the time in one process


class Kind(NamedTuple):
    """Properties of a kind of environment, found by making and stepping one.

    Attributes:
        seconds: time of a step.
        waits: whether a step waits for something, such as another program, instead of computing.
        observation_space, action_space, metadata, render_mode, has_time_limit, needed_inputs: as in `Environments`.
    """

    seconds: float
    waits: bool
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    metadata: dict[str, Any]
    render_mode: str | None
    has_time_limit: bool
    needed_inputs: list[str]


def usual_workers(kind: Kind, num_envs: int) -> int:
    """The number of worker processes to use for `num_envs` environments of a kind; 0 if workers would not help enough."""
    if kind.waits:  # such an environment needs no processor of its own
        workers = num_envs
    elif _pay(kind, num_envs, min(num_envs, processors())):  # else it need not be found out how many are free
        workers = min(num_envs, _free_processors())
    else:
        return 0
    return workers if _pay(kind, num_envs, workers) else 0


def _pay(kind: Kind, num_envs: int, workers: int) -> bool:
    """Whether so many workers reduce the time of a step enough."""
    alone, shared = num_envs * kind.seconds, -(-num_envs // max(1, workers)) * kind.seconds + _EXCHANGE
    return workers >= 2 and shared < _GAIN * alone


def _free_processors() -> int:
    """How many of the processors that this process may use other programs leave free, at least 1."""
    own = processors()
    return own - min(own - 1, round(_used_by_others()))


def _used_by_others() -> float:
    """How many processors other programs used in the last minute; or use now, if that is fewer, since some may have ended."""
    used = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    with contextlib.suppress(OSError, ValueError, IndexError):  # not on this system
        now = 0
        for _ in range(_LOOKS):
            now += int(_LOAD.read_text().split()[3].partition("/")[0]) - 1  # running threads, without this one
            time.sleep(0.01)
        return min(used, now / _LOOKS)
    return used


def try_one(key: str, id: str, make: Make) -> Kind | None:
    """Make one environment and time some of its steps, in a separate process, so that nothing changes in this one.

    Args:
        key: identifies the kind of environment; results are kept by this key.
        id: name of the environment in messages.
        make: makes the environment.

    Returns:
        The properties of the kind; None if that fails, such as when `make` cannot be sent to another process.
    """
    if key not in _tried:
        pipe, theirs = PROCESSES.Pipe()
        process = PROCESSES.Process(target=_try, args=(theirs, id, make), daemon=True)
        _tried[key] = None
        with contextlib.suppress(Exception):
            process.start()
            theirs.close()
            if pipe.poll(PATIENCE):
                _tried[key] = pipe.recv()
            process.kill()
            process.join()
    return _tried[key]


_tried: dict[str, Kind | None] = {}


def _try(pipe: Connection, id: str, make: Make) -> None:
    """Make and time one environment, and send its `Kind` to the parent process, or nothing if that fails."""
    end_with_parent()
    with contextlib.suppress(BaseException), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # no output: it would be repeated when the actual environments are made
        os.dup2(nowhere.fileno(), 2)
        vector = Environments(id, 1, make)
        seconds, waits = 0.0, False
        with contextlib.suppress(Exception):  # an error of the environment is reported when it occurs in the run
            seconds, waits = _time_of_step(vector.envs[0])
        pipe.send(
            Kind(
                seconds,
                waits,
                vector.single_observation_space,
                vector.single_action_space,
                vector.metadata,
                vector.render_mode,
                vector.has_time_limit,
                vector.needed_inputs,
            )
        )


def _time_of_step(env: gymnasium.Env[Any, Any]) -> tuple[float, bool]:
    """The mean time of a step in seconds, and whether a step waits for something instead of computing."""
    longest, most = _PROBE
    env.action_space.seed(0)
    env.reset(seed=0)
    if any(env.step(env.action_space.sample())[2:4]):  # not timed: the first step may do one-time work
        env.reset()
    begin, waited, steps, ended = time.perf_counter(), _waits(), 0, False
    while steps < most and not ended and time.perf_counter() - begin < longest:
        ended = any(env.step(env.action_space.sample())[2:4])
        steps += 1
    return (time.perf_counter() - begin) / steps, _waits() - waited >= steps


def _waits() -> int:
    """How often this thread has given up its processor to wait for something (voluntary context switches)."""
    try:
        import resource

        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    except (ImportError, AttributeError):  # not on this system
        return 0
