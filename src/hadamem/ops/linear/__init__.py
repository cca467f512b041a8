"""The linear recurrence that LRU, S5, FFM and minGRU have in common."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .. import checks, parallel, reference


def linear_recurrence(
    decay: Tensor,
    x: Tensor,
    *,
    start: Tensor | None = None,
    state: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """y_t = decay_t * y_{t-1} + x_t, elementwise, real or complex.

    Args:
        decay: (B, T, N), or (N,) if it is the same at every step (it is then never expanded to all steps).
        x: (B, T, N).
        start: (B, T) bool; where true, y_{t-1} is replaced by zero before step t (by selection: not even NaN passes).
            Default: no resets.
        state: y before the first step, (B, N). Default: zero.
        backend: "reference" (definition, any dtype and device), "parallel" (prefix scan of logarithmic depth, any dtype and
            device), "cpu" and "gpu" (fused, float32 and complex64), or "auto", which chooses a backend.

    Returns:
        y (B, T, N) in the dtype of `x`, and the last y, (B, N). Half precision is computed in float32, and the last y stays
        float32. Gradients of complex tensors follow torch's convention.

    Raises:
        ValueError: a shape, dtype, device or name does not fit; the message names the argument, and says what is required.

    See `hadamard_memory` for the tensors on which the fused backends run.
    """
    key = checks.signature("linear", backend, decay, x, start, state)
    if not checks.seen(key):
        _check(decay, x, start, state, backend)
        checks.remember(key)
    B, T, N = x.shape
    dtype = x.dtype
    wide = checks.WIDER.get(dtype, dtype)
    if start is None:
        start = torch.zeros(B, T, dtype=torch.bool, device=x.device)
    state = torch.zeros(B, N, dtype=wide, device=x.device) if state is None else state.to(wide)
    decay, x = decay.to(wide), x.to(wide)
    backend = checks.pick(backend, x)
    if backend in ("cpu", "gpu"):
        y = _fused(decay, x, start, state)
    elif backend == "parallel":
        y = parallel.linear_recurrence(decay, x, start, state)
    else:
        y = reference.linear_recurrence(decay, x, start, state)
    return y.to(dtype), y[:, -1].clone()  # a copy, since a view would keep the whole sequence in memory


def _check(decay: Tensor, x: Tensor, start: Tensor | None, state: Tensor | None, backend: str) -> None:
    checks.check_backend(backend)
    if x.dim() != 3 or 0 in x.shape:
        raise ValueError(f"x has shape {tuple(x.shape)}; it must be (B, T, N) with no dimension zero")
    sizes = dict(zip("BTN", x.shape, strict=True))
    tensors = {"x": (x, "BTN"), "decay": (decay, "N" if decay.dim() == 1 else "BTN")}
    if start is not None:
        tensors["start"] = (start, "BT")
    if state is not None:
        tensors["state"] = (state, "BN")
    checks.check_tensors(tensors, sizes, "complex" if x.is_complex() else "floating point")
    checks.check_fused(backend, "x", x)


def _fused(decay: Tensor, x: Tensor, start: Tensor, state: Tensor) -> Tensor:
    match checks.route(decay, x, start, state):
        case "reference":
            return reference.linear_recurrence(decay, x, start, state)
        case "operator":
            return _op(decay, x, start, state)
    if torch.is_grad_enabled() and (decay.requires_grad or x.requires_grad or state.requires_grad):
        return _Eager.apply(decay, x, start, state)
    return _kernels(x).forward(decay, x, start, state)


class _Eager(torch.autograd.Function):
    """The same as the operator `_op` below, without torch's dispatcher, which takes longer than a small kernel."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, x: Tensor, start: Tensor, state: Tensor) -> Tensor:
        y = _kernels(x).forward(decay, x, start, state)
        ctx.save_for_backward(decay, x, start, state, y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        decay, x, start, state, y = ctx.saved_tensors
        match checks.route(dy):
            case "reference":

                def function(decay: Tensor, x: Tensor, state: Tensor) -> Tensor:
                    return reference.linear_recurrence(decay, x, start, state)

                ddecay, dx, dstate = reference.gradients(function, (decay, x, state), (dy,))
            case "operator":
                ddecay, dx, dstate = _backward_op(decay, start, state, y, dy)
            case _:
                ddecay, dx, dstate = _kernels(dy).backward(decay, start, state, y, dy)
        return ddecay, dx, None, dstate


def _kernels(x: Tensor) -> ModuleType:
    """The module of kernels for a tensor's device, imported at the first call, since importing the compilers takes long."""
    if x.device.type == "cuda":
        from . import gpu

        return gpu
    from . import cpu

    return cpu


@torch.library.custom_op("hadamem::linear_recurrence", mutates_args=(), device_types=("cpu", "cuda"))
def _op(decay: Tensor, x: Tensor, start: Tensor, state: Tensor) -> Tensor:
    return _kernels(x).forward(decay, x, start, state)


@_op.register_fake
def _(decay: Tensor, x: Tensor, start: Tensor, state: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("hadamem::linear_recurrence_backward", mutates_args=(), device_types=("cpu", "cuda"))
def _backward_op(decay: Tensor, start: Tensor, state: Tensor, y: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _kernels(dy).backward(decay, start, state, y, dy)


@_backward_op.register_fake
def _(decay: Tensor, start: Tensor, state: Tensor, y: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return decay.new_empty(decay.shape), dy.new_empty(dy.shape), state.new_empty(state.shape)


def _setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
    decay, _, start, state = inputs
    ctx.save_for_backward(decay, start, state, output)


def _backward(ctx: Any, dy: Tensor) -> Any:
    ddecay, dx, dstate = _backward_op(*ctx.saved_tensors, dy)
    return ddecay, dx, None, dstate


_op.register_autograd(_backward, setup_context=_setup_context)
