"""Treatment of denormal numbers as 0 in kernels, because x86 processors compute with them very slowly."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_TINY_IS_ZERO = 0x8040  # bits of x86's control word MXCSR: results, and operands, below 1.2e-38 count as 0
_HAS_MXCSR = platform.machine().lower() in ("x86_64", "amd64")


def _exchange_mode(builder: ir.IRBuilder, function: str, value: ir.Value | None) -> ir.Value:
    """Store this thread's MXCSR to memory (`stmxcsr`), or load it from there (`ldmxcsr`), and return its value."""
    number = ir.IntType(32)
    with builder.goto_entry_block():
        place = builder.alloca(number)
    if value is not None:
        builder.store(value, place)
    kind = ir.FunctionType(ir.VoidType(), [place.type])
    builder.call(builder.module.declare_intrinsic(f"llvm.x86.sse.{function}", fnty=kind), [place])
    return builder.load(place)


@intrinsic
def count_as_zero(typing_context: Any) -> Any:
    """Let numbers below 1.2e-38 count as 0 in this thread from now on; returns the mode before, for `restore`.

    A memory that forgets multiplies by numbers below 1 until the result is a denormal number, and x86 takes ten times as long
    to compute with those. Other processors do not, and this function does nothing there.
    """

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        number = ir.IntType(32)
        if not _HAS_MXCSR:
            return ir.Constant(number, 0)
        mode = _exchange_mode(builder, "stmxcsr", None)
        _exchange_mode(builder, "ldmxcsr", builder.or_(mode, ir.Constant(number, _TINY_IS_ZERO)))
        return mode

    return types.uint32(), lower


@intrinsic
def restore(typing_context: Any, mode: Any) -> Any:
    """Restore the mode that `count_as_zero` returned."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        if _HAS_MXCSR:
            _exchange_mode(builder, "ldmxcsr", args[0])
        return context.get_dummy_value()

    return types.void(types.uint32), lower
