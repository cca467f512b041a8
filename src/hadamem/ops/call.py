"""The argument of a native kernel: one array of integers, some of which are addresses of tensors.

Plain integers can be passed to a thread at no cost, and read there without Python's global lock. Each number has a name, in one
list per kernel, which is shared by the code that packs a call and the kernel that reads it.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import carray
from torch import Tensor

from .compiling import part
from .simd import as_pointer

_ANY_SIZE = 2**40  # size of arrays over memory of unknown length; kernels compute valid indices, which are not checked


def places(*names: str) -> Any:
    """A named tuple with the index of each number or tensor in a call. Kernels use its fields as constants."""
    return namedtuple("Places", names)(*range(len(names)))


def pack(names: Sequence[str], numbers: dict[str, int], tensors: dict[str, Tensor | None]) -> tuple[np.ndarray, list[Tensor]]:
    """Pack a call; returns it, and the tensors that must be kept alive as long as the call is used.

    Args:
        names: the fields of `places`, in order.
        numbers: numbers by name; missing ones are 0, the initial value of counters.
        tensors: tensors by name, with any strides (tensors that a kernel writes to must be contiguous); None is address 0.
    """
    held = {name: _plain(x) for name, x in tensors.items() if x is not None}
    values = numbers | {name: x.data_ptr() for name, x in held.items()}
    return np.array([values.get(name, 0) for name in names], np.int64), list(held.values())


def _plain(x: Tensor) -> Tensor:
    x = x.resolve_conj().resolve_neg()
    return x if x.is_contiguous() else x.detach().contiguous()


@part(inline=True, once=True)
def floats_from(address: int) -> Any:
    """The memory from an address on, as a flat array of float32."""
    return carray(as_pointer(address), (_ANY_SIZE,), np.float32)


@part(inline=True, once=True)
def floats(call: Any, place: int) -> Any:
    """The tensor at index `place` of a call, as a flat array of float32."""
    return floats_from(call[place])


@part(inline=True, once=True)
def flags(call: Any, place: int) -> Any:
    """The bool tensor at index `place` of a call, as a flat array of bytes."""
    return carray(as_pointer(call[place]), (_ANY_SIZE,), np.uint8)


@part(inline=True, once=True)
def counters(call: Any, place: int) -> Any:
    """The counters at index `place` of a call, as a flat array of int64."""
    return carray(as_pointer(call[place]), (_ANY_SIZE,), np.int64)
