"""What a native kernel is called with: one array of whole numbers, some of which are addresses of tensors.

Plain numbers cost nothing to hand over to a thread, and need no lock of Python's there. Each has a name, in one list for a
kernel, which those who pack a call and the kernel that reads it share.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import carray, njit
from torch import Tensor

from .simd import as_pointer

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "forceinline": True}
_ANY_SIZE = 2**40  # kernels count places themselves; these arrays never check


def places(*names: str) -> Any:
    """A named tuple of numbers: where in a call the number or the tensor of that name stands. Kernels read it as constants."""
    return namedtuple("Places", names)(*range(len(names)))


def pack(names: Sequence[str], numbers: dict[str, int], tensors: dict[str, Tensor | None]) -> tuple[np.ndarray, list[Tensor]]:
    """A call, and what must live as long as it.

    Args:
        names: the fields of `places`, in their order.
        numbers: by name; those that are missing are 0, as counters begin.
        tensors: by name, of any strides (one that is written to must be contiguous); None is address 0.
    """
    held = {name: _plain(x) for name, x in tensors.items() if x is not None}
    values = numbers | {name: x.data_ptr() for name, x in held.items()}
    return np.array([values.get(name, 0) for name in names], np.int64), list(held.values())


def _plain(x: Tensor) -> Tensor:
    x = x.resolve_conj().resolve_neg()
    return x if x.is_contiguous() else x.detach().contiguous()


@njit(**_OPTIONS)
def floats_from(address: int) -> Any:
    """What is in memory from an address on, as a flat array of float32."""
    return carray(as_pointer(address), (_ANY_SIZE,), np.float32)


@njit(**_OPTIONS)
def floats(call: Any, place: int) -> Any:
    """The tensor at a place of a call, as a flat array of float32."""
    return floats_from(call[place])


@njit(**_OPTIONS)
def flags(call: Any, place: int) -> Any:
    """The tensor at a place of a call, bool, as a flat array of bytes."""
    return carray(as_pointer(call[place]), (_ANY_SIZE,), np.uint8)


@njit(**_OPTIONS)
def counters(call: Any, place: int) -> Any:
    """The counters at a place of a call, as a flat array of int64."""
    return carray(as_pointer(call[place]), (_ANY_SIZE,), np.int64)
