"""Observers, which are called with the arguments and results of every call of `hadamard_memory`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor


class HadamardCall(NamedTuple):
    """The arguments and results of a call of `hadamard_memory`, with the names and shapes used there."""

    calibration: str
    factors: list[Tensor]
    a: Tensor
    k: Tensor
    q: Tensor
    start: Tensor
    state: Tensor
    h: Tensor
    last: Tensor


#: The registered observers; usually there are none.
observers: list[Callable[[HadamardCall], None]] = []


@contextmanager
def observe_hadamard(observer: Callable[[HadamardCall], None]) -> Iterator[None]:
    """Within this context, `observer` is called after every `hadamard_memory` in the process, except in compiled modules."""
    observers.append(observer)
    try:
        yield
    finally:
        observers.remove(observer)
