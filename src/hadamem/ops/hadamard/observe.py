"""Calls registered observers with the arguments and results of every `hadamard_memory`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor


class HadamardCall(NamedTuple):
    """The arguments and the results of a `hadamard_memory`, names and shapes as there."""

    calibration: str
    factors: list[Tensor]
    a: Tensor
    k: Tensor
    q: Tensor
    start: Tensor
    state: Tensor
    h: Tensor
    last: Tensor


#: The registered observers; mostly none.
observers: list[Callable[[HadamardCall], None]] = []


@contextmanager
def observe_hadamard(observer: Callable[[HadamardCall], None]) -> Iterator[None]:
    """Inside, `observer` is called after every `hadamard_memory` of the process. Not for compiled modules."""
    observers.append(observer)
    try:
        yield
    finally:
        observers.remove(observer)
