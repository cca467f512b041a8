"""The causal convolution over the latest steps of an episode, with silu after it, as in SHM and Mamba."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import checks, reference
from ..episodes import episode_steps


def causal_convolution(
    x: Tensor, before: Tensor, start: Tensor, weight: Tensor, bias: Tensor, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """y_t = silu(bias + sum_i weight_i * x_{t-i}), separately for each feature, over the latest steps of the episode.

    Args:
        x: (B, T, D).
        before: the last width - 1 inputs, (B, width - 1, D), zeros for steps before the episode.
        start: (B, T) bool, the first steps of episodes.
        weight: (width, D), for the current step, the step before, ...
        bias: (D,).
        backend: as in `hadamard_memory`; "auto" and "cpu" use the fused kernels for float32 on the CPU.

    Returns:
        y (B, T, D), and the last inputs, for the next call.
    """
    arguments = x, before, start, weight, bias
    fused = checks.pick(backend, x) == "cpu" and {t.dtype for t in (x, before, weight)} == {torch.float32}
    if not fused or checks.route(*arguments) != "kernels":
        return _defined(*arguments)
    if torch.is_grad_enabled() and any(t.requires_grad for t in arguments):
        return _Convolve.apply(*arguments)
    from . import cpu

    return cpu.forward(*arguments)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        from . import cpu

        ctx.save_for_backward(*arguments)
        return cpu.forward(*arguments)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor, dafter: Tensor) -> Any:
        from . import cpu

        x, before, start, weight, bias = ctx.saved_tensors
        if checks.route(dy, dafter) == "kernels":
            dx, dbefore, dweight, dbias = cpu.backward(x, before, start, weight, bias, dy, dafter)
        else:

            def function(x: Tensor, before: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
                return _defined(x, before, start, weight, bias)

            dx, dbefore, dweight, dbias = reference.gradients(function, (x, before, weight, bias), (dy, dafter))
        return dx, dbefore, None, dweight, dbias


def _defined(x: Tensor, before: Tensor, start: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The definition of `causal_convolution` in torch."""
    T, width = x.shape[1], len(weight)
    lags = torch.arange(width, device=x.device)
    age = episode_steps(start, lags[-1:])  # inputs in the state belong to this episode, or are zero
    x = torch.cat([before, x], dim=1)
    y = bias
    for lag in range(width):
        past = x[:, width - 1 - lag : width - 1 - lag + T]
        y = y + weight[lag] * torch.where((lag <= age)[..., None], past, 0)
    keep = lags[: width - 1].flip(0) <= age[:, -1:]
    return F.silu(y), torch.where(keep[..., None], x[:, T:], 0)
