"""Kernels share their work among threads, adapt to a busy machine, and survive other Python threads and a fork."""

from __future__ import annotations

import multiprocessing
import threading

import numpy as np
import pytest
import torch
from recurrences import assert_equal, make_inputs, run
from torch import Tensor

from hadamem.ops import hadamard_memory, threads


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("B", [1, 2, 3])
def test_threads_share_the_work_without_changing_it(threads: int, B: int) -> None:
    arguments = make_inputs("tanh_outer", B, 300, 70, 65, reset=0.02)
    want = run("tanh_outer", arguments, "cpu", torch.float32)
    torch.set_num_threads(threads)
    try:
        got = run("tanh_outer", arguments, "cpu", torch.float32)
    finally:
        torch.set_num_threads(1)
    assert_equal(got, [x.double() for x in want], 1e-6, 1e-6)  # sums are taken in another order


@pytest.mark.parametrize("B", [1, 2, 5])
def test_threads_that_adapt_change_nothing(B: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a bit, whether calls are shared or not, which depends on what else the machine does."""
    arguments = make_inputs("tanh_outer", B, 100, 40, 33, reset=0.02)
    want = run("tanh_outer", arguments, "cpu", torch.float32)
    used = []
    share = threads._run
    monkeypatch.setattr(threads, "_run", lambda region, call, count: (used.append(count), share(region, call, count)))
    with threads.adapting(3):
        for _ in range(4):
            got = run("tanh_outer", arguments, "cpu", torch.float32)
            assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))
    assert set(used) == ({1} if B == 1 else {1, min(B, 3)})


def test_calls_take_the_faster_number_of_threads_and_notice_when_that_changes() -> None:
    choice = threads._Choice()

    def calls(number: int, seconds: dict[bool, float]) -> int:
        """How many of so many calls are shared, which take so long shared, and so long not."""
        shared = 0
        for _ in range(number):
            chosen = choice.shared()
            choice.took(chosen, seconds[chosen])
            shared += chosen
        return shared

    quiet, busy = {False: 2.0, True: 1.0}, {False: 2.0, True: 20.0}
    assert calls(1000, quiet) > 950
    assert calls(1000, busy) < 50
    calls(1000, quiet)
    assert calls(1000, quiet) > 950


def test_trying_the_slower_number_again_takes_little_time() -> None:
    choice, took = threads._Choice(), dict.fromkeys((False, True), 0.0)
    for _ in range(20_000):
        chosen = choice.shared()
        seconds = 100.0 if chosen else 1.0
        choice.took(chosen, seconds)
        took[chosen] += seconds
    assert 0.01 < took[True] / took[False] < 0.06


@pytest.mark.skipif(threads._mkl is None, reason="this build of torch does not use MKL")
def test_products_of_matrices_adapt_only_where_that_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of 33 columns is shared in another way among 3 threads on some processors, and has other last digits."""
    layer, x = torch.nn.Linear(70, 33), torch.randn(1024, 70)
    want = layer(x)
    used = []
    share = threads._products_on
    monkeypatch.setattr(threads, "_products_on", lambda count: (used.append(count), share(count))[1])
    for count in (2, 3):
        with threads.adapting(count, (1024,), layer.parameters()):
            assert threads._adapting is not None
            used.clear()
            for _ in range(4):
                with threads.products():
                    assert torch.equal(layer(x), want)
            assert set(used) == (set() if threads._adapting.products is None else {1, count})
    monkeypatch.setattr(threads, "_same_products", lambda *_: False)
    used.clear()
    with threads.adapting(2, (1024,), layer.parameters()), threads.products():
        layer(x)
    assert used == []


def test_several_python_threads_at_once() -> None:
    arguments = make_inputs("tanh_outer", 2, 300, 70, 65)
    want = run("tanh_outer", arguments, "cpu", torch.float32)
    results: list[list[Tensor]] = []

    def work() -> None:
        for _ in range(3):
            results.append(run("tanh_outer", arguments, "cpu", torch.float32))

    torch.set_num_threads(2)
    workers = [threading.Thread(target=work) for _ in range(4)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout=60)
    finally:
        torch.set_num_threads(1)
    assert len(results) == 12
    for result in results:
        assert_equal(result, [x.double() for x in want], 1e-6, 1e-6)


def _child(arguments: dict, queue: multiprocessing.Queue) -> None:
    queue.put(hadamard_memory(**arguments)[0].numpy())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_after_a_fork() -> None:
    """The child of a process whose thread pool was running gets a pool of its own."""
    arguments = make_inputs("tanh_outer", 2, 400, 64, 64)
    factors = [factor.float() for factor in arguments["factors"]]  # here: torch's own operators may hang after a fork
    arguments = {n: arguments[n].float() for n in ("a", "k", "q", "state")} | {"factors": factors}
    arguments["start"] = torch.zeros(2, 400, dtype=torch.bool)
    torch.set_num_threads(2)
    try:
        want = hadamard_memory(**arguments)[0].numpy()
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_child, args=(arguments, queue))
        child.start()
        got = queue.get(timeout=60)
        child.join(timeout=10)
    finally:
        torch.set_num_threads(1)
    np.testing.assert_array_equal(got, want)
