"""Sharing kernel work over Python threads.

The kernels release the GIL, so a plain thread pool runs them side by side. Numba's own parallel layer would abort the process
when two Python threads enter it at once, and its pool and torch's would fight for the same cores.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

_SMALL = 5e5  # elements of work under which waking another thread costs more than it saves

_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()
_local = threading.local()


def _forget_pool() -> None:
    """A forked child inherits the pool object but none of its threads."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run_slabs(function: Callable[[int, int], None], units: int, work: float) -> None:
    """Call function(first, end) on slabs that cover range(units), on torch.get_num_threads() threads, this one included."""
    threads = min(torch.get_num_threads(), units)
    if threads == 1 or work < _SMALL:
        return function(0, units)
    bounds = [units * n // threads for n in range(threads + 1)]
    pool = _get_pool(threads - 1)
    futures = [pool.submit(function, bounds[n], bounds[n + 1]) for n in range(1, threads)]
    try:
        function(bounds[0], bounds[1])
    finally:  # the others write into the caller's tensors: never return before they are done
        errors = [future.exception() for future in futures]
    for error in errors:
        if error is not None:
            raise error


def _get_pool(workers: int) -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None or _pool._max_workers < workers:
            _pool = ThreadPoolExecutor(workers, thread_name_prefix="hadamem")
        return _pool


def scratch(size: int) -> np.ndarray:
    """This thread's work space of at least `size` float32, contents arbitrary, kept for the next call.

    A fresh large allocation costs a page fault every 4 KiB, which would be paid again in every call.
    """
    buffer = getattr(_local, "buffer", None)
    if buffer is None or buffer.size < size:
        buffer = _local.buffer = torch.empty(size).numpy()  # torch aligns to 64 bytes
    return buffer
