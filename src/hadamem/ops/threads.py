"""Sharing kernel work over processor threads.

The kernels release the GIL. They run on the threads of torch's own OpenMP team where that can be reached: between two operators
those threads spin for some milliseconds, waiting for more, and any other thread would have to share a core with them. Elsewhere
(another OpenMP, a forked child, whose team is gone) a small pool of Python threads does the same. Numba's own parallel layer
would abort the process when two Python threads enter it at once.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

_SMALL = 1e5  # elements of work under which another thread costs more than it saves

_OUTLINED = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # what an OpenMP parallel region is compiled to
_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()
_scratch = threading.local()


def _find_openmp() -> ctypes.CDLL | None:
    """The OpenMP that torch is linked to, found through torch itself, so that it is not a second one."""
    try:
        library = ctypes.CDLL(str(next((pathlib.Path(torch.__file__).parent / "lib").glob("libtorch_cpu.so"))))
        library.GOMP_parallel.argtypes = [_OUTLINED, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        library.GOMP_parallel.restype = None
    except (StopIteration, OSError, AttributeError):
        return None
    return library


_openmp = _find_openmp()


def _after_fork() -> None:
    """A child inherits the pool and the team as objects, but none of their threads."""
    global _pool, _lock, _openmp
    _pool, _lock, _openmp = None, threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run_slabs(function: Callable[[int, int, np.ndarray], object], units: int, work: float, scratch: int) -> None:
    """Call function(first, end, scratch) on slabs that cover range(units), on torch.get_num_threads() threads.

    Args:
        function: what to do; called from several threads at once, each with work space of its own.
        units: how many units there are.
        work: elements that all of them together touch.
        scratch: floats of work space, contents arbitrary.
    """
    threads = min(torch.get_num_threads(), units) if work >= _SMALL else 1
    space = _work_space(threads, scratch)
    if threads == 1:
        function(0, units, space[0])
        return
    errors: list[BaseException] = []

    def slab(n: int) -> None:
        try:
            function(units * n // threads, units * (n + 1) // threads, space[n])
        except BaseException as error:
            errors.append(error)

    if _openmp is not None:
        left = list(range(threads))

        def region(_: int | None) -> None:
            """What each thread of the team does. The team may be smaller than asked for: slabs are taken until none is left."""
            while True:
                try:
                    n = left.pop()
                except IndexError:
                    return
                slab(n)

        _openmp.GOMP_parallel(_OUTLINED(region), None, threads, 0)
    else:
        futures = [_get_pool(threads - 1).submit(slab, n) for n in range(1, threads)]
        slab(0)
        for future in futures:  # they write into the caller's tensors: never return before they are done
            future.result()
    if errors:
        raise errors[0]


def _get_pool(workers: int) -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None or _pool._max_workers < workers:
            _pool = ThreadPoolExecutor(workers, thread_name_prefix="hadamem")
        return _pool


def _work_space(threads: int, size: int) -> np.ndarray:
    """(threads, at least size) floats, kept for this thread's next call.

    A fresh large allocation costs a page fault every 4 KiB, which would be paid again in every call.
    """
    space = getattr(_scratch, "space", None)
    if space is None or space.shape[0] < threads or space.shape[1] < size:
        space = _scratch.space = torch.empty(threads, -(-size // 16) * 16).numpy()  # rows begin at 64 bytes
    return space
