"""Several processes that train one policy together, on torch.distributed.

All processes have the same weights, and each has its own environments. Gradients, statistics and decisions that all processes
share go through the functions here; with a single process, the functions return their arguments unchanged. All processes must
call these functions in the same order.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

_PATIENCE = timedelta(minutes=30)  # longest wait for another process, such as during an evaluation
_SPAWN: Any = multiprocessing.get_context("spawn")  # the threads of the kernels would not survive a fork


class ProcessDiedError(ChildProcessError):
    """One of the processes that train together ended."""


def size() -> int:
    """How many processes train together; 1 if this process trains alone."""
    return dist.get_world_size() if _joined() else 1


def rank() -> int:
    """Number of this process, from 0. Process 0 writes the files and the messages."""
    return dist.get_rank() if _joined() else 0


def is_first() -> bool:
    """Whether this process writes the files and the messages; also before and after it trains with others."""
    return int(os.environ.get("RANK", 0)) == 0 if dist.is_torchelastic_launched() else rank() == 0


def local_size() -> int:
    """How many of the processes that train together run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", size())) if _joined() else 1


def local_device(device: str) -> str:
    """The device of this process: of several processes on "cuda", each gets a GPU of its machine."""
    return f"cuda:{int(os.environ.get('LOCAL_RANK', rank()))}" if device == "cuda" and size() > 1 else device


def share(total: int, what: str, processes: int | None = None) -> int:
    """One process's share of `total`, which is divided evenly among the processes, by default those that train together now;
    `what` names it in the error.

    Raises:
        ValueError: `total` cannot be divided evenly.
    """
    processes = processes or size()
    if total % processes:
        raise ValueError(f"{what} is {total}; it must be a multiple of the number of processes, which is {processes}")
    return total // processes


def stacked(x: Tensor) -> Tensor:
    """The tensors `x` of all N processes, in the order of the processes: (N, *x.shape)."""
    if not _joined():
        return x[None]
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(size())]
    dist.all_gather(parts, x.contiguous())
    return torch.stack(parts)


def mean(x: Tensor) -> Tensor:
    """The mean of the tensors `x` of all processes."""
    return stacked(x).mean(0) if _joined() else x


def gathered(value: Any) -> list[Any]:
    """The values of all processes, in the order of the processes."""
    if not _joined():
        return [value]
    values = [None] * size()
    dist.all_gather_object(values, value)
    return values


def any_of(flags: Iterable[bool]) -> list[bool]:
    """For each flag, whether it is set in any process."""
    return [any(flag) for flag in zip(*gathered(list(flags)), strict=True)]


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over all processes."""
    if not _joined():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= size()
    for gradient, averaged in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(averaged.view_as(gradient))


@contextlib.contextmanager
def processes(count: int, work: Callable[..., object], *args: Any, device: str = "cpu") -> Iterator[None]:
    """Within this context, the process is the first of `count` that train together; the others are started here and call
    `work(*args)`.

    Where a launcher such as torchrun or Ray has started the processes, each of them calls this function, and it starts no
    other process; `count` is then 1 or the number of processes.

    Raises:
        ValueError: `count` is not the number of processes that the launcher started.
        ProcessDiedError: another process was killed.
    """
    launched = dist.is_torchelastic_launched()
    if count > 1 and not launched and not _joined():
        with _started(count, work, args, _backend(device)):
            yield
        return
    with contextlib.ExitStack() as stack:
        if launched and not _joined():
            dist.init_process_group(_backend(device), timeout=_PATIENCE)
            stack.callback(dist.destroy_process_group)
        if count not in (1, size()):
            raise ValueError(f"processes is {count}, but {size()} processes were started; leave it out, or give that number")
        yield


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _backend(device: str) -> str:
    return "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"


@contextlib.contextmanager
def _started(count: int, work: Callable[..., object], args: tuple[Any, ...], backend: str) -> Iterator[None]:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=_PATIENCE)
    others: list[tuple[Any, Connection]] = []
    try:
        for number in range(1, count):
            pipe, theirs = _SPAWN.Pipe(duplex=False)
            process = _SPAWN.Process(target=_work, args=(theirs, store.port, number, count, backend, work, args), daemon=False)
            process.start()
            theirs.close()
            others.append((process, pipe))
        for number, (process, pipe) in enumerate(others, 1):
            _wait_for(number, process, pipe)
        with _watched(others):
            dist.init_process_group(backend, store=store, rank=0, world_size=count, timeout=_PATIENCE)
            yield
        for process, _ in others:
            process.join()
    finally:
        if _joined():
            dist.destroy_process_group()
        for process, pipe in others:
            process.kill()
            process.join()
            pipe.close()


def _wait_for(number: int, process: Any, pipe: Connection) -> None:
    """Wait until a process has begun to work."""
    try:
        pipe.recv()
    except EOFError as error:
        process.join()
        raise ProcessDiedError(
            f"process {number} of the training (pid {process.pid}) ended before it began; a program of your own must start the "
            'training below `if __name__ == "__main__":`, since every process imports that program'
        ) from error


@contextlib.contextmanager
def _watched(others: list[tuple[Any, Connection]]) -> Iterator[None]:
    """Replace an error that was caused by the end of another process by the error that ended that process."""
    try:
        yield
    except RuntimeError as error:
        for number, (process, pipe) in enumerate(others, 1):
            theirs = _what_ended(number, process, pipe)
            if theirs is not None:
                for note in getattr(error, "__notes__", ()):
                    theirs.add_note(note)
                raise theirs from error
        raise


def _what_ended(number: int, process: Any, pipe: Connection) -> Exception | None:
    """The error that ended a process, None if it runs or ended without an error."""
    process.join(2.0)
    with contextlib.suppress(EOFError, OSError):
        if pipe.poll():
            return pipe.recv()
    if (code := process.exitcode) in (None, 0):
        return None
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return ProcessDiedError(f"process {number} of the training (pid {process.pid}) {how}")


def _work(
    pipe: Connection, port: int, number: int, count: int, backend: str, work: Callable[..., object], args: tuple[Any, ...]
) -> None:
    """The main function of a process that was started here."""
    end_with_parent()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # sent to all processes of a run: the first one handles them for all
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    pipe.send("here")
    try:
        store = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=_PATIENCE)
        dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=_PATIENCE)
        work(*args)
        dist.destroy_process_group()
    except Exception as error:
        _send(pipe, error)
        os._exit(1)  # at once, because the other processes wait for this one
    sys.stdout.flush()
    os._exit(0)  # without the destructors of gloo, some of which call std::terminate


def _send(pipe: Connection, error: Exception) -> None:
    text = "".join(traceback.format_exception(error))
    try:
        error.add_note(f"in process {rank()} of the training:\n{text}")
        pipe.send(error)
    except Exception:  # it cannot be sent
        pipe.send(RuntimeError(text))


def end_with_parent() -> None:
    """End this process soon after its parent process has ended, whatever it is doing at that time."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        while os.getppid() == parent.pid:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
