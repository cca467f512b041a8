"""Sharing kernel work over processor threads.

The kernels release the GIL. They run on the threads of torch's own OpenMP team where that can be reached: between two operators
those threads spin for some milliseconds, waiting for more, and any other thread would have to share a core with them. Elsewhere
(another OpenMP, a forked child, whose team is gone) a small pool of Python threads does the same. Numba's own parallel layer
would abort the process when two Python threads enter it at once.

As many threads are used as torch uses. Within `adapting`, kernels have a number of their own, and each kind of call finds out
whether one thread or all are faster just now: on a machine with other work to do, a shared call waits for the thread that the
other work interrupts.
"""

from __future__ import annotations

import ctypes
import math
import os
import pathlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

_SMALL = 1e5  # elements of work under which another thread costs more than it saves
_RETRY = 32  # calls after which the slower number of threads is tried again
_LATEST = 0.2  # weight of the latest call in the mean time of calls

_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # what an OpenMP parallel region is compiled to
_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()
_scratch = threading.local()


class _Choice:
    """Whether a kind of call is faster on one thread or on all, from the mean times of the latest calls of either."""

    def __init__(self) -> None:
        self.calls = 0
        self.seconds: dict[bool, float] = {}

    def shared(self) -> bool:
        """Whether the next call should be shared among all threads."""
        self.calls += 1
        if len(self.seconds) < 2:  # each is called once more before it counts: the first call is slow
            return bool(self.calls % 2)
        faster = self.seconds[True] < self.seconds[False]
        return faster != (self.calls % _RETRY == 0)

    def took(self, shared: bool, seconds: float) -> None:
        """Learn from a call."""
        if self.calls > 2:
            before = self.seconds.get(shared, seconds)
            self.seconds[shared] = before + _LATEST * (seconds - before)


class _Adapting:
    """The number of threads within `adapting`, and the choices that calls have made there, by kernel and amount of work."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.choices: defaultdict[tuple[int, int], _Choice] = defaultdict(_Choice)


_adapting: _Adapting | None = None


@contextmanager
def adapting(threads: int) -> Iterator[None]:
    """Within, kernels use one thread or up to `threads`, whichever was faster for the latest calls of their kind. Results are
    those of one thread, to the bit, whatever is chosen. Not meant for several Python threads at once."""
    global _adapting
    before, _adapting = _adapting, _Adapting(threads) if threads > 1 else None
    try:
        yield
    finally:
        _adapting = before


def _find_openmp() -> ctypes.CDLL | None:
    """The OpenMP that torch is linked to, found through torch itself, so that it is not a second one."""
    try:
        library = ctypes.CDLL(str(next((pathlib.Path(torch.__file__).parent / "lib").glob("libtorch_cpu.so"))))
        library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        library.GOMP_parallel.restype = None
    except (StopIteration, OSError, AttributeError):
        return None
    return library


_openmp = _find_openmp()

# Freeing one large block raises glibc's mmap threshold, so that later buffers are reused instead of given back to the system
# and taken again, a page fault every 4 KiB. Kernels of some hundred microseconds should not wait for that.
torch.empty(30 * 2**20, dtype=torch.uint8)


def _after_fork() -> None:
    """A child inherits the pool and the team as objects, but none of their threads."""
    global _pool, _lock, _openmp
    _pool, _lock, _openmp = None, threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run(region: int, arguments: np.ndarray, threads: int, work: float) -> None:
    """Run a native function void(int64*) on several threads at once, this one included, and wait for all.

    Args:
        region: its address. It must share out the work itself and cope with any number of threads from one on.
        arguments: what each is called with.
        threads: how many at most, see `threads_for`.
        work: elements that it touches.
    """
    if _adapting is None or threads == 1:
        _run(region, arguments, threads)
        return
    choice = _adapting.choices[region, int(work).bit_length()]
    shared = choice.shared()
    begin = time.perf_counter()
    _run(region, arguments, threads if shared else 1)
    choice.took(shared, time.perf_counter() - begin)


def _run(region: int, arguments: np.ndarray, threads: int) -> None:
    function, address = _REGION(region), arguments.ctypes.data
    if threads == 1:
        function(address)
    elif _openmp is not None:
        _openmp.GOMP_parallel(region, address, threads, 0)
    else:
        others = [_get_pool(threads - 1).submit(function, address) for _ in range(threads - 1)]
        function(address)
        for other in others:
            other.result()


def threads_for(units: int, work: float) -> int:
    """How many threads to use at most for so many units, which together touch `work` elements."""
    most = torch.get_num_threads() if _adapting is None else _adapting.threads
    return min(most, units) if work >= _SMALL else 1


def splits_for(rows: int, parts: int, work: float) -> int:
    """Into how many shares each of so many rows, of `parts` parts, is cut, so that every thread gets the same number of units.

    Within `adapting` rows stay whole: sums over the shares of a row would depend on their number, in their last digits.
    """
    if _adapting is not None:
        return 1
    threads = threads_for(rows * parts, work)
    return min(threads // math.gcd(rows, threads), parts)


def _get_pool(workers: int) -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None or _pool._max_workers < workers:
            _pool = ThreadPoolExecutor(workers, thread_name_prefix="hadamem")
        return _pool


def work_space(threads: int, size: int) -> np.ndarray:
    """(threads, at least size) floats, kept for this thread's next call.

    A fresh large allocation costs a page fault every 4 KiB, which would be paid again in every call.
    """
    space = getattr(_scratch, "space", None)
    if space is None or space.shape[0] < threads or space.shape[1] < size:
        space = _scratch.space = torch.empty(
            threads, -(-size // 16) * 16, dtype=torch.float32, device="cpu"
        ).numpy()  # torch aligns to 64 bytes, and so every row
    return space
