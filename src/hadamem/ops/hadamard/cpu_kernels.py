"""The Hadamard recurrence fused for the CPU: Numba kernels on explicit vectors (`simd.py`), forward and backward.

Reasons why it is fast and needs little memory:

* The rows of M do not depend on each other. The unit of work is one sequence and a share of its rows. It goes over time in
  chunks, and inside a chunk computes all steps for one group of rows after the other, so that M stays in the first-level
  cache and theta, v_c, k, q are loaded once for all rows of a group. Nothing of size H x H is written per step.
* The forward pass stores M at the start of every chunk. The backward pass recomputes one chunk of a group, stores its
  M_{t-1} and C_t in scratch memory that fits the cache, then goes back through it.
* Every chunk is first packed into scratch (`cpu_parts.py`).
* tanh is a rational function: multiply-adds and one division. Its derivative 1 - tanh^2 = C (2 - C) needs no further one.

Memory: the outputs, and B * (T / chunk) * H_v * H_k floats of checkpoints if gradients are wanted.
"""

from __future__ import annotations

import functools
import sys
import threading
from typing import Any

import numpy as np
from numba import carray, cfunc
from numba.core import event

from .. import call as _call
from .. import elementary, tiny
from ..call import counters, flags, floats, floats_from, places
from ..compiling import part, stamp
from ..simd import (
    LANES,
    at,
    fetch_add,
    load,
    load_pair,
    splat,
    store,
    store_totals,
    wait_for,
)
from . import cpu_parts
from .cpu_parts import (
    COLUMN,
    DENSE,
    EXP,
    ROW,
    ROWS,
    TANH,
    back,
    calibrate,
    clear,
    columns_of,
    copy,
    fetch,
    fetch_chunk,
    load4,
    pack_dense,
    pack_rows,
    pack_steps,
    right_factors,
    store4,
    unpack_rows,
    unpack_steps,
)  # fmt: skip

CHUNK = 32  # steps between checkpoints of M: C and M of a group over so many steps should fit the first-level cache

# The arguments of a kernel. The first two are counters of the threads that have entered and of the units of work begun.
# `counters` has one counter for every sequence and chunk: how many shares of its rows have added their parts of gradients.
_NUMBERS = ("threads", "begun", "units", "splits", "chunk", "T", "V", "K", "space", "space_size", "counters")
_INPUTS = ("left", "right", "a", "k", "q", "start")
FORWARD = places(*_NUMBERS, *_INPUTS, "state", "h", "last", "saved")
BACKWARD = places(
    *_NUMBERS, *_INPUTS, "saved", "dh", "dlast", "dleft", "dright", "da", "dk", "dq", "dstate"
)  # fmt: skip
_FORWARD_SIZE, _BACKWARD_SIZE = len(FORWARD), len(BACKWARD)
_ZERO = np.float32(0)


@part()
def work_space_of(call):
    """The scratch memory of the calling thread."""
    thread = fetch_add(call, FORWARD.threads)
    return floats_from(call[FORWARD.space] + 4 * thread * call[FORWARD.space_size])


@functools.cache
def regions(kind: int) -> tuple[Any, Any]:
    """The forward and the backward kernel of one calibration as native functions, compiled for it on first use."""
    words = ["hadamem: compiling the kernels of a calibration; this takes some seconds, once on a machine"]
    note = threading.Timer(1.0, print, words, {"file": sys.stderr, "flush": True})
    note.daemon = True
    try:
        with event.install_listener("numba:run_pass", _Start(note)):
            return _build(kind)
    finally:
        note.cancel()


class _Start(event.Listener):
    """Starts a thread when the compiler begins to work, which does not happen for kernels in the cache."""

    def __init__(self, thread: threading.Thread) -> None:
        self.thread = thread

    def on_start(self, event: Any) -> None:
        """A pass of the compiler begins."""
        if self.thread.ident is None:
            self.thread.start()

    def on_end(self, event: Any) -> None:
        """A pass of the compiler ends."""


def padded_sizes(kind: int, V: int, K: int) -> tuple[int, int, int]:
    """V rounded up to whole groups, K rounded up to whole vectors, and the number of floats of a matrix in scratch."""
    VP = -(-V // ROWS) * ROWS
    return VP, -(-K // LANES) * LANES, VP // ROWS * columns_of.py_func(kind, K)[2]


def space_size(kind: int, backward: bool, steps: int, V: int, K: int) -> int:
    """The number of floats of scratch that a kernel needs for chunks of `steps` steps, in the layout of the kernels below."""
    VP, KP, matrix = padded_sizes(kind, V, K)
    group = matrix // (VP // ROWS)
    if backward:
        return steps * (6 * KP + 5 * VP + 2 * group) + 3 * matrix
    return steps * (3 * KP + 3 * VP) + 2 * max(matrix, steps * group)


def _build(kind: int) -> tuple[Any, Any]:
    version = stamp(cpu_parts.__file__, elementary.__file__, _call.__file__, tiny.__file__)

    @cfunc("void(CPointer(int64))", cache=True)
    def forward(pointer):
        call = carray(pointer, _FORWARD_SIZE if version else 0)
        mode = tiny.count_as_zero()
        splits, chunk = call[FORWARD.splits], call[FORWARD.chunk]
        T, V, K = call[FORWARD.T], call[FORWARD.V], call[FORWARD.K]
        left, right, a = floats(call, FORWARD.left), floats(call, FORWARD.right), floats(call, FORWARD.a)
        k, q, start = floats(call, FORWARD.k), floats(call, FORWARD.q), flags(call, FORWARD.start)
        M0, h, M1 = floats(call, FORWARD.state), floats(call, FORWARD.h), floats(call, FORWARD.last)
        saved, save = floats(call, FORWARD.saved), call[FORWARD.saved] != 0
        S = work_space_of(call)
        R = ROWS
        paired, whole, size = columns_of(kind, K)
        groups = (V + R - 1) // R
        KP, VP = (K + LANES - 1) // LANES * LANES, groups * R
        sx = 0  # offsets in scratch: w, k, q of the chunk, interleaved; u, a, h of the chunk; M; A, or C of the chunk
        su = sx + 3 * chunk * KP
        sa, sh = su + chunk * VP, su + 2 * chunk * VP
        sm = sh + chunk * VP
        sc = sm + groups * size
        zero = splat(_ZERO)
        unit = fetch_add(call, FORWARD.begun)
        while unit < call[FORWARD.units]:
            b, share = unit // splits, unit % splits
            i0, i1 = groups * share // splits * R, groups * (share + 1) // splits * R
            inside = min(i1, V) - i0
            pack_rows(kind, M0, (b * V + i0) * K, K, S, sm, inside, i1 - i0)
            if kind == EXP:
                pack_rows(kind, right, i0 * K, K, S, sc, inside, i1 - i0)
            for t0 in range(0, T, chunk):
                steps = min(chunk, T - t0)
                row = b * T + t0
                if kind in (COLUMN, TANH):
                    pack_steps(kind, right, row * K, K, S, sx, 3 * KP, 3, steps)
                if kind in (ROW, TANH, EXP):
                    copy(left, row * V + i0, V, 1, S, su + i0, VP, 1, steps, inside, i1 - i0)
                pack_steps(kind, k, row * K, K, S, sx + LANES, 3 * KP, 3, steps)
                pack_steps(kind, q, row * K, K, S, sx + 2 * LANES, 3 * KP, 3, steps)
                copy(a, row * V + i0, V, 1, S, sa + i0, VP, 1, steps, inside, i1 - i0)
                fetch_chunk(kind, left, right, a, k, q, row + chunk, chunk, V, K)
                if save:
                    to = ((b * ((T + chunk - 1) // chunk) + t0 // chunk) * groups + i0 // R) * size
                    copy(S, sm, 0, 1, saved, to, 0, 1, 1, (i1 - i0) // R * size, (i1 - i0) // R * size)
                for i in range(i0, i1, R):
                    m = sm + (i - i0) // R * size
                    if kind == DENSE:
                        pack_dense(right, b, t0, steps, i, T, V, K, S, sc, size, R)
                    for t in range(steps):
                        if at(start, row + t):
                            clear(S, m, size)
                        u, v = su + t * VP + i, sa + t * VP + i
                        u0, u1, u2, u3 = at(S, u), at(S, u + 1), at(S, u + 2), at(S, u + 3)
                        a0, a1, a2, a3 = at(S, v), at(S, v + 1), at(S, v + 2), at(S, v + 3)
                        h0, h1, h2, h3, h01, h23 = zero, zero, zero, zero, zero, zero
                        x, c = sx + 3 * t * KP, sc + (t * size if kind == DENSE else m - sm)
                        for j in range(0, whole, LANES):
                            kj, qj = load(S, x + 3 * j + LANES), load(S, x + 3 * j + 2 * LANES)
                            w0, w1, w2, w3 = right_factors(kind, S, x + 3 * j, c + R * j)
                            m0, m1, m2, m3 = load4(S, m + R * j)
                            m0, m1 = m0 * calibrate(kind, u0, w0) + a0 * kj, m1 * calibrate(kind, u1, w1) + a1 * kj
                            m2, m3 = m2 * calibrate(kind, u2, w2) + a2 * kj, m3 * calibrate(kind, u3, w3) + a3 * kj
                            store4(S, m + R * j, m0, m1, m2, m3)
                            h0, h1, h2, h3 = h0 + m0 * qj, h1 + m1 * qj, h2 + m2 * qj, h3 + m3 * qj
                        if paired:
                            x, y = x + 3 * whole, m + R * whole
                            kj, qj = load(S, x + LANES), load(S, x + 2 * LANES)
                            w0, w2, _, _ = right_factors(kind, S, x, c + R * whole)
                            m0 = load(S, y) * calibrate(kind, load_pair(S, u), w0) + load_pair(S, v) * kj
                            m2 = load(S, y + LANES) * calibrate(kind, load_pair(S, u + 2), w2) + load_pair(S, v + 2) * kj
                            store(S, y, m0)
                            store(S, y + LANES, m2)
                            h01, h23 = m0 * qj, m2 * qj
                        store_totals(S, sh + t * VP + i, h0, h1, h2, h3, h01, h23)
                copy(S, sh + i0, VP, 1, h, row * V + i0, V, 1, steps, inside, inside)
            unpack_rows(kind, S, sm, M1, (b * V + i0) * K, K, inside)
            unit = fetch_add(call, FORWARD.begun)
        tiny.restore(mode)

    @cfunc("void(CPointer(int64))", cache=True)
    def backward(pointer):
        call = carray(pointer, _BACKWARD_SIZE if version else 0)
        mode = tiny.count_as_zero()
        splits, chunk = call[BACKWARD.splits], call[BACKWARD.chunk]
        T, V, K = call[BACKWARD.T], call[BACKWARD.V], call[BACKWARD.K]
        left, right, a = floats(call, BACKWARD.left), floats(call, BACKWARD.right), floats(call, BACKWARD.a)
        k, q, start = floats(call, BACKWARD.k), floats(call, BACKWARD.q), flags(call, BACKWARD.start)
        saved, dh, dM1 = floats(call, BACKWARD.saved), floats(call, BACKWARD.dh), floats(call, BACKWARD.dlast)
        dleft, dright, da = floats(call, BACKWARD.dleft), floats(call, BACKWARD.dright), floats(call, BACKWARD.da)
        dk, dq, dM0 = floats(call, BACKWARD.dk), floats(call, BACKWARD.dq), floats(call, BACKWARD.dstate)
        done = counters(call, BACKWARD.counters)
        S = work_space_of(call)
        R = ROWS
        paired, whole, size = columns_of(kind, K)
        groups = (V + R - 1) // R
        KP, VP = (K + LANES - 1) // LANES * LANES, groups * R
        chunks = (T + chunk - 1) // chunk
        sx = 0  # offsets in scratch: w, k, q of the chunk and their gradients, interleaved; u, a, dh, du, da of the chunk; C_t
        su = sx + 6 * chunk * KP  # and M_{t-1} of a group of rows, interleaved; dM of all rows of the unit; A and its gradient
        sa, sh, sdu, sda = su + chunk * VP, su + 2 * chunk * VP, su + 3 * chunk * VP, su + 4 * chunk * VP
        sc = su + 5 * chunk * VP
        sd = sc + 2 * chunk * size
        se = sd + groups * size
        sg = se + groups * size
        zero = splat(_ZERO)
        unit = fetch_add(call, BACKWARD.begun)
        while unit < call[BACKWARD.units]:
            b, share = unit // splits, unit % splits
            i0, i1 = groups * share // splits * R, groups * (share + 1) // splits * R
            inside = min(i1, V) - i0
            pack_rows(kind, dM1, (b * V + i0) * K, K, S, sd, inside, i1 - i0)
            if kind == EXP:
                pack_rows(kind, right, i0 * K, K, S, se, inside, i1 - i0)
                clear(S, sg, (i1 - i0) // R * size)
            for n in range(chunks - 1, -1, -1):
                t0 = n * chunk
                steps = min(chunk, T - t0)
                row = b * T + t0
                clear(S, sx, 6 * steps * KP)
                if kind in (COLUMN, TANH):
                    pack_steps(kind, right, row * K, K, S, sx, 6 * KP, 6, steps)
                if kind in (ROW, TANH, EXP):
                    copy(left, row * V + i0, V, 1, S, su + i0, VP, 1, steps, inside, i1 - i0)
                pack_steps(kind, k, row * K, K, S, sx + LANES, 6 * KP, 6, steps)
                pack_steps(kind, q, row * K, K, S, sx + 2 * LANES, 6 * KP, 6, steps)
                copy(a, row * V + i0, V, 1, S, sa + i0, VP, 1, steps, inside, i1 - i0)
                copy(dh, row * V + i0, V, 1, S, sh + i0, VP, 1, steps, inside, i1 - i0)
                first = ((b * chunks + n) * groups + i0 // R) * size
                if n > 0:
                    fetch_chunk(kind, left, right, a, k, q, row - chunk, chunk, V, K)
                    fetch(dh, (row - chunk) * V, chunk * V)
                    fetch(saved, first - groups * size, (i1 - i0) // R * size)
                for i in range(i0, i1, R):
                    g = (i - i0) // R * size
                    # recompute the chunk forward, storing C_t and M_{t-1}
                    if kind == DENSE:
                        pack_dense(right, b, t0, steps, i, T, V, K, S, sc, 2 * size, 2 * R)
                    for j in range(0, whole, LANES):
                        m0, m1, m2, m3 = load4(saved, first + g + R * j)
                        for t in range(steps):
                            if at(start, row + t):
                                m0, m1, m2, m3 = zero, zero, zero, zero
                            x, y = sx + 6 * (t * KP + j), sc + 2 * (t * size + R * j)
                            u, v = su + t * VP + i, sa + t * VP + i
                            w0, w1, w2, w3 = right_factors(kind, S, x, y if kind == DENSE else se + g + R * j)
                            c0, c1 = calibrate(kind, at(S, u), w0), calibrate(kind, at(S, u + 1), w1)
                            c2, c3 = calibrate(kind, at(S, u + 2), w2), calibrate(kind, at(S, u + 3), w3)
                            store4(S, y, c0, c1, c2, c3)
                            store4(S, y + R * LANES, m0, m1, m2, m3)
                            kj = load(S, x + LANES)
                            m0, m1 = m0 * c0 + at(S, v) * kj, m1 * c1 + at(S, v + 1) * kj
                            m2, m3 = m2 * c2 + at(S, v + 2) * kj, m3 * c3 + at(S, v + 3) * kj
                    if paired:
                        m0, m2 = load(saved, first + g + R * whole), load(saved, first + g + R * whole + LANES)
                        for t in range(steps):
                            if at(start, row + t):
                                m0, m2 = zero, zero
                            x, y = sx + 6 * (t * KP + whole), sc + 2 * (t * size + R * whole)
                            u, v = su + t * VP + i, sa + t * VP + i
                            w0, w2, _, _ = right_factors(kind, S, x, se + g + R * whole)
                            c0, c2 = calibrate(kind, load_pair(S, u), w0), calibrate(kind, load_pair(S, u + 2), w2)
                            store4(S, y, c0, c2, m0, m2)
                            kj = load(S, x + LANES)
                            m0, m2 = m0 * c0 + load_pair(S, v) * kj, m2 * c2 + load_pair(S, v + 2) * kj
                    # go back through the chunk
                    for t in range(steps - 1, -1, -1):
                        u, v, w = su + t * VP + i, sa + t * VP + i, sh + t * VP + i
                        u0, u1, u2, u3 = at(S, u), at(S, u + 1), at(S, u + 2), at(S, u + 3)
                        a0, a1, a2, a3 = at(S, v), at(S, v + 1), at(S, v + 2), at(S, v + 3)
                        h0, h1, h2, h3 = at(S, w), at(S, w + 1), at(S, w + 2), at(S, w + 3)
                        du0, du1, du2, du3, du01, du23 = zero, zero, zero, zero, zero, zero
                        da0, da1, da2, da3, da01, da23 = zero, zero, zero, zero, zero, zero
                        for j in range(0, whole, LANES):  # row by row, so that only one row's results are pending at a time
                            x, d, y = sx + 6 * (t * KP + j), sd + g + R * j, sc + 2 * (t * size + R * j)
                            kj, qj, gw = load(S, x + LANES), load(S, x + 2 * LANES), load(S, x + 3 * LANES)
                            gk, gq = load(S, x + 4 * LANES), load(S, x + 5 * LANES)
                            w0, w1, w2, w3 = right_factors(kind, S, x, se + g + R * j)
                            m, c = load(S, y + R * LANES), load(S, y)
                            dm, dq_, dk_, da_, dl, r0 = back(kind, load(S, d), m, c, u0, w0, a0, h0, kj, qj)
                            store(S, d, dm)
                            gq, gk, gw, da0, du0 = gq + dq_, gk + dk_, gw + r0, da0 + da_, du0 + dl
                            m, c, d1 = load(S, y + R * LANES + LANES), load(S, y + LANES), d + LANES
                            dm, dq_, dk_, da_, dl, r1 = back(kind, load(S, d1), m, c, u1, w1, a1, h1, kj, qj)
                            store(S, d1, dm)
                            gq, gk, gw, da1, du1 = gq + dq_, gk + dk_, gw + r1, da1 + da_, du1 + dl
                            m, c, d2 = load(S, y + R * LANES + 2 * LANES), load(S, y + 2 * LANES), d + 2 * LANES
                            dm, dq_, dk_, da_, dl, r2 = back(kind, load(S, d2), m, c, u2, w2, a2, h2, kj, qj)
                            store(S, d2, dm)
                            gq, gk, gw, da2, du2 = gq + dq_, gk + dk_, gw + r2, da2 + da_, du2 + dl
                            m, c, d3 = load(S, y + R * LANES + 3 * LANES), load(S, y + 3 * LANES), d + 3 * LANES
                            dm, dq_, dk_, da_, dl, r3 = back(kind, load(S, d3), m, c, u3, w3, a3, h3, kj, qj)
                            store(S, d3, dm)
                            gq, gk, gw, da3, du3 = gq + dq_, gk + dk_, gw + r3, da3 + da_, du3 + dl
                            store(S, x + 4 * LANES, gk)
                            store(S, x + 5 * LANES, gq)
                            if kind in (COLUMN, TANH):
                                store(S, x + 3 * LANES, gw)
                            elif kind == EXP:
                                e = sg + g + R * j
                                e0, e1, e2, e3 = load4(S, e)
                                store4(S, e, e0 + r0, e1 + r1, e2 + r2, e3 + r3)
                            elif kind == DENSE:
                                store4(S, y, r0, r1, r2, r3)
                        if paired:
                            x, d, y = sx + 6 * (t * KP + whole), sd + g + R * whole, sc + 2 * (t * size + R * whole)
                            kj, qj, gw = load(S, x + LANES), load(S, x + 2 * LANES), load(S, x + 3 * LANES)
                            gk, gq = load(S, x + 4 * LANES), load(S, x + 5 * LANES)
                            w0, w2, _, _ = right_factors(kind, S, x, se + g + R * whole)
                            m, c, l2 = load(S, y + 2 * LANES), load(S, y), load_pair(S, u)
                            dm, dq_, dk_, da01, du01, r0 = back(
                                kind, load(S, d), m, c, l2, w0, load_pair(S, v), load_pair(S, w), kj, qj
                            )
                            store(S, d, dm)
                            gq, gk, gw = gq + dq_, gk + dk_, gw + r0
                            m, c, l2 = load(S, y + 3 * LANES), load(S, y + LANES), load_pair(S, u + 2)
                            dm, dq_, dk_, da23, du23, r2 = back(
                                kind, load(S, d + LANES), m, c, l2, w2, load_pair(S, v + 2), load_pair(S, w + 2), kj, qj
                            )
                            store(S, d + LANES, dm)
                            store(S, x + 4 * LANES, gk + dk_)
                            store(S, x + 5 * LANES, gq + dq_)
                            if kind in (COLUMN, TANH):
                                store(S, x + 3 * LANES, gw + r2)
                            elif kind == EXP:
                                e = sg + g + R * whole
                                store(S, e, load(S, e) + r0)
                                store(S, e + LANES, load(S, e + LANES) + r2)
                        if at(start, row + t):
                            clear(S, sd + g, size)
                        store_totals(S, sda + t * VP + i, da0, da1, da2, da3, da01, da23)
                        if kind in (ROW, TANH, EXP):
                            store_totals(S, sdu + t * VP + i, du0, du1, du2, du3, du01, du23)
                    if kind == DENSE:
                        for r in range(min(R, V - i)):
                            to = (row * V + i + r) * K
                            copy(S, sc + r * LANES, 2 * size, 2 * R, dright, to, V * K, 1, steps, K, K)
                copy(S, sda + i0, VP, 1, da, row * V + i0, V, 1, steps, inside, inside)
                if kind in (ROW, TANH, EXP):
                    copy(S, sdu + i0, VP, 1, dleft, row * V + i0, V, 1, steps, inside, inside)
                wait_for(done, b * chunks + n, share)  # in order, so that sums are the same bits every time
                if kind in (COLUMN, TANH):
                    unpack_steps(kind, S, sx + 3 * LANES, 6 * KP, 6, dright, row * K, K, steps, share > 0)
                unpack_steps(kind, S, sx + 4 * LANES, 6 * KP, 6, dk, row * K, K, steps, share > 0)
                unpack_steps(kind, S, sx + 5 * LANES, 6 * KP, 6, dq, row * K, K, steps, share > 0)
                fetch_add(done, b * chunks + n)
            unpack_rows(kind, S, sd, dM0, (b * V + i0) * K, K, inside)
            if kind == EXP:
                unpack_rows(kind, S, sg, dright, (b * V + i0) * K, K, inside)
            unit = fetch_add(call, BACKWARD.begun)
        tiny.restore(mode)

    return forward, backward
