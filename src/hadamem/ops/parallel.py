"""The recurrences as a prefix scan: log2(T) dependent steps instead of T, in plain torch, for any dtype and device.

All C_t and writes are in memory at the same time, O(B T H_v H_k). The SHM paper describes this method; comparisons with this
backend show the effect of parallelism without fused kernels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .reference import calibration_matrix


def hadamard_memory(
    calibration: str, factors: list[Tensor], a: Tensor, k: Tensor, q: Tensor, start: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """See reference.hadamard_memory."""
    if a.shape[1] == 1:  # acting, where every additional operator costs noticeable time
        M = torch.where(start[..., None], 0, state)[:, None] * calibration_matrix(calibration, factors)
        M = M + a[..., :, None] * k[..., None, :]
        last = M.squeeze(1)  # copied below if gradients need its current values
        return (M @ q[..., None]).squeeze(-1), last.clone() if torch.is_grad_enabled() else last
    M = _states(calibration_matrix(calibration, factors), a[..., :, None] * k[..., None, :], start[:, :, None, None], state)
    return torch.einsum("btvk,btk->btv", M, q), M[:, -1].clone()


def clamped_hadamard_memory(
    calibration: str, factors: list[Tensor], a: Tensor, k: Tensor, q: Tensor, start: Tensor, state: Tensor, clamp: float
) -> tuple[Tensor, Tensor]:
    """See reference.hadamard_memory. Clamping is not associative, so steps are computed in order, with few operators each."""
    C = torch.where(start[:, :, None, None], 0, calibration_matrix(calibration, factors) * a.new_ones(()))
    write, M, states = a[..., :, None] * k[..., None, :], state, []
    for t, (C_t, write_t) in enumerate(zip(C.expand_as(write).unbind(1), write.unbind(1), strict=True)):
        M = torch.addcmul(write_t, torch.where(start[:, t, None, None], 0, M), C_t).clamp(-clamp, clamp)
        states.append(M)
    return torch.einsum("btvk,btk->btv", torch.stack(states, dim=1), q), M.clone()


def linear_recurrence(decay: Tensor, x: Tensor, start: Tensor, state: Tensor) -> Tensor:
    """See reference.linear_recurrence."""
    if x.shape[1] == 1:
        return torch.where(start, 0, state)[:, None] * decay + x
    return _states(decay, x, start[:, :, None], state)


def _states(C: Tensor | float, write: Tensor, reset: Tensor, state: Tensor) -> Tensor:
    """M_t = M_{t-1} * C_t + write_t for all t; M_{t-1} is zero where reset[:, t]. All are (B, T, ...), or broadcast to it."""
    C = torch.where(reset, 0, C * torch.ones_like(write))
    first = torch.where(reset[:, 0], 0, state) * C[:, 0] + write[:, 0]
    return scan(_combine, (reset, C, torch.cat([first[:, None], write[:, 1:]], dim=1)))[2]


def decaying_max(log_decay: Tensor, x: Tensor, start: Tensor, state: Tensor) -> Tensor:
    """m_t = max(log_decay_t + m_{t-1}, x_t) for all t; m_{t-1} is zero where start[:, t]. Keeps exponential gates in range.

    log_decay, x: (B, T); start: (B, T) bool; state: (B,), m before the first step.
    """
    before = F.pad(torch.where(start[:, 0], 0, state)[:, None], (0, x.shape[1] - 1))
    first = start | (torch.arange(x.shape[1], device=x.device) == 0)
    x = torch.where(first, torch.maximum(log_decay + before, x), x)

    def combine(earlier: Element, later: Element) -> Element:
        reset, decay, m = later
        before = torch.where(reset, m, torch.maximum(earlier[2] + decay, m))
        return reset | earlier[0], torch.where(reset, decay, earlier[1] + decay), before

    return scan(combine, (start, log_decay, x))[2]


Element = tuple[Tensor, Tensor, Tensor]  # (whether there was a reset, product of C, memory), each (B, T, ...)


def _combine(earlier: Element, later: Element) -> Element:
    """The associative operator of the scan. A reset in `later` selects zero instead of `earlier`, so that NaN cannot pass."""
    reset, C, M = later
    before_C, before_M = torch.where(reset, 0, earlier[1]), torch.where(reset, 0, earlier[2])
    return reset | earlier[0], C * before_C, C * before_M + M


def scan(combine: Callable[[Element, Element], Element], element: Element) -> Element:
    """All prefixes along dimension 1: combine neighbours, scan the sequence of half the length, fill in the other places."""
    T = element[0].shape[1]
    if T == 1:
        return element
    even, odd = _take(element, 0, T - T % 2, 2), _take(element, 1, T, 2)
    at_odd = scan(combine, combine(even, odd))
    rest = _take(element, 2, T, 2)
    at_even = combine(_take(at_odd, 0, rest[0].shape[1], 1), rest)
    return tuple(  # type: ignore[return-value]
        _interleave(torch.cat([x[:, :1], e], dim=1), o) for x, e, o in zip(element, at_even, at_odd, strict=True)
    )


def _take(element: Element, first: int, end: int, step: int) -> Element:
    return tuple(x[:, first:end:step] for x in element)  # type: ignore[return-value]


def _interleave(even: Tensor, odd: Tensor) -> Tensor:
    paired = torch.stack([even[:, : odd.shape[1]], odd], dim=2).flatten(1, 2)
    return paired if even.shape[1] == odd.shape[1] else torch.cat([paired, even[:, -1:]], dim=1)
