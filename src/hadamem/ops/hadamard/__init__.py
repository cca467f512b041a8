"""The Hadamard memory, the recurrence that SHM, mLSTM, GLA, Mamba, linear attention and fast weights have in common.

`cpu` and `gpu` hold its kernels, `factors` the form in which the kernels take the factors of a calibration, and `observe` the
observers of calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .. import checks, parallel, reference
from ..reference import CALIBRATIONS
from .observe import HadamardCall, observers


def hadamard_memory(
    a: Tensor,
    k: Tensor,
    q: Tensor,
    *,
    calibration: str = "tanh_outer",
    factors: Sequence[Tensor] = (),
    start: Tensor | None = None,
    state: Tensor | None = None,
    clamp: float | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The Hadamard memory framework (SHM paper, Section 3): M_t = M_{t-1} * C_t + a_t k_t^T, h_t = M_t q_t.

    `*` is elementwise. C_t comes from `factors` by the rule that `calibration` names:

    | calibration | factors                    | C_t[i, j]            |
    |-------------|----------------------------|----------------------|
    | ones        | none                       | 1                    |
    | scalar      | f (B, T)                   | f                    |
    | column      | g (B, T, K)                | g[j]                 |
    | tanh_outer  | u (B, T, V), w (B, T, K)   | 1 + tanh(u[i] w[j])  |
    | exp_outer   | d (B, T, V), A (V, K)      | exp(-d[i] A[i, j])   |
    | dense       | C (B, T, V, K)             | as given             |

    Example:
        >>> a, k, q = torch.randn(2, 5, 3), torch.randn(2, 5, 4), torch.randn(2, 5, 4)
        >>> h, last = hadamard_memory(a, k, q, calibration="scalar", factors=[torch.full((2, 5), 0.9)])
        >>> h.shape, last.shape
        (torch.Size([2, 5, 3]), torch.Size([2, 3, 4]))

    Args:
        a: the values that are written, (B, T, V), already multiplied by any write gate.
        k: the keys under which they are written, (B, T, K).
        q: the queries with which the memory is read, (B, T, K).
        calibration: see the table.
        factors: see the table.
        start: (B, T) bool; where true, M_{t-1} is replaced by zero before step t (by selection: not even NaN passes).
            Default: no resets.
        state: M before the first step, (B, V, K). Default: zero.
        clamp: bound to which M is clamped after each step, before it is read; the fused backends do not support it. Default: no
            bound.
        backend: "reference" (definition, any dtype and device), "parallel" (prefix scan of logarithmic depth, any dtype and
            device, keeps all C_t in memory), "cpu" and "gpu" (fused, float32), or "auto", which chooses a backend.

    Returns:
        h (B, T, V) in the dtype of `a`, and the last M (B, V, K). float16 and bfloat16 are computed in float32, and M stays
        float32.

    Raises:
        ValueError: a shape, dtype, device or name does not fit; the message names the argument, and says what is required.

    The fused backends run on plain tensors, and as a torch operator if torch records or redirects calls (torch.compile, fake
    tensors). Inside transforms of torch.func and forward-mode differentiation, "reference" is used instead of them.
    """
    key = checks.signature(calibration, backend, a, k, q, *factors, start, state)
    if not checks.seen(key):
        _check(a, k, q, calibration, factors, start, state, backend)
        checks.remember(key)
    if clamp is not None and backend in ("cpu", "gpu"):
        raise ValueError(f"backend is {backend!r}; with clamp = {clamp} it must be auto, reference or parallel")
    B, T, V, K = *a.shape, k.shape[2]
    dtype = a.dtype
    wide = checks.WIDER.get(dtype, dtype)
    if start is None:
        start = torch.zeros(B, T, dtype=torch.bool, device=a.device)
    if state is None:
        state = torch.zeros(B, V, K, dtype=wide, device=a.device)
    if dtype != wide:
        a, k, q, *factors = (x.to(wide) for x in (a, k, q, *factors))
    factors, state = list(factors), state.to(wide)
    backend = checks.pick(backend, a)
    if clamp is not None and backend != "reference":
        h, last = parallel.clamped_hadamard_memory(calibration, factors, a, k, q, start, state, clamp)
    elif backend in ("cpu", "gpu"):
        h, last = _fused(calibration, factors, a, k, q, start, state)
    elif backend == "parallel":
        h, last = parallel.hadamard_memory(calibration, factors, a, k, q, start, state)
    else:
        h, last = reference.hadamard_memory(calibration, factors, a, k, q, start, state, clamp)
    for observer in observers:
        observer(HadamardCall(calibration, factors, a, k, q, start, state, h, last))
    return h if h.dtype == dtype else h.to(dtype), last


def _check(
    a: Tensor,
    k: Tensor,
    q: Tensor,
    calibration: str,
    factors: Sequence[Tensor],
    start: Tensor | None,
    state: Tensor | None,
    backend: str,
) -> None:
    if calibration not in CALIBRATIONS:
        raise ValueError(f"calibration is {calibration!r}; it must be one of {', '.join(CALIBRATIONS)}")
    checks.check_backend(backend)
    for name, tensor in (("a", a), ("k", k)):
        if tensor.dim() != 3 or 0 in tensor.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must be (B, T, H) with no dimension zero")
    sizes = {"B": a.shape[0], "T": a.shape[1], "V": a.shape[2], "K": k.shape[2]}
    wanted = CALIBRATIONS[calibration]
    if len(factors) != len(wanted):
        need = ", ".join(f"{name} ({', '.join(dims)})" for name, dims in wanted.items()) or "none"
        raise ValueError(f"factors has {len(factors)} tensors; calibration {calibration!r} takes {need}")
    tensors = {"a": (a, "BTV"), "k": (k, "BTK"), "q": (q, "BTK")}
    tensors |= {f"factor {name}": (f, dims) for f, (name, dims) in zip(factors, wanted.items(), strict=True)}
    if start is not None:
        tensors["start"] = (start, "BT")
    if state is not None:
        tensors["state"] = (state, "BVK")
    checks.check_tensors(tensors, sizes)
    checks.check_fused(backend, "a", a)


def _fused(
    calibration: str, factors: list[Tensor], a: Tensor, k: Tensor, q: Tensor, start: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    learning = torch.is_grad_enabled() and any(x.requires_grad for x in (*factors, a, k, q, state))
    match checks.route(*factors, a, k, q, start, state):
        case "reference":
            return reference.hadamard_memory(calibration, factors, a, k, q, start, state)
        case "operator":
            return _op(calibration, factors, a, k, q, start, state, learning)[:2]
    if learning:
        return _Eager.apply(calibration, start, a, k, q, state, *factors)
    return _kernels(a).forward(calibration, factors, a, k, q, start, state, False)[:2]


class _Eager(torch.autograd.Function):
    """The same as the operator `_op` below, without torch's dispatcher, which takes longer than a small kernel."""

    @staticmethod
    def forward(ctx: Any, calibration: str, start: Tensor, a: Any, k: Any, q: Any, state: Any, *factors: Any) -> Any:
        h, last, saved = _kernels(a).forward(calibration, list(factors), a, k, q, start, state, True)
        ctx.calibration = calibration
        ctx.save_for_backward(*factors, a, k, q, start, state, saved)
        return h, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dh: Tensor, dlast: Tensor) -> Any:
        *factors, a, k, q, start, state, saved = ctx.saved_tensors
        match checks.route(dh, dlast):
            case "reference":

                def function(a: Tensor, k: Tensor, q: Tensor, state: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor]:
                    return reference.hadamard_memory(ctx.calibration, list(factors), a, k, q, start, state)

                return None, None, *reference.gradients(function, (a, k, q, state, *factors), (dh, dlast))
            case "operator":
                *dfactors, da, dk, dq, dstate = _backward_op(ctx.calibration, factors, a, k, q, start, saved, dh, dlast)
            case _:
                dfactors, da, dk, dq, dstate = _kernels(a).backward(ctx.calibration, factors, a, k, q, start, saved, dh, dlast)
        return None, None, da, dk, dq, dstate, *dfactors


def _kernels(a: Tensor) -> ModuleType:
    """The module of kernels for a tensor's device, imported at the first call, since importing the compilers takes long."""
    if a.device.type == "cuda":
        from . import gpu

        return gpu
    from . import cpu

    return cpu


@torch.library.custom_op("hadamem::hadamard_memory", mutates_args=(), device_types=("cpu", "cuda"))
def _op(
    calibration: str,
    factors: Sequence[Tensor],
    a: Tensor,
    k: Tensor,
    q: Tensor,
    start: Tensor,
    state: Tensor,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return _kernels(a).forward(calibration, list(factors), a, k, q, start, state, save)


@_op.register_fake
def _(calibration: str, factors: Any, a: Tensor, k: Tensor, q: Tensor, start: Tensor, state: Tensor, save: bool) -> Any:
    saved = a.new_empty(_kernels(a).saved_shape(calibration, *a.shape, k.shape[2]) if save else (0,))
    return a.new_empty(a.shape), state.new_empty(state.shape), saved


@torch.library.custom_op("hadamem::hadamard_memory_backward", mutates_args=(), device_types=("cpu", "cuda"))
def _backward_op(
    calibration: str,
    factors: Sequence[Tensor],
    a: Tensor,
    k: Tensor,
    q: Tensor,
    start: Tensor,
    saved: Tensor,
    dh: Tensor,
    dlast: Tensor,
) -> list[Tensor]:
    dfactors, da, dk, dq, dstate = _kernels(a).backward(calibration, list(factors), a, k, q, start, saved, dh, dlast)
    return [*dfactors, da, dk, dq, dstate]


@_backward_op.register_fake
def _(calibration: str, factors: Any, a: Any, k: Any, q: Any, start: Any, saved: Any, dh: Any, dlast: Any) -> Any:
    return [x.new_empty(x.shape) for x in (*factors, a, k, q, dlast)]


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    calibration, factors, a, k, q, start, _, _ = inputs
    ctx.calibration, ctx.count = calibration, len(factors)
    ctx.save_for_backward(*factors, a, k, q, start, output[2])
    ctx.shape = output[1].shape
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dh: Tensor | None, dlast: Tensor | None, _: Any) -> Any:
    *factors, a, k, q, start, saved = ctx.saved_tensors
    dh = torch.zeros_like(a) if dh is None else dh
    dlast = a.new_zeros(ctx.shape) if dlast is None else dlast
    gradients = _backward_op(ctx.calibration, factors, a, k, q, start, saved, dh, dlast)
    da, dk, dq, dstate = gradients[ctx.count :]
    return None, gradients[: ctx.count], da, dk, dq, None, dstate, None


_op.register_autograd(_backward, setup_context=_setup_context)
