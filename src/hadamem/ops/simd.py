"""Vectors of float32 as a Numba type, so that kernels are vectorised explicitly instead of by the compiler's guesses.

LLVM's own vectoriser must prove that rows do not overlap, guesses trip counts and runs a scalar loop over the rest of a
short row; at H = 24 that costs more than the arithmetic. `vector` is one LLVM vector `<LANES x float>`: `+ - * /` work lane by
lane (with fused multiply-add if the processor has it) and mix with float32 scalars. LLVM splits a vector into the registers
that the processor has: with 16 lanes one on AVX-512, with 8 lanes one on AVX2 and two on NEON.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 16 if llvm.get_host_cpu_features().get("avx512f", False) else 8

_FLAGS = ("contract",)  # a * b + c may become one fused operation; nothing else is relaxed, also not for NaN and inf
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)


class VectorType(types.Type):
    """The Numba type of `<LANES x float>`."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


vector = VectorType()


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, front_end_type: Any) -> None:
        super().__init__(manager, front_end_type, _VECTOR)


def _splat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    if value.type == _VECTOR:
        return value
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), mask)


def _define_operator(function: Callable[..., Any], emit: str) -> None:
    """Define one arithmetic operator for Numba, between vectors and between a vector and a float32."""
    pairs = [(vector, vector), (vector, types.float32), (types.float32, vector)]

    @infer_global(function)
    class _Typing(ConcreteTemplate):
        cases = [signature(vector, *pair) for pair in pairs]  # noqa: RUF012 (Numba's own protocol)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        left, right = (_splat(builder, value) for value in args)
        return getattr(builder, emit)(left, right, flags=_FLAGS)

    for pair in pairs:
        lower_builtin(function, *pair)(lower)


_define_operator(operator.add, "fadd")
_define_operator(operator.sub, "fsub")
_define_operator(operator.mul, "fmul")
_define_operator(operator.truediv, "fdiv")


def _pointer(context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value, index: ir.Value) -> ir.Value:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic
def at(typing_context: Any, array: Any, index: Any) -> Any:
    """array[index] without Numba's handling of negative indices, which takes longer than a small step."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), lower


@intrinsic
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """LANES consecutive floats of a flat array, from `index` on."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.load(_pointer(context, builder, sig.args[0], *args), align=4)

    return vector(array, types.intp), lower


@intrinsic
def store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a vector to a flat array, from `index` on."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        builder.store(args[2], _pointer(context, builder, sig.args[0], *args[:2]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), lower


def _first_lanes(builder: ir.IRBuilder, count: ir.Value) -> ir.Value:
    """A mask of the first `count` lanes; all of them if count is larger."""
    lanes = ir.VectorType(ir.IntType(32), LANES)
    count = builder.trunc(count, ir.IntType(32))
    counts = builder.insert_element(ir.Constant(lanes, ir.Undefined), count, ir.Constant(ir.IntType(32), 0))
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    counts = builder.shuffle_vector(counts, ir.Constant(lanes, ir.Undefined), everywhere)
    return builder.icmp_signed("<", ir.Constant(lanes, list(range(LANES))), counts)


_MASK = ir.VectorType(ir.IntType(1), LANES)


@intrinsic
def load_first(typing_context: Any, array: Any, index: Any, count: Any) -> Any:
    """The first `count` floats from `index` on, and zeros in the other lanes, whose memory is not accessed."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer = _pointer(context, builder, sig.args[0], *args[:2])
        kind = ir.FunctionType(_VECTOR, [pointer.type, ir.IntType(32), _MASK, _VECTOR])
        masked = builder.module.declare_intrinsic(f"llvm.masked.load.v{LANES}f32.p0", fnty=kind)
        zeros = ir.Constant(_VECTOR, [0.0] * LANES)
        return builder.call(masked, [pointer, ir.IntType(32)(4), _first_lanes(builder, args[2]), zeros])

    return vector(array, types.intp, types.intp), lower


@intrinsic
def store_first(typing_context: Any, array: Any, index: Any, value: Any, count: Any) -> Any:
    """Write the first `count` lanes to a flat array, from `index` on."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer = _pointer(context, builder, sig.args[0], *args[:2])
        kind = ir.FunctionType(ir.VoidType(), [_VECTOR, pointer.type, ir.IntType(32), _MASK])
        masked = builder.module.declare_intrinsic(f"llvm.masked.store.v{LANES}f32.p0", fnty=kind)
        builder.call(masked, [args[2], pointer, ir.IntType(32)(4), _first_lanes(builder, args[3])])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), lower


@intrinsic
def splat(typing_context: Any, value: Any) -> Any:
    """A vector with the same float32 in every lane; a vector is returned unchanged."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _splat(builder, args[0])

    return vector(value), lower


@intrinsic
def load_pair(typing_context: Any, array: Any, index: Any) -> Any:
    """Two consecutive floats, the first in all even lanes, the second in all odd lanes."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pair = ir.VectorType(_FLOAT, 2)
        pointer = builder.bitcast(_pointer(context, builder, sig.args[0], *args), pair.as_pointer())
        both = builder.load(pointer, align=4)
        return _shuffle(builder, both, both, [0, 1] * (LANES // 2))

    return vector(array, types.intp), lower


@intrinsic
def interleave(typing_context: Any, x: Any, y: Any) -> Any:
    """A vector with the first half of the lanes of x in its even lanes, and the first half of y in its odd lanes."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _shuffle(builder, args[0], args[1], [n // 2 + n % 2 * LANES for n in range(LANES)])

    return vector(vector, vector), lower


@intrinsic
def evens(typing_context: Any, value: Any) -> Any:
    """The even lanes, gathered in the first half."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _shuffle(builder, args[0], args[0], [2 * n % LANES for n in range(LANES)])

    return vector(vector), lower


@intrinsic
def odds(typing_context: Any, value: Any) -> Any:
    """The odd lanes, gathered in the first half."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _shuffle(builder, args[0], args[0], [2 * n % LANES + 1 for n in range(LANES)])

    return vector(vector), lower


@intrinsic
def two_to_the(typing_context: Any, value: Any) -> Any:
    """2^x for lanes that hold integers from -126 to 127, by writing x into the exponent bits."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        whole = ir.VectorType(ir.IntType(32), LANES)
        biased = builder.add(builder.fptosi(args[0], whole), ir.Constant(whole, [127] * LANES))
        return builder.bitcast(builder.shl(biased, ir.Constant(whole, [23] * LANES)), _VECTOR)

    return vector(vector), lower


@intrinsic
def nearest(typing_context: Any, value: Any) -> Any:
    """Each lane rounded to the nearest integer."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        return builder.call(builder.module.declare_intrinsic(f"llvm.rint.v{LANES}f32", fnty=kind), [args[0]])

    return vector(vector), lower


@intrinsic
def fetch_add(typing_context: Any, array: Any, index: Any) -> Any:
    """Add one to array[index] and return its value before, as one atomic operation."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [args[1]]), ir.IntType(64)(1), "acq_rel")

    return types.int64(array, types.intp), lower


@intrinsic
def wait_for(typing_context: Any, array: Any, index: Any, count: Any) -> Any:
    """Wait until other threads have increased array[index] to `count`; their earlier writes are visible then."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        look, after = builder.append_basic_block("look"), builder.append_basic_block("after")
        builder.branch(look)
        builder.position_at_end(look)
        found = builder.load_atomic(builder.gep(data, [args[1]]), "acquire", 8)
        builder.cbranch(builder.icmp_signed("<", found, args[2]), look, after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), lower


@intrinsic
def as_pointer(typing_context: Any, address: Any) -> Any:
    """Convert an address, given as an integer, to the pointer that numba.carray takes."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return types.voidptr(types.int64), lower


@intrinsic
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Prefetch the cache line around array[index]; an index outside the array is harmless."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer = _pointer(context, builder, sig.args[0], *args)
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        builder.call(
            builder.module.declare_intrinsic("llvm.prefetch.p0", fnty=kind), [pointer, number(0), number(3), number(1)]
        )
        return context.get_dummy_value()

    return types.void(array, types.intp), lower


def _shuffle(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


@intrinsic
def store_totals(typing_context: Any, array: Any, index: Any, a: Any, b: Any, c: Any, d: Any, ab: Any, cd: Any) -> Any:
    """Write the sums over the lanes of four vectors to a flat array, from `index` on.

    The four sums are computed together, halving the lanes each time, with a third of the instructions of four separate sums.
    The even lanes of ab are added to the sum of a and its odd lanes to the sum of b; the lanes of cd likewise to c and d.
    """

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        def add(x: ir.Value, y: ir.Value) -> ir.Value:
            return builder.fadd(x, y, flags=_FLAGS)

        def merge(x: ir.Value, y: ir.Value, low: tuple[int, ...], high: tuple[int, ...]) -> ir.Value:
            """Within each block of four lanes, add the lanes `low` and `high` of x and y (numbers from 4 on are lanes of y)."""
            halves = []
            for pattern in (low, high):
                lanes = [n % 4 + block + LANES * (n // 4) for block in range(0, LANES, 4) for n in pattern]
                halves.append(_shuffle(builder, x, y, lanes))
            return add(*halves)

        ab = add(merge(args[2], args[3], (0, 4, 1, 5), (2, 6, 3, 7)), args[6])  # a, b, a, b in every four lanes
        cd = add(merge(args[4], args[5], (0, 4, 1, 5), (2, 6, 3, 7)), args[7])
        sums = merge(ab, cd, (0, 1, 4, 5), (2, 3, 6, 7))  # a, b, c, d in every four lanes
        width = LANES
        while width > 4:
            width //= 2
            halves = (_shuffle(builder, sums, sums, list(range(n, n + width))) for n in (0, width))
            sums = add(*halves)
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), sums.type.as_pointer())
        builder.store(sums, pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, *[vector] * 6), lower


@intrinsic
def clamp(typing_context: Any, value: Any, limit: Any) -> Any:
    """Each lane moved into [-limit, limit]; NaN stays NaN."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, high = args[0], _splat(builder, args[1])
        low = builder.fneg(high)
        value = builder.select(builder.fcmp_ordered("<", high, value), high, value)
        return builder.select(builder.fcmp_ordered(">", low, value), low, value)

    return vector(vector, types.float32), lower


def _multiply_pairs(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, conjugate: bool) -> ir.Value:
    """Re(a) b -+ Im(a) swap(b); the sign is minus in the real lanes for a b, and in the imaginary lanes for conj(a) b."""
    real = _shuffle(builder, a, a, [n - n % 2 for n in range(LANES)])
    imaginary = _shuffle(builder, a, a, [n - n % 2 + 1 for n in range(LANES)])
    swapped = _shuffle(builder, b, b, [n + 1 - 2 * (n % 2) for n in range(LANES)])
    product, other = builder.fmul(real, b, flags=_FLAGS), builder.fmul(imaginary, swapped, flags=_FLAGS)
    minus, plus = builder.fsub(product, other, flags=_FLAGS), builder.fadd(product, other, flags=_FLAGS)
    even, odd = (plus, minus) if conjugate else (minus, plus)
    return _shuffle(builder, even, odd, [n + LANES * (n % 2) for n in range(LANES)])


@intrinsic
def multiply_complex(typing_context: Any, a: Any, b: Any) -> Any:
    """a b, for vectors that hold complex numbers as pairs (real, imaginary)."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _multiply_pairs(builder, args[0], args[1], False)

    return vector(vector, vector), lower


@intrinsic
def multiply_conjugate(typing_context: Any, a: Any, b: Any) -> Any:
    """conj(a) b, for vectors that hold complex numbers as pairs (real, imaginary)."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _multiply_pairs(builder, args[0], args[1], True)

    return vector(vector, vector), lower
