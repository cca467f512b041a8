"""The causal convolution fused for the CPU: Numba kernels on explicit vectors (`simd.py`), forward and backward.

The unit of work is one sequence and a share of its features, which do not depend on each other: so the results are the same
bits for one step as for many, and for any number of threads.
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
from ..elementary import get, put, sigmoid
from ..simd import LANES, fetch_add, splat

# The arguments of a kernel. The first counts the units of work begun; D is the number of features.
_NUMBERS = ("begun", "units", "splits", "T", "D", "width")
_INPUTS = ("x", "before", "start", "weight", "bias")
FORWARD = places(*_NUMBERS, *_INPUTS, "y", "after")
BACKWARD = places(*_NUMBERS, *_INPUTS, "dy", "dafter", "dx", "dbefore", "dweight", "dbias")
_FORWARD_SIZE, _BACKWARD_SIZE = len(FORWARD), len(BACKWARD)
_ZERO, _ONE = np.float32(0), np.float32(1)


@part()
def _input(x, before, b, t, T, D, width, j, count):
    """A vector of the input of step t of sequence b, which is before x if t is negative."""
    return get(x, (b * T + t) * D + j, count) if t >= 0 else get(before, (b * (width - 1) + width - 1 + t) * D + j, count)


@part()
def _sum(x, before, weight, bias, b, t, T, D, width, reach, j, count):
    """A vector of the convolution at step t, over at most `reach` earlier inputs."""
    z = get(bias, j, count)
    for lag in range(min(reach, width - 1) + 1):
        z = z + get(weight, lag * D + j, count) * _input(x, before, b, t - lag, T, D, width, j, count)
    return z


@functools.cache
def regions() -> tuple[Any, Any]:
    """The forward and the backward kernel as native functions."""
    version = stamp(elementary.__file__, _call.__file__, tiny.__file__)

    @cfunc("void(CPointer(int64))", cache=True)
    def forward(pointer):
        call = carray(pointer, _FORWARD_SIZE if version else 0)
        mode = tiny.count_as_zero()
        splits, T, D, width = call[FORWARD.splits], call[FORWARD.T], call[FORWARD.D], call[FORWARD.width]
        x, before, start = floats(call, FORWARD.x), floats(call, FORWARD.before), flags(call, FORWARD.start)
        weight, bias = floats(call, FORWARD.weight), floats(call, FORWARD.bias)
        y, after = floats(call, FORWARD.y), floats(call, FORWARD.after)
        vectors = (D + LANES - 1) // LANES
        unit = fetch_add(call, FORWARD.begun)
        while unit < call[FORWARD.units]:
            b, share = unit // splits, unit % splits
            j0, j1 = vectors * share // splits * LANES, min(D, vectors * (share + 1) // splits * LANES)
            age = width - 2  # how many earlier inputs belong to the episode; inputs before the first step do, or are 0
            for t in range(T):
                age = 0 if start[b * T + t] else age + 1
                for j in range(j0, j1, LANES):
                    z = _sum(x, before, weight, bias, b, t, T, D, width, age, j, j1 - j)
                    put(y, (b * T + t) * D + j, z * sigmoid(z), j1 - j)
            for lag in range(width - 1):
                for j in range(j0, j1, LANES):
                    last = _input(x, before, b, T - 1 - lag, T, D, width, j, j1 - j) if lag <= age else splat(_ZERO)
                    put(after, (b * (width - 1) + width - 2 - lag) * D + j, last, j1 - j)
            unit = fetch_add(call, FORWARD.begun)
        tiny.restore(mode)

    @cfunc("void(CPointer(int64))", cache=True)
    def backward(pointer):
        call = carray(pointer, _BACKWARD_SIZE if version else 0)
        mode = tiny.count_as_zero()
        splits, T, D, width = call[BACKWARD.splits], call[BACKWARD.T], call[BACKWARD.D], call[BACKWARD.width]
        x, before, start = floats(call, BACKWARD.x), floats(call, BACKWARD.before), flags(call, BACKWARD.start)
        weight, bias = floats(call, BACKWARD.weight), floats(call, BACKWARD.bias)
        dy, dafter = floats(call, BACKWARD.dy), floats(call, BACKWARD.dafter)
        dx, dbefore = floats(call, BACKWARD.dx), floats(call, BACKWARD.dbefore)
        dweight, dbias = floats(call, BACKWARD.dweight), floats(call, BACKWARD.dbias)
        vectors = (D + LANES - 1) // LANES
        unit = fetch_add(call, BACKWARD.begun)
        while unit < call[BACKWARD.units]:
            b, share = unit // splits, unit % splits
            j0, j1 = vectors * share // splits * LANES, min(D, vectors * (share + 1) // splits * LANES)
            age = width - 2
            for t in range(T):  # the gradients of the sums, into dx, and of the weights, which begin as zeros
                age = 0 if start[b * T + t] else age + 1
                for j in range(j0, j1, LANES):
                    n = j1 - j
                    z = _sum(x, before, weight, bias, b, t, T, D, width, age, j, n)
                    s = sigmoid(z)
                    dz = get(dy, (b * T + t) * D + j, n) * (s + z * s * (splat(_ONE) - s))
                    put(dx, (b * T + t) * D + j, dz, n)
                    put(dbias, b * D + j, get(dbias, b * D + j, n) + dz, n)
                    for lag in range(min(age, width - 1) + 1):
                        to = (b * width + lag) * D + j
                        put(dweight, to, get(dweight, to, n) + dz * _input(x, before, b, t - lag, T, D, width, j, n), n)
            for t in range(1 - width, T):  # the gradients of the inputs, from those in `before` on
                first, end = max(t, 0), max(t + 1, 0)
                while end < min(t + width, T) and not start[b * T + end]:
                    end += 1  # the steps that the input reaches
                for j in range(j0, j1, LANES):
                    n, dinput = j1 - j, splat(_ZERO)
                    if end == T < t + width:
                        dinput = get(dafter, (b * (width - 1) + t + width - 1 - T) * D + j, n)
                    for later in range(first, end):
                        dz = get(dx, (b * T + later) * D + j, n)
                        dinput = dinput + get(weight, (later - t) * D + j, n) * dz
                    if t >= 0:
                        put(dx, (b * T + t) * D + j, dinput, n)
                    else:
                        put(dbefore, (b * (width - 1) + width - 1 + t) * D + j, dinput, n)
            unit = fetch_add(call, BACKWARD.begun)
        tiny.restore(mode)

    return forward, backward
