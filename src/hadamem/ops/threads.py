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
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

_SMALL = 1e5  # elements of work under which another thread costs more than it saves

_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # what an OpenMP parallel region is compiled to
_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()
_scratch = threading.local()


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


def run(region: int, arguments: np.ndarray, threads: int) -> None:
    """Run a native function void(int64*) on several threads at once, this one included, and wait for all.

    Args:
        region: its address. It must share out the work itself and cope with any number of threads from one on.
        arguments: what each is called with.
        threads: how many.
    """
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
    """How many threads to use for so many units, which together touch `work` elements."""
    return min(torch.get_num_threads(), units) if work >= _SMALL else 1


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
