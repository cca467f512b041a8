"""The linear recurrence fused for the CPU: Numba kernels on explicit vectors (`simd.py`), forward and backward.

The unit of work is one sequence and a share of its features. It goes over time once, reading y_{t-1} (backward: the gradient of
x_{t+1}) from the output that the previous step has just written, which is still in the first-level cache. No intermediate
results are stored. Complex numbers are in torch's format, pairs of floats side by side.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import carray, cfunc

from .. import call as _call
from .. import elementary, tiny
from ..call import flags, floats, places
from ..compiling import part, stamp
from ..elementary import fill_zero, get, put
from ..simd import (
    LANES,
    fetch_add,
    multiply_complex,
    multiply_conjugate,
)

_ZERO = np.float32(0)

# The arguments of a kernel. The first counts the units of work begun; W is the number of floats in a step of one sequence.
_NUMBERS = ("begun", "units", "splits", "T", "W")
FORWARD = places(*_NUMBERS, "decay", "x", "start", "state", "y")
BACKWARD = places(*_NUMBERS, "decay", "start", "state", "y", "dy", "ddecay", "dx", "dstate")
_FORWARD_SIZE, _BACKWARD_SIZE = len(FORWARD), len(BACKWARD)


@part(inline=True)
def _times(is_complex, a, b):
    return multiply_complex(a, b) if is_complex else a * b


@part(inline=True)
def _conjugate_times(is_complex, a, b):
    return multiply_conjugate(a, b) if is_complex else a * b


@part(inline=True)
def _advance(is_complex, decay, d, before, p, x, y, row, size):
    """y = decay * before + x for `size` floats, from the offsets d (decay), p (before) and row (x and y) on."""
    for j in range(0, size, LANES):
        n = size - j
        product = _times(is_complex, get(decay, d + j, n), get(before, p + j, n))
        put(y, row + j, product + get(x, row + j, n), n)


@part(inline=True)
def _pull(is_complex, a, p, g, q, base, r, out, o, size, add):
    """out = conj(a) * g, plus base if `add`: the backward pass of a product with a."""
    for j in range(0, size, LANES):
        n = size - j
        product = _conjugate_times(is_complex, get(a, p + j, n), get(g, q + j, n))
        if add:
            product = product + get(base, r + j, n)
        put(out, o + j, product, n)


@part(inline=True)
def _copy(source, s, out, o, size):
    for j in range(0, size, LANES):
        put(out, o + j, get(source, s + j, size - j), size - j)


@functools.cache
def regions(is_complex: bool, constant: bool) -> tuple[Any, Any]:
    """The forward and the backward kernel as native functions; `constant`: the decay is the same at every step."""
    version = stamp(elementary.__file__, _call.__file__, tiny.__file__)

    @cfunc("void(CPointer(int64))", cache=True)
    def forward(pointer):
        call = carray(pointer, _FORWARD_SIZE if version else 0)
        mode = tiny.count_as_zero()
        splits, T, W = call[FORWARD.splits], call[FORWARD.T], call[FORWARD.W]
        decay, x, start = floats(call, FORWARD.decay), floats(call, FORWARD.x), flags(call, FORWARD.start)
        state, y = floats(call, FORWARD.state), floats(call, FORWARD.y)
        vectors = (W + LANES - 1) // LANES
        unit = fetch_add(call, FORWARD.begun)
        while unit < call[FORWARD.units]:
            b, share = unit // splits, unit % splits
            j = vectors * share // splits * LANES
            size = min(W, vectors * (share + 1) // splits * LANES) - j
            for t in range(T):
                row = (b * T + t) * W + j
                d = j if constant else row
                if start[b * T + t]:
                    _copy(x, row, y, row, size)
                elif t == 0:
                    _advance(is_complex, decay, d, state, b * W + j, x, y, row, size)
                else:
                    _advance(is_complex, decay, d, y, row - W, x, y, row, size)
            unit = fetch_add(call, FORWARD.begun)
        tiny.restore(mode)

    @cfunc("void(CPointer(int64))", cache=True)
    def backward(pointer):
        call = carray(pointer, _BACKWARD_SIZE if version else 0)
        mode = tiny.count_as_zero()
        splits, T, W = call[BACKWARD.splits], call[BACKWARD.T], call[BACKWARD.W]
        decay, start, state = floats(call, BACKWARD.decay), flags(call, BACKWARD.start), floats(call, BACKWARD.state)
        y, dy, ddecay = floats(call, BACKWARD.y), floats(call, BACKWARD.dy), floats(call, BACKWARD.ddecay)
        dx, dstate = floats(call, BACKWARD.dx), floats(call, BACKWARD.dstate)
        vectors = (W + LANES - 1) // LANES
        unit = fetch_add(call, BACKWARD.begun)
        while unit < call[BACKWARD.units]:
            b, share = unit // splits, unit % splits
            j = vectors * share // splits * LANES
            size = min(W, vectors * (share + 1) // splits * LANES) - j
            if constant:  # each sequence has its own sum
                fill_zero(ddecay, b * W + j, size)
            for t in range(T - 1, -1, -1):
                n = b * T + t
                row = n * W + j
                g = b * W + j if constant else row
                if t < T - 1 and not start[n + 1]:
                    _pull(is_complex, decay, j if constant else row + W, dx, row + W, dy, row, dx, row, size, True)
                else:
                    _copy(dy, row, dx, row, size)
                if not start[n]:
                    before, p = (y, row - W) if t > 0 else (state, b * W + j)
                    _pull(is_complex, before, p, dx, row, ddecay, g, ddecay, g, size, constant)
                elif not constant:
                    fill_zero(ddecay, g, size)
            if start[b * T]:
                fill_zero(dstate, b * W + j, size)
            else:
                first = b * T * W + j
                d = j if constant else first
                _pull(is_complex, decay, d, dx, first, dx, first, dstate, b * W + j, size, False)
            unit = fetch_add(call, BACKWARD.begun)
        tiny.restore(mode)

    return forward, backward
