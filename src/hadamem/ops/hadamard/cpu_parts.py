"""Parts of the CPU kernels: one step of one vector forward and backward, and packing.

Packing copies the inputs of a kernel into scratch memory, vector beside vector, padded to whole vectors with zeros (which are
neutral: a = 0, k = 0), so that all sizes run the same code, and one pointer reaches all inputs. The layout is:

* A matrix is stored in groups of ROWS rows: for every vector of columns, the vectors of these rows follow one another.
* The rows of a step (w, k, q and their gradients): for every vector of columns, the vectors of w, k, q, ... follow one another.

If half a vector is enough for the last columns (H = 24 on 16 lanes), two rows of a matrix share one vector there, in even and
odd lanes, and rows of a step have each value twice. This is called `paired`.
"""

from __future__ import annotations

import numpy as np

from ..compiling import part
from ..elementary import exp_minus, one_plus_tanh
from ..simd import (
    LANES,
    evens,
    interleave,
    load,
    load_first,
    odds,
    prefetch,
    splat,
    store,
    store_first,
)  # fmt: skip

ONES, ROW, COLUMN, TANH, EXP, DENSE = range(6)
KINDS = {"ones": ONES, "scalar": ROW, "column": COLUMN, "tanh_outer": TANH, "exp_outer": EXP, "dense": DENSE}

ROWS = 4  # rows of M that are computed together through a chunk: as many as can keep their sums in registers

_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)


@part(inline=True)
def calibrate(kind, left, right):
    """C of one vector: `left` is the factor of its row (a float; for two rows a vector), `right` that of its columns, or C."""
    if kind == ROW:
        return splat(left)
    if kind in (COLUMN, DENSE):
        return right
    if kind == TANH:
        return one_plus_tanh(left * right)
    if kind == EXP:
        return exp_minus(left * right)
    return splat(_ONE)


@part(inline=True)
def back(kind, d, m, c, left, right, a, h, k, q):
    """The backward pass of one step for one vector.

    The arguments are the gradient of M_t (without the part from h_t), M_{t-1}, C_t, the factors of C_t, a_t, the gradient of
    h_t, k_t and q_t.

    Returns:
        the gradient of M_{t-1}, and this vector's parts of the gradients of q, k, a and the factors.
    """
    d = d + h * q
    g = d * m
    if kind == TANH:
        g = g * (c * (_TWO - c))  # the derivative of 1 + tanh
    elif kind == EXP:
        g = _ZERO - g * c
    outer = kind in (TANH, EXP)
    return d * c, h * (m * c + a * k), a * d, d * k, g * right if outer else g, g * left if outer else g


@part(inline=True)
def right_factors(kind, S, step, rows):
    """The columns' factor for four rows: one vector at S[step] for all, or, if each row has its own, four from S[rows] on."""
    if kind in (EXP, DENSE):
        return load4(S, rows)
    w = load(S, step)
    return w, w, w, w


@part(inline=True)
def load4(S, at):
    """Load four vectors from S[at] on."""
    return load(S, at), load(S, at + LANES), load(S, at + 2 * LANES), load(S, at + 3 * LANES)


@part()
def store4(S, at, x0, x1, x2, x3):
    """Store four vectors from S[at] on."""
    store(S, at, x0)
    store(S, at + LANES, x1)
    store(S, at + 2 * LANES, x2)
    store(S, at + 3 * LANES, x3)


@part(inline=True)
def columns_of(kind, K):
    """How K columns are divided into vectors: whether the last columns are paired (not for a dense C, which is limited by
    memory and would gain nothing), the number of columns, with padding, that are not paired, and the floats in scratch for a
    group of rows."""
    last = K % LANES
    if kind != DENSE and 0 < last <= LANES // 2:
        return True, K - last, ROWS * (K - last) + 2 * LANES
    padded = (K + LANES - 1) // LANES * LANES
    return False, padded, ROWS * padded


@part(once=True)
def clear(S, at, count):
    """Write zeros to S[at : at + count], where `count` is a multiple of LANES."""
    for j in range(at, at + count, LANES):
        store(S, j, splat(_ZERO))


@part(once=True)
def copy(source, at, stride, by, out, to, out_stride, out_by, rows, width, out_width):
    """Copy rows of `width` floats between flat arrays, padded with zeros to `out_width`, which adds less than a vector.

    Rows begin at source[at] and are `stride` apart, and at out[to], `out_stride` apart. The vectors of a row are adjacent if
    `by` (`out_by`) is 1; with 2, 3, ... there are 1, 2, ... other vectors between them.
    """
    whole = width // LANES * LANES
    for r in range(rows):
        x, y = at + r * stride, to + r * out_stride
        for j in range(0, whole, LANES):
            store(out, y + j * out_by, load(source, x + j * by))
        if whole < out_width:
            last = load_first(source, x + whole * by, width - whole)
            store_first(out, y + whole * out_by, last, out_width - whole)


@part(once=True)
def pack_steps(kind, source, at, K, S, to, stride, by, steps):
    """Pack a row of K floats for each step into scratch, rows `stride` apart, vectors `by` apart; if paired, the last columns
    twice."""
    paired, whole, _ = columns_of(kind, K)
    copy(source, at, K, 1, S, to, stride, by, steps, whole if paired else K, whole)
    if paired:
        for t in range(steps):
            last = load_first(source, at + t * K + whole, K - whole)
            store(S, to + t * stride + whole * by, interleave(last, last))


@part(once=True)
def unpack_steps(kind, S, at, stride, by, out, to, K, steps, add):
    """Unpack gradients of rows that `pack_steps` packed. If paired, the two lanes of a column are summed. If `add`, the result
    is added to `out`."""
    paired, whole, _ = columns_of(kind, K)
    for t in range(steps):
        x, y = at + t * stride, to + t * K
        for j in range(0, K, LANES):
            value = load(S, x + j * by)
            if paired and j == whole:
                value = evens(value) + odds(value)
            if add:
                value = value + load_first(out, y + j, K - j)
            store_first(out, y + j, value, K - j)


@part(once=True)
def pack_rows(kind, source, at, K, S, to, inside, rows):
    """Pack a matrix into scratch in groups of rows, with zeros after the first `inside` rows."""
    paired, whole, group = columns_of(kind, K)
    if inside < rows:
        clear(S, to, rows // ROWS * group)
    for r in range(0, inside, ROWS):
        x, y = at + r * K, to + r // ROWS * group
        copy(source, x, K, 1, S, y, LANES, ROWS, min(ROWS, inside - r), whole if paired else K, whole)
    if paired:
        for r in range(0, inside, 2):
            x, y = at + r * K + whole, to + r // ROWS * group + ROWS * whole
            second = load_first(source, x + K, K - whole if r + 1 < inside else 0)
            store(S, y + r % ROWS // 2 * LANES, interleave(load_first(source, x, K - whole), second))


@part(once=True)
def unpack_rows(kind, S, at, out, to, K, inside):
    """Unpack a matrix that `pack_rows` packed."""
    paired, whole, group = columns_of(kind, K)
    width = whole if paired else K
    for r in range(0, inside, ROWS):
        copy(S, at + r // ROWS * group, LANES, ROWS, out, to + r * K, K, 1, min(ROWS, inside - r), width, width)
    if paired:
        for r in range(inside):
            both = load(S, at + r // ROWS * group + ROWS * whole + r % ROWS // 2 * LANES)
            store_first(out, to + r * K + whole, odds(both) if r % 2 else evens(both), K - whole)


@part(once=True)
def pack_dense(C, b, t0, steps, i, T, V, K, S, to, stride, by):
    """Pack C[b, t0 : t0 + steps, i : i + ROWS] into scratch, steps `stride` apart, vectors `by` apart; rows beyond V are 0."""
    padded = columns_of(DENSE, K)[1]
    for r in range(ROWS):
        if i + r < V:
            at = ((b * T + t0) * V + i + r) * K
            copy(C, at, V * K, 1, S, to + r * LANES, stride, by, steps, K, padded)
        else:
            for t in range(steps):
                for j in range(0, padded, LANES):
                    store(S, to + t * stride + r * LANES + j * by, splat(_ZERO))


@part(once=True)
def fetch(array, at, count):
    """Prefetch `count` floats from array[at] on, during other work: the hardware cannot predict the next chunk."""
    for j in range(at, at + count, 16):
        prefetch(array, j)


@part(once=True)
def fetch_chunk(kind, left, right, a, k, q, row, steps, V, K):
    """Prefetch the inputs of `steps` steps, from step `row` on, counted over all sequences."""
    if kind in (COLUMN, TANH):
        fetch(right, row * K, steps * K)
    if kind in (ROW, TANH, EXP):
        fetch(left, row * V, steps * V)
    fetch(a, row * V, steps * V)
    fetch(k, row * K, steps * K)
    fetch(q, row * K, steps * K)
