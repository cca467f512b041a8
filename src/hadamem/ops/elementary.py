"""Elementary functions of vectors, and of the lanes of one vector, as parts of the CPU kernels.

Unlike kernels, parts are not in Numba's cache: see `compiling.stamp`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compiling import part
from .simd import LANES, clamp, load, load_first, nearest, splat, store, store_first, two_to_the, vector

# tanh(x) ~ x P(x^2) / Q(x^2) on |x| <= 7.905 (beyond, float32 tanh is +-1): the classical [13/6] minimax fit, error < 3e-7.
_P = [np.float32(c) for c in (4.89352456e-03, 6.37261929e-04, 1.48572236e-05, 5.12229710e-08, -8.60467152e-11,
                              2.00018790e-13, -2.76076848e-16)]  # fmt: skip
_Q = [np.float32(c) for c in (4.89352519e-03, 2.26843463e-03, 1.18534706e-04, 1.19825840e-06)]
_P0, _P1, _P2, _P3, _P4, _P5, _P6 = _P
_Q0, _Q1, _Q2, _Q3 = _Q
_LIMIT = np.float32(7.90531111)
_ZERO, _ONE = np.float32(0), np.float32(1)

# e^r ~ 1 + r + r^2 E(r) on |r| <= ln(2) / 2: least squares, error < 1e-8; ln 2 in two parts, so that r is exact
_E0, _E1, _E2, _E3, _E4 = (np.float32(c) for c in (0.49999988, 0.16666518, 0.04166954, 0.00836899, 0.00137512))
_LOG2_E, _LN2_HIGH, _LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
_EXP_LIMIT = np.float32(87)


@part()
def one_plus_tanh(x: Any) -> Any:
    """1 + tanh(x) of a vector."""
    x = clamp(x, _LIMIT)
    s = x * x
    p = (((((_P6 * s + _P5) * s + _P4) * s + _P3) * s + _P2) * s + _P1) * s + _P0
    q = ((_Q3 * s + _Q2) * s + _Q1) * s + _Q0
    return _ONE + x * p / q


@part()
def exp_minus(x: Any) -> Any:
    """e^-x of a vector."""
    x = clamp(x, _EXP_LIMIT)
    n = nearest(x * -_LOG2_E)
    r = _ZERO - x - n * _LN2_HIGH - n * _LN2_LOW
    return two_to_the(n) * (((((_E4 * r + _E3) * r + _E2) * r + _E1) * r + _E0) * (r * r) + (r + _ONE))


@part()
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x) of a vector."""
    return splat(_ONE) / (exp_minus(x) + _ONE)


@part(inline=True)
def get(array: Any, index: Any, count: Any) -> Any:
    """Load a vector, or only its first `count` lanes (and zeros in the others) if `count` is less than LANES."""
    return load(array, index) if count >= LANES else load_first(array, index, count)


@part(inline=True)
def put(array: Any, index: Any, value: Any, count: Any) -> None:
    """Store a vector, or only its first `count` lanes if `count` is less than LANES."""
    if count >= LANES:
        store(array, index, value)
    else:
        store_first(array, index, value, count)


@part(inline=True)
def fill_zero(array: Any, index: Any, size: Any) -> None:
    """Write `size` zeros."""
    for n in range(0, size, LANES):
        put(array, index + n, splat(_ZERO), size - n)


@intrinsic
def where_positive(typing_context: Any, x: Any, value: Any) -> Any:
    """The lanes of `value` where x is not at or below 0 (so also where it is NaN), and 0 elsewhere."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        zeros = ir.Constant(args[0].type, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered("<=", args[0], zeros), zeros, args[1])

    return vector(vector, vector), lower


def _fold(builder: ir.IRBuilder, value: ir.Value, join: Any) -> ir.Value:
    """One number of all lanes: the halves are joined again and again."""
    width = LANES
    while width > 1:
        width //= 2
        halves = []
        for first in (0, width):
            lanes = ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(first, first + width)))
            halves.append(builder.shuffle_vector(value, value, lanes))
        value = join(*halves)
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


@intrinsic
def total(typing_context: Any, value: Any) -> Any:
    """The sum over the lanes."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _fold(builder, args[0], builder.fadd)

    return types.float32(vector), lower


@intrinsic
def larger(typing_context: Any, x: Any, y: Any) -> Any:
    """The larger number in each lane."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return vector(vector, vector), lower


@intrinsic
def largest(typing_context: Any, value: Any) -> Any:
    """The largest number in all lanes."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _fold(builder, args[0], lambda x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))

    return types.float32(vector), lower
