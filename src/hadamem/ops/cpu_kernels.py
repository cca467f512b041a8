"""The Hadamard recurrence fused for the CPU: Numba kernels on explicit vectors (`simd.py`), forward and backward.

What keeps it fast and small:

* A row of M never looks at another row. The unit of work is one sequence and a share of its rows; it walks over time in
  chunks, and inside a chunk takes a few rows at a time through all steps, so that M stays in the first-level cache and
  theta, v_c, k, q are loaded once for all of those rows. Nothing of size H x H is written per step.
* The forward pass keeps M at the start of every chunk. The backward pass recomputes one chunk of a few rows, remembers
  M_{t-1} and C_t for it in scratch memory that fits the cache, then walks back through it.
* Every chunk is first packed into scratch padded to whole vectors (zeros are neutral: a = 0, k = 0, C = 1), so that odd
  sizes run the same code as round ones.
* tanh is a rational function: multiply-adds and one division. Its slope needs no second evaluation, 1 - tanh^2 = C (2 - C).

Memory: outputs, plus B * (T / chunk) * H_v * H_k floats of checkpoints when gradients are wanted.
"""

from __future__ import annotations

import functools
import sys
import threading
from typing import Any

import numpy as np
from numba import carray, cfunc, njit

from .simd import LANES, as_pointer, clamp, load, load_first, prefetch, splat, store, store_first, store_totals, take

ONES, ROW, COLUMN, TANH, DENSE = range(5)
KINDS = {"ones": ONES, "scalar": ROW, "column": COLUMN, "tanh_outer": TANH, "dense": DENSE}

CHUNK = 32  # steps between checkpoints of M: C and M of a few rows for that long should fit the first-level cache
ROWS = 4  # rows of M taken through a chunk together: as many as keep their sums in registers

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}

# tanh(x) ~ x P(x^2) / Q(x^2) on |x| <= 7.905 (beyond, float32 tanh is +-1): the classical [13/6] minimax fit, error < 3e-7.
_P = [np.float32(c) for c in (4.89352456e-03, 6.37261929e-04, 1.48572236e-05, 5.12229710e-08, -8.60467152e-11,
                              2.00018790e-13, -2.76076848e-16)]  # fmt: skip
_Q = [np.float32(c) for c in (4.89352519e-03, 2.26843463e-03, 1.18534706e-04, 1.19825840e-06)]
_P0, _P1, _P2, _P3, _P4, _P5, _P6 = _P
_Q0, _Q1, _Q2, _Q3 = _Q
_LIMIT = np.float32(7.90531111)
_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)


@njit(**_OPTIONS)
def one_plus_tanh(x: Any) -> Any:
    """1 + tanh(x) of a vector."""
    x = clamp(x, _LIMIT)
    s = x * x
    p = (((((_P6 * s + _P5) * s + _P4) * s + _P3) * s + _P2) * s + _P1) * s + _P0
    q = ((_Q3 * s + _Q2) * s + _Q1) * s + _Q0
    return _ONE + x * p / q


@njit(**_OPTIONS)
def _copy(source, at, stride, out, to, out_stride, rows, width, out_width):
    """Copy `rows` rows of `width` floats between arrays seen as flat, filling up with zeros to `out_width`.

    They begin `stride` floats apart at source[at], and are written `out_stride` apart from out[to] on. What is filled up is
    less than a vector.
    """
    whole = width // LANES * LANES
    for r in range(rows):
        x, y = at + r * stride, to + r * out_stride
        for j in range(0, whole, LANES):
            store(out, y + j, load(source, x + j))
        if whole < out_width:
            store_first(out, y + whole, load_first(source, x + whole, width - whole), out_width - whole)


@njit(**_OPTIONS)
def _prefetch(array, at, count):
    """Fetch `count` floats from array[at] on while others are worked on: the hardware does not foresee the next chunk."""
    for j in range(at, at + count, 16):
        prefetch(array, j)


@njit(**_OPTIONS)
def store4(S, at, stride, x0, x1, x2, x3):
    """Four vectors, `stride` apart."""
    store(S, at, x0)
    store(S, at + stride, x1)
    store(S, at + 2 * stride, x2)
    store(S, at + 3 * stride, x3)


@njit(forceinline=True, **_OPTIONS)
def calibrate(kind, left, right):
    """C of one row: `left` is that row's factor (a float), `right` the columns' (a vector; for dense, C itself)."""
    if kind == ROW:
        return splat(left)
    if kind in (COLUMN, DENSE):
        return right
    if kind == TANH:
        return one_plus_tanh(left * right)
    return splat(_ONE)


@njit(**_OPTIONS)
def pack_dense(C, b, t0, steps, i0, rows, T, V, K, S, to, KP):
    """C[b, t0 : t0 + steps, i0 : i0 + rows] -> S[to], as (steps, rows, KP); rows past V are ones."""
    inside = max(0, min(rows, V - i0))
    for t in range(steps):
        _copy(C, ((b * T + t0 + t) * V + i0) * K, K, S, to + t * rows * KP, KP, inside, K, KP)
        for j in range(inside * KP, rows * KP):
            S[to + t * rows * KP + j] = _ONE


@njit(**_OPTIONS)
def prefetch_chunk(kind, left, right, a, k, q, row, steps, V, K):
    """Fetch the inputs of `steps` steps from row and step number `row` on."""
    if kind in (COLUMN, TANH):
        _prefetch(right, row * K, steps * K)
    if kind in (ROW, TANH):
        _prefetch(left, row * V, steps * V)
    _prefetch(a, row * V, steps * V)
    _prefetch(k, row * K, steps * K)
    _prefetch(q, row * K, steps * K)


# What a kernel is called with: numbers, then the addresses of its tensors from _FIRST on. Plain numbers cost nothing to hand
# over to a thread, and need no lock of Python's there. The first two count: threads that came, units of work taken.
_THREADS, _NEXT, _UNITS, _SPLITS, _STEPS, _B, _T, _V, _K, _SPACE, _SPACE_SIZE, _FIRST = range(12)
_ARGUMENTS = _FIRST + 15
_ANY_SIZE = 2**40  # kernels count places themselves; these arrays never check


@njit(**_OPTIONS)
def floats(given, n):
    """The n-th tensor of the arguments, as a flat array of float32."""
    return carray(as_pointer(given[_FIRST + n]), (_ANY_SIZE,), np.float32)


@njit(**_OPTIONS)
def flags(given, n):
    """The n-th tensor of the arguments, as a flat array of bool."""
    return carray(as_pointer(given[_FIRST + n]), (_ANY_SIZE,), np.bool_)


@njit(**_OPTIONS)
def work_space_of(given):
    """The scratch memory of the thread that asks."""
    thread = take(given, _THREADS)
    return carray(as_pointer(given[_SPACE] + 4 * thread * given[_SPACE_SIZE]), (_ANY_SIZE,), np.float32)


@functools.cache
def regions(kind: int) -> tuple[Any, Any]:
    """The forward and the backward kernel of one calibration as native functions, compiled for it alone on first use."""
    words = ["hadamem: compiling the kernels of a calibration; this takes some seconds, once on a machine"]
    note = threading.Timer(1.0, print, words, {"file": sys.stderr, "flush": True})
    note.daemon = True
    note.start()
    try:
        return _build(kind)
    finally:
        note.cancel()


def _build(kind: int) -> tuple[Any, Any]:
    # closed over numbers only: Numba's cache knows a function again by the values it is closed over, and no other function
    # is the same from one process to the next

    @cfunc("void(CPointer(int64))", cache=True)
    def forward(pointer):
        given = carray(pointer, _ARGUMENTS)
        splits, chunk, T, V, K = given[_SPLITS], given[_STEPS], given[_T], given[_V], given[_K]
        left, right, a, k, q = floats(given, 0), floats(given, 1), floats(given, 2), floats(given, 3), floats(given, 4)
        start, M0 = flags(given, 5), floats(given, 6)
        h, M1, saved, save = floats(given, 7), floats(given, 8), floats(given, 9), given[_FIRST + 9] != 0
        S = work_space_of(given)
        KP = (K + LANES - 1) // LANES * LANES
        VP = (V + ROWS - 1) // ROWS * ROWS
        groups = VP // ROWS
        R = ROWS
        sw = 0  # places in the scratch: the chunk's right, k, q; its left, a, h; dense C; M itself
        sk, sq = sw + chunk * KP, sw + 2 * chunk * KP
        su = sq + chunk * KP
        sa, sh = su + chunk * VP, su + 2 * chunk * VP
        sc = sh + chunk * VP
        sm = sc + (chunk * R * KP if kind == DENSE else 0)
        zero = splat(_ZERO)
        unit = take(given, _NEXT)
        while unit < given[_UNITS]:
            b, share = unit // splits, unit % splits
            i0, i1 = groups * share // splits * ROWS, groups * (share + 1) // splits * ROWS
            inside = min(i1, V) - i0
            _copy(M0, (b * V + i0) * K, K, S, sm, KP, inside, K, KP)
            for j in range(inside * KP, (i1 - i0) * KP):
                S[sm + j] = _ZERO
            for t0 in range(0, T, chunk):
                steps = min(chunk, T - t0)
                row = b * T + t0
                if kind in (COLUMN, TANH):
                    _copy(right, row * K, K, S, sw, KP, steps, K, KP)
                if kind in (ROW, TANH):
                    _copy(left, row * V + i0, V, S, su + i0, VP, steps, inside, i1 - i0)
                _copy(k, row * K, K, S, sk, KP, steps, K, KP)
                _copy(q, row * K, K, S, sq, KP, steps, K, KP)
                _copy(a, row * V + i0, V, S, sa + i0, VP, steps, inside, i1 - i0)
                prefetch_chunk(kind, left, right, a, k, q, row + chunk, chunk, V, K)
                if save:
                    at = ((b * ((T + chunk - 1) // chunk) + t0 // chunk) * VP + i0) * KP
                    _copy(S, sm, KP, saved, at, KP, i1 - i0, KP, KP)
                for i in range(i0, i1, R):
                    m = sm + (i - i0) * KP
                    if kind == DENSE:
                        pack_dense(right, b, t0, steps, i, R, T, V, K, S, sc, KP)
                    for t in range(steps):
                        if start[row + t]:
                            for j in range(m, m + R * KP, LANES):
                                store(S, j, zero)
                        u, v = su + t * VP + i, sa + t * VP + i
                        u0, u1, u2, u3 = S[u], S[u + 1], S[u + 2], S[u + 3]
                        a0, a1, a2, a3 = S[v], S[v + 1], S[v + 2], S[v + 3]
                        h0, h1, h2, h3 = zero, zero, zero, zero
                        for j in range(0, KP, LANES):
                            kj, qj = load(S, sk + t * KP + j), load(S, sq + t * KP + j)
                            if kind == DENSE:
                                c = sc + t * R * KP + j
                                c0, c1, c2, c3 = load(S, c), load(S, c + KP), load(S, c + 2 * KP), load(S, c + 3 * KP)
                            else:
                                c0 = c1 = c2 = c3 = load(S, sw + t * KP + j)
                            p = m + j
                            m0 = load(S, p) * calibrate(kind, u0, c0) + a0 * kj
                            m1 = load(S, p + KP) * calibrate(kind, u1, c1) + a1 * kj
                            m2 = load(S, p + 2 * KP) * calibrate(kind, u2, c2) + a2 * kj
                            m3 = load(S, p + 3 * KP) * calibrate(kind, u3, c3) + a3 * kj
                            store4(S, p, KP, m0, m1, m2, m3)
                            h0, h1, h2, h3 = h0 + m0 * qj, h1 + m1 * qj, h2 + m2 * qj, h3 + m3 * qj
                        store_totals(S, sh + t * VP + i, h0, h1, h2, h3)
                _copy(S, sh + i0, VP, h, row * V + i0, V, steps, inside, inside)
            _copy(S, sm, KP, M1, (b * V + i0) * K, K, inside, K, K)
            unit = take(given, _NEXT)

    @cfunc("void(CPointer(int64))", cache=True)
    def backward(pointer):
        given = carray(pointer, _ARGUMENTS)
        splits, chunk, B, T, V, K = given[_SPLITS], given[_STEPS], given[_B], given[_T], given[_V], given[_K]
        left, right, a, k, q = floats(given, 0), floats(given, 1), floats(given, 2), floats(given, 3), floats(given, 4)
        start, saved, dh, dM1 = flags(given, 5), floats(given, 6), floats(given, 7), floats(given, 8)
        dleft, dright, da, dk, dq = (
            floats(given, 9), floats(given, 10), floats(given, 11), floats(given, 12), floats(given, 13)
        )  # fmt: skip
        dM0 = floats(given, 14)
        S = work_space_of(given)
        KP = (K + LANES - 1) // LANES * LANES
        VP = (V + ROWS - 1) // ROWS * ROWS
        groups = VP // ROWS
        R = ROWS
        chunks = (T + chunk - 1) // chunk
        sw = 0  # the chunk's right, k, q and their gradients; its left, a, dh and the gradients of the first two;
        step = chunk * KP + LANES
        sk, sq = sw + step, sw + 2 * step
        sdw, sdk, sdq = sw + 3 * step, sw + 4 * step, sw + 5 * step
        su = sw + 6 * step
        sa, sh, sdu, sda = su + chunk * VP, su + 2 * chunk * VP, su + 3 * chunk * VP, su + 4 * chunk * VP
        sc = su + 5 * chunk * VP  # C and M_{t-1} of a few rows; dM of all rows of the unit
        sp = sc + chunk * R * KP + 3 * LANES
        sd = sp + chunk * R * KP + 7 * LANES
        zero = splat(_ZERO)
        unit = take(given, _NEXT)
        while unit < given[_UNITS]:
            b, share = unit // splits, unit % splits
            i0, i1 = groups * share // splits * ROWS, groups * (share + 1) // splits * ROWS
            inside = min(i1, V) - i0
            _copy(dM1, (b * V + i0) * K, K, S, sd, KP, inside, K, KP)
            for j in range(inside * KP, (i1 - i0) * KP):
                S[sd + j] = _ZERO
            for n in range(chunks - 1, -1, -1):
                t0 = n * chunk
                steps = min(chunk, T - t0)
                row = b * T + t0
                if kind in (COLUMN, TANH):
                    _copy(right, row * K, K, S, sw, KP, steps, K, KP)
                if kind in (ROW, TANH):
                    _copy(left, row * V + i0, V, S, su + i0, VP, steps, inside, i1 - i0)
                _copy(k, row * K, K, S, sk, KP, steps, K, KP)
                _copy(q, row * K, K, S, sq, KP, steps, K, KP)
                _copy(a, row * V + i0, V, S, sa + i0, VP, steps, inside, i1 - i0)
                _copy(dh, row * V + i0, V, S, sh + i0, VP, steps, inside, i1 - i0)
                if n > 0:
                    prefetch_chunk(kind, left, right, a, k, q, row - chunk, chunk, V, K)
                    _prefetch(dh, (row - chunk) * V, chunk * V)
                    _prefetch(saved, ((b * chunks + n - 1) * VP + i0) * KP, (i1 - i0) * KP)
                for j in range(sdw, su, LANES):
                    store(S, j, zero)
                for i in range(i0, i1, R):
                    # once more forward through the chunk, remembering C_t and M_{t-1}
                    if kind == DENSE:
                        pack_dense(right, b, t0, steps, i, R, T, V, K, S, sc, KP)
                    at = ((b * chunks + n) * VP + i) * KP
                    for j in range(at, at + KP, LANES):
                        m0, m1 = load(saved, j), load(saved, j + KP)
                        m2, m3 = load(saved, j + 2 * KP), load(saved, j + 3 * KP)
                        for t in range(steps):
                            if start[row + t]:
                                m0, m1, m2, m3 = zero, zero, zero, zero
                            x, v = t * KP + j - at, t * VP + i
                            c, p = sc + t * R * KP + j - at, sp + t * R * KP + j - at
                            if kind == DENSE:
                                c0, c1, c2, c3 = load(S, c), load(S, c + KP), load(S, c + 2 * KP), load(S, c + 3 * KP)
                            else:
                                wj = load(S, sw + x)
                                c0, c1 = calibrate(kind, S[su + v], wj), calibrate(kind, S[su + v + 1], wj)
                                c2, c3 = calibrate(kind, S[su + v + 2], wj), calibrate(kind, S[su + v + 3], wj)
                                store4(S, c, KP, c0, c1, c2, c3)
                            store4(S, p, KP, m0, m1, m2, m3)
                            kj = load(S, sk + x)
                            m0, m1 = m0 * c0 + S[sa + v] * kj, m1 * c1 + S[sa + v + 1] * kj
                            m2, m3 = m2 * c2 + S[sa + v + 2] * kj, m3 * c3 + S[sa + v + 3] * kj
                    # and back
                    d = sd + (i - i0) * KP
                    for t in range(steps - 1, -1, -1):
                        v = t * VP + i
                        u0, u1, u2, u3 = S[su + v], S[su + v + 1], S[su + v + 2], S[su + v + 3]
                        a0, a1, a2, a3 = S[sa + v], S[sa + v + 1], S[sa + v + 2], S[sa + v + 3]
                        h0, h1, h2, h3 = S[sh + v], S[sh + v + 1], S[sh + v + 2], S[sh + v + 3]
                        du0, du1, du2, du3 = zero, zero, zero, zero
                        da0, da1, da2, da3 = zero, zero, zero, zero
                        reset = start[row + t]
                        for j in range(0, KP, LANES):
                            x = t * KP + j
                            c, p = sc + t * R * KP + j, sp + t * R * KP + j
                            wj, kj, qj = load(S, sw + x), load(S, sk + x), load(S, sq + x)
                            gq, gk = load(S, sdq + x), load(S, sdk + x)
                            c0, d0, p0 = load(S, c), load(S, d + j) + h0 * qj, load(S, p)
                            gq, gk, da0 = gq + h0 * (p0 * c0 + a0 * kj), gk + a0 * d0, da0 + d0 * kj
                            c1, d1, p1 = load(S, c + KP), load(S, d + j + KP) + h1 * qj, load(S, p + KP)
                            gq, gk, da1 = gq + h1 * (p1 * c1 + a1 * kj), gk + a1 * d1, da1 + d1 * kj
                            c2, d2, p2 = load(S, c + 2 * KP), load(S, d + j + 2 * KP) + h2 * qj, load(S, p + 2 * KP)
                            gq, gk, da2 = gq + h2 * (p2 * c2 + a2 * kj), gk + a2 * d2, da2 + d2 * kj
                            c3, d3, p3 = load(S, c + 3 * KP), load(S, d + j + 3 * KP) + h3 * qj, load(S, p + 3 * KP)
                            gq, gk, da3 = gq + h3 * (p3 * c3 + a3 * kj), gk + a3 * d3, da3 + d3 * kj
                            store(S, sdq + x, gq)
                            store(S, sdk + x, gk)
                            if kind != ONES:
                                g0, g1, g2, g3 = d0 * p0, d1 * p1, d2 * p2, d3 * p3  # dC
                                if kind == TANH:  # the slope of 1 + tanh
                                    g0, g1 = g0 * (c0 * (_TWO - c0)), g1 * (c1 * (_TWO - c1))
                                    g2, g3 = g2 * (c2 * (_TWO - c2)), g3 * (c3 * (_TWO - c3))
                                    du0, du1, du2, du3 = du0 + g0 * wj, du1 + g1 * wj, du2 + g2 * wj, du3 + g3 * wj
                                    store(S, sdw + x, load(S, sdw + x) + u0 * g0 + u1 * g1 + u2 * g2 + u3 * g3)
                                elif kind == ROW:
                                    du0, du1, du2, du3 = du0 + g0, du1 + g1, du2 + g2, du3 + g3
                                elif kind == COLUMN:
                                    store(S, sdw + x, load(S, sdw + x) + g0 + g1 + g2 + g3)
                                else:
                                    store4(S, c, KP, g0, g1, g2, g3)
                            if reset:
                                store4(S, d + j, KP, zero, zero, zero, zero)
                            else:
                                store4(S, d + j, KP, d0 * c0, d1 * c1, d2 * c2, d3 * c3)
                        store_totals(S, sda + v, da0, da1, da2, da3)
                        if kind in (ROW, TANH):
                            store_totals(S, sdu + v, du0, du1, du2, du3)
                    if kind == DENSE:
                        for t in range(steps):
                            _copy(S, sc + t * R * KP, KP, dright, ((row + t) * V + i) * K, K, min(R, V - i), K, K)
                _copy(S, sda + i0, VP, da, row * V + i0, V, steps, inside, inside)
                if kind in (ROW, TANH):
                    _copy(S, sdu + i0, VP, dleft, row * V + i0, V, steps, inside, inside)
                to = (share * B * T + row) * K
                _copy(S, sdk, KP, dk, to, K, steps, K, K)
                _copy(S, sdq, KP, dq, to, K, steps, K, K)
                if kind in (COLUMN, TANH):
                    _copy(S, sdw, KP, dright, to, K, steps, K, K)
            _copy(S, sd, KP, dM0, (b * V + i0) * K, K, inside, K, K)
            unit = take(given, _NEXT)

    return forward, backward
