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
from numba import carray, cfunc, njit

from .. import call as _call
from .. import elementary, tiny
from ..call import counters, floats, places
from ..elementary import OPTIONS, exp_minus, get, larger, largest, put, total, where_positive
from ..simd import LANES, at, fetch_add, splat, stamp

# The arguments of a kernel. The first counts the units of work begun; the numbers of heads, and of entries of a row, follow.
_NUMBERS = ("begun", "units", "chunk", "T", "lag", "mirror", "epoch", "heads", "H", "rest_size", "softmax", "rectified")
_INPUTS = ("lag_period", "mirror_period", "x", "position", "lag_turns", "mirror_turns")
FORWARD = places(*_NUMBERS, *_INPUTS, "k", "q", "a", "rest")
BACKWARD = places(*_NUMBERS, *_INPUTS, "k", "q", "dk", "dq", "da", "drest", "dx")
_FORWARD_SIZE, _BACKWARD_SIZE = len(FORWARD), len(BACKWARD)
_ZERO, _ONE = np.float32(0), np.float32(1)
_TINY = np.float32(1e-5)  # added to the sum by which relu(x) is divided
_SHORT = np.float32(1e-3)  # length below which a vector is not scaled to length 1


@njit(**OPTIONS)
def _dot(x, i, y, j, size):
    """The product of two rows."""
    sums = splat(_ZERO)
    for n in range(0, size, LANES):
        sums = sums + get(x, i + n, size - n) * get(y, j + n, size - n)
    return total(sums)


@njit(**OPTIONS)
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


@njit(**OPTIONS)
def _sum_of_positive(x, i, size):
    """The number by which relu(x) is divided."""
    sums = splat(_ZERO)
    for n in range(0, size, LANES):
        row = get(x, i + n, size - n)
        sums = sums + where_positive(row, row)
    return splat(_TINY + total(sums))


@njit(**OPTIONS)
def _by_content(softmax, x, i, y, j, size):
    """The feature map of a row x[i:] of a head that finds by content, to y[j:]."""
    if softmax:
        _softmax(x, i, y, j, size)
    else:
        sums = _sum_of_positive(x, i, size)
        for n in range(0, size, LANES):
            row = get(x, i + n, size - n)
            put(y, j + n, where_positive(row, row) / sums, size - n)


@njit(**OPTIONS)
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


@njit(**OPTIONS)
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


@njit(**OPTIONS)
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


@njit(**OPTIONS)
def _fill_zero(y, j, size):
    for n in range(0, size, LANES):
        put(y, j + n, splat(_ZERO), size - n)


@njit(**OPTIONS)
def _epoch_key(y, j, position, size):
    """2^-n at the entry n of the epoch, see `epochs`."""
    _fill_zero(y, j, size)
    entry, value, following = 0, _ONE, 2
    while entry + 1 < min(size, 63) and position + 1 >= following:
        entry, value, following = entry + 1, value * np.float32(0.5), following * 2
    put(y, j + entry, splat(value), 1)


@njit(**OPTIONS)
def _sigmoid(x, i):
    return splat(_ONE) / (exp_minus(splat(at(x, i))) + _ONE)


@functools.cache
def regions() -> tuple[Any, Any]:
    """The forward and the backward kernel as native functions."""
    version = stamp(elementary.__file__, _call.__file__, tiny.__file__)

    @cfunc("void(CPointer(int64))", cache=True)
    def forward(pointer):
        call = carray(pointer, _FORWARD_SIZE if version else 0)
        mode = tiny.count_as_zero()
        chunk, T, heads, H = call[FORWARD.chunk], call[FORWARD.T], call[FORWARD.heads], call[FORWARD.H]
        lag, mirror, epoch = call[FORWARD.lag], call[FORWARD.mirror], call[FORWARD.epoch]
        softmax, rectified, rest_size = call[FORWARD.softmax], call[FORWARD.rectified], call[FORWARD.rest_size]
        x, positions = floats(call, FORWARD.x), counters(call, FORWARD.position)
        lag_turns, mirror_turns = floats(call, FORWARD.lag_turns), floats(call, FORWARD.mirror_turns)
        k, q, a, rest = floats(call, FORWARD.k), floats(call, FORWARD.q), floats(call, FORWARD.a), floats(call, FORWARD.rest)
        width, pairs, chunks = 3 * H + 1 + rest_size, H // 2, (T + chunk - 1) // chunk
        unit = fetch_add(call, FORWARD.begun)
        while unit < call[FORWARD.units]:
            b, t0 = unit // chunks, unit % chunks * chunk
            for head in range(heads):
                for t in range(t0, min(t0 + chunk, T)):
                    i, to = ((b * T + t) * heads + head) * width, (b * heads + head) * T + t
                    j = to * H
                    if head < lag + mirror:
                        table, count, first, sign = (
                            (lag_turns, lag, 0, _ONE) if head < lag else (mirror_turns, mirror, lag, -_ONE)
                        )
                        period = call[FORWARD.lag_period] if head < lag else call[FORWARD.mirror_period]
                        c = (positions[b * T + t] % period * 2 * count + head - first) * pairs
                        _turned(x, i, k, j, H, table, c, c + count * pairs, _ONE)
                        _turned(x, i + H, q, j, H, table, c, c + count * pairs, sign)
                    else:
                        if head < lag + mirror + epoch:
                            _epoch_key(k, j, positions[b * T + t], H)
                        else:
                            _by_content(softmax, x, i, k, j, H)
                        _by_content(softmax, x, i + H, q, j, H)
                    gate, v = _sigmoid(x, i + 3 * H), i + 2 * H
                    for n in range(0, H, LANES):
                        put(a, j + n, gate * get(x, v + n, H - n), H - n)
                    for n in range(0, rest_size, LANES):
                        row = get(x, v + H + 1 + n, rest_size - n)
                        put(rest, to * rest_size + n, where_positive(row, row) if rectified else row, rest_size - n)
            unit = fetch_add(call, FORWARD.begun)
        tiny.restore(mode)

    @cfunc("void(CPointer(int64))", cache=True)
    def backward(pointer):
        call = carray(pointer, _BACKWARD_SIZE if version else 0)
        mode = tiny.count_as_zero()
        chunk, T, heads, H = call[BACKWARD.chunk], call[BACKWARD.T], call[BACKWARD.heads], call[BACKWARD.H]
        lag, mirror, epoch = call[BACKWARD.lag], call[BACKWARD.mirror], call[BACKWARD.epoch]
        softmax, rectified, rest_size = call[BACKWARD.softmax], call[BACKWARD.rectified], call[BACKWARD.rest_size]
        x, positions = floats(call, BACKWARD.x), counters(call, BACKWARD.position)
        lag_turns, mirror_turns = floats(call, BACKWARD.lag_turns), floats(call, BACKWARD.mirror_turns)
        k, q, dk, dq = floats(call, BACKWARD.k), floats(call, BACKWARD.q), floats(call, BACKWARD.dk), floats(call, BACKWARD.dq)
        da, drest, dx = floats(call, BACKWARD.da), floats(call, BACKWARD.drest), floats(call, BACKWARD.dx)
        width, pairs, chunks = 3 * H + 1 + rest_size, H // 2, (T + chunk - 1) // chunk
        unit = fetch_add(call, BACKWARD.begun)
        while unit < call[BACKWARD.units]:
            b, t0 = unit // chunks, unit % chunks * chunk
            for head in range(heads):
                for t in range(t0, min(t0 + chunk, T)):
                    i, to = ((b * T + t) * heads + head) * width, (b * heads + head) * T + t
                    j = to * H
                    if head < lag + mirror:
                        table, count, first, sign = (
                            (lag_turns, lag, 0, _ONE) if head < lag else (mirror_turns, mirror, lag, -_ONE)
                        )
                        period = call[BACKWARD.lag_period] if head < lag else call[BACKWARD.mirror_period]
                        c = (positions[b * T + t] % period * 2 * count + head - first) * pairs
                        _back_turned(x, i, k, dk, j, dx, H, table, c, c + count * pairs, _ONE)
                        _back_turned(x, i + H, q, dq, j, dx, H, table, c, c + count * pairs, sign)
                    else:
                        if head < lag + mirror + epoch:
                            _fill_zero(dx, i, H)
                        else:
                            _back_by_content(softmax, x, i, k, dk, j, dx, H)
                        _back_by_content(softmax, x, i + H, q, dq, j, dx, H)
                    gate, v = _sigmoid(x, i + 3 * H), i + 2 * H
                    for n in range(0, H, LANES):
                        put(dx, v + n, gate * get(da, j + n, H - n), H - n)
                    dgate = splat(_dot(x, v, da, j, H))
                    put(dx, v + H, dgate * gate * (splat(_ONE) - gate), 1)
                    for n in range(0, rest_size, LANES):
                        row = get(drest, to * rest_size + n, rest_size - n)
                        if rectified:
                            row = where_positive(get(x, v + H + 1 + n, rest_size - n), row)
                        put(dx, v + H + 1 + n, row, rest_size - n)
            unit = fetch_add(call, BACKWARD.begun)
        tiny.restore(mode)

    return forward, backward
