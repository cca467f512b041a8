"""`address` fused for the CPU: Numba kernels on explicit vectors (`simd.py`), forward and backward.

The unit of work is a share of the steps of one sequence. Each row of numbers of a head is read once from where the product of
matrices has put it, and written once to where the Hadamard memory reads it. Rows do not depend on each other: so the results
are the same bits for one step as for many, and for any number of threads.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import carray, cfunc

from .. import call as _call
from .. import elementary, tiny
from ..call import counters, floats, places
from ..compiling import part, stamp
from ..elementary import exp_minus, fill_zero, get, larger, largest, put, sigmoid, total, where_positive
from ..simd import LANES, at, fetch_add, splat

# The arguments of a kernel. The first counts the units of work begun; the numbers of heads, and of entries of a row, follow.
_NUMBERS = ("begun", "units", "chunk", "T", "lag", "mirror", "epoch", "heads", "H", "rest_size", "softmax", "rectified")
_INPUTS = ("lag_period", "mirror_period", "x", "position", "lag_turns", "mirror_turns")
CALL = places(*_NUMBERS, *_INPUTS, "k", "q", "a", "rest", "dk", "dq", "da", "drest", "dx")  # those with d only backward
_SIZE = len(CALL)
_ZERO, _ONE = np.float32(0), np.float32(1)
_TINY = np.float32(1e-5)  # added to the sum by which relu(x) is divided
_SHORT = np.float32(1e-3)  # length below which a vector is not scaled to length 1


@part()
def _dot(x, i, y, j, size):
    """The product of two rows."""
    sums = splat(_ZERO)
    for n in range(0, size, LANES):
        sums = sums + get(x, i + n, size - n) * get(y, j + n, size - n)
    return total(sums)


@part()
def _softmax(x, i, y, j, size):
    highest = at(x, i)
    whole = size // LANES * LANES
    if whole:
        vector = get(x, i, LANES)
        for n in range(LANES, whole, LANES):
            vector = larger(vector, get(x, i + n, LANES))
        highest = largest(vector)
    for n in range(whole, size):
        highest = max(highest, at(x, i + n))
    for n in range(0, size, LANES):
        put(y, j + n, exp_minus(splat(highest) - get(x, i + n, size - n)), size - n)
    sums = splat(_ZERO)
    for n in range(0, size, LANES):
        sums = sums + get(y, j + n, size - n)
    sums = splat(total(sums))
    for n in range(0, size, LANES):
        put(y, j + n, get(y, j + n, size - n) / sums, size - n)


@part()
def _sum_of_positive(x, i, size):
    """The number by which relu(x) is divided."""
    sums = splat(_ZERO)
    for n in range(0, size, LANES):
        row = get(x, i + n, size - n)
        sums = sums + where_positive(row, row)
    return splat(_TINY + total(sums))


@part()
def _by_content(softmax, x, i, y, j, size):
    """The feature map of a row x[i:] of a head that finds by content, to y[j:]."""
    if softmax:
        _softmax(x, i, y, j, size)
    else:
        sums = _sum_of_positive(x, i, size)
        for n in range(0, size, LANES):
            row = get(x, i + n, size - n)
            put(y, j + n, where_positive(row, row) / sums, size - n)


@part()
def _back_by_content(softmax, x, i, y, dy, j, dx, size):
    """The gradient of `_by_content`, to dx[i:]."""
    mean = splat(_dot(y, j, dy, j, size))
    if softmax:
        for n in range(0, size, LANES):
            put(dx, i + n, get(y, j + n, size - n) * (get(dy, j + n, size - n) - mean), size - n)
    else:
        sums = _sum_of_positive(x, i, size)
        for n in range(0, size, LANES):
            g = (get(dy, j + n, size - n) - mean) / sums
            put(dx, i + n, where_positive(get(x, i + n, size - n), g), size - n)


@part()
def _turned(x, i, y, j, size, turns, c, s, sign):
    """The unit vector of a row, with its pairs turned: cosines from turns[c] on, sines from turns[s] on, times `sign`."""
    pairs = size // 2
    length = splat(max(np.float32(math.sqrt(_dot(x, i, x, i, size))), _SHORT))
    for n in range(0, pairs, LANES):
        m = pairs - n
        first, second = get(x, i + n, m) / length, get(x, i + pairs + n, m) / length
        cos, sin = get(turns, c + n, m), get(turns, s + n, m) * splat(sign)
        put(y, j + n, first * cos - second * sin, m)
        put(y, j + pairs + n, first * sin + second * cos, m)
    if size % 2:
        put(y, j + size - 1, get(x, i + size - 1, 1) / length, 1)


@part()
def _back_turned(x, i, y, dy, j, dx, size, turns, c, s, sign):
    """The gradient of `_turned`: turned back, without its part along the vector."""
    pairs = size // 2
    norm = np.float32(math.sqrt(_dot(x, i, x, i, size)))
    length = splat(max(norm, _SHORT))
    along = splat(_dot(y, j, dy, j, size) if norm >= _SHORT else _ZERO)
    for n in range(0, pairs, LANES):
        m = pairs - n
        first, second = get(x, i + n, m) / length, get(x, i + pairs + n, m) / length
        cos, sin = get(turns, c + n, m), get(turns, s + n, m) * splat(sign)
        dfirst, dsecond = get(dy, j + n, m), get(dy, j + pairs + n, m)
        put(dx, i + n, (dfirst * cos + dsecond * sin - along * first) / length, m)
        put(dx, i + pairs + n, (dsecond * cos - dfirst * sin - along * second) / length, m)
    if size % 2:
        last = size - 1
        put(dx, i + last, (get(dy, j + last, 1) - along * get(x, i + last, 1) / length) / length, 1)


@part()
def _epoch_key(y, j, position, size):
    """2^-n at the entry n of the epoch, see `epochs`."""
    fill_zero(y, j, size)
    entry, value, following = 0, _ONE, 2
    while entry + 1 < min(size, 63) and position + 1 >= following:
        entry, value, following = entry + 1, value * np.float32(0.5), following * 2
    put(y, j + entry, splat(value), 1)


@part()
def _values(x, i, a, j, rest, r, size, rest_size, rectified):
    """The gated values x[i:], to a[j:], and the numbers after the gate, to rest[r:]."""
    gate, after = sigmoid(splat(at(x, i + size))), i + size + 1
    for n in range(0, size, LANES):
        put(a, j + n, gate * get(x, i + n, size - n), size - n)
    for n in range(0, rest_size, LANES):
        row = get(x, after + n, rest_size - n)
        put(rest, r + n, where_positive(row, row) if rectified else row, rest_size - n)


@part()
def _back_values(x, i, da, j, drest, r, dx, size, rest_size, rectified):
    """The gradient of `_values`, to dx[i:]."""
    gate, after = sigmoid(splat(at(x, i + size))), i + size + 1
    for n in range(0, size, LANES):
        put(dx, i + n, gate * get(da, j + n, size - n), size - n)
    put(dx, i + size, splat(_dot(x, i, da, j, size)) * gate * (splat(_ONE) - gate), 1)
    for n in range(0, rest_size, LANES):
        row = get(drest, r + n, rest_size - n)
        put(dx, after + n, where_positive(get(x, after + n, rest_size - n), row) if rectified else row, rest_size - n)


@functools.cache
def region(back: bool) -> Any:
    """The kernel as a native function: forward, or, with `back`, the gradient."""
    version = stamp(elementary.__file__, _call.__file__, tiny.__file__)

    @cfunc("void(CPointer(int64))", cache=True)
    def kernel(pointer):
        call = carray(pointer, _SIZE if version else 0)
        mode = tiny.count_as_zero()
        chunk, T, heads, H = call[CALL.chunk], call[CALL.T], call[CALL.heads], call[CALL.H]
        lag, mirror, epoch, rest_size = call[CALL.lag], call[CALL.mirror], call[CALL.epoch], call[CALL.rest_size]
        softmax, rectified = call[CALL.softmax], call[CALL.rectified]
        x, positions = floats(call, CALL.x), counters(call, CALL.position)
        lag_turns, mirror_turns = floats(call, CALL.lag_turns), floats(call, CALL.mirror_turns)
        k, q, a, rest = floats(call, CALL.k), floats(call, CALL.q), floats(call, CALL.a), floats(call, CALL.rest)
        dk, dq, da, drest = floats(call, CALL.dk), floats(call, CALL.dq), floats(call, CALL.da), floats(call, CALL.drest)
        dx = floats(call, CALL.dx)
        width, pairs, chunks = 3 * H + 1 + rest_size, H // 2, (T + chunk - 1) // chunk
        unit = fetch_add(call, CALL.begun)
        while unit < call[CALL.units]:
            b, t0 = unit // chunks, unit % chunks * chunk
            for head in range(heads):
                for t in range(t0, min(t0 + chunk, T)):
                    i, to = ((b * T + t) * heads + head) * width, (b * heads + head) * T + t
                    j = to * H
                    if head < lag + mirror:
                        table, count, first, sign = lag_turns, lag, 0, _ONE
                        period = call[CALL.lag_period]
                        if head >= lag:
                            table, count, first, sign = mirror_turns, mirror, lag, -_ONE
                            period = call[CALL.mirror_period]
                        c = (positions[b * T + t] % period * 2 * count + head - first) * pairs
                        s = c + count * pairs
                        if back:
                            _back_turned(x, i, k, dk, j, dx, H, table, c, s, _ONE)
                            _back_turned(x, i + H, q, dq, j, dx, H, table, c, s, sign)
                        else:
                            _turned(x, i, k, j, H, table, c, s, _ONE)
                            _turned(x, i + H, q, j, H, table, c, s, sign)
                    elif back:
                        if head < lag + mirror + epoch:
                            fill_zero(dx, i, H)
                        else:
                            _back_by_content(softmax, x, i, k, dk, j, dx, H)
                        _back_by_content(softmax, x, i + H, q, dq, j, dx, H)
                    else:
                        if head < lag + mirror + epoch:
                            _epoch_key(k, j, positions[b * T + t], H)
                        else:
                            _by_content(softmax, x, i, k, j, H)
                        _by_content(softmax, x, i + H, q, j, H)
                    if back:
                        _back_values(x, i + 2 * H, da, j, drest, to * rest_size, dx, H, rest_size, rectified)
                    else:
                        _values(x, i + 2 * H, a, j, rest, to * rest_size, H, rest_size, rectified)
            unit = fetch_add(call, CALL.begun)
        tiny.restore(mode)

    return kernel
