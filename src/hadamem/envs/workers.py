"""Environments in worker processes, for environments whose steps take long.

Each worker steps a share of the environments, one after the other, and writes their observations into memory that it shares
with this process. Seeds do not depend on the number of workers, and so the episodes do not either.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import traceback
import weakref
from collections.abc import Sequence
from copy import deepcopy
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space, create_shared_memory, iterate, read_from_shared_memory

from ..distributed import end_with_parent
from .border import EnvironmentFailedError, Environments, notice
from .interface import rows_of
from .parts import seen_parts
from .placement import Processor
from .trying import PATIENCE, PROCESSES, Kind, Make

_HANGING = 600.0  # seconds without an answer to a step after which a worker is killed, and replaced
_PROVEN = 100  # steps after which a worker that ends is replaced: one that ends sooner would most likely end again


class WorkerDiedError(ChildProcessError):
    """A worker process ended, because it was killed or because an environment ended it. `what` says only that."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}; was memory exhausted, or did the environment exit? --env-workers 0 steps the environments in this process"
        )
        self.what = what


class _TheirTracebackError(Exception):
    """An environment's exception in a worker, as text, since a traceback cannot be sent to another process."""


class WorkerEnvironments(VectorEnv):
    """Like `Environments`, N environments of one kind, but divided among worker processes.

    A worker that ends or hangs is replaced if it has made a hundred steps: its episodes are truncated, and others begin.

    Args:
        id: name of the environments in messages.
        num_envs: N.
        workers: number of processes, at most N.
        make: makes one environment.
        kind: the result of `try_one` for these environments.
        observe: see `Environments`.
        group, groups: number of this vector, and how many there are of the same size, which are stepped side by side.

    Raises:
        EnvironmentFailedError: in the constructor, `reset` and `step`: an environment raised an exception.
        ValueError: in the constructor, `reset` and `step`: a result of an environment does not fit its spaces.
        WorkerDiedError: in `reset` and `step`: a worker process ended, and was not replaced.
    """

    def __init__(
        self,
        id: str,
        num_envs: int,
        workers: int,
        make: Make,
        kind: Kind,
        observe: Sequence[str] = (),
        group: int = 0,
        groups: int = 1,
    ) -> None:
        self.id, self.num_envs, self.has_time_limit = id, num_envs, kind.has_time_limit
        self.envs: list[_Worker] = []
        self.single_observation_space, self.single_action_space = kind.observation_space, kind.action_space
        self.render_mode, self.metadata, self.needed_inputs = kind.render_mode, kind.metadata, kind.needed_inputs
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        seen, _ = seen_parts(self.single_observation_space, self.single_action_space, observe)
        memory = create_shared_memory(seen, num_envs, PROCESSES)
        self._seen, self._observation = seen, read_from_shared_memory(seen, memory, num_envs)
        self._max_steps: int | None = None
        bounds = [num_envs * i // workers for i in range(workers + 1)]
        for begin, end in itertools.pairwise(bounds):
            placement = group * workers + len(self.envs), groups * workers
            share = (id, num_envs, make, observe, seen, memory, begin, end, group * num_envs, *placement)
            self.envs.append(_Worker(id, begin, end, group * num_envs, share))
        for worker in self.envs:
            worker.answer()

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """See `Environments`."""
        assert not isinstance(seed, list)
        for worker in self.envs:
            worker.ask("reset", seed=None if seed is None else seed + worker.begin, options=options)
        return self._observation, self._merge([worker.answer()[1] for worker in self.envs])

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """See `Environments`."""
        self.send(actions)
        return self.receive()

    def send(self, actions: Any) -> None:
        """Begin a step, whose result `receive` returns."""
        for worker in self.envs:
            worker.ask("step", rows_of(actions, worker.begin, worker.end))

    def receive(self) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Wait for the result of the step that `send` began."""
        answers = [self._stepped(worker) for worker in self.envs]
        rewards, terminated, truncated = (np.concatenate([answer[n] for answer in answers]) for n in (1, 2, 3))
        return self._observation, rewards, terminated, truncated, self._merge([answer[4] for answer in answers])

    def cut_after(self, max_steps: int) -> None:
        """See `Environments`."""
        self._max_steps = max_steps
        for worker in self.envs:
            worker.ask("cut_after", max_steps)
        for worker in self.envs:
            worker.answer()

    def render(self) -> tuple[Any, ...] | None:
        """See `Environments`."""
        if self.render_mode is None:
            return None
        for worker in self.envs:
            worker.ask("render")
        return tuple(picture for worker in self.envs for picture in worker.answer())

    def close_extras(self, **kwargs: Any) -> None:
        """End the workers."""
        for worker in self.envs:
            worker.stop()

    def _stepped(self, worker: _Worker) -> Any:
        """A worker's answer to a step; if it ended, that of the worker that replaces it."""
        try:
            answer = worker.answer(_HANGING)
        except WorkerDiedError as error:
            if worker.steps < _PROVEN:
                raise
            notice(f"{error.what}; another takes its place, and the episodes are truncated")
            return self._replaced(worker)
        worker.steps += 1
        return answer

    def _replaced(self, worker: _Worker) -> Any:
        """Start a worker's process again; its answer to the step that was not answered truncates the episodes."""
        number = worker.end - worker.begin
        seen_last = deepcopy(rows_of(self._observation, worker.begin, worker.end))
        worker.stop()
        worker.start()
        worker.answer()
        if self._max_steps is not None:
            worker.ask("cut_after", self._max_steps)
            worker.answer()
        worker.ask("reset")
        info = worker.answer()[1]
        ended, final_obs = np.ones(number, np.bool_), np.empty(number, object)
        for i, observation in enumerate(iterate(batch_space(self._seen, number), seen_last)):
            final_obs[i] = observation
        info |= {"final_obs": final_obs, "_final_obs": ended, "final_info": {}, "_final_info": ended}
        return None, np.zeros(number), ~ended, ended, info

    def _merge(self, infos: list[dict[str, Any]]) -> dict[str, Any]:
        """Merge the infos of all workers to one of all environments; `_name` says which environments have the entry `name`."""
        merged: dict[str, Any] = {}
        for name in dict.fromkeys(name for info in infos for name in info if not name.startswith("_")):
            there = [info.get(name) for info in infos]
            if any(isinstance(part, dict) for part in there):
                merged[name] = self._merge([part or {} for part in there])
            else:
                merged[name] = self._joined(there, None, object)
            merged[f"_{name}"] = self._joined([info.get(f"_{name}") for info in infos], False, np.bool_)
        return merged

    def _joined(self, parts: Sequence[np.ndarray | None], default: Any, dtype: Any) -> np.ndarray:
        joined = np.full(self.num_envs, default, dtype)
        for worker, part in zip(self.envs, parts, strict=True):
            if part is not None:
                joined[worker.begin : worker.end] = part
        return joined


class _Worker:
    """This process's handle of a worker, which steps the environments `begin` to `end` - 1 of a vector."""

    def __init__(self, id: str, begin: int, end: int, first: int, share: tuple[Any, ...]) -> None:
        self.id, self.begin, self.end, self._first, self._share = id, begin, end, first, share
        self.start()

    def start(self) -> None:
        """Start the process, which makes its environments, and answers when they are made."""
        self.steps = 0  # that were answered
        self.pipe, theirs = PROCESSES.Pipe()
        self._process = PROCESSES.Process(target=_work, args=(theirs, *self._share), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends when the worker does
        self.stop = weakref.finalize(self, _end, self._process, self.pipe)  # called at the latest when Python exits

    def ask(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Ask the worker to call a method of its `Environments`."""
        with contextlib.suppress(ConnectionError):  # the worker ended, which `answer` tells
            self.pipe.send((method, args, kwargs))

    def answer(self, hanging: float = math.inf) -> Any:
        """The result of the method that the worker was asked to call; an exception of the method is raised here. The worker is
        killed after `hanging` seconds without an answer."""
        hung = False
        try:
            if not self.pipe.poll(min(PATIENCE, hanging)):
                notice(f"{self._name()} have not answered for {PATIENCE:.0f} seconds; still waiting")
                if hung := hanging < math.inf and not self.pipe.poll(hanging - PATIENCE):
                    self._process.kill()
            result, error = self.pipe.recv()
        except (EOFError, ConnectionError) as ended:
            self._died(ended, f"had not answered for {hanging:.0f} seconds and was killed" if hung else None)
        if error is None:
            return result
        problem, theirs = error
        raise problem from (None if theirs is None else _TheirTracebackError(f"in a worker process\n{theirs}"))

    def _name(self) -> str:
        first, last = self._first + self.begin, self._first + self.end - 1
        which = f"environment {first}" if first == last else f"environments {first} to {last}"
        return f"{self.id}: {which} (process {self._process.pid})"

    def _died(self, error: Exception, how: str | None) -> NoReturn:
        self._process.join(2.0)
        code = self._process.exitcode
        signalled = code is not None and code < 0
        how = how or (f"was ended by {signal.Signals(-code).name}" if signalled else f"ended with exit code {code}")
        raise WorkerDiedError(f"{self._name()}: the worker process {how}") from error


def first_to_answer(vectors: Sequence[VectorEnv]) -> int:
    """Wait until the result of a step of one of these vectors can be received without waiting; the number of this vector. After
    `PATIENCE`, it is the first one, whose `receive` knows what to do about a worker that hangs."""
    while True:
        missing = [[pipe for pipe in _pipes(vector) if not pipe.poll()] for vector in vectors]
        if [] in missing:
            return missing.index([])
        if not wait([pipe for pipes in missing for pipe in pipes], PATIENCE):
            return 0


def _pipes(vector: VectorEnv) -> list[Connection]:
    return [worker.pipe for worker in vector.envs] if isinstance(vector, WorkerEnvironments) else []


def _end(process: Any, pipe: Connection) -> None:
    """End a worker; if it does not end within two seconds, it is killed."""
    with contextlib.suppress(OSError):
        pipe.send(None)
    pipe.close()
    process.join(2.0)
    if process.is_alive():
        process.kill()
        process.join()


def _work(
    pipe: Connection,
    id: str,
    num_envs: int,
    make: Make,
    observe: Sequence[str],
    seen: gymnasium.Space[Any],
    memory: Any,
    begin: int,
    end: int,
    first: int,
    number: int,
    workers: int,
) -> None:
    """The main function of a worker: it calls the methods that it is asked to, until the pipe is closed or its parent ends."""
    end_with_parent()  # the pipe may stay open: workers forked later hold a copy of its other end
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # sent to all processes of a run: the parent handles it, and ends this one
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    torch.set_num_threads(1)  # the threads of the parent's thread team do not exist after a fork
    processor = Processor(number, workers)
    envs: Environments | None = None

    def call(method: str, args: Any, kwargs: Any) -> Any:
        nonlocal envs
        if method == "make":
            batch = rows_of(read_from_shared_memory(seen, memory, num_envs), begin, end)
            envs = Environments(id, end - begin, make, observe, first=first + begin, batch=batch)
            return None
        with processor.work() if method == "step" else contextlib.nullcontext():
            result = getattr(envs, method)(*args, **kwargs)
        return (None, *result[1:]) if method in ("reset", "step") else result  # observations are in the shared memory

    request: tuple[str, Any, Any] | None = ("make", (), {})
    with contextlib.suppress(EOFError, ConnectionError):
        while request is not None:
            reply: tuple[Any, Any]
            try:
                reply = (call(*request), None)
            except Exception as error:
                reply = (None, _portable(error))
            pipe.send(reply)
            request = pipe.recv()
    if envs is not None:
        envs.close()


def _portable(error: Exception) -> tuple[Exception, str | None]:
    """An error in a form that can be sent to another process; for an environment's error, also its traceback as text."""
    if isinstance(error, EnvironmentFailedError):
        cause = error.__cause__
        return EnvironmentFailedError(str(error)), "" if cause is None else "".join(traceback.format_exception(cause))
    known = (ValueError, gymnasium.error.Error)
    return (type(error)(str(error)), None) if type(error) in known else (RuntimeError(f"{type(error).__name__}: {error}"), None)
