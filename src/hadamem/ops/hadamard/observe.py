"""For looking inside: whoever asks is told what every Hadamard memory was given and gave."""

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


#: Who is told; empty but for those who look.
observers: list[Callable[[HadamardCall], None]] = []


@contextmanager
def observe_hadamard(tell: Callable[[HadamardCall], None]) -> Iterator[None]:
    """Inside, `tell` is called after every `hadamard_memory` of the process. Not for compiled modules."""
    observers.append(tell)
    try:
        yield
    finally:
        observers.remove(tell)
