"""Distribution of kernel work over processor threads.

The kernels run without the GIL, if possible on the threads of torch's own OpenMP team: between two operators, those threads
spin for a while (see waiting.py), and any other thread would have to share a core with them. Otherwise (another
OpenMP library, or a forked child, in which the team does not exist) a small pool of Python threads is used. Numba's own
parallel layer would abort the process if two Python threads entered it at the same time.

Kernels use as many threads as torch. Within `adapting`, they have a limit of their own, and each kind of call measures whether
one thread or all threads are faster: on a machine with other work, a parallel call has to wait for the thread that the other
work interrupts. Within `products`, torch's products of matrices do the same; its other operators, whose sums depend on the
number of threads, keep to one.
"""

from __future__ import annotations

import ctypes
import math
import os
import pathlib
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

_SMALL = 1e5  # elements of work below which another thread costs more than it saves
_RETRY = 32  # fewest calls after which the slower number of threads is tried again
_RETRY_COST = 0.03  # largest share of the time that trying again may take: on a busy machine it can be slower by far
_LATEST = 0.2  # weight of the latest call in the mean time of calls

_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # type of the function that a compiler makes of an OpenMP parallel region
_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()
_scratch = threading.local()


class _Choice:
    """Whether a kind of call is faster on one thread or on all threads, judged by the mean times of the latest calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.retried = 0  # the latest call that tried the slower number of threads again
        self.seconds: dict[bool, float] = {}

    def shared(self) -> bool:
        """Whether the next call should run on all threads."""
        self.calls += 1
        if len(self.seconds) < 2:  # the first two calls are not counted: a first call is slow
            return bool(self.calls % 2)
        faster = self.seconds[True] < self.seconds[False]
        slowness = self.seconds[not faster] / self.seconds[faster]
        if self.calls - self.retried < max(_RETRY, slowness / _RETRY_COST):
            return faster
        self.retried = self.calls
        return not faster

    def took(self, shared: bool, seconds: float) -> None:
        """Record the time of a call."""
        if self.calls > 2:
            # the time of a call that tries again counts alone: what was measured before is old
            before = seconds if self.retried == self.calls else self.seconds.get(shared, seconds)
            self.seconds[shared] = before + _LATEST * (seconds - before)


class _Adapting:
    """The limit on threads within `adapting`, and the choice for each kernel and amount of work.

    Attributes:
        products: the choice for the contexts of `products`; None: always one thread.
    """

    def __init__(self, threads: int, products: bool) -> None:
        self.threads = threads
        self.choices: defaultdict[tuple[int, int], _Choice] = defaultdict(_Choice)
        self.products = _Choice() if products else None


_adapting: _Adapting | None = None


@contextmanager
def adapting(threads: int, rows: Collection[int] = (), weights: Iterable[Tensor] = ()) -> Iterator[None]:
    """Context in which kernels use one thread or up to `threads`, whichever was faster in the latest calls of their kind. The
    choice does not change a bit of the results. Not meant for calls from several Python threads at once.

    Args:
        threads: the largest number of threads.
        rows: numbers of rows that the matrices among the weights are multiplied with, as a rule.
        weights: weights of the network. If the number of threads changes a bit of these products, which depends on the
            processor and the sizes, then `products` keeps to one thread.
    """
    global _adapting
    several = threads > 1 and _mkl is not None
    if several:
        shapes = {weight.shape for weight in weights if weight.dim() == 2}
        several = all(_same_products(threads, count, *shape) for shape in shapes for count in rows)
    before, _adapting = _adapting, _Adapting(threads, several) if threads > 1 else None
    try:
        yield
    finally:
        _adapting = before


@contextmanager
def products() -> Iterator[None]:
    """Context in which products of matrices, within `adapting`, use one thread or all, whichever was faster in the latest of
    these contexts. For work that takes some milliseconds, like a gradient step."""
    choice = None if _adapting is None else _adapting.products
    if choice is None:
        yield
        return
    assert _adapting is not None
    shared = choice.shared()
    begin = time.perf_counter()
    with _products_on(_adapting.threads if shared else 1):
        yield
    choice.took(shared, time.perf_counter() - begin)


@contextmanager
def _products_on(threads: int) -> Iterator[None]:
    """Context in which MKL, which computes torch's products of matrices, uses so many threads, and torch as many as before."""
    assert _mkl is not None
    before = _mkl.MKL_Set_Num_Threads_Local(threads)
    try:
        yield
    finally:
        _mkl.MKL_Set_Num_Threads_Local(before)


def _same_products(threads: int, rows: int, outputs: int, inputs: int) -> bool:
    """Whether the result and the gradients of a linear map are the same to the bit on one thread as on several."""
    x, weight, gradient = (
        torch.sin(torch.arange(1.0, m * n + 1, device="cpu")).view(m, n)
        for m, n in ((rows, inputs), (outputs, inputs), (rows, outputs))
    )

    def products_of(count: int) -> tuple[Tensor, Tensor, Tensor]:
        with _products_on(count):
            return x @ weight.T, gradient @ weight, gradient.T @ x

    return all(map(torch.equal, products_of(1), products_of(threads)))


def _find_library(function: str) -> ctypes.CDLL | None:
    """The library of torch if it has this function of OpenMP or MKL, so that no second OpenMP or MKL is loaded."""
    try:
        library = ctypes.CDLL(str(next((pathlib.Path(torch.__file__).parent / "lib").glob("libtorch_cpu.so"))))
        getattr(library, function)
    except (StopIteration, OSError, AttributeError):
        return None
    return library


_openmp = _find_library("GOMP_parallel")
if _openmp is not None:
    _openmp.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    _openmp.GOMP_parallel.restype = None
_mkl = _find_library("MKL_Set_Num_Threads_Local")

# Freeing one large block raises glibc's mmap threshold, so that later buffers are reused instead of returned to the system and
# allocated again, with a page fault every 4 KiB. Kernels that take some hundred microseconds should not wait for that.
torch.empty(30 * 2**20, dtype=torch.uint8)


def _after_fork() -> None:
    """Reset the pool and the team in a forked child, which inherits these objects, but none of their threads."""
    global _pool, _lock, _openmp, _mkl
    _pool, _lock, _openmp, _mkl = None, threading.Lock(), None, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run(region: int, arguments: np.ndarray, threads: int, work: float) -> None:
    """Run a native function void(int64*) on several threads at once, including this one, and wait for all of them.

    Args:
        region: address of the function. It must divide the work itself, for any number of threads from one on.
        arguments: the array with which each thread calls the function.
        threads: largest number of threads, see `threads_for`.
        work: number of elements that the function accesses.
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
    """The largest number of threads to use for `units` units of work, which together access `work` elements."""
    most = torch.get_num_threads() if _adapting is None else _adapting.threads
    return min(most, units) if work >= _SMALL else 1


def splits_for(rows: int, parts: int, work: float) -> int:
    """The number of shares into which each of `rows` rows of `parts` parts is divided, so that threads get equally many units.

    Within `adapting`, rows are not divided: the last digits of sums over the shares of a row depend on the number of shares.
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
    """Scratch memory of (threads, at least size) floats, kept for the next call from this thread.

    A new large allocation would cost a page fault every 4 KiB in every call.
    """
    space = getattr(_scratch, "space", None)
    if space is None or space.shape[0] < threads or space.shape[1] < size:
        space = _scratch.space = torch.empty(
            threads, -(-size // 16) * 16, dtype=torch.float32, device="cpu"
        ).numpy()  # torch aligns it to 64 bytes, and so every row is aligned
    return space
